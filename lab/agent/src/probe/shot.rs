//! Single shots, each of which ends in an outcome by its deadline.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use labctl_model::OfFamily;
use labctl_protocol::{
    messages::{Outcome, Taker},
    probe::{
        greeting::{GREETING_LENGTH, answered, greeted, patience},
        heard::{Heard, Key},
        nonce::{Kind, Nonce},
    },
};
use nix::libc::{IPPROTO_TCP, IPPROTO_UDP};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    task::yield_now,
    time::{Instant, sleep, timeout_at},
};

use super::{
    judge,
    space::{Expected, Space},
};
use crate::sys;

/// Pause before a packet is sent again that a full neighbour table or queue kept back.
const AGAIN: Duration = Duration::from_millis(10);

/// Bytes of an ICMP or UDP header.
const HEADER: usize = 8;

/// A transfer ends this long before the deadline, so that we can tell it from a connection that was never made.
const LAST_MOMENT: Duration = Duration::from_millis(20);

/// Bytes that a transfer sends at once. Static, since every shot would have a copy in its future.
static CHUNK: [u8; 16 << 10] = [0; 16 << 10];

/// Sender, destination and deadline of a shot.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Namespace of the sender.
    pub space: Arc<Space>,
    /// Run.
    pub run: u64,
    /// Cell.
    pub cell: u32,
    /// Address.
    pub to: IpAddr,
    /// See [`crate::protocol::Shot::size`].
    pub size: u32,
    /// See [`crate::protocol::Shot::relayed`].
    pub relayed: bool,
    /// When the shot counts as silent.
    pub deadline: Instant,
}

impl Aim {
    fn nonce(&self) -> Nonce {
        Nonce { kind: Kind::Request, run: self.run, cell: self.cell }
    }

    /// The nonce, padded so that the IP packet has its size.
    fn payload(&self) -> Vec<u8> {
        let mut payload = self.nonce().bytes().to_vec();
        let wanted =
            usize::try_from(self.size).unwrap_or(0).saturating_sub(self.to.family().header_len() + HEADER);
        payload.resize(payload.len().max(wanted), 0);
        payload
    }

    async fn icmp(&self, from: IpAddr, icmp_type: u8, icmp_code: u8) -> Outcome {
        judge::icmp(&self.space, self.to, from, icmp_type, icmp_code).await
    }

    async fn failed(&self, expected: Option<&mut Expected>, error: io::Error) -> Outcome {
        judge::socket(&self.space, self.to, expected, error).await
    }

    /// Waits for an outcome until the deadline, then finds out the reason for the silence.
    async fn by_deadline(&self, outcome: impl Future<Output = Outcome>) -> Outcome {
        let mut outcome = pin!(outcome);
        if let Ok(outcome) = timeout_at(self.deadline, &mut outcome).await {
            return outcome;
        }
        // On a busy processor an answer may have come in time but not have been read yet.
        let _ = self.space.drain();
        yield_now().await;
        if let Poll::Ready(outcome) = futures::poll!(&mut outcome) {
            return outcome;
        }
        judge::silence(&self.space, self.to, self.deadline).await
    }

    async fn heard(&self, heard: Heard, sent: Instant) -> Outcome {
        match heard {
            Heard::Reply(at) => Outcome::Answered { rtt_us: micros(at.duration_since(sent)), by: None },
            Heard::Error { from, icmp_type, icmp_code } => self.icmp(from, icmp_type, icmp_code).await,
        }
    }
}

/// Converts a duration to microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Fires one echo request.
pub async fn icmp(aim: Aim) -> Outcome {
    let (id, seq) = aim.nonce().echo();
    let mut expected = aim.space.expect(Key::Echo(id, seq));
    let payload = aim.payload();
    let exchange = async {
        let mut sent = Instant::now();
        while let Err(error) = aim.space.send_echo(id, seq, &payload, aim.to).await {
            if !matches!(error.raw_os_error(), Some(nix::libc::ENOBUFS)) {
                return aim.failed(None, error).await;
            }
            sleep(AGAIN).await;
            sent = Instant::now();
        }
        let heard = expected.heard().await;
        aim.heard(heard, sent).await
    };
    aim.by_deadline(exchange).await
}

/// Makes one TCP connection from a bound socket.
pub async fn tcp(aim: Aim, socket: TcpSocket, own: u16, port: u16) -> Outcome {
    let to = SocketAddr::new(aim.to, port);
    let mut expected = aim.space.expect(Key::Port(IPPROTO_TCP as u8, own, to));
    let exchange = async {
        let sent = Instant::now();
        tokio::select! {
            connected = socket.connect(to) => match connected {
                Ok(stream) => {
                    let rtt = sent.elapsed();
                    if aim.size > 0 {
                        return transfer(&aim, stream, micros(rtt)).await;
                    }
                    let until = aim.deadline.min(Instant::now() + patience(rtt, aim.relayed));
                    Outcome::Answered { rtt_us: micros(rtt), by: greeting(stream, aim.run, until).await }
                }
                Err(error) => aim.failed(Some(&mut expected), error).await,
            },
            heard = expected.heard() => aim.heard(heard, sent).await,
        }
    };
    aim.by_deadline(exchange).await
}

