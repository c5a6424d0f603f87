//! Texts with names whose values only the running lab knows: `vxlan(vni=${vni:front})`.
//!
//! The VNI of a network and the MAC of a container are known only once Docker has made them. The kind of each value is
//! known before: so the whole text is checked when it is read, with sample values in place of its names.

use std::{convert::Infallible, fmt, ops::Range};

use serde::{Deserialize, Serialize};
use vxlan::{Stack, filter::Filter};

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
    /// `${ip:ENDPOINT}`, `${ip:ENDPOINT@NETWORK}`: the IPv4 address of a host, container or peer.
    Ip {
        /// Host, container or peer.
        endpoint: String,
        /// Docker network or segment; its first if absent.
        at: Option<String>,
    },
    /// `${vtep:HOST}`: the address of a node's VXLAN endpoint.
    Vtep(String),
}

/// Sample values for the check: the first VNI of a swarm, and addresses for documentation.
const CHECK_VNI: &str = "4096";
const CHECK_MAC: &str = "02:00:5e:00:53:01";
const CHECK_IP: &str = "192.0.2.1";

/// The forms of a name, for hints.
const FORMS: &str = "`${vni:NETWORK}`, `${mac:ENDPOINT}`, `${ip:ENDPOINT}` (each of these with `@NETWORK`) or \
                     `${vtep:HOST}`";

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
        let (checked, places) = this.for_check()?;
        let stack: Stack = checked.parse().map_err(|e: vxlan::ParseStackError| {
            located(text, &checked, &places, e.column, e.problem.to_string())
        })?;
        stack.build().map_err(|e| in_whole(text, e.to_string()))?;
        match stack.layers.first().map(vxlan::Layer::kind) {
            Some(vxlan::Kind::Ether) => Ok(this),
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
        let (checked, places) = this.for_check()?;
        checked.parse::<Filter>().map_err(|e| located(text, &checked, &places, e.column, e.problem))?;
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

    /// Fills in the sample values; also returns the place of each name and its value.
    fn for_check(&self) -> Result<(String, Vec<Place>), DraftError> {
        let mut places = Vec::new();
        let mut grown = 0;
        for (range, name) in self.names()? {
            let value = check_value(&name);
            let start = (range.start as isize + grown) as usize;
            grown += value.len() as isize - range.len() as isize;
            places.push(Place { written: range, value: start..start + value.len() });
        }
        let filled = self.fill(|name| Ok::<_, Infallible>(check_value(name).to_owned()));
        Ok((filled.unwrap_or_else(|never| match never {}), places))
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
}

fn check_value(name: &Name) -> &'static str {
    match name {
        Name::Vni(_) => CHECK_VNI,
        Name::Mac { .. } => CHECK_MAC,
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
        "ip" => Ok(Name::Ip { endpoint, at }),
        "vni" | "vtep" => Err(wrong(format!("a {kind} is not on a network"))),
        _ => Err(wrong(format!("nothing is called `{kind}` here"))),
    }
}

/// Moves an error at a column of the checked text to its place in the written text.
fn located(text: &str, checked: &str, places: &[Place], column: usize, problem: String) -> DraftError {
    let at = checked.char_indices().nth(column - 1).map_or(checked.len(), |(at, _)| at);
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
    use super::*;

    const TEXT: &str =
        "eth(dst=${mac:host2})/ip(dst=${ip:host2@lan})/udp/vxlan(vni=${vni:front})/eth/arp(who=${ip:c2})";

    #[test]
    fn names_are_found_and_filled() {
        let draft = Draft::frame(TEXT).unwrap();
        let names: Vec<Name> = draft.names().unwrap().into_iter().map(|(_, n)| n).collect();
        let endpoint = |e: &str| e.to_owned();
        assert_eq!(names[0], Name::Mac { endpoint: endpoint("host2"), at: None });
        assert_eq!(names[1], Name::Ip { endpoint: endpoint("host2"), at: Some("lan".into()) });
        assert_eq!(names[2], Name::Vni("front".into()));
        let filled = draft.fill(|name| Ok::<_, Infallible>(check_value(name).to_owned())).unwrap();
        assert!(filled.parse::<Stack>().is_ok() && !filled.contains('$'), "{filled}");
        assert_eq!(draft.fill(|_| Err("nobody knows")), Err("nobody knows"));
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
