//! From cells to what each agent has to do.

use std::collections::{BTreeMap, BTreeSet};

use lab_agent::protocol::{Endpoint, Listener, Shot, ShotKind, ShotTarget};
use lab_model::{By, Cell, Lab, Matrix, No, Observed, Probe, Protocol, PublishMode, Target};

use super::snapshot::{NoAddress, Snapshot};

/// What one host's agent, or a peer, has to do for a matrix.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Endpoints of the host to watch: all that run, since a packet may turn up anywhere. A peer watches itself.
    pub endpoints: Vec<Endpoint>,
    /// Ports to listen on.
    pub listeners: Vec<Listener>,
    /// Cells to fire.
    pub shots: Vec<Shot>,
}

/// A cell, ready to be judged.
#[derive(Clone, Debug)]
pub struct Aim {
    /// The endpoints at one of which a request must arrive for a `yes`: one, or the tasks of a service. None for a bare
    /// address that is nobody's.
    pub arrives_at: Vec<String>,
    /// Where the run listens for it.
    pub listeners: Vec<(String, u16)>,
    /// The verdict, where it is known without sending anything.
    pub foregone: Option<(Observed, String)>,
    /// Numbers of its shots; none where the verdict is known.
    pub shots: Vec<u32>,
}

/// Orders by host or peer, and one aim per cell.
pub fn plan(lab: &Lab, matrix: &Matrix, snapshot: &Snapshot) -> (BTreeMap<String, Orders>, Vec<Aim>) {
    let mut orders: BTreeMap<String, Orders> = BTreeMap::new();
    for name in snapshot.endpoints(lab) {
        let Some(host) = snapshot.home_of(lab, name) else { continue };
        let Some(netns) = snapshot.netns(lab, name) else {
            if lab.peers.contains_key(name) {
                orders.entry(host.to_owned()).or_default();
            }
            continue;
        };
        orders.entry(host.to_owned()).or_default().endpoints.push(Endpoint {
            name: name.to_owned(),
            netns,
            pid: snapshot.pid(name),
        });
    }
    let mut listeners: BTreeMap<String, BTreeSet<(String, u16)>> = BTreeMap::new();
    let mut aims = Vec::with_capacity(matrix.cells.len());
    let mut number = 0;
    let size = matrix.size.unwrap_or(0);
    for cell in &matrix.cells {
        let (mut aim, to) = aim(lab, matrix, cell, snapshot);
        for (name, port) in &aim.listeners {
            if let Some(host) = snapshot.home_of(lab, name) {
                listeners.entry(host.to_owned()).or_default().insert((name.clone(), *port));
            }
        }
        if let (None, Some(to), Some(home)) = (&aim.foregone, to, snapshot.home_of(lab, &cell.from)) {
            let shots = &mut orders.entry(home.to_owned()).or_default().shots;
            let asked = cell.answers.and_then(|index| matrix.answers.get(index));
            for _ in 0..asked.map_or(1, |a| a.requests) {
                let (from, kind, to) = (cell.from.clone(), kind(&matrix.probe), to.clone());
                shots.push(Shot { cell: number, from, kind, size, to });
                aim.shots.push(number);
                number += 1;
            }
        }
        aims.push(aim);
    }
    if let Some((protocol, _)) = transport(&matrix.probe) {
        for (host, ports) in listeners {
            orders.entry(host).or_default().listeners = ports
                .into_iter()
                .map(|(endpoint, port)| Listener { endpoint, protocol, port, size })
                .collect();
        }
    }
    (orders, aims)
}

