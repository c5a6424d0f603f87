//! The images in the cache.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use labctl_model::{Engine, Suite, Version};

use crate::{
    Error, durable,
    hash::{HashingReader, hex},
    image_id,
};

pub(crate) const VMLINUX: &str = "vmlinux";
pub(crate) const MODULES: &str = "modules.cpio";
pub(crate) const ROOT: &str = "root.ext4";
pub(crate) const TAR: &str = "root.tar.zst";
pub(crate) const FILES: [&str; 4] = [VMLINUX, MODULES, ROOT, TAR];
const MANIFEST: &str = "image.json";
/// Name of the file that says which files were found intact.
const SEEN: &str = "seen.json";

/// A node image in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeImage {
    dir: PathBuf,
    manifest: Manifest,
}

/// `image.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub id: String,
    /// Debian release that all of it comes from but Docker, and Docker too if it has no name.
    pub suite: String,
    /// Name of the engine, if Docker is from a tarball.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub kernel: String,
    pub docker: String,
    /// Seconds since the epoch.
    pub built: u64,
    /// Bytes of each file.
    pub files: BTreeMap<String, u64>,
    /// SHA-256 of each file, hex. Empty in an image of an earlier version, until it is used.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
}

impl NodeImage {
    /// Its name, `trixie-0123456789ab`: the same inputs give the same name.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The engine that it is for: `trixie`, or the name of one from a tarball.
    pub fn engine(&self) -> &str {
        self.manifest.name.as_deref().unwrap_or(&self.manifest.suite)
    }

    /// Version of the kernel, as `uname -r` gives it.
    pub fn kernel_version(&self) -> &str {
        &self.manifest.kernel
    }

    /// Version of Docker: of the package docker.io, or as dockerd says it.
    pub fn docker_version(&self) -> &str {
        &self.manifest.docker
    }

    /// When it was made, seconds since the epoch.
    pub fn built(&self) -> u64 {
        self.manifest.built
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join(VMLINUX)
    }

    /// The read-only root, ext4.
    pub fn root(&self) -> PathBuf {
        self.dir.join(ROOT)
    }

    /// The same root as a tar archive, zstd.
    pub fn tar(&self) -> PathBuf {
        self.dir.join(TAR)
    }

    /// The modules that are loaded ahead, in order.
    pub fn modules(&self) -> PathBuf {
        self.dir.join(MODULES)
    }

    /// Fails, in words, if a file is no longer as it was made. A file unchanged since it was last read is not read
    /// again.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let read =
            |name: &str| digest(&self.dir.join(name)).map_err(|e| format!("{name} cannot be read: {e}"));
        let mut manifest = self.manifest.clone();
        let known = seen(&self.dir);
        let mut now = BTreeMap::new();
        for name in FILES {
            let stamp = Stamp::of(&self.dir.join(name)).map_err(|e| format!("{name}: {e}"))?;
            if known.get(name) != Some(&stamp) {
                let found = read(name)?;
                // For an image of an earlier version nothing better is known.
                if *manifest.sha256.entry(name.to_owned()).or_insert_with(|| found.clone()) != found {
                    return Err(format!("{name} is not as it was made"));
                }
            }
            now.insert(name.to_owned(), stamp);
        }
        // The folder may belong to another user and not be writable: then they are read every time.
        if manifest != self.manifest {
            let _ = manifest.save(&self.dir);
        }
        if now != known {
            let _ = serde_json::to_vec(&now).map(|text| durable::write(&self.dir.join(SEEN), 0o644, &text));
        }
        Ok(())
    }

    /// Makes the next [`Self::check`] read everything.
    pub fn distrust(&self) {
        let _ = fs::remove_file(self.dir.join(SEEN));
    }

    /// Opens the image in this folder, if its files have the right length.
    fn open(dir: PathBuf) -> Option<Self> {
        let text = fs::read_to_string(dir.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_str(&text).ok()?;
        let whole =
            |(name, size): (&String, &u64)| fs::metadata(dir.join(name)).is_ok_and(|m| m.len() == *size);
        let complete =
            FILES.iter().all(|f| manifest.files.contains_key(*f)) && manifest.files.iter().all(whole);
        complete.then_some(Self { dir, manifest })
    }
}

