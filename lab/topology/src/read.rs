//! Reading a topology.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use indexmap::IndexSet;
use labctl_model::{engine::EngineChoice, lab::Lab};
use labctl_yaml::{
    Cx, Diagnostic, Diagnostics, FromNode, Places, SourceText, Span, Value, Yaml, reject_controls,
};

use crate::{include, raw, validate};

/// Largest topology that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;
/// Linux's `O_NONBLOCK` on every architecture we build for: opening a FIFO must not wait for its writer.
const O_NONBLOCK: i32 = 0o4000;

/// Why a topology, or another file about a lab, could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is a folder, a device or a pipe.
    #[error("{path} is not a regular file", path = path.display())]
    NotAFile {
        /// The given path.
        path: PathBuf,
    },
    /// The file is larger than [`MAX_FILE_SIZE`].
    #[error("{path} has {size} bytes; such a file has at most {MAX_FILE_SIZE}", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// The file is not UTF-8 text.
    #[error("{path} is not UTF-8 text (byte {offset})", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is not text.
        offset: usize,
    },
    /// The topology has mistakes.
    #[error("{0}")]
    Invalid(Diagnostics),
}

/// A topology that was read.
#[derive(Clone, Debug)]
pub struct Topology {
    /// What it describes.
    pub lab: Lab,
    /// Where everything in its text is.
    pub places: Places,
    /// What was left out or changed of a Compose file that it includes, each with file and line.
    pub notes: Vec<String>,
}

impl Topology {
    /// Reads a topology whose hosts run these engines. `file_name` is only for messages.
    ///
    /// # Errors
    /// If the topology has mistakes: all that one pass finds.
    pub fn parse(text: &str, file_name: &str, engines: &EngineChoice) -> Result<Self, Diagnostics> {
        Self::read(text, file_name, engines, None)
    }

    /// `folder` is where files are that the topology includes.
    fn read(
        text: &str,
        file_name: &str,
        engines: &EngineChoice,
        folder: Option<&Path>,
    ) -> Result<Self, Diagnostics> {
        let mut source = SourceText::new(file_name, text);
        let only = |source: &SourceText, d| Diagnostics::new(source.clone(), vec![d], 0);
        if text.len() as u64 > MAX_FILE_SIZE {
            let message =
                format!("a topology has at most {MAX_FILE_SIZE} bytes, and this one {}", text.len());
            return Err(only(&source, Diagnostic::new(Span::default(), message)));
        }
        let mut root = labctl_yaml::parse(&source).map_err(|d| only(&source, *d))?;
        if matches!(root.value, Value::Null) {
            let d = Diagnostic::new(Span::default(), "the topology is empty");
            return Err(only(&source, d.hint("the smallest one is `{ name: lab, hosts: { host1: {} } }`")));
        }
        if let Some(at) = of_compose(&root) {
            let d = Diagnostic::new(at, "this is a Compose file, not a topology");
            return Err(only(&source, d.hint("`labctl import FILE -o lab.yaml` makes a topology of it, `compose: FILE` in one includes it")));
        }
        let notes = include::compose(&mut root, &mut source, folder)?;
        let mut cx = Cx::new(source.clone());
        cx.owner = root.at;
        cx.foreign = raw::foreign_key;
        cx.names = segment_names(&root);
        reject_controls(&root, &mut cx);
        let lab = raw::Topology::from_node(&root, &mut cx).map(|t| validate::validate(&t, engines, &mut cx));
        cx.found.finish(source.clone())?;
        // There is a lab if no mistake was noted: what cannot be read is a mistake.
        let lab = lab.ok_or_else(|| only(&source, Diagnostic::new(root.at, "this is no topology")))?;
        Ok(Self { lab, places: Places::new(source, root), notes })
    }

    /// Reads a topology from a file; its hosts run these engines.
    ///
    /// # Errors
    /// If the topology has mistakes: [`LoadError::Invalid`] with all of them. If the file is not readable text of at most
    /// [`MAX_FILE_SIZE`] bytes: the other variants.
    pub fn load(path: impl AsRef<Path>, engines: &EngineChoice) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::read(&text, &path.to_string_lossy(), engines, Some(folder)).map_err(LoadError::Invalid)
    }
}

/// Where `services` is in a file that has nothing of a topology's own.
fn of_compose(root: &Yaml) -> Option<Span> {
    let Value::Map(entries) = &root.value else { return None };
    let of = |name: &str| entries.iter().find(|(key, _)| key.value == name).map(|(key, _)| key.at);
    let own = ["hosts", "segments", "compose", "containers", "expect"];
    of("services").filter(|_| own.iter().all(|key| of(key).is_none()))
}

/// The lab of a topology, with the engines that it names.
///
/// # Errors
/// As [`Topology::parse`].
pub fn parse(text: &str, file_name: &str) -> Result<Lab, Diagnostics> {
    Ok(Topology::parse(text, file_name, &EngineChoice::default())?.lab)
}

/// The lab of a topology in a file, with the engines that it names.
///
/// # Errors
/// As [`Topology::load`].
pub fn load(path: impl AsRef<Path>) -> Result<Lab, LoadError> {
    Ok(Topology::load(path, &EngineChoice::default())?.lab)
}

/// Reads the text of a file.
///
/// # Errors
/// If it is not readable text of at most [`MAX_FILE_SIZE`] bytes.
pub fn read_text(path: &Path) -> Result<String, LoadError> {
    let io = |source| LoadError::Io { path: path.to_owned(), source };
    let file: File = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(LoadError::NotAFile { path: path.to_owned() });
    }
    let too_large = |size| LoadError::TooLarge { path: path.to_owned(), size };
    if meta.len() > MAX_FILE_SIZE {
        return Err(too_large(meta.len()));
    }
    let mut bytes = Vec::new();
    // It may have grown since, or its size may be wrong (as in /proc).
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(too_large(bytes.len() as u64));
    }
    String::from_utf8(bytes)
        .map_err(|e| LoadError::NotText { path: path.to_owned(), offset: e.utf8_error().valid_up_to() })
}

/// The names of all segments. They are read first, because a key of a host is either a known one or a segment.
fn segment_names(root: &Yaml) -> IndexSet<String> {
    let Value::Map(top) = &root.value else { return IndexSet::new() };
    match top.iter().find(|(k, _)| k.value == "segments").map(|(_, n)| &n.value) {
        Some(Value::Map(all)) => all.iter().map(|(k, _)| k.value.clone()).collect(),
        _ => IndexSet::new(),
    }
}
