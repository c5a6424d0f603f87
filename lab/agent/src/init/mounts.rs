//! Mounts the guest's file systems: the root and those that every Linux system expects.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use super::{Error, PORTS};
use crate::runc::AGENT;

const DISK: &str = "/dev/vda";
const DISK_WAIT: Duration = Duration::from_secs(10);

/// Folders in which the new root is built before it becomes `/`.
const LOWER: &str = "/lower";
const UPPER: &str = "/upper";
const ROOT: &str = "/newroot";

const NOSUID: MsFlags = MsFlags::MS_NOSUID;

/// Mounts /dev, for a console and disks.
pub fn early() -> Result<(), Error> {
    attach("devtmpfs", "/dev", NOSUID, "mode=755")
}

/// Mounts the root image read-only and a layer in RAM over it, and makes both together `/`.
pub fn root() -> Result<(), Error> {
    wait_for_disk()?;
    make_dir(LOWER)?;
    mount(Some(DISK), LOWER, Some("ext4"), MsFlags::MS_RDONLY | MsFlags::MS_NOATIME, Some("noload"))
        .map_err(failed(LOWER))?;
    attach("tmpfs", UPPER, MsFlags::empty(), "mode=755")?;
    let (data, work) = (format!("{UPPER}/data"), format!("{UPPER}/work"));
    make_dir(&data)?;
    make_dir(&work)?;
    let layers = format!("lowerdir={LOWER},upperdir={data},workdir={work}");
    attach("overlay", ROOT, MsFlags::MS_NOATIME, &layers)?;

    // The agent is not copied: /run gets the file itself that the kernel unpacked as /init.
    attach("tmpfs", &format!("{ROOT}/run"), NOSUID | MsFlags::MS_NODEV, "mode=755")?;
    let agent = format!("{ROOT}{AGENT}");
    let path = Path::new(&agent);
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::write(path, "").map_err(Error::file(path))?;
    mount(Some("/init"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed(path))?;

    // The initial RAM disk cannot be unmounted nor pivoted away from (kernel, ramfs-rootfs-initramfs): the new root
    // is moved over it.
    mount(Some("/dev"), "/newroot/dev", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(failed("/dev"))?;
    std::env::set_current_dir(ROOT).map_err(Error::file(ROOT))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(failed("/"))?;
    nix::unistd::chroot(".").map_err(|errno| Error::file("/")(errno.into()))?;
    std::env::set_current_dir("/").map_err(Error::file("/"))
}

/// Mounts the kernel's own file systems and those in RAM.
pub fn system() -> Result<(), Error> {
    let kernel = NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    attach("proc", "/proc", kernel, "")?;
    attach("sysfs", "/sys", kernel, "")?;
    attach("cgroup2", "/sys/fs/cgroup", kernel, "nsdelegate")?;
    attach("devpts", "/dev/pts", NOSUID | MsFlags::MS_NOEXEC, "mode=620,gid=5,ptmxmode=666")?;
    attach("tmpfs", "/dev/shm", NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    attach("mqueue", "/dev/mqueue", kernel, "")?;
    attach("tmpfs", "/tmp", NOSUID | MsFlags::MS_NODEV, "mode=1777")?;
    // overlay2 refuses an overlay as its upper layer but accepts a tmpfs.
    attach("tmpfs", "/var/lib/docker", MsFlags::empty(), "mode=710,size=80%")?;
    attach("tmpfs", "/var/lib/containerd", MsFlags::empty(), "mode=711")?;
    // runc makes container mounts private by itself, but `docker run -v …:shared` needs a shared root, which is what
    // every distribution's init gives it.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
        .map_err(failed("/"))?;
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        let path = Path::new("/dev").join(link);
        symlink(target, &path).map_err(Error::file(&path))?;
    }
    Ok(())
}

/// Makes `/dev/virtio-ports/NAME` for every virtio-serial port, as udev does elsewhere.
pub fn name_ports() -> Result<(), Error> {
    let class = Path::new("/sys/class/virtio-ports");
    make_dir(PORTS)?;
    for entry in fs::read_dir(class).map_err(Error::file(class))? {
        let device = entry.map_err(Error::file(class))?;
        let name = fs::read_to_string(device.path().join("name")).unwrap_or_default();
        if name.trim().is_empty() {
            continue;
        }
        let link = Path::new(PORTS).join(name.trim());
        let target = Path::new("/dev").join(device.file_name());
        symlink(&target, &link).map_err(Error::file(&link))?;
    }
    Ok(())
}

/// Waits for the disk. Its driver makes it while loading, so the first look finds it unless the machine is very slow.
fn wait_for_disk() -> Result<(), Error> {
    let deadline = Instant::now() + DISK_WAIT;
    while !Path::new(DISK).exists() {
        if Instant::now() > deadline {
            return Err(Error::NoRoot(DISK));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn attach(kind: &str, target: &str, flags: MsFlags, options: &str) -> Result<(), Error> {
    make_dir(target)?;
    mount(Some(kind), target, Some(kind), flags, Some(options)).map_err(failed(target))
}

fn make_dir(path: impl AsRef<Path>) -> Result<(), Error> {
    fs::create_dir_all(&path).map_err(Error::file(&path))
}

fn failed(target: impl AsRef<Path>) -> impl FnOnce(nix::errno::Errno) -> Error {
    let target = target.as_ref().to_owned();
    move |errno| Error::Mount { target, errno }
}
