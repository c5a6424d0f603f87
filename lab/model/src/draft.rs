//! Texts with names whose values only the running lab knows: `vxlan(vni=${vni:front})`.
//!
//! The VNI of a network and the MAC of a container are known only once Docker has made them. The kind of each value is
//! known before: so the whole text is checked when it is read, with sample values in place of its names.

use std::{collections::BTreeSet, fmt, ops::Range};

use serde::{Deserialize, Serialize};
use vxlan::{Kind, Stack, filter::Filter};

use crate::family::Family;

/// A checked text with names of the form `${KIND:NAME}`, which the running lab replaces by values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Draft(String);

/// A name in a [`Draft`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// `${vni:NETWORK}`: the VNI of an overlay.
    Vni(String),
    /// `${mac:ENDPOINT}`, `${mac:ENDPOINT@NETWORK}`: the MAC of a host, container or peer.
    Mac {
        /// Host, container or peer.
        endpoint: String,
        /// Docker network or segment; its first if absent.
        at: Option<String>,
    },
    /// `${ip:ENDPOINT}`, `${ip4:ENDPOINT}`, `${ip6:ENDPOINT}`, each also with `@NETWORK`: the address of a host, container
    /// or peer.
    Ip {
        /// Host, container or peer.
        endpoint: String,
        /// Docker network or segment; its first if absent.
        at: Option<String>,
        /// The family: the one asked for, else that of the layer in which the name stands. If absent, IPv4, or IPv6 of one that
        /// has no IPv4.
        family: Option<Family>,
    },
    /// `${vtep:HOST}`: the address of a node's VXLAN endpoint.
    Vtep(String),
}

/// Sample values for the check: the first VNI of a swarm, and addresses for documentation.
const CHECK_VNI: &str = "4096";
const CHECK_MAC: &str = "02:00:5e:00:53:01";
const CHECK_IP: &str = "192.0.2.1";
const CHECK_IP6: &str = "2001:db8::1";

/// The forms of a name, for hints.
const FORMS: &str = "`${vni:NETWORK}`, `${mac:ENDPOINT}`, `${ip:ENDPOINT}`, `${ip6:ENDPOINT}` (the last three also with \
                     `@NETWORK`) or `${vtep:HOST}`";

/// What is wrong with a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftError {
    /// Range in the text, in bytes.
    pub at: Range<usize>,
    /// What is wrong there.
    pub message: String,
    /// How to fix it, if known.
    pub hint: Option<String>,
}

impl fmt::Display for DraftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for DraftError {}

impl Draft {
    /// Reads a frame in the text form of the `vxlan` crate.
    ///
    /// # Errors
    /// If a name has none of the forms, or the frame cannot be read or built with sample values.
    pub fn frame(text: &str) -> Result<Self, DraftError> {
        let this = Self(text.to_owned());
        let read = |text: &str| {
            text.parse::<Stack>().map_err(|e: vxlan::ParseStackError| (e.column, e.problem.to_string()))
        };
        let stack = this.check(read)?;
        stack.build().map_err(|e| in_whole(text, e.to_string()))?;
        match stack.layers.first().map(vxlan::Layer::kind) {
            Some(Kind::Ether) => Ok(this),
            _ => {
                let end = text.find(['/', '(']).unwrap_or(text.len());
                Err(DraftError {
                    at: 0..end,
                    message: "a frame begins with `eth`".to_owned(),
                    hint: Some(format!("`eth/{text}`")),
                })
            }
        }
    }

