//! Container images that topologies name: added by hand, or taken from this machine's Docker.
//!
//! A host of a lab reaches no registry, so labctl brings the image: from the cache, if `labctl image add` put it there,
//! or from this machine's Docker daemon, which pulls it if needed. The daemon is optional.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use bollard::{API_DEFAULT_VERSION, Docker, query_parameters::CreateImageOptionsBuilder};
use futures::StreamExt;
use labctl_model::DebianImage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error, container,
    hash::{HashingReader, hex},
};

/// This machine's own daemon.
const LOCAL_DAEMON: &str = "/var/run/docker.sock";

/// Limit for one call of the local daemon, in seconds: long enough for a pull.
const TIMEOUT_S: u64 = 600;

/// Largest accepted manifest.json, in bytes.
const MAX_MANIFEST: u64 = 1 << 20;

/// An image in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedImage {
    /// Its names, with tags.
    pub names: Vec<String>,
    /// The tar, for `docker load`.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestEntry {
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("containers")
}

/// Adds a `docker save` tar to the cache.
///
/// # Errors
/// The file cannot be read, or holds no image with a name.
pub fn add(cache: &Path, tar: &Path) -> Result<AddedImage, Error> {
    let names = names(tar)?;
    let dir = folder(cache);
    fs::create_dir_all(&dir).map_err(Error::io("make the folder", &dir))?;
    let copy = || -> io::Result<AddedImage> {
        let mut draft = tempfile::NamedTempFile::new_in(&dir)?;
        let mut hash = HashingReader { inner: File::open(tar)?, hash: Sha256::new() };
        let bytes = io::copy(&mut hash, &mut draft)?;
        let digest = hex(&hash.hash.finalize()[..16]);
        let path = dir.join(format!("{digest}.tar"));
        draft.persist(&path)?;
        Ok(AddedImage { names: names.clone(), path, bytes })
    };
    let added = copy().map_err(Error::io("add", tar))?;
    // Only the newest tar of a name counts.
    for other in list(cache)? {
        if other.path != added.path && other.names.iter().all(|n| added.names.contains(n)) {
            fs::remove_file(&other.path).map_err(Error::io("remove", &other.path))?;
        }
    }
    Ok(added)
}

/// The images in the cache, sorted by name.
pub fn list(cache: &Path) -> Result<Vec<AddedImage>, Error> {
    let dir = folder(cache);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", dir)(e)),
    };
    let mut images = Vec::new();
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "tar")) {
        let bytes = fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        images.push(AddedImage { names: names(&path)?, path, bytes });
    }
    images.sort_by(|a, b| a.names.cmp(&b.names));
    Ok(images)
}

/// Removes an image from the cache; returns whether it was there.
pub fn remove(cache: &Path, name: &str) -> Result<bool, Error> {
    let name = tagged(name);
    let mut found = false;
    for image in list(cache)?.into_iter().filter(|i| i.names.contains(&name)) {
        fs::remove_file(&image.path).map_err(Error::io("remove", &image.path))?;
        found = true;
    }
    Ok(found)
}

/// The tar of an image, from the cache or else from this machine's Docker, which pulls it if needed. The inner `Err`
/// says what was tried.
pub async fn provide(cache: &Path, name: &str) -> Result<Result<Vec<u8>, String>, Error> {
    let tagged = tagged(name);
    if let Some(image) = list(cache)?.into_iter().find(|i| i.names.contains(&tagged)) {
        return fs::read(&image.path).map(Ok).map_err(Error::io("read", &image.path));
    }
    Ok(from_daemon(&tagged).await.map_err(|e| e.to_string()))
}

/// The tar of an image made of Debian packages, which [`container::build`] has put into the cache.
pub fn of_packages(cache: &Path, name: &str, image: &DebianImage) -> Result<Vec<u8>, Error> {
    let found = container::find(cache, image).ok_or_else(|| Error::NotMade(name.to_owned()))?;
    found.archive(&tagged(name), image)
}

