//! The files that another process sees, such as those of a container's image.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::engine::PATH;

/// The files and environment of a process that has a program.
#[derive(Debug)]
pub struct OwnFiles {
    /// The root folder.
    pub root: File,
    /// The environment of the process.
    pub environment: BTreeMap<String, String>,
}

impl OwnFiles {
    /// Those of a process, if it has this program: by path, or in its PATH.
    pub fn with(pid: u32, program: &str) -> io::Result<Option<Self>> {
        let environment = environment(&fs::read(format!("/proc/{pid}/environ"))?);
        let root = File::open(format!("/proc/{pid}/root"))?;
        let path = environment.get("PATH").map_or(PATH, String::as_str);
        let found = match program.contains('/') {
            true => is_file(&root, program),
            false => path.split(':').any(|dir| is_file(&root, &format!("{dir}/{program}"))),
        };
        Ok(found.then_some(Self { root, environment }))
    }
}

/// Whether a path leads to a file, with all links resolved within `root`.
fn is_file(root: &File, path: &str) -> bool {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let found = openat2(root, path, how).map(File::from);
    found.is_ok_and(|file| file.metadata().is_ok_and(|m| m.is_file()))
}

/// Parses `KEY=VALUE` entries, each ended by a zero (proc(5)). What is not UTF-8 is left out.
fn environment(octets: &[u8]) -> BTreeMap<String, String> {
    let pairs = octets.split(|o| *o == 0).filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_is_found_by_name_and_by_path_and_a_folder_is_none() {
        let pid = std::process::id();
        let has = |program: &str| OwnFiles::with(pid, program).unwrap().is_some();
        assert!(has("sh") && has("/bin/sh"));
        assert!(!has("no-such-program") && !has("/bin/no-such-program") && !has("/bin"));
    }

    #[test]
    fn an_environment_is_read_as_the_kernel_gives_it() {
        let read = environment(b"PATH=/bin\0EMPTY=\0odd\0A=b=c\0");
        let pairs: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "b=c"), ("EMPTY", ""), ("PATH", "/bin")]);
    }
}