    /// Reads a filter in the language of [`vxlan::filter`].
    ///
    /// # Errors
    /// If a name has none of the forms, or the text with sample values is no filter.
    pub fn filter(text: &str) -> Result<Self, DraftError> {
        let this = Self(text.to_owned());
        this.check(|text| text.parse::<Filter>().map_err(|e| (e.column, e.problem)))?;
        Ok(this)
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names in order, each with its range in the text.
    ///
    /// # Errors
    /// If a name has none of the forms.
    pub fn names(&self) -> Result<Vec<(Range<usize>, Name)>, DraftError> {
        let mut names = Vec::new();
        let mut from = 0;
        while let Some(start) = self.0[from..].find("${").map(|at| from + at) {
            let Some(len) = self.0[start..].find('}') else {
                let message = "this name does not end".to_owned();
                return Err(DraftError { at: start..self.0.len(), message, hint: Some(FORMS.to_owned()) });
            };
            let range = start..start + len + 1;
            names.push((range.clone(), name(&self.0, range.clone())?));
            from = range.end;
        }
        Ok(names)
    }

    /// The family of the IP layer in which a name at this byte stands. `None`: another layer, or a filter.
    pub fn ip_layer_of(&self, name_at: usize) -> Option<Family> {
        match open_layer(&self.0[..name_at])? {
            Kind::Ipv4 => Some(Family::V4),
            Kind::Ipv6 => Some(Family::V6),
            _ => None,
        }
    }

    /// Replaces the names by values.
    ///
    /// # Errors
    /// If `value` fails: its first error.
    pub fn fill<E>(&self, mut value: impl FnMut(&Name) -> Result<String, E>) -> Result<String, E> {
        let mut filled = String::new();
        let mut from = 0;
        // They were checked when the draft was made.
        for (range, name) in self.names().unwrap_or_default() {
            filled.push_str(&self.0[from..range.start]);
            filled.push_str(&value(&name)?);
            from = range.end;
        }
        filled.push_str(&self.0[from..]);
        Ok(filled)
    }

    /// Reads the text with sample values in place of its names. `read` returns the column of what is wrong, and why.
    /// A name that may be of either family is tried as IPv4 first, then as IPv6.
    fn check<T>(&self, read: impl Fn(&str) -> Result<T, (usize, String)>) -> Result<T, DraftError> {
        let mut in_v6 = BTreeSet::new();
        loop {
            let (checked, places) = self.for_check(&in_v6)?;
            let (column, problem) = match read(&checked) {
                Ok(sound) => return Ok(sound),
                Err(wrong) => wrong,
            };
            let at = checked.char_indices().nth(column - 1).map_or(checked.len(), |(at, _)| at);
            let fault = places.iter().position(|p| p.either && p.value.contains(&at));
            if !fault.is_some_and(|place| in_v6.insert(place)) {
                return Err(located(&self.0, &checked, &places, at, problem));
            }
        }
    }

    /// Fills in the sample values, those of IPv6 for the places in `in_v6`; also returns the place of each name.
    fn for_check(&self, in_v6: &BTreeSet<usize>) -> Result<(String, Vec<Place>), DraftError> {
        let mut places = Vec::new();
        let (mut filled, mut from) = (String::new(), 0);
        for (index, (range, name)) in self.names()?.into_iter().enumerate() {
            filled.push_str(&self.0[from..range.start]);
            let start = filled.len();
            filled.push_str(if in_v6.contains(&index) { CHECK_IP6 } else { check_value(&name) });
            from = range.end;
            let either = matches!(name, Name::Vtep(_) | Name::Ip { family: None, .. });
            places.push(Place { written: range, value: start..filled.len(), either });
        }
        filled.push_str(&self.0[from..]);
        Ok((filled, places))
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The range of a name in the written text, and that of its value in the checked text.
struct Place {
    written: Range<usize>,
    value: Range<usize>,
    /// Whether its value may be of either address family.
    either: bool,
}

fn check_value(name: &Name) -> &'static str {
    match name {
        Name::Vni(_) => CHECK_VNI,
        Name::Mac { .. } => CHECK_MAC,
        Name::Ip { family: Some(Family::V6), .. } => CHECK_IP6,
        Name::Ip { .. } | Name::Vtep(_) => CHECK_IP,
    }
}

/// Reads the `${KIND:NAME}` at `range`.
fn name(text: &str, range: Range<usize>) -> Result<Name, DraftError> {
    let inside = &text[range.start + 2..range.end - 1];
    let wrong = |message: String| DraftError { at: range.clone(), message, hint: Some(FORMS.to_owned()) };
    let (kind, of) =
        inside.split_once(':').ok_or_else(|| wrong(format!("`{inside}` says not what it is a name of")))?;
    if of.is_empty() {
        return Err(wrong("this name names nothing".to_owned()));
    }
    let (endpoint, at) = match of.split_once('@') {
        Some((endpoint, at)) => (endpoint.to_owned(), Some(at.to_owned())),
        None => (of.to_owned(), None),
    };
    match kind {
        "vni" if at.is_none() => Ok(Name::Vni(endpoint)),
        "vtep" if at.is_none() => Ok(Name::Vtep(endpoint)),
        "mac" => Ok(Name::Mac { endpoint, at }),
        "ip" => {
            let family = match open_layer(&text[..range.start]) {
                Some(Kind::Ipv4 | Kind::Arp) => Some(Family::V4),
                Some(Kind::Ipv6) => Some(Family::V6),
                _ => None,
            };
            Ok(Name::Ip { endpoint, at, family })
        }
        "ip4" => Ok(Name::Ip { endpoint, at, family: Some(Family::V4) }),
        "ip6" => Ok(Name::Ip { endpoint, at, family: Some(Family::V6) }),
        "vni" | "vtep" => Err(wrong(format!("a {kind} is not on a network"))),
        _ => Err(wrong(format!("nothing is called `{kind}` here"))),
    }
}

/// The layer that this text leaves open: `eth/ip6(src=fd00::1,dst=`. A filter opens none.
fn open_layer(before: &str) -> Option<Kind> {
    let (mut open, mut is_quoted) = (None, false);
    let mut chars = before.char_indices();
    // A parenthesis in a quoted value opens and closes nothing.
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if is_quoted => drop(chars.next()),
            '"' => is_quoted = !is_quoted,
            '(' if !is_quoted => open = Some(at),
            ')' if !is_quoted => open = None,
            _ => {}
        }
    }
    let layers = before[..open?].trim_end();
    let layer = layers.rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
    layer.parse::<Stack>().ok()?.layers.first().map(vxlan::Layer::kind)
}

