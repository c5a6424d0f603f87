//! Watchers: one packet socket per namespace that sees this run's packets pass each of its interfaces.

use std::{
    collections::{HashMap, HashSet},
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use labctl_protocol::{
    messages::Sighting,
    probe::{
        nonce::MAGIC,
        trace::{MAX_SIGHTINGS, Trace, Tracer},
    },
};
use nix::{
    cmsg_space, libc,
    sys::{
        socket::{
            ControlMessageOwned, LinkAddr, MsgFlags, MultiHeaders, RecvMsg, recvmmsg, setsockopt, sockopt,
        },
        time::TimeSpec,
    },
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::space::{RECEIVE_BUFFER, Space};
use crate::sys;

/// Octets of a packet that are read.
const SNAP: u32 = 256;

/// Most packets that are read at once.
const BATCH: usize = 32;

/// A sighting before the look-up of its interface's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Seen {
    interface: u32,
    inbound: bool,
    local: bool,
    /// Whether the source is an address of this namespace.
    own: bool,
    trace: Trace,
}

impl Seen {
    /// Whether it shows who got a request: at least what labctl judges by (`receivers` in `labctl_report::verdict`).
    fn is_receipt(&self) -> bool {
        if self.trace.answer { !self.inbound && self.own } else { self.inbound && self.local }
    }
}

/// Time of a sighting by the kernel's clock: seconds and nanoseconds.
pub type Time = (i64, i64);

#[derive(Debug)]
struct Log {
    known: HashSet<Seen>,
    list: Vec<(Time, Seen)>,
    tracer: Tracer,
}

/// The watcher of a namespace.
#[derive(Debug)]
pub struct Watcher {
    space: Arc<Space>,
    /// Endpoints that live there.
    names: Vec<String>,
    socket: Option<AsyncFd<OwnedFd>>,
    log: Mutex<Log>,
    interfaces: Mutex<HashMap<u32, String>>,
}

/// Makes the packet socket; call it within the namespace.
pub fn packet_socket() -> io::Result<OwnedFd> {
    // All protocols, because the kernel shows outgoing packets only to such sockets.
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(all)))?;
    socket.attach_filter(&filter())?;
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket.into())
}

/// Packet filter, from the network header on. It passes echoes of ICMP and ICMPv6 and UDP whose payload begins like a nonce, and TCP
/// segments with SYN or RST, so that nothing else wakes the agent.
fn filter() -> [SockFilter; 24] {
    use libc::{
        BPF_ABS, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX,
        BPF_MSH, BPF_RET, BPF_W,
    };
    // Opcodes and addresses are the kernel's own small numbers.
    let op = |code: u32, k: u32| SockFilter::new(code as u16, 0, 0, k);
    let jump =
        |code: u32, k: u32, yes: u8, no: u8| SockFilter::new((BPF_JMP | code | BPF_K) as u16, yes, no, k);
    let protocol = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
    let magic = u32::from_be_bytes([MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3]]);
    [
        op(BPF_LD | BPF_H | BPF_ABS, protocol),
        jump(BPF_JEQ, libc::ETH_P_IP as u32, 0, 5),
        // IPv4: later fragments have no ports. The payload begins at X, its protocol is in A.
        op(BPF_LD | BPF_H | BPF_ABS, 6),
        jump(BPF_JSET, 0x1FFF, 19, 0),
        op(BPF_LDX | BPF_B | BPF_MSH, 0),
        op(BPF_LD | BPF_B | BPF_ABS, 9),
        op(BPF_JMP | BPF_JA, 3),
        // IPv6: the same. The run's packets have no extension headers.
        jump(BPF_JEQ, libc::ETH_P_IPV6 as u32, 0, 15),
        op(BPF_LDX | BPF_W | BPF_IMM, 40),
        op(BPF_LD | BPF_B | BPF_ABS, 6),
        jump(BPF_JEQ, libc::IPPROTO_TCP as u32, 9, 0),
        jump(BPF_JEQ, libc::IPPROTO_UDP as u32, 6, 0),
        jump(BPF_JEQ, libc::IPPROTO_ICMP as u32, 0, 2),
        // ICMP: types 0 and 8 have no other bit than 8.
        op(BPF_LD | BPF_B | BPF_IND, 0),
        jump(BPF_JSET, 0xF7, 8, 3),
        jump(BPF_JEQ, libc::IPPROTO_ICMPV6 as u32, 0, 7),
        // ICMPv6: types 128 and 129 have none of these bits.
        op(BPF_LD | BPF_B | BPF_IND, 0),
        jump(BPF_JSET, 0x7E, 5, 0),
        // UDP and ICMP: the payload comes after eight octets.
        op(BPF_LD | BPF_W | BPF_IND, 8),
        jump(BPF_JEQ, magic, 2, 3),
        op(BPF_LD | BPF_B | BPF_IND, 13),
        jump(BPF_JSET, 0x06, 0, 1),
        op(BPF_RET | BPF_K, SNAP),
        op(BPF_RET | BPF_K, 0),
    ]
}

