//! Container images made of Debian packages, for a topology's `images`.
//!
//! An image is a folder `CACHE/debian/debian-SUITE-HASH/`; the hash covers everything that decides its contents:
//! `layer.tar`, its one layer, and `image.json`. Name, entry point and command belong to the topology: two topologies
//! that want the same packages share them. See docs/adr/0010 for why packages are unpacked, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use labctl_model::{DebianImage, Suite};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    Error, Progress, archive,
    bootstrap::{self, Marks},
    build::{lock, publish},
    cache::Staging,
    hash::hex,
    store::digest,
};

/// Raise this when code changes the layer in a way that the inputs do not show.
const FORMAT: u32 = 1;

/// The script that runs after all packages are unpacked.
const HOOK: &str = include_str!("layer.sh");

/// Packages of Debian 12 and 13 expect /lib to be /usr/lib, which is done by a package that is not among them.
const MERGED_USR: &str =
    "for d in bin sbin lib lib64; do mkdir -p \"$1/usr/$d\"; ln -s \"usr/$d\" \"$1/$d\"; done";

/// Gives an image Debian's users; its dependencies are in most images anyway.
const USERS: &str = "base-passwd";

/// MiB that an image may take while it is being made.
const NEED_MIB: u64 = 500;

/// PATH of the image's commands.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Steps of the build.
const MARKS: Marks = &[
    ("I: running apt-get update", "reading package lists"),
    ("I: downloading packages", "downloading packages"),
    ("I: extracting archives", "unpacking packages"),
    ("labctl: layer", "making the layer"),
];

const LAYER: &str = "layer.tar";
const MANIFEST: &str = "image.json";

/// An image in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerImage {
    dir: PathBuf,
    manifest: Manifest,
}

/// `image.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    id: String,
    suite: String,
    packages: Vec<String>,
    /// Seconds since the epoch.
    built: u64,
    /// Bytes of the layer.
    bytes: u64,
    /// SHA-256 of the layer, hex.
    digest: String,
}

impl ContainerImage {
    /// Its name in the cache, `debian-trixie-0123456789ab`.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Debian release.
    pub fn suite(&self) -> &str {
        &self.manifest.suite
    }

    /// The requested packages.
    pub fn packages(&self) -> &[String] {
        &self.manifest.packages
    }

    /// Bytes of its layer.
    pub fn bytes(&self) -> u64 {
        self.manifest.bytes
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Builds a tar of the image under this name for `docker load`.
    ///
    /// # Errors
    /// The layer cannot be read.
    pub fn archive(&self, name: &str, image: &DebianImage) -> Result<Vec<u8>, Error> {
        let path = self.dir.join(LAYER);
        let layer = fs::read(&path).map_err(Error::io("read", &path))?;
        let config = json!({ "Env": [PATH], "Entrypoint": image.entrypoint, "Cmd": image.cmd });
        Ok(archive::image(name, &config, &layer, &self.manifest.digest))
    }

    /// Fails, in words, if its layer has changed since it was made.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        match digest(&self.dir.join(LAYER)) {
            Ok(found) if found == self.manifest.digest => Ok(()),
            Ok(_) => Err(format!("{LAYER} is not as it was made")),
            Err(e) => Err(format!("{LAYER} cannot be read: {e}")),
        }
    }

    /// Opens the image in this folder, if its layer has the right length.
    fn open(dir: PathBuf) -> Option<Self> {
        let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).ok()?).ok()?;
        let whole = fs::metadata(dir.join(LAYER)).is_ok_and(|m| m.len() == manifest.bytes);
        whole.then_some(Self { dir, manifest })
    }
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("debian")
}

fn id(image: &DebianImage) -> String {
    let suite = image.suite;
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_le_bytes());
    for part in [suite.name(), &image.packages.join(","), HOOK] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("debian-{suite}-{}", hex(&hash.finalize()[..6]))
}

/// The image of these packages, if it is in the cache.
pub fn find(cache: &Path, image: &DebianImage) -> Option<ContainerImage> {
    ContainerImage::open(folder(cache).join(id(image)))
}

/// All images in the cache, sorted by name.
pub fn ls(cache: &Path) -> Vec<ContainerImage> {
    let entries = fs::read_dir(folder(cache)).into_iter().flatten().flatten();
    let mut images: Vec<_> = entries.filter_map(|e| ContainerImage::open(e.path())).collect();
    images.sort_by(|a, b| a.id().cmp(b.id()));
    images
}

/// Removes an image by its name; returns whether it existed.
///
/// # Errors
/// Its folder cannot be removed.
pub fn rm(cache: &Path, name: &str) -> Result<bool, Error> {
    match ls(cache).into_iter().find(|i| i.id() == name) {
        Some(image) => fs::remove_dir_all(&image.dir).map_err(Error::io("remove", &image.dir)).map(|()| true),
        None => Ok(false),
    }
}

