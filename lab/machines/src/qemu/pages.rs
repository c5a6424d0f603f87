//! The pages of a machine's memory that differ from the file it was started from.
//!
//! QEMU maps the file privately, so a page that its guest has written is an anonymous page of QEMU's own. The kernel says
//! which these are (`/proc/PID/pagemap`, see Documentation/admin-guide/mm/pagemap.rst), and copies them from and to
//! another process of the same user that we started (process_vm_readv(2)).
//!
//! On disk they are a file: [`MAGIC`], the number of runs, each run's first page and length (all u32, little-endian),
//! zeros up to a whole page, then the pages.

use std::fs::File;
use std::io::{self, BufWriter, IoSlice, IoSliceMut, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// Size of a page in bytes.
const PAGE: usize = 4096;

/// A page without anything.
const ZEROS: [u8; PAGE] = [0; PAGE];

/// The first bytes of a file of pages; the last ones are its version.
const MAGIC: [u8; 8] = *b"pages\0\0\x01";

/// Most pieces of one call (IOV_MAX).
const PIECES: usize = 1024;

/// Bytes copied at once: they fit a processor's cache.
const CHUNK: usize = 256 << 10;

/// Adjacent pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Number of the first one in the machine's memory.
    first: u32,
    /// How many.
    count: u32,
}

impl Run {
    fn bytes(self) -> usize {
        self.count as usize * PAGE
    }

    fn offset(self) -> u64 {
        u64::from(self.first) * PAGE as u64
    }
}

fn total(runs: &[Run]) -> usize {
    runs.iter().map(|r| r.bytes()).sum()
}

/// The memory of a machine, seen from outside.
#[derive(Debug)]
pub struct Pages {
    pid: Pid,
    /// Where QEMU has it mapped.
    at: Range<u64>,
}

impl Pages {
    /// Finds the memory of this many bytes in a process that maps it privately from a file.
    ///
    /// # Errors
    /// There is none, or this process may not look.
    pub fn of(pid: u32, bytes: u64) -> io::Result<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let at = find(&maps, bytes)
            .ok_or_else(|| io::Error::other("QEMU maps no file of the machine's memory"))?;
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        Ok(Self { pid: Pid::from_raw(pid), at })
    }

    /// The runs of pages that the machine has written.
    fn written(&self) -> io::Result<Vec<Run>> {
        let pages = usize::try_from((self.at.end - self.at.start) / PAGE as u64).map_err(io::Error::other)?;
        let mut entries = vec![0; pages * 8];
        let map = File::open(format!("/proc/{}/pagemap", self.pid))?;
        map.read_exact_at(&mut entries, self.at.start / PAGE as u64 * 8)?;
        Ok(runs(&entries))
    }

    /// Bytes that [`Self::copy`] would copy now.
    ///
    /// # Errors
    /// The process has ended.
    pub fn size(&self) -> io::Result<usize> {
        self.written().map(|runs| total(&runs))
    }

    /// Copies the written pages, of a machine that is stopped. `buffer` may bring memory that is touched already, which
    /// makes the copy faster.
    ///
    /// # Errors
    /// The process has ended.
    pub fn copy(&self, mut buffer: Vec<u8>) -> io::Result<Copied> {
        let runs = self.written()?;
        let mut pages = Vec::with_capacity(total(&runs) / PAGE);
        let mut chunk = vec![0; CHUNK];
        buffer.clear();
        for runs in batches(&runs) {
            let here = chunk.get_mut(..total(&runs)).ok_or(io::ErrorKind::InvalidData)?;
            let length = here.len();
            if process_vm_readv(self.pid, &mut [IoSliceMut::new(here)], &self.remote(&runs))? != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let numbers = runs.iter().flat_map(|run| run.first..run.first + run.count);
            for (number, page) in numbers.zip(here.chunks(PAGE)) {
                // Guests clear more than they use: what is read but not kept costs half.
                let is_zero = page == ZEROS;
                if !is_zero {
                    buffer.extend_from_slice(page);
                }
                pages.push((number, is_zero));
            }
        }
        Ok(Copied { pages, bytes: buffer })
    }

    /// Writes the pages of a file into the machine, which has not run yet.
    ///
    /// # Errors
    /// The file is damaged, or the process has ended.
    pub fn fill(&self, file: &Path) -> io::Result<()> {
        let file = File::open(file)?;
        let (runs, mut at) = read_runs(&file, self.at.end - self.at.start)?;
        let mut chunk = vec![0; CHUNK];
        for runs in batches(&runs) {
            let here = chunk.get_mut(..total(&runs)).ok_or(io::ErrorKind::InvalidData)?;
            file.read_exact_at(here, at)?;
            if process_vm_writev(self.pid, &[IoSlice::new(here)], &self.remote(&runs))? != here.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += here.len() as u64;
        }
        Ok(())
    }

    fn remote(&self, runs: &[Run]) -> Vec<RemoteIoVec> {
        let at = |run: &Run| RemoteIoVec {
            // Both are addresses on this machine.
            base: (self.at.start + run.offset()) as usize,
            len: run.bytes(),
        };
        runs.iter().map(at).collect()
    }
}

