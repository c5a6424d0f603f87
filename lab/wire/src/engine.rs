//! The wire's thread: one loop over all sockets. It owns everything and takes no lock.

use std::{
    io,
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};

use crate::{
    WireError, capture,
    command::{Command, NewPort, Socket},
    inbox::BadLength,
    port::{Arrival, PortId, PortIo, Received},
    switch::{Now, Switch},
};

/// The waker's token. Each port has two, from 0 on: one for the listener and the bringer of a TAP, one for the connection.
pub(crate) const WAKER: Token = Token(usize::MAX - 1);
/// Events taken from the kernel at once.
const EVENTS: usize = 256;

fn listener_token(port: PortId) -> Token {
    Token(port * 2)
}

fn stream_token(port: PortId) -> Token {
    Token(port * 2 + 1)
}

pub(crate) struct Engine {
    poll: Poll,
    commands: Receiver<Command>,
    switch: Switch,
    /// Indexed like the switch's ports.
    io: Vec<PortIo>,
    started: Instant,
}

impl Engine {
    pub(crate) fn new(poll: Poll, commands: Receiver<Command>, switch: Switch) -> Self {
        Self { poll, commands, switch, io: Vec::new(), started: Instant::now() }
    }

    fn now(&self) -> Now {
        let instant = Instant::now();
        let secs = instant.duration_since(self.started).as_secs();
        Now { instant, secs: u32::try_from(secs).unwrap_or(u32::MAX) }
    }

