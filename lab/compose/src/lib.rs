//! Compose files become topologies: networks, containers or services, and expectations from what Compose promises.
//!
//! What is read is the Compose specification, `docker compose config`'s canonical form and version 2 and 3 files of
//! `docker compose` and `docker stack`. Every key is either taken or told of in a [`Note`] with its line: a mapping is
//! read by [`keys::Keys`], which notes what nobody has taken. No I/O.

mod arrange;
mod expect;
mod flow;
mod include;
mod keys;
mod networks;
mod ports;
mod services;
mod variables;
mod volumes;
mod write;

use std::collections::HashMap;

use labctl_yaml::{Cx, Diagnostic, Diagnostics, SourceText, Yaml, reject_controls};

pub use include::{Included, include};
use keys::{Keys, Notes};
pub use variables::in_file as variables_in_file;

/// How a Compose file becomes a topology.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Name of the lab; else that of the project.
    pub name: Option<String>,
    /// How many hosts, at least 1.
    pub hosts: usize,
    /// Whether the hosts form a swarm that runs services, as `docker stack deploy` makes them.
    pub swarm: bool,
    /// Service and host: where a service runs.
    pub place: Vec<(String, String)>,
    /// Whether the file's images are kept. Else containers have labctl's own.
    pub images: bool,
    /// Profiles whose services are taken too.
    pub profiles: Vec<String>,
    /// Variables that the file may use.
    pub variables: HashMap<String, String>,
}

/// A topology, and what is to be known of how it was made.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The topology's text, with comments.
    pub topology: String,
    /// What was left out or changed, in the order of the file.
    pub notes: Vec<Note>,
}

/// Something that was left out or changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Line of the Compose file, from 1.
    pub line: u32,
    /// What, and why.
    pub text: String,
}

/// Why a Compose file became no topology.
#[derive(Debug)]
pub enum ImportError {
    /// The file has mistakes.
    Invalid(Diagnostics),
    /// The options do not fit the file.
    Options {
        /// The service for which they do not.
        service: String,
        /// What does not fit.
        message: String,
        /// What would.
        hint: String,
    },
}

/// Makes a topology of a Compose file. `file` is its name, for messages, and `folder` that of its folder, which names the
/// project if nothing else does.
///
/// # Errors
/// If the file is no Compose file, or the options do not fit it.
pub fn import(
    text: &str,
    file: &str,
    folder: &str,
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    let made = make(SourceText::new(file, text), folder, options)?;
    Ok(Imported { topology: write::topology(&made.arranged, file, options), notes: made.notes })
}

/// A Compose file that was read, and what comes of it.
struct Made {
    source: SourceText,
    /// The file with its variables replaced.
    root: Yaml,
    arranged: arrange::Arranged,
    notes: Vec<Note>,
}

fn make(source: SourceText, folder: &str, options: &ImportOptions) -> Result<Made, ImportError> {
    let invalid = |d: Diagnostic| ImportError::Invalid(Diagnostics::new(source.clone(), vec![d], 0));
    let mut root = labctl_yaml::parse(&source).map_err(|d| invalid(*d))?;
    let mut notes = Notes::new(Cx::new(source.clone()));
    variables::replace(&mut root, &options.variables, &mut notes);
    // Those that a variable brought in count as well.
    reject_controls(&root, &mut notes.cx);
    let read = Project::read(&root, options, &mut notes);
    let Notes { cx, list } = notes;
    cx.found.finish(source.clone()).map_err(ImportError::Invalid)?;
    let project = read.ok_or_else(|| invalid(Diagnostic::new(root.at, "this is no Compose file")))?;
    let mut notes = Notes { cx: Cx::new(source.clone()), list };
    let arranged = arrange::arrange(project, folder, options, &mut notes)
        .map_err(|m| ImportError::Options { service: m.service, message: m.message, hint: m.hint })?;
    let Notes { cx, list: mut notes } = notes;
    cx.found.finish(source.clone()).map_err(ImportError::Invalid)?;
    notes.sort();
    notes.dedup();
    Ok(Made { source, root, arranged, notes })
}

/// What a Compose file says.
struct Project {
    name: Option<String>,
    services: Vec<services::ComposeService>,
    networks: indexmap::IndexMap<String, networks::ComposeNetwork>,
}

impl Project {
    fn read(root: &labctl_yaml::Yaml, options: &ImportOptions, notes: &mut Notes) -> Option<Self> {
        let mut keys = Keys::new(root, "the file", notes)?;
        let name = keys.take("name").and_then(|(_, n)| keys::text(n));
        // Of the old format alone, and without a meaning by now.
        keys.take("version");
        for (key, _) in keys.take_all(&["include"]) {
            let d = Diagnostic::new(key.at, "`include` names other files");
            notes.cx.error(d.hint(CONFIG));
        }
        for (key, _) in keys.take_all(&["volumes"]) {
            if options.images {
                notes.add(key.at, "`volumes`: Docker makes the volumes that services name; drivers and options are left out");
            }
        }
        for (key, _) in keys.take_all(&["secrets", "configs", "models"]) {
            notes.add(key.at, format!("`{}`: left out, a lab's host has no files of yours", key.value));
        }
        let networks = networks::read(keys.take("networks"), notes);
        let Some((key, services)) = keys.take("services") else {
            let d = Diagnostic::new(root.at, "a Compose file has `services`");
            let hint = match keys.first() {
                Some("hosts" | "segments") => "this is a topology: `labctl up FILE`",
                Some(first) if first != "networks" => {
                    "before version 2, services were keys of the file itself: put them below `services:`"
                }
                _ => CONFIG,
            };
            notes.cx.error(d.hint(hint));
            return None;
        };
        let services = services::read(key, services, options, notes);
        keys.finish(notes);
        Some(Self { name, services, networks })
    }
}

/// The way out where a file needs Compose itself to be read.
const CONFIG: &str = "`docker compose config` writes it all in one file, and `labctl import -` reads that";