/// What tells an image from others of this name: its file in the cache, or its id in this machine's Docker.
pub(crate) async fn identity(cache: &Path, name: &str) -> Result<Option<String>, Error> {
    let tagged = tagged(name);
    if let Some(image) = list(cache)?.into_iter().find(|i| i.names.contains(&tagged)) {
        return Ok(image.path.file_name().map(|n| n.to_string_lossy().into_owned()));
    }
    let Ok(docker) = Docker::connect_with_unix(LOCAL_DAEMON, TIMEOUT_S, API_DEFAULT_VERSION) else {
        return Ok(None);
    };
    Ok(docker.inspect_image(&tagged).await.ok().and_then(|i| i.id))
}

async fn from_daemon(name: &str) -> Result<Vec<u8>, bollard::errors::Error> {
    let docker =
        Docker::connect_with_unix(LOCAL_DAEMON, TIMEOUT_S, API_DEFAULT_VERSION)?.negotiate_version().await?;
    if docker.inspect_image(name).await.is_err() {
        let options = CreateImageOptionsBuilder::new().from_image(name).build();
        let mut pull = docker.create_image(Some(options), None, None);
        while let Some(progress) = pull.next().await {
            progress?;
        }
    }
    let mut tar = Vec::new();
    let mut export = docker.export_image(name);
    while let Some(part) = export.next().await {
        tar.extend_from_slice(&part?);
    }
    Ok(tar)
}

/// `redis` means `redis:latest`. A colon before the last slash belongs to a registry's port.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// The names in a `docker save` tar (image-spec of moby: manifest.json).
fn names(tar: &Path) -> Result<Vec<String>, Error> {
    let none = |why: String| Error::NoName { path: tar.to_owned(), why };
    let file = File::open(tar).map_err(Error::io("open", tar))?;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries().map_err(|e| none(e.to_string()))? {
        let entry = entry.map_err(|e| none(e.to_string()))?;
        if entry.path().is_ok_and(|p| p.as_os_str() == "manifest.json") {
            let mut text = String::new();
            entry.take(MAX_MANIFEST).read_to_string(&mut text).map_err(|e| none(e.to_string()))?;
            let manifest: Vec<ManifestEntry> =
                serde_json::from_str(&text).map_err(|e| none(e.to_string()))?;
            let names: Vec<String> = manifest.into_iter().filter_map(|m| m.repo_tags).flatten().collect();
            return if names.is_empty() { Err(none("its manifest gives none".into())) } else { Ok(names) };
        }
    }
    Err(none("it holds no manifest.json".into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_get_a_tag_unless_they_have_one() {
        assert_eq!(tagged("redis"), "redis:latest");
        assert_eq!(tagged("redis:7"), "redis:7");
        assert_eq!(tagged("localhost:5000/redis"), "localhost:5000/redis:latest");
        assert_eq!(tagged("a/b@sha256:00"), "a/b@sha256:00");
    }

    #[test]
    fn an_added_image_is_found_by_name_replaced_and_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let cache = tmp.path().join("cache");
        let agent = tmp.path().join("agent");
        for content in ["one", "two"] {
            fs::write(&agent, content).unwrap();
            let tar = tmp.path().join("image.tar");
            fs::write(&tar, crate::builtin::image(&agent).unwrap()).unwrap();
            add(&cache, &tar).unwrap();
        }
        let images = list(&cache).unwrap();
        assert_eq!(images.len(), 1, "the second replaces the first");
        assert_eq!(images[0].names, [labctl_model::BUILTIN_IMAGE]);
        assert!(remove(&cache, "labctl/pause").unwrap());
        assert!(!remove(&cache, "labctl/pause").unwrap());
    }

    #[test]
    fn what_is_no_image_is_refused_with_a_way_out() {
        let tmp = tempfile::tempdir().unwrap();
        let cache = tmp.path().join("cache");
        let file = tmp.path().join("no.tar");
        fs::write(&file, "not a tar at all").unwrap();
        assert!(add(&cache, &file).unwrap_err().to_string().contains("docker save"));
    }
}
