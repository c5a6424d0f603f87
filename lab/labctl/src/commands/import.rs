//! `labctl import`

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use labctl_compose::{ImportError, ImportOptions, Imported, import};
use labctl_model::Lab;
use labctl_topology::{LoadError, MAX_FILE_SIZE};
use serde_json::json;

use crate::{
    commands::validate::summary,
    context::Context,
    exit::{Error, Exit},
    printer::{Format, plain},
};

const EXAMPLES: &str = "\
Examples:
  labctl import compose.yaml -o lab.yaml && labctl up lab.yaml
  labctl import compose.yaml --hosts 2 --place db=host2 -o lab.yaml
  labctl import stack.yaml --swarm 3 | less
  docker compose config | labctl import - --images -o lab.yaml

docs/compose.md says what becomes of each key.";

/// Make a topology of a Compose file
///
/// Writes networks, containers or services, and expectations from what Compose promises: services on a network reach
/// each other by name, others do not, an internal network leads nowhere, published ports answer on their host. What has
/// no counterpart in a lab is told on stderr, with its line.
///
/// Variables are taken from the environment and from `.env` beside the file, as Compose does.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Compose file, or `-` for stdin; without one `compose.yaml` or `docker-compose.yml` here
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// How many hosts; a network with services on several becomes an overlay
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    hosts: u8,
    /// A swarm of so many hosts, which runs services as `docker stack deploy` makes them
    #[arg(long, value_name = "N", conflicts_with = "hosts", value_parser = clap::value_parser!(u8).range(1..=64))]
    swarm: Option<u8>,
    /// Put a service on this host; hosts are host1, host2, …
    #[arg(long, value_name = "SERVICE=HOST", value_parser = pair)]
    place: Vec<(String, String)>,
    /// Keep the file's images, with commands, environment, volumes and health checks
    #[arg(long)]
    images: bool,
    /// Also take services of this profile; `*` for all
    #[arg(long, value_name = "PROFILE")]
    profile: Vec<String>,
    /// Name of the lab [default: that of the project, or of the folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Write the topology to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (service, host) = text.split_once('=').ok_or("expected SERVICE=HOST")?;
    Ok((service.to_owned(), host.to_owned()))
}

/// Compose's own names of its file, in its order.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// Runs the verb.
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let file = match args.file {
        Some(file) => file,
        None => NAMES.iter().map(PathBuf::from).find(|f| f.is_file()).ok_or_else(|| {
            Error::Usage(format!("there is no {} here\nhint: `labctl import FILE`", NAMES.join(", ")))
        })?,
    };
    let (text, folder) = read(&file)?;
    if let Some(name) = args.name.as_ref().filter(|n| !Lab::is_name(n)) {
        return Err(Error::Usage(format!("`{name}` cannot be the name of a lab\nhint: {}", Lab::NAME)));
    }
    let options = ImportOptions {
        name: args.name,
        hosts: args.swarm.unwrap_or(args.hosts).into(),
        swarm: args.swarm.is_some(),
        place: args.place,
        images: args.images,
        profiles: args.profile,
        variables: labctl_topology::compose_variables(&folder.join("compose.yaml"))?,
    };
    let shown = if file.as_os_str() == "-" { "stdin".to_owned() } else { file.display().to_string() };
    let project = std::path::absolute(&folder).ok();
    let project = project.and_then(|f| Some(f.file_name()?.to_str()?.to_owned())).unwrap_or_default();
    let Imported { topology, notes } = import(&text, &shown, &project, &options).map_err(|e| match e {
        ImportError::Invalid(mistakes) => Error::Topology(LoadError::Invalid(mistakes)),
        ImportError::Options { message, hint, .. } => Error::Usage(format!("{message}\nhint: {hint}")),
    })?;
    let output = args.output.filter(|file| file != "-");
    // What Compose itself would refuse is found here, on the topology that was written.
    let written = output.as_ref().map_or("the topology".to_owned(), |f| f.display().to_string());
    let checked = labctl_topology::parse(&topology, &written);
    let lines: Vec<_> = notes.iter().map(|n| json!({ "line": n.line, "text": n.text })).collect();
    match (&output, context.printer.format) {
        (None, Format::Json) => context.printer.json(&json!({ "topology": topology, "notes": lines }))?,
        (output, format) => {
            context.printer.document(&topology, output.as_deref())?;
            if format == Format::Json {
                context.printer.json(&json!({ "file": written, "notes": lines }))?;
            }
        }
    }
    for note in &notes {
        context.printer.say(&format!("{shown}:{}: {}", note.line, plain(&note.text)));
    }
    let lab = checked.map_err(LoadError::Invalid)?;
    context.printer.say(&format!("{written}: {}", summary(&lab)));
    if let Some(output) = &output {
        context.printer.say(&format!("next: `labctl up {}`", output.display()));
    }
    Ok(Exit::OK)
}

/// Reads the file, and says which folder it is in.
fn read(file: &Path) -> Result<(String, PathBuf), Error> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        let stdin = std::io::stdin().lock();
        stdin.take(MAX_FILE_SIZE).read_to_string(&mut text).map_err(Error::file("read", "stdin"))?;
        return Ok((text, PathBuf::from(".")));
    }
    let text = labctl_topology::read_text(file)?;
    let folder = file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((text, folder.to_owned()))
}