impl Watcher {
    /// Watches a namespace for the endpoints that live there.
    pub fn new(
        space: Arc<Space>,
        names: Vec<String>,
        run: u64,
        socket: OwnedFd,
        interfaces: HashMap<u32, String>,
    ) -> io::Result<Self> {
        let socket = Some(sys::watch(socket)?);
        let log = Log { known: HashSet::new(), list: Vec::new(), tracer: Tracer::new(run) };
        Ok(Self { space, names, socket, log: Mutex::new(log), interfaces: Mutex::new(interfaces) })
    }

    /// Watches until dropped.
    pub async fn watch(self: Arc<Self>) {
        let Some(socket) = &self.socket else { return };
        while let Ok(mut ready) = socket.readable().await {
            // Until nothing is left. What comes after that makes it ready anew.
            self.drain();
            ready.clear_ready();
        }
    }

    /// Reads all packets from the socket.
    fn drain(&self) {
        let Some(socket) = &self.socket else { return };
        let fd = socket.get_ref().as_raw_fd();
        let mut packets = [[0; SNAP as usize]; BATCH];
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut parts = packets.each_mut().map(|packet| [IoSliceMut::new(packet)]);
            let mut headers = MultiHeaders::preallocate(BATCH, Some(cmsg_space!(libc::timespec)));
            match recvmmsg(fd, &mut headers, &mut parts, MsgFlags::MSG_DONTWAIT, None) {
                Ok(received) => received.for_each(|packet| self.note(&mut log, &packet)),
                Err(nix::errno::Errno::EAGAIN) => return,
                // An interface went down; reported once.
                Err(_) => {}
            }
        }
    }

    fn note(&self, log: &mut Log, packet: &RecvMsg<'_, '_, LinkAddr>) {
        let (Some(from), Some(octets)) = (packet.address, packet.iovs().next()) else { return };
        let inbound = from.pkttype() != libc::PACKET_OUTGOING;
        // The kernel's own index, which is positive.
        let interface = u32::try_from(from.ifindex()).unwrap_or(0);
        let Some(trace) = log.tracer.read(octets) else { return };
        let [local, own] = [trace.destination, trace.source].map(|address| self.space.is_local(address));
        let seen = Seen { interface, inbound, local, own, trace };
        if log.list.len() < MAX_SIGHTINGS && log.known.insert(seen.clone()) {
            log.list.push((time(packet), seen));
        }
    }

    /// The sightings so far, with their times; of the cells in `brief` those alone that show who got the request.
    pub async fn sightings(&self, brief: &HashSet<u32>) -> Vec<(Time, Sighting)> {
        self.drain();
        let mut list = self.log.lock().unwrap_or_else(PoisonError::into_inner).list.clone();
        in_order(&mut list);
        list.retain(|(_, seen)| {
            seen.is_receipt() || !seen.trace.cell.is_some_and(|cell| brief.contains(&cell))
        });
        let known = |names: &HashMap<u32, String>| list.iter().all(|(_, s)| names.contains_key(&s.interface));
        let mut interfaces = self.interfaces.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !known(&interfaces) {
            // Interfaces come and go; one that is gone keeps its name.
            if let Ok(links) = self.space.netlink.links().await {
                interfaces.extend(links.into_iter().map(|l| (l.index, l.name)));
            }
            self.interfaces.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&interfaces);
        }
        let name_of =
            |index: u32| interfaces.get(&index).cloned().unwrap_or_else(|| format!("interface {index}"));
        let sighting = |endpoint: &String, seen: &Seen| {
            let Seen { interface, inbound, local, trace, .. } = seen.clone();
            trace.seen_at(endpoint.clone(), name_of(interface), inbound, local)
        };
        list.iter()
            .flat_map(|(time, seen)| self.names.iter().map(move |n| (*time, sighting(n, seen))))
            .collect()
    }
}

impl Drop for Watcher {
    /// Closes the packet socket on another thread: that waits some 10 ms for all processors.
    fn drop(&mut self) {
        let socket = self.socket.take().map(AsyncFd::into_inner);
        // If there can be no thread, dropping the closure closes it here.
        let _ = std::thread::Builder::new().name("close".into()).spawn(move || drop(socket));
    }
}

/// Corrects times that break the order. Until the kernel stamps packets (net_enable_timestamp is deferred), a packet has
/// the time of its reading, which may be after the next one's stamp. The queue's order and the stamps are right.
fn in_order<T>(list: &mut [(Time, T)]) {
    let mut next = (i64::MAX, i64::MAX);
    for (time, _) in list.iter_mut().rev() {
        next = next.min(*time);
        *time = next;
    }
}

fn time(received: &RecvMsg<'_, '_, LinkAddr>) -> Time {
    let stamp = received.cmsgs().ok().into_iter().flatten().find_map(|c| match c {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
        _ => None,
    });
    stamp.map_or((0, 0), |s: TimeSpec| (s.tv_sec(), s.tv_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_queued_first_is_not_later_than_what_came_behind() {
        let mut list = [((1, 0), 'a'), ((9, 0), 'b'), ((3, 5), 'c'), ((3, 9), 'd')];
        in_order(&mut list);
        assert_eq!(list, [((1, 0), 'a'), ((3, 5), 'b'), ((3, 5), 'c'), ((3, 9), 'd')]);
    }
}
