//! Makes a node image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::{self, Staging};
use crate::store::{FILES, MODULES, Manifest, ROOT, TAR, VMLINUX, folder};
use crate::{Error, NodeImage, Progress, Suite, bootstrap, find, kernel, modules, recipe};

/// MiB that an image needs in the cache while it is being made.
const NEED_MIB: u64 = 1000;

/// MiB that the root filesystem and its image need while they are made.
const SCRATCH_MIB: u64 = 1300;

/// Name of the kernel as the hook hands it out.
const VMLINUZ: &str = "vmlinuz";
/// Name of the kernel's modules as the hook hands them out.
const MODULES_TAR: &str = "modules.tar";

/// Steps of the build.
const MARKS: bootstrap::Marks = &[
    ("I: running apt-get update", "reading package lists"),
    ("I: downloading packages", "downloading packages"),
    ("I: installing essential packages", "installing packages"),
    ("labctl: kernel", "fetching the kernel"),
    ("labctl: root image", "making the root image"),
];

/// What to make.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The user's cache folder for labctl.
    pub cache: PathBuf,
    /// Debian release.
    pub suite: Suite,
    /// Make it even if it is there.
    pub rebuild: bool,
}

/// Returns the image of a suite from the cache, else makes it, which takes half a minute and a Debian mirror.
///
/// Two builds at once do not collide: the second waits and uses what the first has made. A build that is dropped or
/// fails leaves only its log.
///
/// # Errors
/// Privilege, programs or disk space are missing, or a step failed: see [`Error`].
pub async fn build(
    options: &BuildOptions,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<NodeImage, Error> {
    let BuildOptions { cache, suite, rebuild } = options;
    if let Some(image) = find(cache, *suite).filter(|_| !rebuild) {
        return Ok(image);
    }
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::Architecture(std::env::consts::ARCH));
    }
    let mode = bootstrap::Mode::detect().await?;
    let images = folder(cache);
    fs::create_dir_all(&images).map_err(Error::io("make", &images))?;
    let asked = SystemTime::now();
    let _lock = lock(images.join(format!(".lock-{suite}")), MARKS.len(), progress).await?;
    // Another build may have made it while this one waited; a rebuild accepts one made since it was asked for.
    let since = asked.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if let Some(image) = find(cache, *suite).filter(|image| !rebuild || image.built() > since) {
        return Ok(image);
    }
    let staging = Staging::new(&images).map_err(Error::io("make a folder in", &images))?;
    bootstrap::need_space(&images, NEED_MIB, "free some, or give another cache folder (LABCTL_CACHE_DIR)")?;
    let log = images.join(format!("{suite}.log"));
    let job = bootstrap::Job {
        suite: *suite,
        mode,
        variant: "essential",
        packages: &suite.packages(),
        options: hooks(*suite, staging.path())?,
        to: staging.path().join(TAR),
        marks: MARKS,
        scratch_mib: SCRATCH_MIB,
        log: &log,
    };
    let docker = bootstrap::run(&job, progress).await?;
    let kernel = assemble(staging.path()).await?;
    let built = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let id = suite.image_id();
    let manifest = Manifest {
        id: id.clone(),
        suite: suite.name().into(),
        kernel,
        docker,
        built,
        files: BTreeMap::new(),
        sha256: BTreeMap::new(),
    };
    manifest.write(staging.path())?;
    publish(staging, &FILES, &images.join(id))?;
    find(cache, *suite).ok_or_else(|| Error::content(&images, "the image vanished while it was made"))
}

/// Turns the hook's output files into what machines boot. Returns the kernel's version.
async fn assemble(dir: &Path) -> Result<String, Error> {
    let (packed, tar) = (dir.join(VMLINUZ), dir.join(MODULES_TAR));
    kernel::extract(&packed, &dir.join(VMLINUX)).await?;
    let version = modules::pack(&tar, recipe::MODULES, &dir.join(MODULES)).await?;
    for used in [packed, tar] {
        fs::remove_file(&used).map_err(Error::io("remove", &used))?;
    }
    Ok(version)
}

/// Renames the finished folder and makes it readable by all: an image holds no secrets, and root may make it for others.
pub(crate) fn publish(staging: Staging, files: &[&str], to: &Path) -> Result<(), Error> {
    let from = staging.path().to_owned();
    for name in files {
        let path = from.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(Error::io("change", &path))?;
    }
    fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).map_err(Error::io("change", &from))?;
    staging.publish(to).map_err(Error::io("rename to", to))
}

/// Waits for its turn; closing the file releases the lock.
pub(crate) async fn lock(
    path: PathBuf,
    steps: usize,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<fs::File, Error> {
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    let waiting = || {
        progress(Progress {
            step: 0,
            of: u32::try_from(steps).unwrap_or(u32::MAX),
            what: "waiting for another build",
            elapsed: Duration::ZERO,
        });
    };
    if cache::lock(&file, bootstrap::LIMIT, waiting).await {
        return Ok(file);
    }
    Err(Error::TimedOut {
        step: "another build still runs".into(),
        minutes: bootstrap::LIMIT.as_secs() / 60,
        log: path,
    })
}

/// The script that runs when all packages are there, and what it hands out into `dir`.
fn hooks(suite: Suite, dir: &Path) -> Result<Vec<String>, Error> {
    let mut hooks = vec![format!("--customize-hook={}", suite.hook())];
    for (inside, outside) in [("vmlinuz", VMLINUZ), ("modules.tar", MODULES_TAR), (ROOT, ROOT)] {
        let to = dir.join(outside);
        let quoted = to.to_str().filter(|t| !t.contains(['\'', '\\', '\n']));
        let quoted = quoted.ok_or_else(|| {
            Error::content(&to, "this name cannot be given to mmdebstrap: use a plainer cache folder")
        })?;
        hooks.push(format!("--customize-hook=download /.labctl/{inside} '{quoted}'"));
    }
    hooks.push("--customize-hook=rm -r \"$1/.labctl\"".to_owned());
    Ok(hooks)
}
