//! `labctl init`

use std::{fs::OpenOptions, io::Write, path::PathBuf};

use crate::{
    context::Context,
    exit::{Error, Exit},
};

const EXAMPLES: &str = "\
Examples:
  labctl init                        two hosts, into lab.yaml
  labctl init swarm -o swarm.yaml
  labctl init macvlan -o - | less

`labctl import` makes a topology of a Compose file. /usr/share/labctl/topologies, or topologies/ in the sources, has more.";

/// Begin a topology, by example
///
/// Writes a commented topology that holds as it is, to be changed into one's own.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Which
    #[arg(value_enum, value_name = "EXAMPLE", default_value_t)]
    example: Example,
    /// Where to write it; `-` for stdout. A file that exists stays as it is
    #[arg(short, long, value_name = "FILE", default_value = "lab.yaml")]
    output: PathBuf,
}

/// A topology to begin with.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Example {
    /// Two hosts with bridges, a published port, a machine on the LAN
    #[default]
    TwoHosts,
    /// Three hosts, an overlay, a service behind the routing mesh
    Swarm,
    /// Containers with addresses of the LAN
    Macvlan,
}

impl Example {
    fn text(self) -> &'static str {
        match self {
            Self::TwoHosts => include_str!("init/two-hosts.yaml"),
            Self::Swarm => include_str!("init/swarm.yaml"),
            Self::Macvlan => include_str!("init/macvlan.yaml"),
        }
    }
}

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let shown = args.output.display().to_string();
    if shown == "-" {
        context.printer.document(args.example.text(), None)?;
        return Ok(Exit::OK);
    }
    // The comments name the file.
    let text = args.example.text().replace("lab.yaml", &shown);
    let opened = OpenOptions::new().write(true).create_new(true).open(&args.output);
    let mut file = match opened {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Error::Usage(format!(
                "{shown} exists\nhint: `-o FILE` for another, `-o -` for stdout"
            )));
        }
        opened => opened.map_err(Error::file("write", &shown))?,
    };
    file.write_all(text.as_bytes()).map_err(Error::file("write", &shown))?;
    context.printer.say(&format!("{shown} is written; next: `labctl predict {shown}`, `labctl up {shown}`"));
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::ValueEnum;
    use labctl_topology::Topology;

    use super::*;

    #[test]
    fn every_example_is_sound_and_holds_in_the_oracle() {
        for example in Example::value_variants() {
            let read = Topology::parse(example.text(), "lab.yaml", &Default::default());
            let Topology { lab, places, .. } = read.unwrap_or_else(|e| panic!("{e}"));
            let predictions = labctl_oracle::predict(&lab);
            assert!(predictions.holds && predictions.agrees > 0, "{example:?}: {predictions:#?}");
            let warnings = places.warn(&labctl_oracle::lint(&lab));
            assert!(warnings.is_none(), "{example:?}: {}", warnings.unwrap());
        }
    }
}
