//! Makes a machine the configured host.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use labctl_model::{OfFamily, Route};
use labctl_protocol::{
    kernel::is_own_sysctl,
    messages::{HostConfig, NicConfig, template_mac},
};
use netlink_packet_route::link::InfoKind;
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
};
use tokio::time::Instant;

use super::addresses;
use crate::{
    netlink::{Link, Netlink, NetlinkError},
    network,
    server::{Kernel, Server},
    sys,
};

/// How long the kernel may check whether addresses are duplicates: a second and some, unless the processor is busy.
pub(super) const DAD: Duration = Duration::from_secs(15);

/// How long a NIC that was just plugged in may take to show up.
const NICS: Duration = Duration::from_secs(5);

/// Smallest error of the clock that is corrected: the message itself takes that long.
const CLOCK_SLACK: Duration = Duration::from_millis(50);

/// Limits that protect a kernel from strangers. Here they would make the result of a cell depend on the number of
/// cells. The topology's own sysctls come later and win.
const LIMITS: [(&str, &str); 10] = [
    // A kernel counts the neighbours of all its namespaces together; the defaults (128, 512, 1024) break a lab of 40
    // endpoints.
    ("ipv4/neigh/default/gc_thresh1", "8192"),
    ("ipv4/neigh/default/gc_thresh2", "32768"),
    ("ipv4/neigh/default/gc_thresh3", "65536"),
    ("ipv6/neigh/default/gc_thresh1", "8192"),
    ("ipv6/neigh/default/gc_thresh2", "32768"),
    ("ipv6/neigh/default/gc_thresh3", "65536"),
    // ICMP errors to one host: by default a handful, then one per second.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_msgs_per_sec", "1000000"),
    ("ipv4/route/error_cost", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// Those limits that each network namespace has for itself.
const OWN_LIMITS: [(&str, &str); 3] =
    [("ipv4/icmp_ratelimit", "0"), ("ipv4/icmp_msgs_per_sec", "1000000"), ("ipv6/icmp/ratelimit", "0")];

/// dockerd's own folder.
const DOCKER_ROOT: &str = "/var/lib/docker";

/// Why a host could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// A file or setting.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// An error of rtnetlink.
    #[error("{0}")]
    Network(#[from] NetlinkError),
    /// A NIC did not show up.
    #[error("no NIC with the MAC {mac} for {name}; there are: {found}")]
    NoNic {
        /// MAC address.
        mac: String,
        /// Name that it should get.
        name: String,
        /// MAC addresses of the NICs that exist.
        found: String,
    },
    /// Somebody else on the link has an address.
    #[error("{0} is a duplicate: somebody else on its link has it")]
    Duplicate(IpAddr),
    /// An address that the kernel did not finish to check.
    #[error("the kernel has not checked within {DAD:?} whether {0} is a duplicate")]
    Unchecked(IpAddr),
    /// A setting that this host shares with others.
    #[error("{0} is a setting of the whole kernel, which this host shares with others")]
    Foreign(String),
    /// The entropy is not valid hex.
    #[error("the entropy is not an even number of hex digits")]
    Entropy,
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> ConfigureError {
    let what = what.into();
    move |error| ConfigureError::Io { what, error }
}

/// Applies a configuration. Applying it again changes nothing. What an earlier one made and this one lacks is removed.
pub async fn apply(server: &Server, config: HostConfig) -> Result<(), ConfigureError> {
    let mut configured = server.configured.lock().await;
    if server.kernel == Kernel::Own {
        set_clock(config.clock_ns, CLOCK_SLACK)?;
        reseed(&config.entropy)?;
        raise_limits(&LIMITS)?;
        write_engine_id(&config.engine_id)?;
    }
    if server.kernel == Kernel::Shared {
        raise_limits(&OWN_LIMITS)?;
        if let Some(key) = config.sysctls.keys().find(|key| !is_own_sysctl(key)) {
            return Err(ConfigureError::Foreign(key.clone()));
        }
    }
    set_names(&config)?;

    let netlink = Netlink::open(&server.namespace).await?;
    if let Some(old) = configured.as_ref() {
        remove_stale(&netlink, old, &config).await?;
    }
    let names = rename_nics(server, &netlink, &config.nics).await?;
    for (nic, link) in config.nics.iter().zip(&names) {
        if link.mac != Some(nic.mac) {
            network::set_mac(&netlink, link, nic.mac).await?;
        }
        network::set_mtu(&netlink, link, nic.mtu).await?;
        let addresses = nic.addresses.iter().map(|net| (net, nic.peer.get(net.family())));
        network::set_addresses(&netlink, link, &addresses.collect::<Vec<_>>()).await?;
        network::set_up(&netlink, link).await?;
    }
    if let Some(lo) = netlink.link("lo").await?.filter(|lo| !lo.up) {
        network::set_up(&netlink, &lo).await?;
    }
    for interface in &config.interfaces {
        network::make_interface(&netlink, interface).await?;
    }
    network::set_sysctls(&server.namespace, config.sysctls.clone()).await.map_err(failed("sysctl"))?;
    for route in routes(&config) {
        network::add_route(&netlink, &route).await?;
    }
    if config.has_v6() {
        addresses::settled(&server.namespace, &netlink, |_| true).await?;
    }
    *configured = Some(config);
    Ok(())
}

/// The default routes first, then the others, in order.
fn routes(config: &HostConfig) -> Vec<Route> {
    let defaults = config.gateway.iter().map(|via| Route {
        to: via.family().everything(),
        via: Some(via),
        dev: None,
        metric: None,
    });
    defaults.chain(config.routes.iter().cloned()).collect()
}

async fn remove_stale(netlink: &Netlink, old: &HostConfig, new: &HostConfig) -> Result<(), NetlinkError> {
    let wanted = routes(new);
    for route in routes(old).iter().filter(|r| !wanted.contains(r)) {
        network::remove_route(netlink, route).await?;
    }
    let wanted: HashSet<&str> = new.interfaces.iter().map(|i| i.name.as_str()).collect();
    for interface in old.interfaces.iter().filter(|i| !wanted.contains(i.name.as_str())) {
        network::remove_interface(netlink, &interface.name).await?;
    }
    Ok(())
}

/// Renames every NIC and returns their links in the same order.
async fn rename_nics(
    server: &Server,
    netlink: &Netlink,
    nics: &[NicConfig],
) -> Result<Vec<Link>, ConfigureError> {
    let mut links = plugged_in(server, netlink, nics).await?;
    let misnamed = || links.iter().zip(nics).filter(|(link, nic)| link.name != nic.name);
    // Two steps, since one NIC may hold the name that another is to get.
    for (link, _) in misnamed() {
        network::rename(netlink, link, &format!("labnic{}", link.index)).await?;
    }
    for (link, nic) in misnamed() {
        network::rename(netlink, link, &nic.name).await?;
    }
    for (link, nic) in links.iter_mut().zip(nics) {
        link.name.clone_from(&nic.name);
    }
    Ok(links)
}

/// Waits until all NICs exist and returns their links. A hot-plugged one takes a moment; the kernel announces it.
async fn plugged_in(
    server: &Server,
    netlink: &Netlink,
    nics: &[NicConfig],
) -> Result<Vec<Link>, ConfigureError> {
    let (connection, _handle, mut announced) = server
        .namespace
        .run(|| rtnetlink::new_multicast_connection(&[rtnetlink::MulticastGroup::Link]))
        .await
        .map_err(failed("listen for NICs"))?;
    let connection = tokio::spawn(connection);
    let deadline = Instant::now() + NICS;
    let outcome = loop {
        let present: BTreeMap<[u8; 6], Link> =
            netlink.links().await?.into_iter().filter(is_nic).filter_map(|l| Some((l.mac?, l))).collect();
        let find = |(index, nic): (usize, &NicConfig)| {
            present.get(&nic.mac).or_else(|| present.get(&template_mac(index))).cloned()
        };
        let Some((_, missing)) = nics.iter().enumerate().find(|nic| find(*nic).is_none()) else {
            break Ok(nics.iter().enumerate().filter_map(find).collect());
        };
        let more = futures::StreamExt::next(&mut announced);
        if let Ok(Some(_)) = tokio::time::timeout_at(deadline, more).await {
            continue;
        }
        let found: Vec<String> = present.keys().map(mac_text).collect();
        break Err(ConfigureError::NoNic {
            mac: mac_text(&missing.mac),
            name: missing.name.clone(),
            found: found.join(", "),
        });
    };
    connection.abort();
    outcome
}

/// Whether a link is a NIC: interfaces on top of others often have the MAC of the one below.
fn is_nic(link: &Link) -> bool {
    match link.kind {
        None | Some(InfoKind::Tun | InfoKind::Veth) => true,
        Some(_) => false,
    }
}

fn mac_text(mac: &[u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn set_names(config: &HostConfig) -> Result<(), ConfigureError> {
    nix::unistd::sethostname(&config.hostname).map_err(|e| failed("set the host name")(e.into()))?;
    write("/etc/hostname", &format!("{}\n", config.hostname))?;
    write("/etc/hosts", &hosts_text(&config.hostname, &config.hosts))?;
    write("/etc/machine-id", &format!("{}\n", config.machine_id))
}

fn hosts_text(hostname: &str, hosts: &BTreeMap<String, IpAddr>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    if !hosts.contains_key(hostname) {
        text += &format!("127.0.1.1 {hostname}\n");
    }
    for (name, address) in hosts {
        text += &format!("{address} {name}\n");
    }
    text
}

/// Sets the id that the next dockerd of this machine reads (moby, daemon/id.go; since 23.0, before it is a key's
/// fingerprint). One that was saved while it ran keeps that of its template.
fn write_engine_id(id: &str) -> Result<(), ConfigureError> {
    fs::create_dir_all(DOCKER_ROOT).map_err(failed(DOCKER_ROOT))?;
    write(&format!("{DOCKER_ROOT}/engine-id"), id)
}

/// Writes a file in place: in a container some of these files are bind mounts, which a rename cannot replace.
fn write(path: &str, text: &str) -> Result<(), ConfigureError> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(failed(path))
}

/// Sets the clock, in ns since the epoch, of a machine that has its own.
pub fn clock(server: &Server, clock_ns: u64) -> Result<(), ConfigureError> {
    match server.kernel {
        Kernel::Own => set_clock(clock_ns, Duration::ZERO),
        Kernel::Shared => Ok(()),
    }
}

/// Sets the clock of a machine that has its own, and reseeds its random generator.
pub fn wake(server: &Server, clock_ns: u64, entropy: &str) -> Result<(), ConfigureError> {
    clock(server, clock_ns)?;
    match server.kernel {
        Kernel::Own => reseed(entropy),
        Kernel::Shared => Ok(()),
    }
}

fn set_clock(clock_ns: u64, slack: Duration) -> Result<(), ConfigureError> {
    let wanted = Duration::from_nanos(clock_ns);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if now.abs_diff(wanted) < slack {
        return Ok(());
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(wanted))
        .map_err(|e| failed("set the clock")(e.into()))
}

fn reseed(entropy: &str) -> Result<(), ConfigureError> {
    let octets: Option<Vec<u8>> = entropy
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
        .collect();
    let octets = octets.ok_or(ConfigureError::Entropy)?;
    let random = fs::OpenOptions::new().write(true).open("/dev/random").map_err(failed("/dev/random"))?;
    sys::add_entropy(&random, &octets).map_err(failed("reseed /dev/random"))
}

fn raise_limits(limits: &[(&str, &str)]) -> Result<(), ConfigureError> {
    for (name, value) in limits {
        let path = Path::new("/proc/sys/net").join(name);
        match fs::write(&path, value) {
            // Not every kernel has each of them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(failed(path.display().to_string()))?,
        }
    }
    Ok(())
}
