//! The engine id of a dockerd that was saved while it ran.
//!
//! dockerd reads its id once, from `engine-id` (moby, daemon/id.go), and keeps it as a string; a restart takes seconds
//! without KVM. So we look up the string's places in its memory before the machine is saved, and a restored machine
//! writes its own id there and into the file. Go's collector does not move live strings; a place that no longer holds
//! the old id is left alone.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
};

/// File with dockerd's id (since 23.0; before, the id was the fingerprint of a key).
const FILE: &str = "/var/lib/docker/engine-id";

/// Length of an id: a UUID in text form.
const LENGTH: usize = 36;

/// Bytes of memory that are searched at once.
const CHUNK: usize = 1 << 20;

/// Most memory that is searched, in bytes: dockerd reserves more but uses far less.
const MOST: u64 = 2 << 30;

/// Where a running dockerd keeps its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pid: i32,
    id: String,
    places: Vec<u64>,
}

impl Identity {
    /// Looks up the id in this process's memory.
    ///
    /// # Errors
    /// If it has no id of this kind: its clones would all be the same engine.
    pub fn find(pid: i32) -> io::Result<Self> {
        let unknown = || io::Error::other("this dockerd keeps no id that could be changed while it runs");
        let id = current().ok_or_else(unknown)?;
        let places = find(pid, id.as_bytes())?;
        if places.is_empty() {
            return Err(unknown());
        }
        Ok(Self { pid, id, places })
    }

    /// Replaces the id in the process and in the file by another one of the same length.
    pub fn assume(&mut self, id: &str) -> io::Result<()> {
        if id.len() != LENGTH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an engine id is a UUID"));
        }
        fs::write(FILE, id)?;
        let memory = File::options().read(true).write(true).open(format!("/proc/{}/mem", self.pid))?;
        for place in &self.places {
            let mut found = [0; LENGTH];
            memory.read_exact_at(&mut found, *place)?;
            if found == *self.id.as_bytes() {
                memory.write_all_at(id.as_bytes(), *place)?;
            }
        }
        id.clone_into(&mut self.id);
        Ok(())
    }
}

/// The id in the file.
pub fn current() -> Option<String> {
    let id = fs::read_to_string(FILE).ok()?.trim().to_owned();
    (id.len() == LENGTH).then_some(id)
}

/// Sets the id that the next dockerd reads.
pub fn set(id: &str) -> io::Result<()> {
    if let Some(dir) = std::path::Path::new(FILE).parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(FILE, id)
}

/// Every address in a process's writable anonymous memory that holds these octets.
fn find(pid: i32, octets: &[u8]) -> io::Result<Vec<u64>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut places = Vec::new();
    let mut buffer = vec![0; CHUNK + octets.len()];
    let mut read = 0;
    for (from, to) in writable(&fs::read_to_string(format!("/proc/{pid}/maps"))?) {
        let mut at = from;
        while at < to && read < MOST {
            // Chunks overlap by one octet less than the string, so that nothing is missed or found twice.
            let want = (to - at).min((CHUNK + octets.len() - 1) as u64);
            let Ok(want) = usize::try_from(want) else { break };
            // A mapping can go away during the search.
            let Ok(got) = memory.read_at(&mut buffer[..want], at) else { break };
            if got < octets.len() {
                break;
            }
            let hits = buffer[..got].windows(octets.len()).enumerate().filter(|(_, w)| *w == octets);
            places.extend(hits.map(|(i, _)| at + i as u64));
            at += (got + 1 - octets.len()) as u64;
            read += got as u64;
        }
    }
    Ok(places)
}

/// Writable private mappings without a file, from /proc/PID/maps (proc(5)).
fn writable(maps: &str) -> Vec<(u64, u64)> {
    let mapping = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let inode = fields.nth(2)?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        (permissions.starts_with("rw-p") && inode == "0").then_some((hex(from)?, hex(to)?))
    };
    maps.lines().filter_map(mapping).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn octets_are_found_where_they_lie_also_across_chunks() {
        // Put together at run time, so that the text is in no constant of this program.
        let id: String = ["3c0e8fe1", "77aa", "4d7c", "9b1f", "c5d3a1b2e4f6"].join("-");
        let mut memory = vec![0u8; 3 * CHUNK];
        let places = [10, CHUNK - 5, 2 * CHUNK + 100];
        for place in places {
            memory[place..place + LENGTH].copy_from_slice(id.as_bytes());
        }
        let base = memory.as_ptr() as u64;
        let found = find(std::process::id().cast_signed(), id.as_bytes()).unwrap();
        for place in places {
            assert_eq!(found.iter().filter(|f| **f == base + place as u64).count(), 1, "{place}");
        }
    }

    #[test]
    fn only_private_writable_memory_without_a_file_is_looked_through() {
        let maps = "\
00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/dockerd
00e03000-00e24000 rw-p 00003000 08:02 173521 /usr/bin/dockerd
c000000000-c000400000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 rw-s 00000000 00:01 5 /dev/zero
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
";
        assert_eq!(writable(maps), [(0xc0_0000_0000, 0xc0_0040_0000), (0x7ffd_0000_0000, 0x7ffd_0002_1000)]);
    }
}
