//! The end of a log.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use crate::console::earlier;

/// The last lines of a log, for an error's text: at most 12, from its last 8 KiB, without terminal control characters.
/// The part of the log that was put aside counts too.
pub fn tail(path: &Path) -> String {
    const OCTETS: u64 = 8192;
    const LINES: usize = 12;
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(OCTETS)))?;
        let mut bytes = Vec::new();
        file.take(OCTETS).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let mut bytes = read(&earlier(path)).unwrap_or_default();
    bytes.extend(read(path).unwrap_or_default());
    let text: String = String::from_utf8_lossy(&bytes)
        .chars()
        .filter(|c| *c == '\n' || !labctl_words::is_hostile(*c))
        .collect();
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n  ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn a_tail_is_bounded_and_clean() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..3000).map(|i| format!("line {i}\u{1b}\r\n")).collect();
        std::fs::write(file.path(), text).unwrap();
        let tail = super::tail(file.path());
        assert_eq!(tail.lines().count(), 12);
        assert!(tail.ends_with("line 2999") && !tail.contains('\u{1b}'));
        assert_eq!(super::tail(std::path::Path::new("/nonexistent")), "");
    }
}
