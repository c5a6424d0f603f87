//! The run's listeners, which say who they are.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use labctl_model::{Family, Protocol};
use labctl_protocol::{
    messages::Taker,
    probe::{
        greeting::{self, greeting},
        nonce::{Kind, Nonce},
    },
};
use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, unix::AsyncFd},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use crate::sys;

/// Most connections that wait to be accepted: those of a large matrix may all come at once.
const BACKLOG: i32 = 4096;

/// Pause between two attempts to accept when descriptors run out.
const AGAIN: Duration = Duration::from_millis(10);

/// Longest datagram in bytes: more than any segment carries.
const LARGEST: usize = 9216;

/// A bound socket that waits to be served.
#[derive(Debug)]
pub enum Bound {
    /// A listening TCP socket.
    Tcp(std::net::TcpListener),
    /// A UDP socket.
    Udp(OwnedFd),
}

/// Binds a port on all addresses of a family; `None` if something else has it, or if the kernel lacks the family. Call it within the namespace.
pub fn bind(protocol: Protocol, family: Family, port: u16) -> io::Result<Option<Bound>> {
    let attempt = || -> io::Result<Bound> {
        let kind = match protocol {
            Protocol::Tcp => Type::STREAM,
            Protocol::Udp => Type::DGRAM,
        };
        let domain = Domain::for_address(SocketAddr::new(family.unspecified(), 0));
        let socket = Socket::new(domain, kind.nonblocking().cloexec(), None)?;
        if family == Family::V6 {
            // The other family has a socket of its own.
            socket.set_only_v6(true)?;
        }
        if protocol == Protocol::Tcp {
            // Connections of an earlier run that still linger must not keep the port.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&SocketAddr::new(family.unspecified(), port).into())?;
        match protocol {
            Protocol::Tcp => {
                socket.listen(BACKLOG)?;
                Ok(Bound::Tcp(socket.into()))
            }
            Protocol::Udp => {
                match family {
                    Family::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                    Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
                }
                let _ = setsockopt(&socket, sockopt::RcvBufForce, &super::space::RECEIVE_BUFFER);
                sys::never_fragment(&socket, family)?;
                Ok(Bound::Udp(socket.into()))
            }
        }
    };
    match attempt() {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Serves a bound socket for an endpoint, on a task of the set. A TCP listener echoes `size` bytes.
pub fn serve(bound: Bound, run: u64, name: String, size: u32, tasks: &mut JoinSet<()>) -> io::Result<()> {
    match bound {
        Bound::Tcp(listener) => {
            tasks.spawn(tcp(TcpListener::from_std(listener)?, run, name, size));
        }
        Bound::Udp(socket) => {
            tasks.spawn(udp(sys::watch(socket)?, run, name));
        }
    }
    Ok(())
}

async fn tcp(listener: TcpListener, run: u64, name: String, size: u32) {
    let mut echoes = JoinSet::new();
    loop {
        while echoes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                let greeting = greeting(run, &Taker { name: name.clone(), source: from.ip() });
                // A fresh connection always has room for a line. Closing it right after ends it cleanly, since
                // nothing that was sent to us is left unread.
                let _ = stream.try_write(greeting.as_bytes());
                if size > 0 {
                    echoes.spawn(echo(stream, size));
                }
            }
            Err(error) => {
                tracing::debug!("accept: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Echoes `size` bytes and then closes the connection; ends with the session at the latest.
async fn echo(mut stream: TcpStream, size: u32) {
    let (read, mut write) = stream.split();
    // The sender notices what is missing.
    let _ = tokio::io::copy(&mut read.take(size.into()), &mut write).await;
    let _ = write.shutdown().await;
}

async fn udp(socket: AsyncFd<OwnedFd>, run: u64, name: String) {
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        while let Ok(answered) = ready.try_io(|s| answer(s.get_ref(), run, &name)) {
            if let Err(error) = answered {
                tracing::debug!("udp: {error}");
                sleep(AGAIN).await;
            }
        }
    }
}

/// The address that a datagram was sent to, without its interface.
enum SentTo {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

fn address(from: &SockaddrStorage) -> Option<std::net::IpAddr> {
    let v4 = from.as_sockaddr_in().map(|a| a.ip().into());
    v4.or_else(|| from.as_sockaddr_in6().map(|a| a.ip().into()))
}

/// Answers one datagram with as many bytes as it has (if the answer fits), from the address that it was sent to: the
/// route back may prefer another one.
fn answer(socket: &OwnedFd, run: u64, name: &str) -> io::Result<()> {
    let mut datagram = [0; LARGEST];
    let mut room = cmsg_space!(libc::in6_pktinfo);
    let (from, nonce, info, length) = {
        let mut parts = [IoSliceMut::new(&mut datagram)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
        let info = received.cmsgs()?.find_map(|c| match c {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(SentTo::V4(libc::in_pktinfo { ipi_ifindex: 0, ..info }))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(SentTo::V6(libc::in6_pktinfo { ipi6_ifindex: 0, ..info }))
            }
            _ => None,
        });
        let (from, length) = (received.address, received.bytes);
        let (Some(from), Some(info)) = (from, info) else { return Ok(()) };
        let Some((nonce, _)) = Nonce::read(&datagram[..length]) else { return Ok(()) };
        (from, nonce, info, length)
    };
    if (nonce.kind, nonce.run) != (Kind::Request, run) {
        return Ok(());
    }
    let Some(source) = address(&from) else { return Ok(()) };
    let answer = greeting::answer(nonce, &Taker { name: name.to_owned(), source }, length);
    let parts = [IoSlice::new(&answer)];
    let from_there = [match &info {
        SentTo::V4(info) => ControlMessage::Ipv4PacketInfo(info),
        SentTo::V6(info) => ControlMessage::Ipv6PacketInfo(info),
    }];
    sendmsg(socket.as_raw_fd(), &parts, &from_there, MsgFlags::MSG_DONTWAIT, Some(&from))
        .map_err(io::Error::from)?;
    Ok(())
}
