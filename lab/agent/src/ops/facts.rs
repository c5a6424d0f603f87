//! Facts that are read, not probed.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use labctl_model::is_link_local;
use labctl_protocol::messages::NetnsFacts;
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    libc,
    sys::stat::Mode,
};

use crate::{
    netlink::{Netlink, NetlinkError},
    netns::Namespace,
};

/// Most bytes that are read of a file.
const MAX_FILE: u64 = 1 << 20;

/// Interfaces, sorted, and addresses of a namespace.
pub async fn read(namespace: &Namespace) -> Result<NetnsFacts, NetlinkError> {
    let netlink = Netlink::open(namespace).await?;
    let links = netlink.links().await?;
    let macs = links.iter().filter_map(|l| Some((l.name.clone(), l.mac?))).collect();
    let mtus = links.iter().map(|l| (l.name.clone(), l.mtu)).collect();
    let names: HashMap<u32, String> = links.into_iter().map(|l| (l.index, l.name)).collect();
    let addresses = netlink.addresses().await?.into_iter();
    let addresses = addresses.filter_map(|a| Some((names.get(&a.index)?.clone(), a.address)));
    let (link_local, addresses) = addresses.partition(|(_, net)| is_link_local(net.addr()));
    let interfaces = names.values().cloned().collect();
    let mut facts = NetnsFacts { interfaces, addresses, link_local, macs, mtus };
    facts.interfaces.sort();
    facts.addresses.sort();
    facts.link_local.sort();
    Ok(facts)
}

/// Whether a process is in a container's cgroup, which the runtime names by the container's id. A process that is gone is
/// not.
///
/// # Errors
/// If its cgroup cannot be read, so that nothing is known.
pub fn is_in_container(pid: u32, id: &str) -> io::Result<bool> {
    let path = format!("/proc/{pid}/cgroup");
    match fs::read(&path) {
        Ok(cgroup) => Ok(!id.is_empty() && String::from_utf8_lossy(&cgroup).contains(id)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(e) => Err(io::Error::new(e.kind(), format!("{path}: {e}"))),
    }
}

/// Reads at most 1 MiB of a file as a process sees it (its root, its mounts). Links are followed within its root only.
///
/// # Errors
/// If the process or the file does not exist, or it is no regular file.
pub fn file_of(pid: Option<u32>, path: &str) -> io::Result<String> {
    let root = match pid {
        Some(pid) => format!("/proc/{pid}/root"),
        None => "/".to_owned(),
    };
    let named = |errno: io::Error| io::Error::new(errno.kind(), format!("{root}{path}: {errno}"));
    let read = || -> io::Result<String> {
        let dir =
            open(Path::new(&root), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        // A pipe in place of the file must not hold the agent up.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let file = File::from(openat2(&dir, path.trim_start_matches('/'), how)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map_err(named)
}

/// Names in the /etc/hosts that a process sees, sorted.
pub fn hosts_file(pid: u32) -> io::Result<Vec<String>> {
    let text = file_of(Some(pid), "/etc/hosts")?;
    let names: BTreeSet<&str> = hosts_lines(&text).flat_map(|(_, names)| names).collect();
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The lines of a hosts(5) file: an address and its names.
pub fn hosts_lines(text: &str) -> impl Iterator<Item = (&str, std::str::SplitWhitespace<'_>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        Some((words.next()?, words))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_is_in_a_container_by_the_name_of_its_cgroup() {
        let pid = std::process::id();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let is_in = |pid, id: &str| is_in_container(pid, id).unwrap();
        assert!(is_in(pid, own.trim_end()));
        assert!(!is_in(pid, "0123456789abcdef") && !is_in(pid, ""));
        // Beyond the largest process id that there can be.
        assert!(!is_in(5_000_000, own.trim_end()));
    }
}
