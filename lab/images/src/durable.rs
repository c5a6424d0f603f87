//! File operations that return only once the data is on disk, and the room that is left there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes a file with these permissions atomically: under another name first, and syncs it and its folder.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, permissions: u32, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(permissions).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    sync_folder_of(path)
}

/// Appends to a file that only its user can read, and syncs it. A crash may tear its end.
///
/// # Errors
/// Those of the file system.
pub fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    if is_new { sync_folder_of(path) } else { Ok(()) }
}

/// Syncs every file in a folder.
///
/// # Errors
/// Those of the file system.
pub fn sync_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Syncs the names in the folder that `path` lies in.
///
/// # Errors
/// Those of the file system.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Bytes that an ordinary user can still write to the disk of `path`.
///
/// # Errors
/// The path does not exist.
pub fn free(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
