//! `--engine`: chooses the hosts' dockerd on the command line.

use std::str::FromStr;

use labctl_model::{Engine, Lab};

use crate::exit::Error;

/// Which dockerd hosts run.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Engines {
    /// Engine of the hosts that name none, or of one host: trixie (Docker 26.1) or bookworm (20.10)
    #[arg(long = "engine", value_name = "[HOST=]ENGINE", action = clap::ArgAction::Append)]
    given: Vec<Given>,
}

/// `bookworm`, `host1=bookworm`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    host: Option<String>,
    engine: Engine,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, word) = match text.split_once('=') {
            Some((host, word)) => (Some(host.to_owned()), word),
            None => (None, text),
        };
        let engine = match word {
            "trixie" => Engine::Trixie,
            "bookworm" => Engine::Bookworm,
            _ => return Err("there are trixie (Docker 26.1) and bookworm (20.10)".to_owned()),
        };
        Ok(Self { host, engine })
    }
}

impl Engines {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The engine of hosts that name none.
    pub fn unnamed(&self) -> Engine {
        let all = self.given.iter().rev().find(|g| g.host.is_none());
        all.map_or_else(Engine::default, |g| g.engine)
    }

    /// Sets the engines given for single hosts.
    ///
    /// # Errors
    /// If the lab has no host of that name.
    pub fn apply(&self, lab: &mut Lab) -> Result<(), Error> {
        for given in &self.given {
            let Some(name) = &given.host else { continue };
            match lab.hosts.get_mut(name) {
                Some(host) => host.engine = given.engine,
                None => {
                    let known: Vec<_> = lab.hosts.keys().map(String::as_str).collect();
                    return Err(Error::Usage(format!(
                        "--engine: lab `{}` has no host `{name}`\nhint: its hosts are {}",
                        lab.name,
                        known.join(", ")
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn engines(words: &[&str]) -> Engines {
        Engines { given: words.iter().map(|w| w.parse().unwrap()).collect() }
    }

    #[test]
    fn an_engine_is_that_of_all_hosts_that_name_none_or_of_one() {
        let text = "name: t\nhosts: { a: {}, b: {}, c: { engine: trixie } }\n";
        let engines = engines(&["bookworm", "b=trixie"]);
        let mut lab = Lab::parse_with(text, "t.yaml", engines.unnamed()).unwrap();
        engines.apply(&mut lab).unwrap();
        let found: Vec<_> = lab.hosts.values().map(|h| h.engine).collect();
        assert_eq!(found, [Engine::Bookworm, Engine::Trixie, Engine::Trixie]);
    }

    #[test]
    fn what_there_is_not_is_said() {
        assert!("buster".parse::<Given>().unwrap_err().contains("bookworm"));
        let mut lab = Lab::parse("name: t\nhosts: { a: {} }\n", "t.yaml").unwrap();
        let error = engines(&["x=bookworm"]).apply(&mut lab).unwrap_err();
        assert!(
            error.to_string().contains("`x`") && error.to_string().contains("its hosts are a"),
            "{error}"
        );
    }
}
