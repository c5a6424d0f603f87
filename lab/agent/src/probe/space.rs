//! One network namespace within a probe session: its kernel tables, and one raw socket that receives every ICMP message:
//! echo replies and errors about shots.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use labctl_model::{Family, OfFamily};
use labctl_protocol::probe::heard::{self, Heard, Key};
use netlink_packet_route::neighbour::NeighbourState;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, SockaddrStorage, recv, recvfrom,
    sendto, setsockopt, socket, sockopt,
};
use tokio::{io::unix::AsyncFd, sync::oneshot, time::Instant};
use vxlan::proto::{icmp, icmpv6};

use crate::{netlink::Netlink, netns::Namespace, sys};

/// Octets of an ICMP message that are read: nonces and quoted headers fit many times.
const SNAP: usize = 1024;

/// Room for the answers to all echoes of a large lab.
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// A neighbour table as it was read.
#[derive(Debug)]
struct Neighbours {
    read_at: Instant,
    states: HashMap<(u32, IpAddr), NeighbourState>,
    /// The kernel has refused another entry since the session began.
    refused: bool,
}

/// Why a next hop is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It did not answer ARP or neighbour discovery.
    Silent(IpAddr),
    /// The kernel had no room for another neighbour, and sent nothing.
    NoRoom,
}

/// A namespace of the session.
#[derive(Debug)]
pub struct Space {
    /// The namespace.
    pub namespace: Namespace,
    /// Its tables.
    pub netlink: Netlink,
    /// Its addresses when the session began.
    pub locals: HashSet<IpAddr>,
    raw: AsyncFd<OwnedFd>,
    /// The same for ICMPv6, if the kernel has it.
    raw_v6: Option<AsyncFd<OwnedFd>>,
    awaited: Mutex<HashMap<Key, oneshot::Sender<Heard>>>,
    run: u64,
    neighbours: [tokio::sync::Mutex<Option<Arc<Neighbours>>>; 2],
    /// Refused neighbours of each family before the session.
    refused: [u64; 2],
}

/// Makes the raw socket; call it within the namespace.
pub fn raw_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let raw = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    // Exceeds the system's limit if we may (CAP_NET_ADMIN); else the limit will do.
    let _ = setsockopt(&raw, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    sys::never_fragment(&raw, Family::V4)?;
    sys::only_icmp_types(&raw, Family::V4, &heard::types(Family::V4))?;
    Ok(raw)
}

/// Makes the raw socket of ICMPv6; `None` if the kernel has no IPv6. Call it within the namespace.
pub fn raw_socket_v6() -> io::Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let raw = match socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6) {
        Err(nix::errno::Errno::EAFNOSUPPORT) => return Ok(None),
        raw => raw?,
    };
    let _ = setsockopt(&raw, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    sys::never_fragment(&raw, Family::V6)?;
    sys::only_icmp_types(&raw, Family::V6, &heard::types(Family::V6))?;
    Ok(Some(raw))
}

impl Space {
    /// Builds it from what was opened and found in the namespace.
    pub fn new(
        namespace: Namespace,
        (netlink, locals): (Netlink, HashSet<IpAddr>),
        (raw, raw_v6): (OwnedFd, Option<OwnedFd>),
        run: u64,
        refused: [u64; 2],
    ) -> io::Result<Self> {
        Ok(Self {
            namespace,
            netlink,
            locals,
            raw: sys::watch(raw)?,
            raw_v6: raw_v6.map(sys::watch).transpose()?,
            awaited: Mutex::default(),
            run,
            neighbours: Default::default(),
            refused,
        })
    }

