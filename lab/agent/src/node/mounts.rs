//! Turns the mounts that the outer engine gave a container into those that a dockerd inside needs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::mount::{MsFlags, mount};

use super::Error;

const CGROUPS: &str = "/sys/fs/cgroup";
const SETTINGS: &str = "/proc/sys";

/// Sizes of the neighbour table, which all namespaces share (Linux, net/core/neighbour.c).
const GC_THRESHOLDS: [&str; 3] = [
    "/proc/sys/net/ipv4/neigh/default/gc_thresh1",
    "/proc/sys/net/ipv4/neigh/default/gc_thresh2",
    "/proc/sys/net/ipv4/neigh/default/gc_thresh3",
];

/// Mount flags of the kernel's own file systems.
const KERNELS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// How often we move processes out of the root cgroup, since new ones may come meanwhile.
const ATTEMPTS: usize = 10;

/// Makes the kernel's own file systems writable, mounts propagate, and cgroups divisible.
pub fn prepare() -> Result<(), Error> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(Error::io("/proc/self/mounts"))?;
    for target in read_only(&mounts) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        // Only the mount, not the file system, which the machine uses too.
        mount(None::<&str>, target, None::<&str>, flags | KERNELS, None::<&str>)
            .map_err(|e| Error::io(format!("make {target} writable"))(e.into()))?;
    }
    // `docker run -v …:shared` needs it, and every distribution's init does it.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
        .map_err(|e| Error::io("make mounts propagate")(e.into()))?;
    protect()?;
    divide_cgroups()
}

/// Makes the whole kernel's settings read-only, so that nobody in here changes the machine by accident: dockerd raises the
/// sizes of the neighbour tables for overlays. Those of `net` are this namespace's own. This does not stop an attacker:
/// root in here can mount a second proc.
fn protect() -> Result<(), Error> {
    let mut shared: Vec<PathBuf> =
        GC_THRESHOLDS.map(PathBuf::from).into_iter().filter(|p| p.exists()).collect();
    for entry in fs::read_dir(SETTINGS).map_err(Error::io(SETTINGS))? {
        let entry = entry.map_err(Error::io(SETTINGS))?;
        if entry.file_name() != "net" {
            shared.push(entry.path());
        }
    }
    for path in shared {
        let failed = |e: nix::errno::Errno| Error::io(format!("protect {}", path.display()))(e.into());
        mount(Some(&path), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)?;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, &path, None::<&str>, flags | KERNELS, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

/// Targets of read-only mounts of the kernel's own file systems, from /proc/PID/mounts (proc(5), fstab(5)).
fn read_only(mounts: &str) -> Vec<&str> {
    let wanted = |line: &&str| {
        let mut fields = line.split(' ').skip(2);
        let kind = fields.next().unwrap_or_default();
        let options = fields.next().unwrap_or_default();
        matches!(kind, "sysfs" | "proc" | "cgroup" | "cgroup2") && options.split(',').any(|o| o == "ro")
    };
    mounts.lines().filter(wanted).filter_map(|line| line.split(' ').nth(1)).collect()
}

/// Moves the container's processes into their own cgroup, as moby's hack/dind does: in cgroup v2 a group with processes
/// cannot pass controllers on to groups below it (cgroup-v2, "No Internal Process Constraint").
fn divide_cgroups() -> Result<(), Error> {
    let root = Path::new(CGROUPS);
    let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) else { return Ok(()) };
    let own = root.join("labctl");
    fs::create_dir_all(&own).map_err(Error::io(own.display().to_string()))?;
    let enable: String = controllers.split_whitespace().map(|name| format!("+{name} ")).collect();
    let control = root.join("cgroup.subtree_control");
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        for pid in fs::read_to_string(root.join("cgroup.procs")).unwrap_or_default().lines() {
            // A process that has ended meanwhile needs no move.
            let _ = fs::write(own.join("cgroup.procs"), pid);
        }
        outcome = fs::write(&control, enable.trim_end());
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(Error::io(control.display().to_string()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_read_only_and_the_kernels_is_found() {
        let mounts = "\
overlay / overlay rw,relatime 0 0
proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0
proc /proc/sys proc ro,nosuid,nodev,noexec,relatime 0 0
sysfs /sys sysfs ro,nosuid,nodev,noexec,relatime 0 0
tmpfs /sys/fs/cgroup tmpfs rw,nosuid,mode=755 0 0
cgroup /sys/fs/cgroup/cpu cgroup ro,nosuid,nodev,noexec,relatime,cpu 0 0
/dev/vda /usr/local/bin/labctl-agent ext4 ro,relatime,errors=remount-ro 0 0
";
        assert_eq!(super::read_only(mounts), ["/proc/sys", "/sys", "/sys/fs/cgroup/cpu"]);
    }
}
