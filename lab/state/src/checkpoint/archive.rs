//! Checkpoints as files, for another machine: a tar of the folder, compressed by zstd, which adds a checksum.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{Checkpoint, CheckpointManifest, MANIFEST, Store, blocking, check_name};
use crate::error::{DiskNeed, Error};

/// Bytes read at once; memory is written in such pieces, those of zeros left out.
const CHUNK: usize = 64 << 10;

/// Writes a checkpoint to a new file. Returns its length.
///
/// # Errors
/// There is no zstd, or the file cannot be written.
pub async fn export(checkpoint: &Checkpoint, file: &Path) -> Result<u64, Error> {
    let (dir, to) = (checkpoint.dir.clone(), file.to_owned());
    let names: Vec<String> =
        std::iter::once(MANIFEST.to_owned()).chain(checkpoint.manifest.file_names()).collect();
    let write = move || {
        let draft = to.with_extension("new");
        let mut zstd = zstd(&["-q", "-T0", "-3"], Stdio::piped(), File::create(&draft)?.into())?;
        let packed = pack(&dir, &names, zstd.stdin.take());
        let done = ended(&mut zstd).and(packed).and_then(|()| fs::rename(&draft, &to));
        if let Err(e) = done {
            let _ = fs::remove_file(&draft);
            return Err(e);
        }
        Ok(fs::metadata(&to)?.len())
    };
    blocking(write).await.map_err(Error::io("cannot write", file))
}

fn pack(dir: &Path, names: &[String], to: Option<impl Write>) -> io::Result<()> {
    let mut archive = tar::Builder::new(to.ok_or(io::ErrorKind::BrokenPipe)?);
    for name in names {
        archive.append_file(name, &mut File::open(dir.join(name))?)?;
    }
    archive.into_inner()?.flush()
}

/// Takes a checkpoint from a file under this name, or the one it had. Returns its name.
///
/// # Errors
/// The file is no whole checkpoint, its name is taken, or there is no room.
pub async fn import(store: &Store, file: &Path, name: Option<&str>) -> Result<String, Error> {
    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.map_or(stem, str::to_owned);
    check_name(&name)?;
    let taken =
        || Error::Checkpoint { name: name.clone(), why: "there is one of this name already".to_owned() };
    if store.list().iter().any(|l| l.name == name) {
        return Err(taken());
    }
    let staging = store.stage()?;
    // At least; more is noticed while it is written.
    let bytes = fs::metadata(file).map_err(Error::io("cannot read", file))?.len().saturating_mul(4);
    let hint = "name another folder with --cache-dir or LABCTL_CACHE_DIR";
    DiskNeed { bytes, what: "the checkpoint takes", hint }.check(store.root())?;
    let (from, dir) = (file.to_owned(), staging.path().to_owned());
    let unpack = move || {
        let mut zstd = zstd(&["-q", "-d"], File::open(from)?.into(), Stdio::piped())?;
        let unpacked = unpack(&dir, zstd.stdout.take());
        if unpacked.is_err() {
            let _ = zstd.kill();
        }
        let text = unpacked?;
        ended(&mut zstd)?;
        let manifest: CheckpointManifest = serde_json::from_slice(&text)?;
        match manifest.file_names().iter().find(|name| !dir.join(name).is_file()) {
            Some(missing) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("{missing} is missing in it")))
            }
            None => Ok(manifest),
        }
    };
    let manifest = blocking(unpack).await.map_err(Error::io("cannot take a checkpoint from", file))?;
    store.publish(staging, &name, manifest).await?;
    Ok(name)
}

/// Unpacks the files of a checkpoint; returns its manifest.
fn unpack(dir: &Path, from: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Archive::new(from.ok_or(io::ErrorKind::BrokenPipe)?);
    let mut manifest = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let (path, kind) = (entry.path()?.into_owned(), entry.header().entry_type());
        // Its own name alone: nothing is written elsewhere.
        let own = path.file_name().filter(|name| *name == path.as_os_str());
        let name = own.filter(|_| kind.is_file() || kind.is_gnu_sparse()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it holds more than a checkpoint's files")
        })?;
        if name == MANIFEST {
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            manifest = Some(text);
        } else {
            write_sparse(&mut entry, &dir.join(name))?;
        }
    }
    manifest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no checkpoint"))
}

/// Writes a file and leaves holes for zeros.
fn write_sparse(from: &mut impl Read, to: &Path) -> io::Result<()> {
    let (file, mut at, mut chunk) = (File::create(to)?, 0, vec![0; CHUNK]);
    loop {
        let mut filled = 0;
        while let Some(rest) = chunk.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match from.read(rest)? {
                0 => break,
                count => filled += count,
            }
        }
        let piece = chunk.get(..filled).unwrap_or_default();
        if piece.is_empty() {
            return file.set_len(at);
        }
        if piece.iter().any(|b| *b != 0) {
            file.write_all_at(piece, at)?;
        }
        at += filled as u64;
    }
}

fn zstd(arguments: &[&str], stdin: Stdio, stdout: Stdio) -> io::Result<Child> {
    let started =
        Command::new("zstd").args(arguments).stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn();
    started.map_err(|e| io::Error::new(e.kind(), format!("zstd cannot be run ({e}): apt-get install zstd")))
}

fn ended(zstd: &mut Child) -> io::Result<()> {
    let mut said = String::new();
    if let Some(stderr) = &mut zstd.stderr {
        stderr.read_to_string(&mut said)?;
    }
    match zstd.wait()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("zstd: {status} {}", said.trim()))),
    }
}
