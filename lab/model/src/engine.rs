//! The dockerd of a host: which one, and of which version.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A Debian release that images are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 12, Docker 20.10.
    Bookworm,
    /// Debian 13, Docker 26.1.
    #[default]
    Trixie,
    /// Debian 14, Docker 28.5.
    Forky,
}

impl Suite {
    /// All of them, the oldest first.
    pub const ALL: [Suite; 3] = [Suite::Bookworm, Suite::Trixie, Suite::Forky];

    /// Debian's code name.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
            Suite::Forky => "forky",
        }
    }

    /// The version of Docker that it has.
    pub fn docker(self) -> Version {
        match self {
            Suite::Bookworm => Version { major: 20, minor: 10 },
            Suite::Trixie => Version { major: 26, minor: 1 },
            Suite::Forky => Version { major: 28, minor: 5 },
        }
    }

    /// A suite by its code name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == word)
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A version of Docker, as far as labctl tells versions apart: `28.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// `28` of 28.5.2.
    pub major: u16,
    /// `5` of 28.5.2.
    pub minor: u16,
}

impl Version {
    /// Of this major version, minor 0.
    pub const fn major(major: u16) -> Self {
        Self { major, minor: 0 }
    }

    /// The version that a longer one begins with: `28.5.2+dfsg1-1` is of 28.5.
    pub fn of(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '+', '-', '~']);
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next().and_then(|p| p.parse().ok()).unwrap_or(0);
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Which dockerd a host runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// That of a Debian suite.
    Debian(Suite),
    /// That of a node image which the user has made from a tarball.
    Own {
        /// The image's name.
        name: String,
        /// The dockerd's version.
        docker: Version,
    },
}

impl Engine {
    /// Its name, as topologies have it.
    pub fn name(&self) -> &str {
        match self {
            Engine::Debian(suite) => suite.name(),
            Engine::Own { name, .. } => name,
        }
    }

    /// The version of its dockerd.
    pub fn docker(&self) -> Version {
        match self {
            Engine::Debian(suite) => suite.docker(),
            Engine::Own { docker, .. } => *docker,
        }
    }

    /// Whether its dockerd has this major version, or a later one.
    pub fn is_at_least(&self, major: u16) -> bool {
        self.docker().major >= major
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::Debian(Suite::default())
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The engines that there are, and which hosts get.
#[derive(Clone, Debug, Default)]
pub struct EngineChoice {
    /// Those of the user's own node images.
    pub own: Vec<Engine>,
    /// The engine of hosts that name none; absent: the default, if the topology is for that.
    pub unnamed: Option<Engine>,
    /// Engines of single hosts, whatever the topology says.
    pub hosts: Vec<(String, Engine)>,
}

impl EngineChoice {
    /// All engines: Debian's, the newest first, then the user's own.
    pub fn all(&self) -> impl Iterator<Item = Engine> {
        Suite::ALL.into_iter().rev().map(Engine::Debian).chain(self.own.iter().cloned())
    }

    /// An engine by its name, or by the number of its version: `28`, `26.1`, `20.10`. Of several the first.
    pub fn find(&self, word: &str) -> Option<Engine> {
        if let Some(named) = self.all().find(|e| e.name() == word) {
            return Some(named);
        }
        let wanted = is_number(word).then(|| Version::of(word))??;
        let exact = word.contains('.');
        self.all().find(|e| match exact {
            true => e.docker() == wanted,
            false => e.docker().major == wanted.major,
        })
    }

    /// Their names, each with its version, for hints.
    pub fn listed(&self) -> String {
        let all: Vec<_> = self.all().map(|e| format!("{e} (Docker {})", e.docker())).collect();
        match all.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => all.concat(),
        }
    }
}

/// Whether a word is the number of a version rather than a name.
pub fn is_number(word: &str) -> bool {
    !word.is_empty()
        && word.split('.').all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
}

/// Versions of Docker: `>=28`, `<27`, `20.10`, or several of which each must hold, `>=27 <28`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Versions {
    text: String,
    each: Vec<(Comparison, Bound)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    AtLeast,
    Above,
    AtMost,
    Below,
    Equal,
}

/// A version as it is written; without a minor version all of the major one are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    major: u16,
    minor: Option<u16>,
}

impl Versions {
    /// Whether this version is one of them.
    pub fn contain(&self, version: Version) -> bool {
        self.each.iter().all(|(comparison, bound)| {
            let order = match bound.minor {
                None => version.major.cmp(&bound.major),
                Some(minor) => version.cmp(&Version { major: bound.major, minor }),
            };
            match comparison {
                Comparison::AtLeast => order.is_ge(),
                Comparison::Above => order.is_gt(),
                Comparison::AtMost => order.is_le(),
                Comparison::Below => order.is_lt(),
                Comparison::Equal => order.is_eq(),
            }
        })
    }
}

/// The text names no versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("versions of Docker look like `>=28`, `<27` or `20.10`")]
pub struct NoVersions;

impl FromStr for Versions {
    type Err = NoVersions;

    fn from_str(text: &str) -> Result<Self, NoVersions> {
        // `+28` is a number for Rust.
        let number = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+')).ok_or(NoVersions);
        let one = |word: &str| {
            let comparisons = [
                (">=", Comparison::AtLeast),
                ("<=", Comparison::AtMost),
                (">", Comparison::Above),
                ("<", Comparison::Below),
                ("", Comparison::Equal),
            ];
            let (comparison, rest) = comparisons
                .into_iter()
                .find_map(|(sign, c)| Some((c, word.strip_prefix(sign)?)))
                .ok_or(NoVersions)?;
            let (major, minor) = match rest.split_once('.') {
                Some((major, minor)) => (major, Some(number(minor)?)),
                None => (rest, None),
            };
            Ok((comparison, Bound { major: number(major)?, minor }))
        };
        let all = text.split_ascii_whitespace().map(one).collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() { Err(NoVersions) } else { Ok(Self { text: text.trim().to_owned(), each: all }) }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Versions {
    type Error = NoVersions;

    fn try_from(text: String) -> Result<Self, NoVersions> {
        text.parse()
    }
}

impl From<Versions> for String {
    fn from(versions: Versions) -> Self {
        versions.text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_engine_is_found_by_name_and_by_number() {
        let own = |name: &str, major| Engine::Own { name: name.to_owned(), docker: Version::major(major) };
        let choice = EngineChoice { own: vec![own("mine", 29), own("ours", 28)], ..EngineChoice::default() };
        let found = |word: &str| choice.find(word).map(|e| e.to_string());
        for (word, engine) in [
            ("forky", "forky"),
            ("28", "forky"),
            ("28.5", "forky"),
            ("28.0", "ours"),
            ("26", "trixie"),
            ("20.10", "bookworm"),
            ("29", "mine"),
            ("ours", "ours"),
        ] {
            assert_eq!(found(word).as_deref(), Some(engine), "{word}");
        }
        for none in ["27", "28.", "28.9", "Forky", "", "mine2", "v28"] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        let holds = |text: &str, version: &str| {
            text.parse::<Versions>().unwrap().contain(Version::of(version).unwrap())
        };
        assert!(holds(">=28", "28.5.2+dfsg1-1") && holds(">=28", "29.0") && !holds(">=28", "27.5"));
        assert!(holds("<28", "26.1") && holds("<=26", "26.1") && !holds("<26", "26.1"));
        assert!(holds("20.10", "20.10.24+dfsg1") && holds("20", "20.10") && !holds("20.9", "20.10"));
        assert!(holds(">26.0", "26.1") && !holds(">26", "26.1") && holds(">=27 <28", "27.3"));
        for bad in ["", "  ", ">=", "=>28", "28.x", "forky", "+28", ">= 28", "28.5.2"] {
            assert!(bad.parse::<Versions>().is_err(), "{bad:?}");
        }
    }
}
