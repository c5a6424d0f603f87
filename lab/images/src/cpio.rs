//! Archives that the kernel unpacks as its initial RAM disk ("newc", kernel documentation: early-userspace
//! buffer-format). Several in a row form one RAM disk.

use std::io::{self, Write};

/// Writes entries to `W`.
pub struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Begins an empty archive.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Adds a directory, which must come before its contents.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, 0o040_755, &[])
    }

    /// Adds a file with these permissions.
    pub fn file(&mut self, name: &str, permissions: u32, contents: &[u8]) -> io::Result<()> {
        self.entry(name, 0o100_000 | permissions, contents)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(contents.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let links = 1;
        let name_size = name.len() + 1;
        // Magic, inode, mode, uid, gid, links, mtime, size, device and rdevice (major, minor), name size, checksum.
        let inode = self.inode;
        write!(
            self.out,
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
            0, 0, 0, 0, 0, 0, 0, 0
        )?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(110 + name_size)?;
        self.out.write_all(contents)?;
        self.pad(contents.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_are_padded_to_four_octets() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("a").unwrap();
        archive.file("a/bc", 0o644, b"12345").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        let file = 112;
        assert_eq!(&bytes[file..file + 6], b"070701");
        assert_eq!(&bytes[file + 110..file + 115], b"a/bc\0");
        assert_eq!(&bytes[file + 116..file + 124], b"12345\0\0\0");
        assert_eq!(&bytes[file + 124..file + 130], b"070701");
    }
}