/// Returns the image of these packages from the cache, else makes it, which takes some ten seconds and a Debian mirror.
///
/// Two builds at once do not collide: the second waits and uses what the first has made. A build that is dropped or
/// fails leaves only its log.
///
/// # Errors
/// [`Error::NoPackage`]; privilege, programs or disk space are missing; or a step failed.
pub async fn build(
    cache: &Path,
    image: &DebianImage,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<ContainerImage, Error> {
    if let Some(image) = find(cache, image) {
        return Ok(image);
    }
    let mode = bootstrap::Mode::detect().await?;
    let images = folder(cache);
    fs::create_dir_all(&images).map_err(Error::io("make", &images))?;
    let id = id(image);
    let _lock = lock(images.join(format!(".lock-{id}")), MARKS.len(), progress).await?;
    if let Some(image) = find(cache, image) {
        return Ok(image);
    }
    let staging = Staging::new(&images).map_err(Error::io("make a folder in", &images))?;
    bootstrap::need_space(&images, NEED_MIB, "free some, or give another cache folder (LABCTL_CACHE_DIR)")?;
    let log = images.join(format!("{id}.log"));
    let suite = image.suite;
    let packages: Vec<&str> = image.packages.iter().map(String::as_str).chain([USERS]).collect();
    let job = bootstrap::Job {
        suite,
        mode,
        // Only requested packages and their dependencies, and no package scripts are run.
        variant: "extract",
        packages: &packages.join(","),
        options: vec![
            // Docker makes the devices; the hook removes more than the cleanup would.
            "--skip=output/dev,cleanup".to_owned(),
            format!("--setup-hook={MERGED_USR}"),
            format!("--extract-hook={HOOK}"),
        ],
        to: staging.path().join(LAYER),
        marks: MARKS,
        scratch_mib: NEED_MIB,
        log: &log,
    };
    bootstrap::run(&job, progress).await?;
    describe(staging.path(), &id, suite, image)?;
    publish(staging, &[LAYER, MANIFEST], &images.join(&id))?;
    // It is worth keeping only if the build failed.
    let _ = fs::remove_file(log);
    find(cache, image).ok_or_else(|| Error::content(&images, "the image vanished while it was made"))
}

fn describe(dir: &Path, id: &str, suite: Suite, image: &DebianImage) -> Result<(), Error> {
    let path = dir.join(LAYER);
    let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
    let manifest = Manifest {
        id: id.to_owned(),
        suite: suite.name().to_owned(),
        packages: image.packages.clone(),
        built: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        bytes,
        digest: digest(&path).map_err(Error::io("read", &path))?,
    };
    let path = dir.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::content(&path, e.to_string()))?;
    fs::write(&path, text).map_err(Error::io("write", &path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn image(packages: &[&str]) -> DebianImage {
        DebianImage {
            packages: packages.iter().map(|p| (*p).to_owned()).collect(),
            suite: Default::default(),
            entrypoint: Vec::new(),
            cmd: vec!["redis-server".into()],
            line: 1,
        }
    }

    #[test]
    fn an_image_is_known_by_its_packages_listed_wrapped_and_removed() {
        let cache = tempfile::tempdir().unwrap();
        let (redis, other) = (image(&["redis-server"]), image(&["redis-server", "redis-tools"]));
        let dir = folder(cache.path()).join(id(&redis));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(LAYER), "a layer").unwrap();
        assert!(find(cache.path(), &redis).is_none(), "it is not described yet");
        describe(&dir, &id(&redis), Suite::Trixie, &redis).unwrap();
        assert!(find(cache.path(), &other).is_none());
        let found = find(cache.path(), &redis).unwrap();
        assert_eq!(ls(cache.path()), std::slice::from_ref(&found));

        let archive = found.archive("redis:latest", &redis).unwrap();
        let mut config = None;
        for entry in tar::Archive::new(&archive[..]).entries().unwrap().map(Result::unwrap) {
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".json") && name != "manifest.json" {
                config = Some(serde_json::from_reader::<_, serde_json::Value>(entry).unwrap());
            }
        }
        let config = config.unwrap();
        assert_eq!(config["config"]["Cmd"], json!(["redis-server"]));
        let digest = hex(&Sha256::digest("a layer"));
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{digest}"));

        found.check().unwrap();
        fs::write(dir.join(LAYER), "garbage").unwrap();
        assert!(found.check().unwrap_err().contains(LAYER));
        fs::write(dir.join(LAYER), "torn").unwrap();
        assert!(find(cache.path(), &redis).is_none());
        fs::write(dir.join(LAYER), "a layer").unwrap();
        assert!(rm(cache.path(), found.id()).unwrap());
        assert!(!rm(cache.path(), found.id()).unwrap());
    }
}
