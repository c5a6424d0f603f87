//! A host's console log. Only its last part is kept, since a guest may write without end.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{io::Interest, task::AbortHandle};

/// Size in bytes at which a file is put aside. There are at most two.
const FILE_MAX: u64 = 512 << 10;

/// Bytes read at once, and how many such reads catch up with a socket.
const PIECE: usize = 16 << 10;
const PIECES: usize = 64;

/// A log that keeps its last part: when `console.log` is long enough it becomes `console.log.1`, and a new one begins.
#[derive(Debug)]
pub struct Ring {
    path: PathBuf,
    file: File,
    length: u64,
}

/// Path of the part before the one at `path`, which may not exist.
pub fn earlier(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

impl Ring {
    /// Begins an empty log and removes the old one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        match fs::remove_file(earlier(path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        Ok(Self { path: path.to_owned(), file: File::create(path)?, length: 0 })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length >= FILE_MAX {
            fs::rename(&self.path, earlier(&self.path))?;
            self.file = File::create(&self.path)?;
            self.length = 0;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Writes what a machine's serial port sends to a log, until the machine ends.
#[derive(Debug)]
pub struct Console {
    from: UnixStream,
    to: Arc<Mutex<Ring>>,
    task: AbortHandle,
}

impl Console {
    /// Writes what comes from `socket` to a log.
    ///
    /// # Errors
    /// The file cannot be made, or the socket cannot be watched.
    pub fn start(socket: UnixStream, path: &Path) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let from = socket.try_clone()?;
        let socket = tokio::net::UnixStream::from_std(socket)?;
        let to = Arc::new(Mutex::new(Ring::create(path)?));
        let task = tokio::spawn(follow(socket, to.clone())).abort_handle();
        Ok(Self { from, to, task })
    }

    /// Writes what has come already: for a machine whose last output is about to be read.
    pub fn catch_up(&self) {
        let mut to = lock(&self.to);
        // A socket holds no more than that; a running guest may go on writing.
        for _ in 0..PIECES {
            match drain(&self.from, &mut to) {
                Ok(1..) => {}
                _ => return,
            }
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.catch_up();
        self.task.abort();
    }
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(from: tokio::net::UnixStream, to: Arc<Mutex<Ring>>) {
    while from.readable().await.is_ok() {
        match from.try_io(Interest::READABLE, || drain(&from, &mut lock(&to))) {
            Ok(0) => return,
            // Leaves time for others if a guest writes without end.
            Ok(_) => tokio::task::yield_now().await,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Writes one piece of what has come. Returns its length; 0 at the end.
fn drain(from: &impl AsFd, to: &mut Ring) -> io::Result<usize> {
    let mut piece = [0; PIECE];
    let n = nix::unistd::read(from, &mut piece)?;
    // On a full disk the console is lost, which only its reader notices.
    let _ = to.write(&piece[..n]);
    Ok(n)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_console_without_end_keeps_its_last_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let (mut guest, ours) = UnixStream::pair().unwrap();
        let console = Console::start(ours, &path).unwrap();
        let writer = std::thread::spawn(move || {
            let line = [b'x'; 1023];
            for i in 0..4096 {
                guest.write_all(&line).unwrap();
                guest.write_all(if i == 4095 { b"E" } else { b"\n" }).unwrap();
            }
        });
        while !writer.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        writer.join().unwrap();
        console.catch_up();
        let (last, before) = (fs::read(&path).unwrap(), fs::read(earlier(&path)).unwrap());
        assert_eq!(last.last(), Some(&b'E'), "its last words are there");
        let limit = FILE_MAX + PIECE as u64;
        assert!(before.len() as u64 >= FILE_MAX, "{}", before.len());
        assert!(last.len() as u64 <= limit && before.len() as u64 <= limit);
        // A machine that is started again begins a new one.
        Ring::create(&path).unwrap();
        assert!(fs::read(&path).unwrap().is_empty() && !earlier(&path).exists());
    }
}
