//! What the kernel of this machine can do for lab hosts that share it.
//!
//! We try it rather than look it up: we make each kind of interface and ask for each extension, in a private network
//! namespace that ends with this process. The kernel loads modules on demand here too.

mod ask;

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use netlink_packet_route::link::{IpVlanMode, LinkMessage, MacVlanMode};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use rtnetlink::{Handle, LinkBridge, LinkDummy, LinkIpVlan, LinkMacVlan, LinkVeth, LinkVlan, LinkVxlan};
use serde::{Deserialize, Serialize};

/// A kernel feature that a lab may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// TAP devices: the NICs of a host.
    Tun,
    /// Linux bridges.
    Bridge,
    /// Pairs of interfaces.
    Veth,
    /// Interfaces without a far end: parents of internal macvlan and ipvlan networks.
    Dummy,
    /// macvlan interfaces.
    Macvlan,
    /// ipvlan interfaces.
    Ipvlan,
    /// 802.1Q sub-interfaces.
    Vlan,
    /// VXLAN interfaces.
    Vxlan,
    /// IPVS: virtual addresses of services, and the routing mesh.
    IpVs,
    /// IPsec ESP, with the cipher that encrypted overlays use.
    Esp,
    /// The iptables match `bpf`, with which Docker from 23.0 finds the packets to encrypt.
    BpfMatch,
    /// The iptables match `u32`, which older versions use for that.
    U32Match,
    /// iptables for frames that cross a bridge.
    BridgeNetfilter,
    /// overlayfs: containers' layers.
    Overlayfs,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 14] = [
        Feature::Tun,
        Feature::Bridge,
        Feature::Veth,
        Feature::Dummy,
        Feature::Macvlan,
        Feature::Ipvlan,
        Feature::Vlan,
        Feature::Vxlan,
        Feature::IpVs,
        Feature::Esp,
        Feature::BpfMatch,
        Feature::U32Match,
        Feature::BridgeNetfilter,
        Feature::Overlayfs,
    ];

    /// Its name in Linux, mostly that of the module.
    pub fn name(self) -> &'static str {
        match self {
            Feature::Tun => "tun",
            Feature::Bridge => "bridge",
            Feature::Veth => "veth",
            Feature::Dummy => "dummy",
            Feature::Macvlan => "macvlan",
            Feature::Ipvlan => "ipvlan",
            Feature::Vlan => "8021q",
            Feature::Vxlan => "vxlan",
            Feature::IpVs => "ip_vs",
            Feature::Esp => "esp4",
            Feature::BpfMatch => "xt_bpf",
            Feature::U32Match => "xt_u32",
            Feature::BridgeNetfilter => "br_netfilter",
            Feature::Overlayfs => "overlay",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a kernel setting belongs to a network namespace: all of `net` but the sizes of the neighbour tables, which
/// all namespaces share although each shows them.
pub fn is_own_sysctl(key: &str) -> bool {
    let key = key.replace('/', ".");
    key.starts_with("net.") && !key.contains(".gc_thresh")
}

/// For each feature: `None` if the kernel has it, else the kernel's error.
pub type Findings = BTreeMap<Feature, Option<String>>;

/// Tries every feature. Moves this process into its own namespaces, so it must have only one thread and do nothing else
/// afterwards.
///
/// # Errors
/// If we are neither root nor allowed to have a user namespace.
pub fn examine() -> io::Result<Findings> {
    let flags = match geteuid().is_root() {
        true => CloneFlags::CLONE_NEWNET,
        false => CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET,
    };
    unshare(flags)
        .map_err(|e| io::Error::new(io::Error::from(e).kind(), format!("no namespace to try in: {e}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut findings = runtime.block_on(links())?;
    let mut note =
        |feature, found: io::Result<()>| findings.insert(feature, found.err().map(|e| e.to_string()));
    note(Feature::Tun, exists("/dev/net/tun"));
    note(Feature::IpVs, ask::generic_family("IPVS"));
    note(Feature::Esp, ask::esp_state());
    note(Feature::BpfMatch, ask::iptables_match("bpf", 1));
    note(Feature::U32Match, ask::iptables_match("u32", 0));
    note(Feature::BridgeNetfilter, exists("/proc/sys/net/bridge/bridge-nf-call-iptables"));
    note(Feature::Overlayfs, overlayfs());
    Ok(findings)
}

/// Makes an interface of each kind; all end with the namespace.
async fn links() -> io::Result<Findings> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let mut findings = Findings::new();
    findings.insert(Feature::Veth, add(&handle, LinkVeth::new("try0", "try1").build()).await);
    // macvlan and ipvlan cannot share a parent, so each has its own.
    let parents = (index("try0"), index("try1"));
    let (macvlan, ipvlan) = (
        LinkMacVlan::new("try2", parents.0, MacVlanMode::Bridge).build(),
        LinkIpVlan::new("try3", parents.1, IpVlanMode::L2).build(),
    );
    let wanted = [
        (Feature::Bridge, LinkBridge::new("try4").build()),
        (Feature::Dummy, LinkDummy::new("try5").build()),
        (Feature::Macvlan, macvlan),
        (Feature::Ipvlan, ipvlan),
        (Feature::Vlan, LinkVlan::new("try6", parents.0, 7).build()),
        (Feature::Vxlan, LinkVxlan::new("try7", 7).port(4789).build()),
    ];
    for (feature, message) in wanted {
        findings.insert(feature, add(&handle, message).await);
    }
    connection.abort();
    Ok(findings)
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_default()
}

async fn add(handle: &Handle, message: LinkMessage) -> Option<String> {
    match handle.link().add(message).execute().await {
        Ok(()) => None,
        Err(rtnetlink::Error::NetlinkError(message)) => Some(message.to_io().to_string()),
        Err(other) => Some(other.to_string()),
    }
}

fn exists(path: &str) -> io::Result<()> {
    if Path::new(path).exists() { Ok(()) } else { Err(io::Error::other(format!("there is no {path}"))) }
}

/// overlayfs is listed once it is loaded; else the first mount loads it.
fn overlayfs() -> io::Result<()> {
    let listed = fs::read_to_string("/proc/filesystems")?;
    if listed.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay") {
        return Ok(());
    }
    Err(io::Error::other("/proc/filesystems does not list it"))
}