    /// Whether an address is one of the namespace's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.locals.contains(&address)
    }

    /// Receives ICMP messages until dropped.
    pub async fn listen(self: Arc<Self>) {
        let v6 = async {
            if let Some(raw) = &self.raw_v6 {
                self.listen_on(raw).await;
            }
        };
        tokio::join!(self.listen_on(&self.raw), v6);
    }

    async fn listen_on(&self, raw: &AsyncFd<OwnedFd>) {
        while let Ok(mut ready) = raw.readable().await {
            // Until nothing is left. What comes after that makes it ready anew.
            if let Err(error) = self.drain() {
                tracing::debug!("raw socket: {error}");
            }
            ready.clear_ready();
        }
    }

    /// Reads all messages from the raw sockets. Also called before we judge a socket's error: the kernel delivers an ICMP
    /// error to raw sockets first, so its cause is found here.
    pub fn drain(&self) -> io::Result<()> {
        if let Some(raw) = &self.raw_v6 {
            self.drain_v6(raw);
        }
        let mut packet = [0; SNAP];
        loop {
            match recv(self.raw.get_ref().as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                Ok(n) => {
                    if let Some((key, heard)) = heard::read(&packet[..n], self.run) {
                        self.tell(key, heard);
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                // An error of an earlier packet, reported once.
                Err(_) => {}
            }
        }
    }

    /// ICMPv6 comes without an IP header.
    fn drain_v6(&self, raw: &AsyncFd<OwnedFd>) {
        let mut message = [0; SNAP];
        loop {
            match recvfrom::<SockaddrIn6>(raw.get_ref().as_raw_fd(), &mut message) {
                Ok((length, Some(from))) => {
                    let heard = heard::message(&message[..length], from.ip().into(), self.run);
                    if let Some((key, heard)) = heard {
                        self.tell(key, heard);
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => return,
                // An error of an earlier packet, reported once.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn tell(&self, key: Key, heard: Heard) {
        let waiting = self.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        // The shot may have been given up.
        waiting.map(|w| w.send(heard));
    }

    /// Registers a packet that is about to be sent, for its answer or error.
    pub fn expect(self: &Arc<Self>, key: Key) -> Expected {
        let (sender, receiver) = oneshot::channel();
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner).insert(key, sender);
        Expected { space: self.clone(), key, receiver }
    }

    /// Sends one echo request.
    pub async fn send_echo(&self, id: u16, seq: u16, payload: &[u8], to: IpAddr) -> io::Result<()> {
        let unsupported = || io::Error::from_raw_os_error(nix::libc::EAFNOSUPPORT);
        let (raw, message) = match to.family() {
            Family::V4 => (&self.raw, icmp::echo_request(id, seq, payload)),
            // The kernel computes the checksum.
            Family::V6 => {
                (self.raw_v6.as_ref().ok_or_else(unsupported)?, icmpv6::echo_request(id, seq, payload))
            }
        };
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        loop {
            let mut ready = raw.writable().await?;
            let fd = raw.get_ref().as_raw_fd();
            match ready.try_io(|_| Ok(sendto(fd, &message, &to, MsgFlags::MSG_DONTWAIT)?)) {
                Ok(sent) => return sent.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    /// Why the next hop towards an address is not known, if it is not. Neighbours are read at `since` or later.
    pub async fn unresolved(&self, to: IpAddr, since: Instant) -> Option<Unresolved> {
        let neighbours = self.neighbours(to.family(), since).await?;
        // Then it does not matter which one is asked: no route is looked up for each of many silent shots.
        if !neighbours.refused && neighbours.states.values().all(is_resolved) {
            return None;
        }
        let (hop, index) = self.netlink.next_hop(to).await.ok()?;
        match neighbours.states.get(&(index, hop)) {
            Some(state) if !is_resolved(state) => Some(Unresolved::Silent(hop)),
            None if neighbours.refused => Some(Unresolved::NoRoom),
            _ => None,
        }
    }

    /// The neighbour table; shots that end together share one read.
    async fn neighbours(&self, family: Family, since: Instant) -> Option<Arc<Neighbours>> {
        let index = match family {
            Family::V4 => 0,
            Family::V6 => 1,
        };
        let mut read = self.neighbours[index].lock().await;
        if let Some(table) = read.as_ref().filter(|table| table.read_at >= since) {
            return Some(table.clone());
        }
        let read_at = Instant::now();
        let states = self.netlink.neighbours(family).await.ok()?;
        let refused = self.netlink.neighbours_refused(family).await.is_ok_and(|n| n > self.refused[index]);
        let table = Arc::new(Neighbours { read_at, states, refused });
        *read = Some(table.clone());
        Some(table)
    }
}

fn is_resolved(state: &NeighbourState) -> bool {
    !matches!(state, NeighbourState::Incomplete | NeighbourState::Failed)
}

/// A packet whose answer or error is awaited.
#[derive(Debug)]
pub struct Expected {
    space: Arc<Space>,
    key: Key,
    receiver: oneshot::Receiver<Heard>,
}

impl Expected {
    /// Waits until something is heard.
    pub async fn heard(&mut self) -> Heard {
        match (&mut self.receiver).await {
            Ok(heard) => heard,
            // Only if another shot took the same key: nothing will be heard of this one.
            Err(_) => std::future::pending().await,
        }
    }

    /// What has been heard so far.
    pub fn so_far(&mut self) -> Option<Heard> {
        let _ = self.space.drain();
        self.receiver.try_recv().ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.space.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
