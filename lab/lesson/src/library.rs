//! Lessons in a folder.

use std::path::{Path, PathBuf};

use crate::lesson::FILE;

/// Why no lesson was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// None has this name.
    None,
    /// Several begin like this.
    Several(Vec<String>),
}

/// The folders of the lessons in this folder, sorted by name.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| p.join(FILE).is_file()).collect();
    all.sort();
    all
}

fn id(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

/// The lesson that a learner names: by its folder's name, by its number, or by how its name begins, with or without number.
///
/// # Errors
/// There is no such lesson, or several.
pub fn find<'a>(all: &'a [PathBuf], name: &str) -> Result<&'a PathBuf, NotFound> {
    let number = |id: &str| id.split('-').next().and_then(|n| n.parse::<u32>().ok());
    if let Some(exact) = all.iter().find(|path| id(path) == name) {
        return Ok(exact);
    }
    let wanted: Option<u32> = name.parse().ok();
    let fits = |path: &&PathBuf| match wanted {
        Some(_) => number(id(path)) == wanted,
        None => {
            let bare = id(path).trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
            !name.is_empty() && (id(path).starts_with(name) || bare.starts_with(name))
        }
    };
    let found: Vec<&PathBuf> = all.iter().filter(fits).collect();
    match found.as_slice() {
        [] => Err(NotFound::None),
        [one] => Ok(one),
        several => Err(NotFound::Several(several.iter().map(|path| id(path).to_owned()).collect())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lesson_is_found_by_name_number_or_beginning() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["02-ipvlan", "01-bridges", "10-ingress", "notes"] {
            std::fs::create_dir(tmp.path().join(name)).unwrap();
            if name != "notes" {
                std::fs::write(tmp.path().join(name).join(FILE), "").unwrap();
            }
        }
        let all = list(tmp.path());
        let found = |name| find(&all, name).map(|p| p.file_name().unwrap().to_str().unwrap());
        assert_eq!(all.len(), 3);
        for name in ["1", "01", "01-bridges", "bridges", "br", "01-"] {
            assert_eq!(found(name), Ok("01-bridges"), "{name}");
        }
        assert_eq!(found("10"), Ok("10-ingress"));
        assert_eq!(found("i"), Err(NotFound::Several(vec!["02-ipvlan".into(), "10-ingress".into()])));
        assert_eq!((found("4"), found("")), (Err(NotFound::None), Err(NotFound::None)));
    }
}
