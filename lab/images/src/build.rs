//! Makes a node image.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cache::{self, Staging};
use labctl_model::{Engine, Suite};

use crate::store::{FILES, MODULES, Manifest, ROOT, TAR, VMLINUX, folder};
use crate::{Error, NodeImage, Progress, bootstrap, find, kernel, modules, recipe};

/// MiB that an image needs in the cache while it is being made.
const NEED_MIB: u64 = 1000;

/// MiB that the root filesystem and its image need while they are made.
const SCRATCH_MIB: u64 = 1300;

/// Name of the kernel as the hook hands it out.
const VMLINUZ: &str = "vmlinuz";
/// Name of the kernel's modules as the hook hands them out.
const MODULES_TAR: &str = "modules.tar";

/// Steps of the build.
pub(crate) const MARKS: bootstrap::Marks = &[
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
    let engine = Engine::Debian(*suite);
    if let Some(image) = find(cache, &engine).filter(|_| !rebuild) {
        return Ok(image);
    }
    let images = folder(cache);
    fs::create_dir_all(&images).map_err(Error::io("make", &images))?;
    let asked = SystemTime::now();
    let _lock = lock(images.join(format!(".lock-{suite}")), MARKS.len(), progress).await?;
    // Another build may have made it while this one waited; a rebuild accepts one made since it was asked for.
    let since = asked.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if let Some(image) = find(cache, &engine).filter(|image| !rebuild || image.built() > since) {
        return Ok(image);
    }
    let staging = Staging::new(&images).map_err(Error::io("make a folder in", &images))?;
    let making = Making {
        suite: *suite,
        name: None,
        id: recipe::image_id(*suite),
        hooks: vec![format!("--customize-hook={}", recipe::hook(*suite))],
    };
    make(making, staging, progress).await?;
    find(cache, &engine).ok_or_else(|| Error::content(&images, "the image vanished while it was made"))
}

/// A node image to be made.
pub(crate) struct Making {
    /// Debian release.
    pub suite: Suite,
    /// Name of the engine, if Docker is not the suite's.
    pub name: Option<String>,
    /// Name of the image.
    pub id: String,
    /// Options for mmdebstrap: the scripts that run when all packages are there.
    pub hooks: Vec<String>,
}

/// Makes a node image in a folder beside the others, and puts it among them.
pub(crate) async fn make(
    making: Making,
    staging: Staging,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<(), Error> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::Architecture(std::env::consts::ARCH));
    }
    let mode = bootstrap::Mode::detect().await?;
    let Making { suite, name, id, mut hooks } = making;
    let images = staging.path().parent().unwrap_or(staging.path()).to_owned();
    bootstrap::need_space(&images, NEED_MIB, "free some, or give another cache folder (LABCTL_CACHE_DIR)")?;
    let log = images.join(format!("{}.log", name.as_deref().unwrap_or(suite.name())));
    hooks.extend(handed_out(staging.path())?);
    let job = bootstrap::Job {
        suite,
        mode,
        variant: "essential",
        packages: &recipe::packages(suite),
        options: hooks,
        to: staging.path().join(TAR),
        marks: MARKS,
        scratch_mib: SCRATCH_MIB,
        log: &log,
    };
    let docker = bootstrap::run(&job, progress).await?;
    let kernel = assemble(staging.path()).await?;
    let built = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let manifest = Manifest {
        id: id.clone(),
        suite: suite.name().into(),
        name,
        kernel,
        docker,
        built,
        files: BTreeMap::new(),
        sha256: BTreeMap::new(),
    };
    manifest.write(staging.path())?;
    publish(staging, &FILES, &images.join(id))
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

/// Options that take what the hook hands out into `dir`.
fn handed_out(dir: &Path) -> Result<Vec<String>, Error> {
    let mut hooks = Vec::new();
    for (inside, outside) in [("vmlinuz", VMLINUZ), ("modules.tar", MODULES_TAR), (ROOT, ROOT)] {
        hooks.push(format!("--customize-hook=download /.labctl/{inside} {}", quoted(&dir.join(outside))?));
    }
    hooks.push("--customize-hook=rm -r \"$1/.labctl\"".to_owned());
    Ok(hooks)
}

/// A path as mmdebstrap's own hooks take it.
pub(crate) fn quoted(path: &Path) -> Result<String, Error> {
    let plain = path.to_str().filter(|t| !t.contains(['\'', '\\', '\n']));
    let plain = plain.ok_or_else(|| {
        Error::content(path, "this name cannot be given to mmdebstrap: use a plainer cache folder")
    })?;
    Ok(format!("'{plain}'"))
}
