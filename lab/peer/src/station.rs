//! The peer's task. It takes frames, commands and time; it gives frames and results.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt, StreamExt as _};
use labctl_model::Protocol;
use labctl_protocol::{
    frames::Gathered,
    messages::{SeenFrame, Shot, ShotResult, Sighting, Taker},
    probe::{
        greeting,
        heard::{self, Key},
        nonce::{Kind, Nonce},
    },
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use vxlan::{
    EthernetFrame, IcmpView, IpView, MacAddr, UdpView,
    proto::{ethertype, icmp, icmpv6, ip_protocol},
};

use crate::{
    Config,
    datagram::udp_packet,
    link::{Hop, Link},
    run::Run,
    stack::Stack,
};

/// Most bytes of a frame: a jumbo payload with header and tag.
const MAX_FRAME_LEN: usize = 9216 + 18 + 4;
/// Frames taken at once, before the answers are sent.
const BATCH: usize = 256;
/// How long the task sleeps with nothing to do. Any event wakes it earlier.
const IDLE: Duration = Duration::from_secs(3600);

/// A command from a session, a watch or a sender of frames.
#[derive(Debug)]
pub enum Command {
    Open { run: u64, listeners: Vec<(Protocol, u16)> },
    Fire { run: u64, shots: Vec<Shot>, deadline: Duration, results: mpsc::UnboundedSender<ShotResult> },
    Sightings { run: u64, reply: oneshot::Sender<Vec<Sighting>> },
    Close { run: u64 },
    Send { frame: Vec<u8>, done: oneshot::Sender<()> },
    Watch { run: u64, gathered: Gathered, ready: oneshot::Sender<()> },
    Seen { run: u64, reply: oneshot::Sender<(Vec<SeenFrame>, u64)> },
    Unwatch { run: u64 },
}

/// A peer's whole state.
pub struct Station {
    config: Config,
    link: Link,
    stack: Stack,
    run: Option<Run>,
    /// The watches, by run.
    watches: HashMap<u64, Gathered>,
    /// Frames to send.
    out: Vec<Vec<u8>>,
    /// Callers that wait until these are sent.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Station {
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            link: Link::new(&config),
            stack: Stack::new(&config, now),
            config,
            run: None,
            watches: HashMap::new(),
            out: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Runs until the wire closes the stream or all senders of commands are gone.
    pub async fn live(mut self, stream: UnixStream, mut orders: mpsc::UnboundedReceiver<Command>) {
        let codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME_LEN).new_codec();
        let mut wire = Framed::new(stream, codec);
        loop {
            let now = Instant::now();
            let wake = self.next(now).unwrap_or(now + IDLE);
            tokio::select! {
                frame = wire.next() => match frame {
                    Some(Ok(frame)) => self.frame(&frame, Instant::now()),
                    Some(Err(error)) => {
                        tracing::warn!(peer = self.config.name, %error, "cannot read from the wire");
                        return;
                    }
                    None => return,
                },
                order = orders.recv() => match order {
                    Some(order) => self.obey(order, Instant::now()),
                    None => return,
                },
                () = sleep_until(wake) => {}
            }
            // A frame that is here now came in time, however late we read it.
            for _ in 0..BATCH {
                match wire.next().now_or_never() {
                    Some(Some(Ok(frame))) => self.frame(&frame, Instant::now()),
                    _ => break,
                }
            }
            self.turn(Instant::now());
            for frame in self.out.drain(..) {
                self.watches.values_mut().for_each(|w| w.see(0, false, false, &frame));
                // Not earlier: a packet that waits for its next hop's MAC has not left.
                if let (Some(run), Ok(frame)) = (&mut self.run, EthernetFrame::new_checked(&frame))
                    && matches!(frame.ethertype(), ethertype::IPV4 | ethertype::IPV6)
                {
                    run.see(frame.payload(), false, false);
                }
                if let Err(error) = wire.feed(Bytes::from(frame)).await {
                    tracing::debug!(peer = self.config.name, %error, "cannot write to the wire");
                    return;
                }
            }
            if let Err(error) = SinkExt::<Bytes>::flush(&mut wire).await {
                tracing::debug!(peer = self.config.name, %error, "cannot write to the wire");
                return;
            }
            for done in self.waiting.drain(..) {
                // The caller may be gone.
                let _ = done.send(());
            }
        }
    }

    fn next(&mut self, now: Instant) -> Option<Instant> {
        let run = self.run.as_ref().and_then(Run::next_deadline);
        [self.link.next_question(), self.stack.next_turn(now), run].into_iter().flatten().min()
    }

    fn obey(&mut self, order: Command, now: Instant) {
        match order {
            Command::Open { run, listeners } => {
                self.close();
                // Every run asks for its neighbours on the wire, so that it notices when one is gone.
                self.link.forget();
                let opened = Run::new(run, &self.config, listeners);
                self.stack.listen(opened.ports(Protocol::Tcp), run);
                self.run = Some(opened);
            }
            Command::Fire { run, shots, deadline, results } => {
                if self.run.as_ref().is_some_and(|r| r.number == run) {
                    for shot in shots {
                        self.fire(shot, now, now + deadline, &results);
                    }
                }
            }
            Command::Sightings { run, reply } => {
                let seen = self.run.as_ref().filter(|r| r.number == run).map(Run::sightings);
                let _ = reply.send(seen.unwrap_or_default());
            }
            Command::Close { run } => {
                if self.run.as_ref().is_some_and(|r| r.number == run) {
                    self.close();
                }
            }
            Command::Send { frame, done } => {
                self.out.push(frame);
                self.waiting.push(done);
            }
            Command::Watch { run, gathered, ready } => {
                self.watches.insert(run, gathered);
                let _ = ready.send(());
            }
            Command::Seen { run, reply } => {
                let names = std::slice::from_ref(&self.config.name);
                let interface = |_| self.config.interface.clone();
                let seen = self.watches.get(&run).map(|w| (w.tell(names, interface), w.uncounted()));
                let _ = reply.send(seen.unwrap_or_default());
            }
            Command::Unwatch { run } => drop(self.watches.remove(&run)),
        }
    }

    fn close(&mut self) {
        if let Some(run) = self.run.take() {
            for handle in run.connections() {
                self.stack.forget(handle);
            }
            self.stack.listen([], 0);
        }
    }

    fn fire(
        &mut self,
        shot: Shot,
        now: Instant,
        deadline: Instant,
        results: &mpsc::UnboundedSender<ShotResult>,
    ) {
        let Some(run) = &mut self.run else { return };
        let packet = run.fire(shot, (now, deadline), &self.link, &mut self.stack, results);
        if let Some(packet) = packet {
            self.send(packet, now);
        }
    }

    /// Sends an IP packet of our own.
    fn send(&mut self, packet: Vec<u8>, now: Instant) {
        let Ok(to) = IpView::new_checked(&packet).map(|ip| ip.dst()) else { return };
        match self.link.hop(to) {
            Hop::Own => self.packet(&packet, now),
            Hop::Neighbour(hop) => self.link.send(hop, packet, now, &mut self.out),
            Hop::NoRoute => {}
        }
    }

    fn frame(&mut self, bytes: &[u8], now: Instant) {
        let Ok(frame) = EthernetFrame::new_checked(bytes) else { return };
        let for_us = frame.dst() == MacAddr(self.config.mac) || frame.dst().is_multicast();
        self.watches.values_mut().for_each(|w| w.see(0, true, for_us, bytes));
        let packet = self.link.receive(&frame, &mut self.out);
        if let Some(packet) = packet {
            self.packet(packet, now);
        }
    }

    /// Takes an IP packet from the wire or from ourselves.
    fn packet(&mut self, bytes: &[u8], now: Instant) {
        let Ok(ip) = IpView::new_checked(bytes) else { return };
        let local = self.config.is_own(ip.dst());
        if let Some(run) = &mut self.run {
            run.see(ip.bytes(), true, local);
        }
        // Probes are never fragmented.
        if !local || !ip.checksum_ok() || ip.is_fragment() {
            return;
        }
        let handled = match ip.protocol() {
            _ if ip.is_icmp() => self.icmp(&ip),
            ip_protocol::UDP => self.udp(&ip, now),
            _ => false,
        };
        if !handled {
            self.stack.receive(ip.bytes().to_vec(), now);
        }
    }

    /// Gives answers and errors to the run; returns false for a request, which is the stack's.
    fn icmp(&mut self, ip: &IpView<'_>) -> bool {
        let Ok(message) = IcmpView::new_checked(ip.payload()) else { return true };
        let request = if ip.src().is_ipv4() { icmp::ECHO_REQUEST } else { icmpv6::ECHO_REQUEST };
        if message.icmp_type() == request {
            return false;
        }
        if let Some(run) = &mut self.run
            && ip.addresses().icmp_checksum_ok(ip.payload())
            && let Some((key, heard)) = heard::read(ip.bytes(), run.number)
        {
            run.hear(key, heard, &mut self.stack);
        }
        true
    }

    /// Takes answers to shots and requests to ports that we listen on. The stack refuses the rest.
    fn udp(&mut self, ip: &IpView<'_>, now: Instant) -> bool {
        let Some(run) = &mut self.run else { return false };
        let Ok(datagram) = UdpView::new_checked(ip.payload()) else { return true };
        let (from, to) = (datagram.src_port(), datagram.dst_port());
        let key = Key::Port(ip_protocol::UDP, to, std::net::SocketAddr::new(ip.src(), from));
        if run.awaits(&key) {
            if datagram.checksum_ok(ip.addresses()) {
                run.answered(key, datagram.payload(), now);
            }
            return true;
        }
        if !run.listens(Protocol::Udp, to) {
            return false;
        }
        let asked = Nonce::read(datagram.payload());
        let Some((nonce, _)) = asked.filter(|(n, _)| (n.kind, n.run) == (Kind::Request, run.number)) else {
            return true;
        };
        let taker = Taker { name: self.config.name.clone(), source: ip.src() };
        let answer = greeting::answer(nonce, &taker, datagram.payload().len());
        let answer = udp_packet(ip.addresses().back(), (to, from), &answer);
        self.send(answer, now);
        true
    }

    /// Does what is due.
    fn turn(&mut self, now: Instant) {
        loop {
            let packets = self.stack.turn(now);
            if packets.is_empty() {
                break;
            }
            for packet in packets {
                self.send(packet, now);
            }
        }
        let failed = self.link.ask_again(now, &mut self.out);
        if let Some(run) = &mut self.run {
            for hop in failed {
                run.no_neighbour(hop, &self.link, &mut self.stack);
            }
            run.turn(now, &self.link, &mut self.stack);
        }
        // Send the closing packets of connections that the run has just closed.
        for packet in self.stack.turn(now) {
            self.send(packet, now);
        }
    }
}