/// Copied pages, in memory.
#[derive(Debug)]
pub struct Copied {
    /// Their numbers, and whether they are all zeros.
    pages: Vec<(u32, bool)>,
    /// Those that are not.
    bytes: Vec<u8>,
}

impl Copied {
    /// Writes those pages to a new file that differ from `base`, the file that the machine maps. Returns its length.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(self, base: &File, to: &Path) -> io::Result<u64> {
        let (mut runs, mut kept) = (Vec::<Run>::new(), Vec::<&[u8]>::new());
        let (mut bytes, mut before) = (self.bytes.chunks(PAGE), [0; PAGE]);
        for (page, is_zero) in self.pages {
            let now = if is_zero { ZEROS.as_slice() } else { bytes.next().unwrap_or_default() };
            base.read_exact_at(&mut before, u64::from(page) * PAGE as u64)?;
            if now == before {
                continue;
            }
            kept.push(now);
            add(&mut runs, page);
        }
        let mut head = MAGIC.to_vec();
        head.extend(u32::try_from(runs.len()).map_err(io::Error::other)?.to_le_bytes());
        head.extend(runs.iter().flat_map(|r| [r.first.to_le_bytes(), r.count.to_le_bytes()].concat()));
        head.resize(head.len().next_multiple_of(PAGE), 0);
        let mut file = BufWriter::with_capacity(CHUNK, File::create(to)?);
        file.write_all(&head)?;
        kept.iter().try_for_each(|page| file.write_all(page))?;
        file.flush()?;
        Ok((head.len() + total(&runs)) as u64)
    }
}

/// Adds a page behind all others.
fn add(runs: &mut Vec<Run>, page: u32) {
    match runs.last_mut() {
        Some(run) if run.first + run.count == page => run.count += 1,
        _ => runs.push(Run { first: page, count: 1 }),
    }
}

/// Where a file of this length is mapped privately and writable. One mapping may show in pieces.
fn find(maps: &str, bytes: u64) -> Option<Range<u64>> {
    let mut last: Option<(Range<u64>, &str)> = None;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (range, access) = (words.next()?, words.next()?);
        let (start, end) = range.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let (offset, inode) = (u64::from_str_radix(words.next()?, 16).ok()?, words.nth(1)?);
        if !access.starts_with("rw")
            || !access.ends_with('p')
            || !words.next().is_some_and(|p| p.starts_with('/'))
        {
            last = None;
            continue;
        }
        last = match last {
            Some((before, file))
                if before.end == start && file == inode && offset == before.end - before.start =>
            {
                Some((before.start..end, file))
            }
            _ if offset == 0 => Some((start..end, inode)),
            _ => None,
        };
        if let Some((range, _)) = &last
            && range.end - range.start == bytes
        {
            return Some(range.clone());
        }
    }
    None
}

/// The runs of pages that are the process's own, from entries of its pagemap.
fn runs(pagemap: &[u8]) -> Vec<Run> {
    /// The page is in memory, or swapped out.
    const THERE: u64 = 1 << 63 | 1 << 62;
    /// It is the file's page still.
    const OF_FILE: u64 = 1 << 61;
    let mut runs = Vec::<Run>::new();
    for (page, entry) in (0_u32..).zip(pagemap.chunks_exact(8)) {
        let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
        if entry & THERE == 0 || entry & OF_FILE != 0 {
            continue;
        }
        add(&mut runs, page);
    }
    runs
}

/// Reads the head of a file of pages: its runs, and where the pages begin.
fn read_runs(file: &File, memory: u64) -> io::Result<(Vec<Run>, u64)> {
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, "it is no file of memory pages, or a damaged one");
    let length = file.metadata()?.len();
    let mut start = [0; MAGIC.len() + 4];
    file.read_exact_at(&mut start, 0)?;
    let count = start.strip_prefix(&MAGIC).and_then(|n| n.try_into().ok()).map(u32::from_le_bytes);
    let bytes = count.ok_or_else(damaged)? as usize * 8;
    if bytes as u64 > length {
        return Err(damaged());
    }
    let mut table = vec![0; bytes];
    file.read_exact_at(&mut table, start.len() as u64)?;
    let number = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
    let runs: Vec<Run> =
        table.chunks_exact(8).map(|r| Run { first: number(&r[..4]), count: number(&r[4..]) }).collect();
    let head = (start.len() + bytes).next_multiple_of(PAGE) as u64;
    let mut end = 0;
    for run in &runs {
        if run.offset() < end || run.count == 0 {
            return Err(damaged());
        }
        end = run.offset() + run.bytes() as u64;
    }
    if end > memory || head + total(&runs) as u64 != length {
        return Err(damaged());
    }
    Ok((runs, head))
}