impl Manifest {
    /// Records size and hash of the files in `dir` and writes the manifest there.
    pub fn write(mut self, dir: &Path) -> Result<(), Error> {
        for name in FILES {
            let path = dir.join(name);
            let size = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
            self.files.insert(name.to_owned(), size);
            self.sha256.insert(name.to_owned(), digest(&path).map_err(Error::io("read", &path))?);
        }
        self.save(dir)
    }

    fn save(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::content(&path, e.to_string()))?;
        durable::write(&path, 0o644, &text).map_err(Error::io("write", &path))
    }
}

/// Identifies an unchanged file: length, and times of change of contents and inode, in nanoseconds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp(u64, i64, i64);

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let m = fs::metadata(path)?;
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Ok(Self(m.len(), ns(m.mtime(), m.mtime_nsec()), ns(m.ctime(), m.ctime_nsec())))
    }
}

/// The files that were intact when last read.
fn seen(dir: &Path) -> BTreeMap<String, Stamp> {
    fs::read(dir.join(SEEN)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// SHA-256 of a file, hex.
pub(crate) fn digest(path: &Path) -> io::Result<String> {
    let mut file = HashingReader { inner: fs::File::open(path)?, hash: Sha256::new() };
    // Reads in large pieces: hundreds of MiB take noticeable time.
    let mut rest = io::BufReader::with_capacity(1 << 20, &mut file);
    io::copy(&mut rest, &mut io::sink())?;
    Ok(hex(&file.hash.finalize()))
}

/// An image as `ls` lists it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The image.
    pub image: NodeImage,
    /// Bytes on disk, initial RAM disks included.
    pub size: u64,
    /// Whether this version of labctl uses it.
    pub current: bool,
}

/// The folder of all images.
pub(crate) fn folder(cache: &Path) -> PathBuf {
    cache.join("images")
}

/// The image that this version of labctl uses for an engine, if it is in the cache and complete.
pub fn find(cache: &Path, engine: &Engine) -> Option<NodeImage> {
    match engine {
        Engine::Debian(suite) => NodeImage::open(folder(cache).join(image_id(*suite))),
        Engine::Own { name, .. } => own_images(cache, name).max_by_key(NodeImage::built),
    }
}

/// The images of an engine from a tarball: one, but for the moment in which another one takes its place.
pub(crate) fn own_images(cache: &Path, name: &str) -> impl Iterator<Item = NodeImage> {
    let entries = fs::read_dir(folder(cache)).into_iter().flatten().flatten();
    entries
        .filter_map(|e| NodeImage::open(e.path()))
        .filter(move |image| image.manifest.name.as_deref() == Some(name))
}

/// The engines that the user has made from tarballs, sorted by name.
pub fn own_engines(cache: &Path) -> Vec<Engine> {
    let images = ls(cache).unwrap_or_default();
    let own = images.iter().filter_map(|l| {
        let (name, docker) = (l.image.manifest.name.clone()?, Version::of(l.image.docker_version())?);
        Some(Engine::Own { name, docker })
    });
    let mut own: Vec<Engine> = own.collect();
    own.dedup_by(|a, b| a.name() == b.name());
    own
}

/// Returns the image of an engine from the cache.
///
/// # Errors
/// It is not there; says how to make it.
pub fn require(cache: &Path, engine: &Engine) -> Result<NodeImage, Error> {
    find(cache, engine).ok_or_else(|| Error::NoNodeImage(engine.clone()))
}

/// All complete images, sorted by name.
///
/// # Errors
/// The cache folder cannot be read; a missing folder counts as empty.
pub fn ls(cache: &Path) -> Result<Vec<Listed>, Error> {
    let folder = folder(cache);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", &folder)(e)),
    };
    let current = Suite::ALL.map(image_id);
    let mut images: Vec<Listed> = entries
        .filter_map(Result::ok)
        .filter_map(|e| NodeImage::open(e.path()))
        .map(|image| Listed {
            size: on_disk(&image.dir),
            current: image.manifest.name.is_some() || current.iter().any(|id| id == image.id()),
            image,
        })
        .collect();
    images.sort_by(|a, b| a.image.id().cmp(b.image.id()));
    Ok(images)
}

