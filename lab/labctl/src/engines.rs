//! `--engine`: chooses the hosts' dockerd on the command line.

use std::{convert::Infallible, str::FromStr};

use labctl_model::{Engine, EngineChoice, engine};

use crate::{context::Context, exit::Error};

/// Which dockerd hosts run.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Engines {
    /// Engine of the hosts that name none, or of one host: trixie (Docker 26.1), forky (28.5), bookworm (20.10), a
    /// version as `28`, or one from a tarball
    #[arg(long = "engine", value_name = "[HOST=]ENGINE", action = clap::ArgAction::Append)]
    given: Vec<Given>,
}

/// `bookworm`, `host1=28`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    host: Option<String>,
    word: String,
}

impl FromStr for Given {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once('=') {
            Some((host, word)) => Self { host: Some(host.to_owned()), word: word.to_owned() },
            None => Self { host: None, word: text.to_owned() },
        })
    }
}

impl Engines {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The engines that there are, and which of them hosts get. Says which one a version stands for.
    ///
    /// # Errors
    /// If there is no such engine.
    pub fn choice(&self, context: &Context) -> Result<EngineChoice, Error> {
        let choice = self.among(labctl_images::own_engines(&context.dirs.cache))?;
        for given in self.given.iter().filter(|g| engine::is_number(&g.word)) {
            let found = choice.find(&given.word);
            found.iter().for_each(|found| context.printer.say(&stands_for(&given.word, found)));
        }
        Ok(choice)
    }

    fn among(&self, own: Vec<Engine>) -> Result<EngineChoice, Error> {
        let mut choice = EngineChoice { own, ..EngineChoice::default() };
        for given in &self.given {
            let engine = find(&choice, &given.word)?;
            match &given.host {
                Some(host) => choice.hosts.push((host.clone(), engine)),
                None => choice.unnamed = Some(engine),
            }
        }
        Ok(choice)
    }
}

/// An engine by its name or version.
///
/// # Errors
/// If there is none.
pub fn find(choice: &EngineChoice, word: &str) -> Result<Engine, Error> {
    choice.find(word).ok_or_else(|| {
        Error::Usage(format!("there is no engine `{word}`\nhint: there are {}", choice.listed()))
    })
}

/// `engine 28 is forky (Docker 28.5)`
pub fn stands_for(word: &str, engine: &Engine) -> String {
    format!("engine {word} is {engine} (Docker {})", engine.docker())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_model::Suite;
    use labctl_topology::Topology;

    use super::*;

    fn choice(words: &[&str]) -> Result<EngineChoice, Error> {
        Engines { given: words.iter().map(|w| w.parse().unwrap()).collect() }.among(Vec::new())
    }

    #[test]
    fn an_engine_is_that_of_all_hosts_that_name_none_or_of_one() {
        let text = "name: t\nhosts: { a: {}, b: {}, c: { engine: trixie } }\n";
        let lab = Topology::parse(text, "t.yaml", &choice(&["bookworm", "b=28"]).unwrap()).unwrap().lab;
        let found: Vec<_> = lab.hosts.values().map(|h| h.engine.name()).collect();
        assert_eq!(found, ["bookworm", "forky", "trixie"]);
    }

    #[test]
    fn what_there_is_not_is_said() {
        let error = choice(&["buster"]).unwrap_err().to_string();
        assert!(error.contains("`buster`") && error.contains("bookworm (Docker 20.10)"), "{error}");
        assert_eq!(stands_for("28", &Engine::Debian(Suite::Forky)), "engine 28 is forky (Docker 28.5)");
    }
}
