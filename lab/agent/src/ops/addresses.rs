//! Waits for IPv6 addresses. The kernel does not use one before it has asked the link whether somebody else has it: duplicate
//! address detection (RFC 4862 section 5.4).

use std::net::IpAddr;

use netlink_packet_route::address::AddressFlags;
use rtnetlink::MulticastGroup;
use tokio::time::{Instant, timeout_at};

use super::configure::{ConfigureError, DAD};
use crate::{
    netlink::{Address, Netlink},
    netns::Namespace,
};

/// What tells that an address or its link has changed.
const GROUPS: [MulticastGroup; 2] = [MulticastGroup::Ipv6Ifaddr, MulticastGroup::Link];

/// Waits until the kernel has checked those of a namespace's addresses that count and whose link carries frames.
///
/// # Errors
/// If an address is a duplicate, or if the check takes too long.
pub async fn settled(
    namespace: &Namespace,
    netlink: &Netlink,
    counts: impl Fn(IpAddr) -> bool,
) -> Result<(), ConfigureError> {
    let opened = namespace.run(|| rtnetlink::new_multicast_connection(&GROUPS)).await;
    let (connection, _handle, mut announced) =
        opened.map_err(|error| ConfigureError::Io { what: "listen for addresses".into(), error })?;
    let connection = tokio::spawn(connection);
    let deadline = Instant::now() + DAD;
    let outcome = loop {
        let mut all = netlink.addresses().await?;
        all.retain(|a| counts(a.address.addr()));
        if let Some(duplicate) = all.iter().find(|a| a.flags.contains(AddressFlags::Dadfailed)) {
            break Err(ConfigureError::Duplicate(duplicate.address.addr()));
        }
        // On a link that carries nothing, the check never begins.
        let down: Vec<u32> =
            netlink.links().await?.into_iter().filter(|l| !l.running).map(|l| l.index).collect();
        let waits = |a: &&Address| a.flags.contains(AddressFlags::Tentative) && !down.contains(&a.index);
        let Some(tentative) = all.iter().find(waits) else { break Ok(()) };
        let more = futures::StreamExt::next(&mut announced);
        if !matches!(timeout_at(deadline, more).await, Ok(Some(_))) {
            break Err(ConfigureError::Unchecked(tentative.address.addr()));
        }
    };
    connection.abort();
    outcome
}
