//! Resets the settings of IP to those of a freshly booted machine.
//!
//! A new network namespace inherits those of the machine's first one (Linux, net/ipv4/devinet.c, `devinet_init_net`),
//! `ip_forward` among them: as the machine's own dockerd or administrator set it, it would change what a dockerd in here
//! does. IPv6 starts from its defaults, unless `net.core.devconf_inherit_init_net` says otherwise; but the machine's dockerd
//! turns it off in a container that is on no network with IPv6 (moby, libnetwork/osl/namespace_linux.go), as a node is.

use std::{fs, path::Path};

use super::Error;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const INTERFACES: &str = "/proc/sys/net/ipv4/conf";
/// Of all interfaces, and of those to come.
const NO_IPV6: [&str; 2] =
    ["/proc/sys/net/ipv6/conf/all/disable_ipv6", "/proc/sys/net/ipv6/conf/default/disable_ipv6"];

/// Settings that are not 0 on a freshly booted kernel (`ipv4_devconf`).
const BOOTED: [(&str, &str); 7] = [
    ("accept_redirects", "1"),
    ("arp_evict_nocarrier", "1"),
    ("igmpv2_unsolicited_report_interval", "10000"),
    ("igmpv3_unsolicited_report_interval", "1000"),
    ("secure_redirects", "1"),
    ("send_redirects", "1"),
    ("shared_media", "1"),
];

/// Value of a setting of `interface` after boot.
fn booted(interface: &str, name: &str) -> &'static str {
    match (interface, name) {
        ("lo", "disable_policy" | "disable_xfrm") => "1",
        // For each interface, but not for `all` (`ipv4_devconf_dflt`).
        (_, "accept_source_route") if interface != "all" => "1",
        _ => BOOTED.iter().find(|(known, _)| *known == name).map_or("0", |(_, value)| value),
    }
}

/// Resets the settings of this process's namespace, which nobody else may share.
pub fn reset() -> Result<(), Error> {
    // First, because it changes some of the others.
    set(Path::new(FORWARD), "0")?;
    for interface in names(Path::new(INTERFACES))? {
        let dir = Path::new(INTERFACES).join(&interface);
        for name in names(&dir)? {
            set(&dir.join(&name), booted(&interface, &name))?;
        }
    }
    // A kernel without IPv6 has no such files.
    for path in NO_IPV6.map(Path::new).into_iter().filter(|path| path.exists()) {
        set(path, "0")?;
    }
    Ok(())
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = || Error::io(dir.display().to_string());
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        names.push(entry.map_err(failed())?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// Writes a setting only if it differs: some settings cannot be written.
fn set(path: &Path, value: &str) -> Result<(), Error> {
    let failed = || Error::io(path.display().to_string());
    match fs::read_to_string(path).map_err(failed())?.trim_end() == value {
        true => Ok(()),
        false => fs::write(path, value).map_err(failed()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use nix::sched::{CloneFlags, unshare};

    /// Settings of a namespace are as on the machine, then as after boot, and the machine's own stay. Needs root.
    #[test]
    fn what_the_machine_has_set_is_forgotten_in_a_namespace() {
        let machines = || std::fs::read_to_string(super::FORWARD).unwrap();
        let before = machines();
        let inside = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
            std::fs::write(super::FORWARD, "1").unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "2").unwrap();
            std::fs::write(super::NO_IPV6[0], "1").unwrap();
            super::reset().unwrap();
            [
                "ip_forward",
                "conf/all/rp_filter",
                "conf/all/accept_redirects",
                "conf/default/accept_source_route",
            ]
            .map(|name| read(name).trim().to_owned())
            .into_iter()
            .chain(super::NO_IPV6.map(|path| std::fs::read_to_string(path).unwrap().trim().to_owned()))
            .collect::<Vec<_>>()
        });
        assert_eq!(inside.join().unwrap(), ["0", "0", "1", "1", "0", "0"]);
        assert_eq!(machines(), before);
    }
}
