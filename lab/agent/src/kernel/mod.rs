//! What the kernel of this machine can do for lab hosts that share it.
//!
//! We try it rather than look it up: we make each kind of interface and ask for each extension, in a private network
//! namespace that ends with this process. The kernel loads modules on demand here too.

mod ask;

use std::{fs, io, path::Path};

use labctl_protocol::kernel::{Feature, Findings};
use netlink_packet_route::link::{IpVlanMode, LinkMessage, MacVlanMode};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};
use rtnetlink::{Handle, LinkBridge, LinkDummy, LinkIpVlan, LinkMacVlan, LinkVeth, LinkVlan, LinkVxlan};

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
    // As a node does; where this fails, the address does too.
    let _ = fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0");
    let address = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    let given = handle.address().add(parents.0, address.into(), 64).execute().await;
    findings.insert(Feature::Ipv6, answer(given));
    connection.abort();
    Ok(findings)
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_default()
}

async fn add(handle: &Handle, message: LinkMessage) -> Option<String> {
    answer(handle.link().add(message).execute().await)
}

/// The kernel's error, if it refused.
fn answer(done: Result<(), rtnetlink::Error>) -> Option<String> {
    match done {
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
