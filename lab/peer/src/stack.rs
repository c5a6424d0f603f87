//! smoltcp above the link: TCP, answers to pings, and refusals of packets that nobody listens for.

use std::{
    collections::{HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
};

use labctl_model::{OfFamily, PerFamily};
use labctl_protocol::{messages::Taker, probe::greeting::greeting};
use smoltcp::{
    iface::{self, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp::{self, State},
    time::Instant as StackTime,
    wire::{HardwareAddress, IpCidr, IpEndpoint},
};
use tokio::time::Instant;
use vxlan::{IpView, TcpFlags, TcpView, proto::ip_protocol};

use crate::Config;

/// Bytes of a buffer: a connection carries only a greeting and its answer.
const BUFFER: usize = 1024;
/// Most connections to listeners at once: those of a large matrix may all come together.
const MOST_SERVED: usize = 4096;

/// IP packets in and out.
struct Queues {
    mtu: usize,
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Incoming(Vec<u8>);
struct Outgoing<'q>(&'q mut VecDeque<Vec<u8>>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let done = f(&mut packet);
        self.0.push_back(packet);
        done
    }
}

impl Device for Queues {
    type RxToken<'q> = Incoming;
    type TxToken<'q> = Outgoing<'q>;

    fn receive(&mut self, _: StackTime) -> Option<(Incoming, Outgoing<'_>)> {
        Some((Incoming(self.incoming.pop_front()?), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: StackTime) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// State of a connection that this station began.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// No answer yet.
    Waiting,
    /// Refused, or reset later.
    Reset,
    /// Established: the bytes that came, and whether more can come.
    Open(Vec<u8>, bool),
}

/// A station's stack.
pub struct Stack {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    began: Instant,
    name: String,
    addresses: PerFamily<IpAddr>,
    /// Ports that we listen on, and the run that they are for.
    listens: HashSet<u16>,
    run: u64,
    /// Accepted connections, and whether each was greeted.
    served: Vec<(SocketHandle, bool)>,
    /// Connections closed by us, until the other end agrees.
    closing: Vec<SocketHandle>,
}

impl Stack {
    /// A stack with the addresses of this peer.
    pub fn new(peer: &Config, now: Instant) -> Self {
        let mtu = usize::from(peer.mtu);
        let addresses: PerFamily<IpAddr> = peer.addresses.iter().map(|net| net.addr()).collect();
        let mut queues = Queues { mtu, incoming: VecDeque::new(), outgoing: VecDeque::new() };
        let mut config = iface::Config::new(HardwareAddress::Ip);
        config.random_seed = rand::random();
        let mut interface = Interface::new(config, &mut queues, StackTime::ZERO);
        // The link knows the routes; to the stack, every address is on the link.
        interface.update_ip_addrs(|all| {
            // There is room for the first two.
            for address in addresses.iter() {
                let _ = all.push(IpCidr::new(address.into(), 0));
            }
        });
        Self {
            interface,
            queues,
            sockets: SocketSet::new(Vec::new()),
            began: now,
            name: peer.name.clone(),
            addresses,
            listens: HashSet::new(),
            run: 0,
            served: Vec::new(),
            closing: Vec::new(),
        }
    }

    fn time(&self, now: Instant) -> StackTime {
        let passed = now.saturating_duration_since(self.began).as_micros();
        StackTime::from_micros(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// Accepts, greets and closes connections to these ports from now on; refuses others. Earlier connections are dropped.
    pub fn listen(&mut self, ports: impl IntoIterator<Item = u16>, run: u64) {
        for (handle, _) in self.served.drain(..) {
            self.sockets.remove(handle);
        }
        for handle in self.closing.drain(..) {
            self.sockets.remove(handle);
        }
        self.listens = ports.into_iter().collect();
        self.run = run;
    }

    /// Takes a packet for this station. [`Stack::turn`] returns the answers.
    pub fn receive(&mut self, packet: Vec<u8>, now: Instant) {
        let spare = self.spare_listener(&packet);
        let time = self.time(now);
        self.queues.incoming.push_back(packet);
        self.interface.poll_ingress_single(time, &mut self.queues, &mut self.sockets);
        if let Some(handle) = spare {
            if self.sockets.get::<tcp::Socket>(handle).state() == State::Listen {
                self.sockets.remove(handle);
            } else {
                self.served.push((handle, false));
            }
        }
    }

    /// Makes a listening socket for each new connection: one of smoltcp takes only one.
    fn spare_listener(&mut self, packet: &[u8]) -> Option<SocketHandle> {
        let ip = IpView::new_checked(packet).ok().filter(|ip| ip.protocol() == ip_protocol::TCP)?;
        let segment = TcpView::new_checked(ip.payload()).ok()?;
        let begins = segment.flags().contains(TcpFlags::SYN) && !segment.flags().contains(TcpFlags::ACK);
        if !begins || !self.listens.contains(&segment.dst_port()) || self.served.len() >= MOST_SERVED {
            return None;
        }
        let from = IpEndpoint::new(ip.src().into(), segment.src_port());
        let again = |(handle, _): &(SocketHandle, bool)| {
            self.sockets.get::<tcp::Socket>(*handle).remote_endpoint() == Some(from)
        };
        if self.served.iter().any(again) {
            return None;
        }
        let mut socket = socket();
        socket.listen(segment.dst_port()).ok()?;
        Some(self.sockets.add(socket))
    }

    /// Begins a connection from a port of this station.
    ///
    /// # Errors
    /// If nothing can connect to this address or port.
    pub fn connect(&mut self, own: u16, to: SocketAddr) -> Result<SocketHandle, String> {
        let mut socket = socket();
        let address = self.addresses.get(to.ip().family()).ok_or("no address of that family")?;
        let local = IpEndpoint::new(address.into(), own);
        let remote = IpEndpoint::new(to.ip().into(), to.port());
        socket.connect(self.interface.context(), remote, local).map_err(|e| e.to_string())?;
        Ok(self.sockets.add(socket))
    }

    /// State of a connection, and what came by it since the last call.
    pub fn progress(&mut self, handle: SocketHandle) -> Progress {
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        match socket.state() {
            State::SynSent | State::SynReceived | State::Listen => return Progress::Waiting,
            State::Closed => return Progress::Reset,
            _ => {}
        }
        let mut came = vec![0; socket.recv_queue()];
        let length = socket.recv_slice(&mut came).unwrap_or(0);
        came.truncate(length);
        Progress::Open(came, socket.may_recv())
    }

    /// Closes a connection in order.
    pub fn close(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<tcp::Socket>(handle).close();
        self.closing.push(handle);
    }

    /// Drops a connection; sends nothing.
    pub fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Does what is due; returns the packets to send.
    pub fn turn(&mut self, now: Instant) -> VecDeque<Vec<u8>> {
        let sockets = &mut self.sockets;
        for (handle, greeted) in self.served.iter_mut().filter(|(_, greeted)| !greeted) {
            let socket = sockets.get_mut::<tcp::Socket>(*handle);
            if socket.may_send()
                && socket.state() != State::SynReceived
                && let Some(IpEndpoint { addr, .. }) = socket.remote_endpoint()
            {
                let greeting = greeting(self.run, &Taker { name: self.name.clone(), source: addr.into() });
                // A fresh connection always has room for a line.
                *greeted = socket.send_slice(greeting.as_bytes()).is_ok();
                socket.close();
            }
        }
        let time = self.time(now);
        self.interface.poll_egress(time, &mut self.queues, &mut self.sockets);
        let sockets = &mut self.sockets;
        let mut ended = |handle: SocketHandle| {
            let ended = matches!(sockets.get::<tcp::Socket>(handle).state(), State::Closed | State::TimeWait);
            if ended {
                sockets.remove(handle);
            }
            ended
        };
        self.served.retain(|(handle, _)| !ended(*handle));
        self.closing.retain(|handle| !ended(*handle));
        std::mem::take(&mut self.queues.outgoing)
    }

    /// When [`Stack::turn`] next has something to do by itself.
    pub fn next_turn(&mut self, now: Instant) -> Option<Instant> {
        let time = self.time(now);
        let delay = self.interface.poll_delay(time, &self.sockets)?;
        Some(now + std::time::Duration::from_micros(delay.total_micros()))
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    // We send no data that could carry a delayed acknowledgement.
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    socket
}