/// Cuts runs into lists that fit a chunk and a call.
fn batches(runs: &[Run]) -> impl Iterator<Item = Vec<Run>> {
    let mut rest = runs.iter().copied();
    let mut carried: Option<Run> = None;
    std::iter::from_fn(move || {
        let (mut batch, mut room) = (Vec::new(), (CHUNK / PAGE) as u32);
        while room > 0 && batch.len() < PIECES {
            let Some(run) = carried.take().or_else(|| rest.next()) else { break };
            let count = run.count.min(room);
            batch.push(Run { first: run.first, count });
            room -= count;
            if count < run.count {
                carried = Some(Run { first: run.first + count, count: run.count - count });
            }
        }
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MAPS: &str = "\
55d000-55e000 r--p 00000000 fe:00 77   /usr/bin/qemu
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
7f0000001000-7f0000003000 rw-p 00000000 fe:00 1234   /cache/some where/ram (deleted)
7f0000003000-7f0000005000 rw-p 00002000 fe:00 1234   /cache/some where/ram (deleted)
7f0000005000-7f0000009000 rw-s 00000000 fe:00 99   /shared
7f0000009000-7f000000d000 r--p 00000000 fe:00 98   /kernel
7fff00000000-7fff00004000 rw-p 00000000 00:00 0   [stack]
";

    #[test]
    fn the_memory_is_found_among_the_mappings_also_in_pieces() {
        assert_eq!(find(MAPS, 0x4000), Some(0x7f00_0000_1000..0x7f00_0000_5000));
        assert_eq!(find(MAPS, 0x8000), None);
    }

    #[test]
    fn written_pages_are_those_that_are_there_and_not_the_files() {
        let entries = [1_u64 << 63, 1 << 62, 1 << 63 | 1 << 61, 0, 1 << 61, 1 << 63 | 5];
        let bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_ne_bytes()).collect();
        assert_eq!(runs(&bytes), [Run { first: 0, count: 2 }, Run { first: 5, count: 1 }]);
    }

    #[test]
    fn batches_are_the_same_pages_in_order() {
        let runs =
            [Run { first: 1, count: 100 }, Run { first: 200, count: 1 }, Run { first: 300, count: 64 }];
        let all: Vec<Vec<Run>> = batches(&runs).collect();
        assert!(all.iter().all(|b| total(b) <= CHUNK));
        let pages = |runs: &[Run]| runs.iter().flat_map(|r| r.first..r.first + r.count).collect::<Vec<_>>();
        assert_eq!(pages(&all.concat()), pages(&runs));
    }

    /// A process of ours that maps a file privately is a machine enough: this test's own.
    #[test]
    #[allow(unsafe_code)]
    fn written_pages_come_back_and_damage_is_noticed() {
        const PAGES: usize = 300;
        let dir = tempfile::tempdir().unwrap();
        let (ram, saved) = (dir.path().join("ram"), dir.path().join("saved"));
        std::fs::write(&ram, vec![7; PAGES * PAGE]).unwrap();
        let base = File::options().read(true).write(true).open(&ram).unwrap();
        let map = || {
            let (size, flags) = (PAGES * PAGE, libc::MAP_PRIVATE);
            use std::os::fd::AsRawFd as _;
            // SAFETY: a new mapping of a file that this test made and does not cut.
            unsafe {
                let at = libc::mmap(
                    std::ptr::null_mut(),
                    size,
                    libc::PROT_READ | libc::PROT_WRITE,
                    flags,
                    base.as_raw_fd(),
                    0,
                );
                assert_ne!(at, libc::MAP_FAILED);
                std::slice::from_raw_parts_mut(at.cast::<u8>(), size)
            }
        };
        let pages_of = |memory: &[u8]| {
            let start = memory.as_ptr() as u64;
            Pages { pid: Pid::this(), at: start..start + memory.len() as u64 }
        };
        let one = map();
        assert_eq!(one.iter().map(|b| usize::from(*b)).sum::<usize>(), 7 * PAGES * PAGE, "read, not written");
        for page in [0, 1, 2, 9, 200, 299] {
            one[page * PAGE + 5] = page as u8;
        }
        // Written, but as it was; and cleared.
        one[50 * PAGE] = 7;
        one[60 * PAGE..61 * PAGE].fill(0);
        let pages = pages_of(one);
        assert_eq!(pages.size().unwrap(), 8 * PAGE);
        let copied = pages.copy(vec![1; 3]).unwrap();
        assert_eq!(copied.write(&base, &saved).unwrap(), 8 * PAGE as u64, "a head and seven pages");

        let two = map();
        pages_of(two).fill(&saved).unwrap();
        assert!(one == two);

        let whole = std::fs::read(&saved).unwrap();
        let three = map();
        for damaged in
            [&whole[..whole.len() - 1], &whole[..100], &whole[1..], &[whole.clone(), vec![0]].concat()]
        {
            std::fs::write(&saved, damaged).unwrap();
            assert!(pages_of(three).fill(&saved).is_err());
        }
    }
}