/// Removes an image by its name, or all images of an engine. Returns what was removed.
///
/// Running machines keep the files that they have open.
///
/// # Errors
/// [`Error::NotFound`], or a folder that cannot be removed.
pub fn rm(cache: &Path, name: &str) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for listed in ls(cache)? {
        if listed.image.id() == name || listed.image.engine() == name {
            fs::remove_dir_all(&listed.image.dir).map_err(Error::io("remove", &listed.image.dir))?;
            removed.push(listed.image.id().to_owned());
        }
    }
    if removed.is_empty() { Err(Error::NotFound(name.to_owned())) } else { Ok(removed) }
}

fn on_disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fake(cache: &Path, id: &str) -> PathBuf {
        let dir = folder(cache).join(id);
        fs::create_dir_all(&dir).unwrap();
        for name in FILES {
            fs::write(dir.join(name), name).unwrap();
        }
        let manifest = Manifest {
            id: id.into(),
            suite: "trixie".into(),
            name: None,
            kernel: "6".into(),
            docker: "26".into(),
            built: 1,
            files: BTreeMap::new(),
            sha256: BTreeMap::new(),
        };
        manifest.write(&dir).unwrap();
        dir
    }

    #[test]
    fn an_image_is_found_while_it_is_whole() {
        let cache = tempfile::tempdir().unwrap();
        assert!(find(cache.path(), &Engine::default()).is_none());
        let dir = fake(cache.path(), &image_id(Suite::Trixie));
        assert_eq!(find(cache.path(), &Engine::default()).unwrap().kernel(), dir.join("vmlinux"));
        assert!(find(cache.path(), &Engine::Debian(Suite::Bookworm)).is_none());
        fs::write(dir.join(ROOT), "torn").unwrap();
        assert!(find(cache.path(), &Engine::default()).is_none());
    }

    #[test]
    fn garbage_of_the_right_length_is_found_and_an_earlier_version_s_image_is_believed_once() {
        let cache = tempfile::tempdir().unwrap();
        let dir = fake(cache.path(), &image_id(Suite::Trixie));
        let image = || find(cache.path(), &Engine::default()).unwrap();
        image().check().unwrap();
        // File systems count time in ticks of some milliseconds.
        let tick = || std::thread::sleep(std::time::Duration::from_millis(20));
        tick();
        fs::write(dir.join(VMLINUX), "garbage").unwrap();
        assert_eq!(image().check(), Err("vmlinux is not as it was made".to_owned()));
        fs::write(dir.join(VMLINUX), VMLINUX).unwrap();
        image().check().unwrap();
        tick();

        // Damage that leaves no trace in the file's times is found by whoever has a reason to look.
        fs::write(dir.join(TAR), [0_u8; TAR.len()]).unwrap();
        let mut stamps = seen(&dir);
        stamps.insert(TAR.into(), Stamp::of(&dir.join(TAR)).unwrap());
        fs::write(dir.join(SEEN), serde_json::to_vec(&stamps).unwrap()).unwrap();
        image().check().unwrap();
        image().distrust();
        assert!(image().check().unwrap_err().contains(TAR));
        fs::write(dir.join(TAR), TAR).unwrap();

        let mut old = image().manifest;
        old.sha256.clear();
        old.save(&dir).unwrap();
        image().check().unwrap();
        tick();
        fs::write(dir.join(ROOT), [0_u8; ROOT.len()]).unwrap();
        assert!(image().check().unwrap_err().contains(ROOT));
    }

    #[test]
    fn images_are_listed_and_removed_by_name() {
        let cache = tempfile::tempdir().unwrap();
        fake(cache.path(), "trixie-000000000000");
        fake(cache.path(), &image_id(Suite::Trixie));
        let current: Vec<bool> = ls(cache.path()).unwrap().iter().map(|l| l.current).collect();
        assert_eq!(current, [false, true]);
        assert_eq!(rm(cache.path(), "trixie-000000000000").unwrap(), ["trixie-000000000000"]);
        assert!(matches!(rm(cache.path(), "trixie-000000000000"), Err(Error::NotFound(_))));
        assert_eq!(rm(cache.path(), "trixie").unwrap().len(), 1);
        assert!(ls(cache.path()).unwrap().is_empty());
    }
}