    /// Runs until told to stop, or until all senders of commands are gone.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = self.now();
        loop {
            let timeout = self.timeout(now);
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the wire cannot wait for frames any more and stops");
                    return;
                }
            }
            now = self.now();
            for event in &events {
                match event.token() {
                    WAKER => {
                        if !self.obey(now) {
                            return;
                        }
                    }
                    Token(n) if n % 2 == 0 => self.accept(n / 2),
                    Token(n) => {
                        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                        self.io[n / 2].ready(readable, event.is_writable());
                        if event.is_writable() {
                            self.send(n / 2);
                        }
                    }
                }
            }
            self.round(now);
        }
    }

    /// How long the loop may sleep unless a socket wakes it.
    fn timeout(&self, now: Now) -> Option<Duration> {
        let mut wake = self.switch.next_wake(now);
        for io in self.io.iter().filter(|io| io.has_work()) {
            match io.waits_for.and_then(|port| self.switch.congested_until(port, now)) {
                None => return Some(Duration::ZERO),
                Some(until) => wake = Some(wake.map_or(until, |wake| wake.min(until))),
            }
        }
        // One millisecond more: the kernel rounds down, and if we wake early we only have to sleep again.
        wake.map(|wake| wake.saturating_duration_since(now.instant) + Duration::from_millis(1))
    }

    /// Takes one batch from every port that has one, then sends what came of it.
    fn round(&mut self, now: Now) {
        for port in 0..self.io.len() {
            let io = &mut self.io[port];
            if io.waits_for.is_some_and(|other| self.switch.congested_until(other, now).is_some()) {
                continue;
            }
            io.waits_for = None;
            if io.has_work() {
                self.receive(port, now);
            }
        }
        self.switch.advertise(now);
        let unsent = self.switch.take_unsent();
        for port in &unsent {
            if !self.io[*port].blocked() {
                self.send(*port);
            }
        }
        self.switch.reuse_unsent(unsent);
        self.switch.end_taps(now.instant);
    }

    fn receive(&mut self, port: PortId, now: Now) {
        match self.io[port].receive() {
            Ok(Received::Some) => {}
            Ok(Received::Nothing) => return,
            Ok(Received::Closed) => return self.disconnect(port),
            Err(error) => {
                tracing::warn!(port = self.switch.port_name(port), %error, "cannot read from a port");
                return self.disconnect(port);
            }
        }
        let io = &mut self.io[port];
        loop {
            match io.inbox.next() {
                Ok(Some((header, frame))) => {
                    let to = self.switch.ingress(port, header, frame, now);
                    if let Some(to) = to.filter(|to| self.switch.congested_until(*to, now).is_some()) {
                        io.waits_for = Some(to);
                        return;
                    }
                }
                Ok(None) => return,
                Err(BadLength(len)) => {
                    let name = self.switch.port_name(port);
                    tracing::warn!(
                        port = name,
                        len,
                        "a frame of impossible length; the connection is closed"
                    );
                    return self.disconnect(port);
                }
            }
        }
    }

    fn send(&mut self, port: PortId) {
        self.io[port].send(self.switch.outbox(port));
    }

    fn disconnect(&mut self, port: PortId) {
        tracing::debug!(port = self.switch.port_name(port), "disconnected");
        self.io[port].disconnect();
        self.switch.disconnected(port);
    }

    fn accept(&mut self, port: PortId) {
        match self.io[port].accept(listener_token(port), stream_token(port), self.poll.registry()) {
            Ok(Arrival::Connected) => {
                tracing::debug!(port = self.switch.port_name(port), "connected");
                self.switch.connected(port, self.io[port].offloads());
            }
            Ok(Arrival::Gone) => self.disconnect(port),
            Ok(Arrival::None) => {}
            Err(error) => {
                tracing::warn!(port = self.switch.port_name(port), %error, "cannot take a connection");
            }
        }
    }

    /// Carries out all waiting commands. Returns false once the wire should stop.
    fn obey(&mut self, now: Now) -> bool {
        loop {
            // Nobody may be waiting for an answer any more; then it is dropped.
            match self.commands.try_recv() {
                Ok(Command::AddPort { port, reply }) => drop(reply.send(self.add_port(port))),
                Ok(Command::RemovePort { name, reply }) => drop(reply.send(self.remove_port(&name))),
                Ok(Command::SetLink { port, state, reply }) => {
                    let id = self.switch.port_id(&port);
                    drop(reply.send(id.map(|id| self.switch.set_link(id, state))));
                }
                Ok(Command::Block { segment, block, reply }) => {
                    drop(reply.send(self.switch.block(&segment, &block)));
                }
                Ok(Command::Unblock { segment, filter, from, to, reply }) => {
                    drop(reply.send(self.switch.unblock(&segment, filter, &from, &to)));
                }
                Ok(Command::Capture { segment, spec, reply }) => {
                    let opened = capture::open(&segment, &spec, now.instant)
                        .and_then(|(capture, tap)| self.switch.add_tap(&segment, tap).map(|()| capture));
                    drop(reply.send(opened));
                }
                Ok(Command::Inject { segment, frame, reply }) => {
                    drop(reply.send(self.switch.inject(&segment, &frame, now)));
                }
                Ok(Command::Stats { reply }) => drop(reply.send(Ok(self.switch.stats(now)))),
                Ok(Command::Save { reply }) => drop(reply.send(Ok(self.switch.save(now)))),
                Ok(Command::Restore { state, reply }) => {
                    // A NIC that connects later would make its port forget its stations.
                    (0..self.io.len()).for_each(|port| self.accept(port));
                    drop(reply.send(self.switch.restore(&state, now)));
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    pub(crate) fn add_port(&mut self, port: NewPort) -> Result<(), WireError> {
        let id = self.switch.add_port(&port.name, &port.segment, port.mac)?;
        if self.io.len() <= id {
            self.io.resize_with(id + 1, PortIo::default);
        }
        let registry = self.poll.registry();
        let opened = match port.socket {
            Socket::Listening(listener, brings) => {
                PortIo::listening(listener, brings, listener_token(id), registry).map(|io| self.io[id] = io)
            }
            Socket::Connected(stream) => self.io[id]
                .connect(stream, stream_token(id), registry)
                .map(|()| self.switch.connected(id, false)),
            Socket::Datagrams(socket) => self.io[id]
                .use_datagrams(socket, stream_token(id), registry)
                .map(|()| self.switch.connected(id, false)),
        };
        opened.map_err(|source| {
            self.switch.remove_port(id);
            WireError::System { what: "watch the socket of a port", source }
        })
    }

    fn remove_port(&mut self, name: &str) -> Result<(), WireError> {
        let id = self.switch.port_id(name)?;
        self.switch.remove_port(id);
        self.io[id] = PortIo::default();
        Ok(())
    }
}
