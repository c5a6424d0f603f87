//! One network namespace within a probe session: its kernel tables, and one raw socket that receives every ICMP message:
//! echo replies and errors about shots.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use labctl_protocol::probe::heard::{self, Heard, Key};
use netlink_packet_route::neighbour::NeighbourState;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
    sockopt,
};
use tokio::{io::unix::AsyncFd, sync::oneshot, time::Instant};
use vxlan::proto::icmp;

use crate::{
    netlink::{Netlink, NetlinkError},
    netns::Namespace,
    sys,
};

/// Octets of an ICMP message that are read: nonces and quoted headers fit many times.
const SNAP: usize = 1024;

/// Room for the answers to all echoes of a large lab.
pub const RECEIVE_BUFFER: usize = 4 << 20;

type Neighbours = Arc<HashMap<(u32, Ipv4Addr), NeighbourState>>;

/// A namespace of the session.
#[derive(Debug)]
pub struct Space {
    /// The namespace.
    pub namespace: Namespace,
    /// Its tables.
    pub netlink: Netlink,
    /// Its addresses when the session began.
    pub locals: HashSet<Ipv4Addr>,
    raw: AsyncFd<OwnedFd>,
    awaited: Mutex<HashMap<Key, oneshot::Sender<Heard>>>,
    run: u64,
    echoes: AtomicU32,
    neighbours: tokio::sync::Mutex<Option<(Instant, Neighbours)>>,
}

/// Makes the raw socket; call it within the namespace.
pub fn raw_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let raw = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    // Exceeds the system's limit if we may (CAP_NET_ADMIN); else the limit will do.
    let _ = setsockopt(&raw, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    sys::never_fragment(&raw)?;
    Ok(raw)
}

impl Space {
    /// Builds it from the sockets that were opened in the namespace.
    pub async fn new(
        namespace: Namespace,
        netlink: Netlink,
        raw: OwnedFd,
        run: u64,
    ) -> Result<Self, NetlinkError> {
        let locals = netlink.addresses().await?.into_iter().map(|a| a.address.addr()).collect();
        Ok(Self {
            namespace,
            netlink,
            locals,
            raw: sys::watch(raw)?,
            awaited: Mutex::default(),
            run,
            // From the run's number, so that two sessions in one namespace do not collide.
            echoes: AtomicU32::new((run as u32) & 0xFFFF_0000),
            neighbours: tokio::sync::Mutex::default(),
        })
    }

    /// Whether an address is one of the namespace's own.
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.locals.contains(&address)
    }

    /// Receives ICMP messages until dropped.
    pub async fn listen(self: Arc<Self>) {
        while let Ok(mut ready) = self.raw.readable().await {
            if let Err(error) = self.drain() {
                tracing::debug!("raw socket: {error}");
            }
            ready.clear_ready();
            // A message may have come between the last read and the clearing.
            let _ = self.drain();
        }
    }

    /// Reads all messages from the raw socket. Also called before we judge a socket's error: the kernel delivers an ICMP
    /// error to raw sockets first, so its cause is found here.
    pub fn drain(&self) -> io::Result<()> {
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

    /// A fresh identifier and sequence number.
    pub fn echo(&self) -> (u16, u16) {
        let number = self.echoes.fetch_add(1, Ordering::Relaxed);
        // High and low half.
        ((number >> 16) as u16, number as u16)
    }

    /// Sends one echo request.
    pub async fn send_echo(&self, id: u16, seq: u16, payload: &[u8], to: Ipv4Addr) -> io::Result<()> {
        let message = icmp::echo_request(id, seq, payload);
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        loop {
            let mut ready = self.raw.writable().await?;
            let fd = self.raw.get_ref().as_raw_fd();
            match ready.try_io(|_| Ok(sendto(fd, &message, &to, MsgFlags::MSG_DONTWAIT)?)) {
                Ok(sent) => return sent.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    /// The next hop towards an address, if it did not answer ARP. Neighbours are read at `since` or later.
    pub async fn unresolved(&self, to: Ipv4Addr, since: Instant) -> Option<Ipv4Addr> {
        let (hop, index) = self.netlink.next_hop(to).await.ok()?;
        let neighbours = self.neighbours(since).await?;
        match neighbours.get(&(index, hop))? {
            NeighbourState::Incomplete | NeighbourState::Failed => Some(hop),
            _ => None,
        }
    }

    /// The neighbour table; shots that end together share one read.
    async fn neighbours(&self, since: Instant) -> Option<Neighbours> {
        let mut read = self.neighbours.lock().await;
        if let Some((_, table)) = read.as_ref().filter(|(at, _)| *at >= since) {
            return Some(table.clone());
        }
        let at = Instant::now();
        let table = Arc::new(self.netlink.neighbours().await.ok()?);
        *read = Some((at, table.clone()));
        Some(table)
    }
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