/// Moves an error at a byte of the checked text to its place in the written text.
fn located(text: &str, checked: &str, places: &[Place], at: usize, problem: String) -> DraftError {
    let mut shift = 0isize;
    for place in places {
        if place.value.contains(&at) {
            // The author has not written the sample value: name what is written instead.
            let value = format!("{:?}", &checked[place.value.clone()]);
            let named = problem.replacen(&value, &format!("`{}`", &text[place.written.clone()]), 1);
            return split(place.written.clone(), named);
        }
        if place.value.end <= at {
            shift += place.written.len() as isize - place.value.len() as isize;
        }
    }
    let start = ((at as isize + shift).max(0) as usize).min(text.len());
    // The word that begins there.
    let len =
        text[start..].find(|c: char| c.is_whitespace() || "(),/=".contains(c)).unwrap_or(text.len() - start);
    split(start..start + len.max(1).min(text.len() - start), problem)
}

fn in_whole(text: &str, problem: String) -> DraftError {
    split(0..text.len(), problem)
}

/// Splits off the hint that an error of the `vxlan` crate ends with.
fn split(at: Range<usize>, problem: String) -> DraftError {
    match problem.split_once("; hint: ") {
        Some((message, hint)) => DraftError { at, message: message.to_owned(), hint: Some(hint.to_owned()) },
        None => DraftError { at, message: problem, hint: None },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use super::*;

    const TEXT: &str =
        "eth(dst=${mac:host2})/ip(dst=${ip:host2@lan})/udp/vxlan(vni=${vni:front})/eth/arp(who=${ip:c2})";

    #[test]
    fn names_are_found_and_filled() {
        let draft = Draft::frame(TEXT).unwrap();
        let names: Vec<Name> = draft.names().unwrap().into_iter().map(|(_, n)| n).collect();
        let endpoint = |e: &str| e.to_owned();
        assert_eq!(names[0], Name::Mac { endpoint: endpoint("host2"), at: None });
        let (v4, at) = (Some(Family::V4), Some("lan".into()));
        assert_eq!(names[1], Name::Ip { endpoint: endpoint("host2"), at, family: v4 });
        assert_eq!(names[2], Name::Vni("front".into()));
        let filled = draft.fill(|name| Ok::<_, Infallible>(check_value(name).to_owned())).unwrap();
        assert!(filled.parse::<Stack>().is_ok() && !filled.contains('$'), "{filled}");
        assert_eq!(draft.fill(|_| Err("nobody knows")), Err("nobody knows"));
    }

    #[test]
    fn a_name_fits_where_its_family_does() {
        for sound in [
            "eth/ip6(dst=${ip6:c1})/udp",
            "eth/ip6(dst=${ip:c1@lan})/udp",
            "eth/ip(dst=${ip4:c1})/udp",
            "eth/ip6(dst=${vtep:host2})/udp/vxlan/eth/ip(dst=${ip:c1})/icmp",
            "eth/ip(dst=${vtep:host2})/udp/vxlan/eth/ip6(src=${ip6:c1},dst=${ip:c2})/icmp6",
        ] {
            assert!(Draft::frame(sound).is_ok(), "{sound}");
        }
        for (unsound, named) in [
            ("eth/ip(dst=${ip6:c1})/udp", "${ip6:c1}"),
            ("eth/ip6(dst=${ip4:c1})/udp", "${ip4:c1}"),
            ("eth/ip6(dst=${ip:c1})/udp/vxlan/eth(dst=${ip:c2})/arp", "${ip:c2}"),
        ] {
            let error = Draft::frame(unsound).unwrap_err();
            assert_eq!(&unsound[error.at.clone()], named);
            assert!(error.message.contains(named), "{error}");
        }
        assert!(Draft::filter("host ${ip6:c1} and not src host ${ip:c2}").is_ok());
    }

    #[test]
    fn a_name_without_a_family_is_of_its_layers() {
        let families = |draft: Draft| {
            let family = |(_, name)| match name {
                Name::Ip { family, .. } => family,
                other => panic!("{other:?}"),
            };
            draft.names().unwrap().into_iter().map(family).collect::<Vec<_>>()
        };
        let frame = "eth/ip6(src=${ip:a},dst=${ip:b@lan})/udp/vxlan(vni=7)/eth/ipv4(ttl=3,dst=${ip:c})/icmp";
        assert_eq!(
            families(Draft::frame(frame).unwrap()),
            [Some(Family::V6), Some(Family::V6), Some(Family::V4)]
        );
        assert_eq!(families(Draft::frame("eth/arp(who=${ip:a})").unwrap()), [Some(Family::V4)]);
        for (frame, family) in [
            ("eth/IP6(dst=${ip:a})/udp", Family::V6),
            ("eth/ip6 (dst=${ip:a})/udp", Family::V6),
            ("eth/IPv4 ( ttl=3, dst = ${ip:a} )/udp", Family::V4),
        ] {
            assert_eq!(families(Draft::frame(frame).unwrap()), [Some(family)], "{frame}");
        }
        // What is quoted is no layer.
        for quoted in [r#"payload(text="ip6(${ip:a}")"#, r#"payload(text="\"ip6(${ip:a})\\")"#] {
            assert_eq!(families(Draft::frame(&format!("eth/ip/udp/{quoted}")).unwrap()), [None], "{quoted}");
        }
        for filter in ["ip6 and host ${ip:a}", "not (host ${ip:a})", "(ip6 or arp) and (src host ${ip:a})"] {
            assert_eq!(families(Draft::filter(filter).unwrap()), [None], "{filter}");
        }
    }

    #[test]
    fn mistakes_are_placed_in_the_text_as_it_is_written() {
        let place = |text: &str| {
            let error = Draft::frame(text).unwrap_err();
            (text[error.at.clone()].to_owned(), error.message, error.hint)
        };
        let (at, message, hint) = place("eth(dst=${mac:host2})/ip(dts=10.0.0.1)/udp");
        assert_eq!((at.as_str(), message.as_str()), ("dts", "ip has no field \"dts\""));
        assert_eq!(hint.unwrap(), "did you mean \"dst\"?");
        // A name of the right form whose value does not fit where it stands.
        let (at, message, _) = place("eth(dst=${vni:front})/ip");
        assert_eq!(at, "${vni:front}");
        assert!(message.contains("`${vni:front}` is no address"), "{message}");
        assert_eq!(place("eth/vxlan(vni=${nvi:front})").0, "${nvi:front}");
        assert_eq!(place("eth/vxlan(vni=${vni:front").0, "${vni:front");
        assert_eq!(
            place("eth/ip/udp/vxlan(vni=16777216)/eth").1,
            "layer 4 (vxlan), vni: 16777216 is more than 16777215"
        );
        assert_eq!(
            place("ip/udp"),
            ("ip".into(), "a frame begins with `eth`".into(), Some("`eth/ip/udp`".into()))
        );
        assert_eq!(place("").0, "");
        let error = Draft::filter("vni ${vni:front} adn arp").unwrap_err();
        assert_eq!(&"vni ${vni:front} adn arp"[error.at], "adn");
    }
}
