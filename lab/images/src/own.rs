//! Node images whose Docker comes from a tarball, as Docker publishes them: 29, say, or one that the user has built.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use labctl_model::{Suite, Version};

use crate::{
    Error, NodeImage, Progress,
    build::{MARKS, Making, lock, make, quoted},
    cache::Staging,
    recipe::{self, BINARIES},
    store::{digest, folder, own_images},
};

/// Largest binary that is taken, in bytes.
const LARGEST: u64 = 512 << 20;

/// Takes Debian's away, wherever they are, before those of the tarball come. Packages stay: others use their libraries.
const CLEAR: &str = r#"for name in @NAMES@; do
    find "$1/usr/bin" "$1/usr/sbin" "$1/usr/libexec" -name "$name" ! -type d -delete
done"#;

/// What to make.
#[derive(Clone, Debug)]
pub struct OwnOptions {
    /// The user's cache folder for labctl.
    pub cache: PathBuf,
    /// Name of the engine.
    pub name: String,
    /// The tarball.
    pub tarball: PathBuf,
    /// Debian release for all but Docker.
    pub suite: Suite,
}

/// Makes the node image of an engine from a tarball. One of the same name that was there is replaced.
///
/// # Errors
/// [`Error::NoDocker`], [`Error::EngineName`], and those of [`crate::build()`].
pub async fn build_own(
    options: &OwnOptions,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<NodeImage, Error> {
    let OwnOptions { cache, name, tarball, suite } = options;
    if !is_name(name) {
        return Err(Error::EngineName(name.clone()));
    }
    let images = folder(cache);
    fs::create_dir_all(&images).map_err(Error::io("make", &images))?;
    let _lock = lock(images.join(format!(".lock-{name}")), MARKS.len(), progress).await?;
    let staging = Staging::new(&images).map_err(Error::io("make a folder in", &images))?;
    let (from, to) = (tarball.clone(), staging.path().to_owned());
    let unpacked = tokio::task::spawn_blocking(move || unpack(&from, &to)).await;
    unpacked.map_err(|e| Error::content(tarball, e.to_string()))??;
    let mut parts = vec![recipe::image_id(*suite)];
    let mut hooks = vec![format!("--customize-hook={}", CLEAR.replace("@NAMES@", &BINARIES.join(" ")))];
    for binary in BINARIES {
        let path = staging.path().join(binary);
        parts.push(digest(&path).map_err(Error::io("read", &path))?);
        hooks.push(format!("--customize-hook=upload {} /usr/bin/{binary}", quoted(&path)?));
    }
    let modes: Vec<_> = BINARIES.iter().map(|binary| format!("\"$1/usr/bin/{binary}\"")).collect();
    hooks.push(format!("--customize-hook=chmod 755 {}", modes.join(" ")));
    hooks.push(format!("--customize-hook={}", recipe::own_hook(*suite)));
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let id = recipe::id(name, &parts);
    let making = Making { suite: *suite, name: Some(name.clone()), id: id.clone(), hooks };
    make(making, staging, progress).await?;
    let vanished = || Error::content(&images, "the image vanished while it was made");
    let made = own_images(cache, name).find(|i| i.id() == id).ok_or_else(vanished)?;
    for older in own_images(cache, name).filter(|i| i.id() != id) {
        fs::remove_dir_all(older.dir()).map_err(Error::io("remove", older.dir()))?;
    }
    if Version::of(made.docker_version()).is_none() {
        fs::remove_dir_all(made.dir()).map_err(Error::io("remove", made.dir()))?;
        return Err(Error::NoDocker {
            path: tarball.clone(),
            why: "its dockerd does not say its version when it is run".to_owned(),
        });
    }
    Ok(made)
}

/// Whether an engine may have this name: no version and no suite, in images' names neither.
fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(fine)
        && Suite::named(name).is_none()
}

/// Writes the binaries of a tarball into a folder.
fn unpack(tarball: &Path, to: &Path) -> Result<(), Error> {
    let no = |why: String| Error::NoDocker { path: tarball.to_owned(), why };
    let file = fs::File::open(tarball).map_err(Error::io("read", tarball))?;
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Error::Missing { program: "gzip", package: "gzip", source })?;
    let found = match gzip.stdout.take() {
        Some(stdout) => binaries(stdout, to),
        None => Ok(BTreeSet::new()),
    };
    // If reading has ended early, it writes to nobody and ends.
    let ended = gzip.wait().map_err(Error::io("read", tarball))?;
    let found = match found {
        _ if !ended.success() && ended.code().is_some() => return Err(no("gzip cannot read it".to_owned())),
        Ok(found) => found,
        Err(e) => return Err(no(format!("tar cannot read it: {e}"))),
    };
    let lacking: Vec<_> = BINARIES.into_iter().filter(|name| !found.contains(*name)).collect();
    match lacking.as_slice() {
        [] => Ok(()),
        lacking => Err(no(format!("it lacks {}", lacking.join(", ")))),
    }
}

/// The names of the binaries that an archive holds, in whatever folder; writes them.
fn binaries(archive: impl Read, to: &Path) -> io::Result<BTreeSet<&'static str>> {
    let mut found = BTreeSet::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(name) = BINARIES.into_iter().find(|name| path.file_name().is_some_and(|f| f == *name))
        else {
            continue;
        };
        if !entry.header().entry_type().is_file() || entry.size() > LARGEST {
            continue;
        }
        let file = to.join(name);
        let mut file = fs::File::create(file)?;
        io::copy(&mut entry, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        found.insert(name);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    /// A gzipped archive of these files.
    fn tgz(dir: &Path, names: &[&str]) -> PathBuf {
        let mut archive = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(name.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, format!("docker/{name}"), name.as_bytes()).unwrap();
        }
        gzipped(dir, &archive.into_inner().unwrap())
    }

    fn gzipped(dir: &Path, bytes: &[u8]) -> PathBuf {
        let path = dir.join("docker.tgz");
        let out = fs::File::create(&path).unwrap();
        let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(out).spawn().unwrap();
        gzip.stdin.take().unwrap().write_all(bytes).unwrap();
        assert!(gzip.wait().unwrap().success());
        path
    }

    #[test]
    fn a_tarball_gives_its_binaries_and_one_that_lacks_some_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        unpack(&tgz(dir.path(), &BINARIES), dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("runc")).unwrap(), "runc");

        let error = unpack(&tgz(dir.path(), &BINARIES[..6]), dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("docker.tgz") && error.contains("it lacks docker-init, docker-proxy"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_tarball_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.tgz");
        fs::write(&text, "no archive").unwrap();
        let said = |path: &Path| unpack(path, dir.path()).unwrap_err().to_string();
        assert!(said(&text).contains("gzip cannot read it"), "{}", said(&text));
        let zipped = gzipped(dir.path(), "text, zipped, which is no archive either\n".repeat(40).as_bytes());
        assert!(said(&zipped).contains("tar cannot read it"), "{}", said(&zipped));
        assert!(said(&dir.path().join("none.tgz")).contains("cannot read"));
    }

    #[test]
    fn an_engine_has_a_name_that_is_no_other_s() {
        for good in ["mine", "docker-29.1", "d"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "trixie", "29", "Mine", "a/b", "-a", "a b", &"a".repeat(33)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