/// Sends bytes to the run's listener, which greets and echoes them.
async fn transfer(aim: &Aim, mut stream: TcpStream, rtt_us: u64) -> Outcome {
    let of = aim.size;
    let size = usize::try_from(of).unwrap_or(usize::MAX);
    let (mut read, mut write) = stream.split();
    let mut said = Vec::with_capacity(CHUNK.len());
    let send = async {
        let mut left = size;
        while left > 0 {
            let Ok(sent) = write.write(&CHUNK[..left.min(CHUNK.len())]).await else { return };
            left -= sent;
        }
    };
    // Counts the bytes after the greeting, without keeping them.
    let mut back = 0;
    let receive = async {
        let mut line_ended = false;
        while back < size {
            match line_ended {
                true => said.truncate(GREETING_LENGTH),
                false if said.len() >= GREETING_LENGTH => return,
                false => {}
            }
            let kept = said.len();
            if read.read_buf(&mut said).await.is_ok_and(|n| n > 0) {
                back += match (line_ended, said[kept..].iter().position(|b| *b == b'\n')) {
                    (true, _) => said.len() - kept,
                    (false, Some(end)) => {
                        line_ended = true;
                        said.len() - kept - end - 1
                    }
                    (false, None) => 0,
                };
            } else {
                return;
            }
        }
    };
    let until = aim.deadline.checked_sub(LAST_MOMENT).unwrap_or(aim.deadline);
    // Once all is back, or no more can come, sending can stop.
    let _ = timeout_at(until, async {
        tokio::select! {
            () = async { send.await; std::future::pending().await } => {}
            () = receive => {}
        }
    })
    .await;
    match greeted(&said, aim.run) {
        Some(by) if back >= size => Outcome::Answered { rtt_us, by: Some(by) },
        None if !said.is_empty() => {
            Outcome::Failed { why: "who listens there is not of this run, and sends nothing back".into() }
        }
        _ => Outcome::Stalled { rtt_us, back: u32::try_from(back).unwrap_or(of), of },
    }
}

/// Reads who answered, from the greeting. A real service sends none.
async fn greeting(mut stream: TcpStream, run: u64, until: Instant) -> Option<Taker> {
    let mut said = Vec::with_capacity(GREETING_LENGTH);
    let line = async {
        while !said.contains(&b'\n') && said.len() < GREETING_LENGTH {
            if stream.read_buf(&mut said).await.is_ok_and(|n| n == 0) {
                break;
            }
        }
    };
    timeout_at(until, line).await.ok()?;
    greeted(&said, run)
}

/// Sends one datagram from a bound socket.
pub async fn udp(aim: Aim, socket: std::net::UdpSocket, own: u16, port: u16) -> Outcome {
    let to = SocketAddr::new(aim.to, port);
    let mut expected = aim.space.expect(Key::Port(IPPROTO_UDP as u8, own, to));
    let exchange = async {
        if aim.size > 0
            && let Err(error) = sys::never_fragment(&socket, aim.to.family())
        {
            return aim.failed(None, error).await;
        }
        let sent = Instant::now();
        let socket = match connected(socket, to).await {
            Ok(socket) => socket,
            Err(error) => return aim.failed(None, error).await,
        };
        if let Err(error) = socket.send(&aim.payload()).await {
            return aim.failed(Some(&mut expected), error).await;
        }
        let mut datagram = vec![0; usize::try_from(aim.size).unwrap_or(0).max(512)];
        loop {
            let received = tokio::select! {
                received = socket.recv(&mut datagram) => received,
                heard = expected.heard() => return aim.heard(heard, sent).await,
            };
            match received {
                Ok(n) => {
                    // Anything else is not for us, or comes from a real service.
                    if let Some(taker) = answered(&datagram[..n], aim.run, aim.cell) {
                        return Outcome::Answered { rtt_us: micros(sent.elapsed()), by: Some(taker) };
                    }
                }
                Err(error) => return aim.failed(Some(&mut expected), error).await,
            }
        }
    };
    aim.by_deadline(exchange).await
}

/// Connects the socket: the kernel looks up the route and then delivers only what comes from there.
async fn connected(socket: std::net::UdpSocket, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(to).await?;
    Ok(socket)
}