fn aim(lab: &Lab, matrix: &Matrix, cell: &Cell, snapshot: &Snapshot) -> (Aim, Option<ShotTarget>) {
    let down = |why: String| {
        (
            Aim {
                arrives_at: Vec::new(),
                listeners: Vec::new(),
                foregone: Some((Observed::No(No::Down), why)),
                shots: Vec::new(),
            },
            None,
        )
    };
    if !snapshot.runs(lab, &cell.from) {
        return down(format!("{} is {}", cell.from, snapshot.status(&cell.from)));
    }
    let meant = || endpoint(lab, cell, snapshot).map(|e| snapshot.takers(lab, &e)).unwrap_or_default();
    let at = |names: &[String], port: u16| names.iter().map(|n| (n.clone(), port)).collect();
    let (arrives_at, listeners) = match transport(&matrix.probe) {
        None => (meant(), Vec::new()),
        Some((protocol, port)) => match published(lab, cell, snapshot, protocol, port) {
            // A port of the swarm's: were the run to listen on the host itself, it would answer in a task's stead.
            Some((names, _)) if names.is_empty() => (meant(), Vec::new()),
            Some((names, target)) => (names.clone(), at(&names, target)),
            None => (meant(), at(&meant(), port)),
        },
    };
    let name = match (&matrix.probe, matrix.by, &cell.to) {
        (Probe::Dns(name), _, _) => Some(name.clone()),
        (_, By::Name, Target::Endpoint { name, .. }) => Some(name.clone()),
        _ => None,
    };
    match (name, snapshot.address(lab, &cell.from, &cell.to)) {
        // Only a look-up makes sense where the owner of the name is down.
        (_, Err(NoAddress::Down(why))) if !matches!(matrix.probe, Probe::Dns(_)) => down(why),
        (Some(name), _) => {
            (Aim { arrives_at, listeners, foregone: None, shots: Vec::new() }, Some(ShotTarget::Name(name)))
        }
        (None, Ok(address)) => (
            Aim { arrives_at, listeners, foregone: None, shots: Vec::new() },
            Some(ShotTarget::Address(address)),
        ),
        (None, Err(NoAddress::Down(why) | NoAddress::None(why))) => (
            Aim {
                arrives_at,
                listeners,
                foregone: Some((Observed::No(No::NoRoute), why)),
                shots: Vec::new(),
            },
            None,
        ),
    }
}

/// The endpoint that the cell means.
fn endpoint(lab: &Lab, cell: &Cell, snapshot: &Snapshot) -> Option<String> {
    match &cell.to {
        Target::Endpoint { name, .. } => Some(name.clone()),
        Target::Address(address) => snapshot.owner(lab, *address).map(str::to_owned),
    }
}

/// The running containers or tasks that answer for a port of a host, and their own port. No names where a service has
/// the port but no task that it leads to from there.
fn published(
    lab: &Lab,
    cell: &Cell,
    snapshot: &Snapshot,
    protocol: Protocol,
    port: u16,
) -> Option<(Vec<String>, u16)> {
    let host = endpoint(lab, cell, snapshot).filter(|e| lab.hosts.contains_key(e))?;
    let mut containers = lab.containers.iter().filter(|(name, c)| c.host == host && snapshot.runs(lab, name));
    let own = containers.find_map(|(name, c)| {
        let publish = c.ports.iter().find(|p| p.published == Some(port) && p.protocol == protocol)?;
        Some((vec![name.clone()], publish.target))
    });
    own.or_else(|| {
        snapshot.services.iter().find_map(|(name, s)| {
            let publish = s.ports.iter().find(|p| p.published == Some(port) && p.protocol == protocol)?;
            let leads = |at: &str| match publish.mode {
                PublishMode::Ingress => snapshot.nodes.contains(&host),
                PublishMode::Host => at == host,
            };
            let tasks = snapshot.tasks_of(name).filter(|(_, t)| leads(&t.host)).map(|(n, _)| n.clone());
            Some((tasks.collect(), publish.target))
        })
    })
}

fn transport(probe: &Probe) -> Option<(Protocol, u16)> {
    match probe {
        Probe::Tcp(port) => Some((Protocol::Tcp, *port)),
        Probe::Udp(port) => Some((Protocol::Udp, *port)),
        Probe::Icmp | Probe::Dns(_) => None,
    }
}

fn kind(probe: &Probe) -> ShotKind {
    match probe {
        Probe::Icmp => ShotKind::Icmp,
        Probe::Tcp(port) => ShotKind::Tcp(*port),
        Probe::Udp(port) => ShotKind::Udp(*port),
        Probe::Dns(_) => ShotKind::Dns,
    }
}
