//! A volley: many shots at once, each with its result.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use labctl_model::{Family, OfFamily};
use labctl_protocol::messages::{Outcome, Shot, ShotKind, ShotResult, ShotTarget};
use socket2::{Domain, Socket, Type};
use tokio::{net::TcpSocket, sync::mpsc, task::JoinSet, time::Instant};

use super::{
    resolve,
    session::{Session, Source},
    shot::{self, Aim},
};

/// Most shots with their own socket that are under way at once. More are fired in waves that share the deadline.
const WAVE: usize = 4_000;

/// A bound socket for one shot, and its port.
enum Bound {
    Tcp(TcpSocket, u16),
    Udp(UdpSocket, u16),
}

/// Fires all shots and sends one result for each.
pub async fn fire(
    session: Arc<Session>,
    shots: Vec<Shot>,
    deadline: Instant,
    results: mpsc::Sender<ShotResult>,
) {
    let (light, mut heavy): (Vec<Shot>, Vec<Shot>) = shots.into_iter().partition(is_light);
    let mut tasks = JoinSet::new();
    spawn(&session, light, deadline, &results, &mut tasks).await;
    let mut waves = heavy.len().div_ceil(WAVE);
    while waves > 0 {
        let rest = heavy.split_off(heavy.len().min(WAVE));
        let wave = std::mem::replace(&mut heavy, rest);
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(waves).unwrap_or(u32::MAX);
        let mut tasks = JoinSet::new();
        spawn(&session, wave, Instant::now() + share, &results, &mut tasks).await;
        while tasks.join_next().await.is_some() {}
        waves -= 1;
    }
    while tasks.join_next().await.is_some() {}
}

/// Whether a shot needs no socket of its own: echoes share that of their namespace.
fn is_light(shot: &Shot) -> bool {
    matches!((&shot.kind, &shot.to), (ShotKind::Icmp, ShotTarget::Address(_)))
}

async fn spawn(
    session: &Arc<Session>,
    shots: Vec<Shot>,
    deadline: Instant,
    results: &mpsc::Sender<ShotResult>,
    tasks: &mut JoinSet<()>,
) {
    let mut by_source: BTreeMap<String, Vec<Shot>> = BTreeMap::new();
    for shot in shots {
        by_source.entry(shot.from.clone()).or_default().push(shot);
    }
    for (from, shots) in by_source {
        let (session, results) = (session.clone(), results.clone());
        tasks.spawn(async move {
            let mut tasks = JoinSet::new();
            let sockets = match session.source(&from) {
                Ok(source) => bind(source, &shots).await.map(|s| (source.clone(), s)),
                Err(why) => Err(why),
            };
            match sockets {
                Ok((source, sockets)) => {
                    for (shot, socket) in shots.into_iter().zip(sockets) {
                        let run = session.run;
                        let (source, results) = (source.clone(), results.clone());
                        tasks.spawn(async move {
                            let result = one(source, run, shot, socket, deadline).await;
                            // Nobody is left to tell when the session has ended.
                            let _ = results.send(result).await;
                        });
                    }
                }
                Err(why) => {
                    for shot in shots {
                        let _ = results.send(unfired(shot.cell, Outcome::Failed { why: why.clone() })).await;
                    }
                }
            }
            while tasks.join_next().await.is_some() {}
        });
    }
}

/// Binds the sockets of all shots from one endpoint, on one thread in its namespace. Their ports are known before
/// anything is sent, so that we can assign errors and sightings to them.
async fn bind(source: &Source, shots: &[Shot]) -> Result<Vec<Option<io::Result<Bound>>>, String> {
    if shots.iter().all(is_light) {
        return Ok(shots.iter().map(|_| None).collect());
    }
    let kinds: Vec<_> = shots.iter().map(|s| (s.kind.clone(), family(&s.to))).collect();
    let bound = source.space.namespace.run(move || Ok(kinds.iter().map(bind_one).collect()));
    bound.await.map_err(|e| e.to_string())
}

/// The family that a shot goes by.
fn family(to: &ShotTarget) -> Family {
    match to {
        ShotTarget::Address(address) => address.family(),
        ShotTarget::Name(_, family) => *family,
    }
}

fn bind_one((kind, family): &(ShotKind, Family)) -> Option<io::Result<Bound>> {
    let socket = |kind: Type| {
        let any = SocketAddr::new(family.unspecified(), 0);
        let socket = Socket::new(Domain::for_address(any), kind.nonblocking().cloexec(), None)?;
        socket.bind(&any.into())?;
        let port = socket.local_addr()?.as_socket().map_or(0, |a| a.port());
        Ok::<_, io::Error>((socket, port))
    };
    match kind {
        ShotKind::Tcp(_) => {
            Some(socket(Type::STREAM).map(|(s, port)| Bound::Tcp(TcpSocket::from_std_stream(s.into()), port)))
        }
        ShotKind::Udp(_) => Some(socket(Type::DGRAM).map(|(s, port)| Bound::Udp(s.into(), port))),
        ShotKind::Icmp | ShotKind::Dns => None,
    }
}

fn unfired(cell: u32, outcome: Outcome) -> ShotResult {
    ShotResult { cell, address: None, resolved: Vec::new(), source_port: None, outcome }
}

/// Looks up the shot's name if it has one, then fires the shot.
async fn one(
    source: Source,
    run: u64,
    shot: Shot,
    socket: Option<io::Result<Bound>>,
    deadline: Instant,
) -> ShotResult {
    let begin = Instant::now();
    let resolved = match &shot.to {
        ShotTarget::Address(address) => vec![*address],
        ShotTarget::Name(name, family) => {
            match resolve::resolve(&source.space, source.pid, (name, *family), deadline).await {
                Ok(addresses) => addresses,
                Err(outcome) => return unfired(shot.cell, outcome),
            }
        }
    };
    let looked_up = matches!(shot.to, ShotTarget::Name(..));
    let Some(&to) = resolved.first() else {
        return unfired(shot.cell, Outcome::NoName { why: "no address".into() });
    };
    let Shot { cell, size, relayed, .. } = shot;
    let aim = Aim { space: source.space, run, cell, to, size, relayed, deadline };
    let (source_port, outcome) = match (shot.kind, socket) {
        (ShotKind::Icmp, _) => (None, shot::icmp(aim).await),
        (ShotKind::Tcp(port), Some(Ok(Bound::Tcp(socket, own)))) => {
            (Some(own), shot::tcp(aim, socket, own, port).await)
        }
        (ShotKind::Udp(port), Some(Ok(Bound::Udp(socket, own)))) => {
            (Some(own), shot::udp(aim, socket, own, port).await)
        }
        (ShotKind::Dns, _) if looked_up => {
            (None, Outcome::Resolved { rtt_us: shot::micros(begin.elapsed()) })
        }
        (ShotKind::Dns, _) => (None, Outcome::Failed { why: format!("{to} is no name to look up") }),
        (_, Some(Err(error))) => (None, Outcome::Failed { why: format!("no socket: {error}") }),
        (_, _) => (None, Outcome::Failed { why: "no socket".into() }),
    };
    ShotResult {
        cell: shot.cell,
        address: Some(to),
        resolved: if looked_up { resolved } else { Vec::new() },
        source_port,
        outcome,
    }
}
