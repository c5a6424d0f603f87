//! The sockets and tasks of a probe session.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::Arc,
};

use labctl_model::Family;
use labctl_protocol::messages::{Endpoint, Listener, ProbeSession, Sighting};
use nix::{ifaddrs::getifaddrs, net::if_::if_nametoindex};
use tokio::task::JoinSet;

use super::{
    listen::{self, Bound},
    space::{self, Space},
    watch::{self, Watcher},
};
use crate::{
    netlink::Netlink,
    netns::{self, Namespace},
    ops::addresses,
    server::Server,
};

/// An endpoint whose namespace we could enter.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its namespace.
    pub space: Arc<Space>,
    /// Process whose files it uses.
    pub pid: Option<u32>,
}

/// An open session. Dropping it closes everything.
#[derive(Debug)]
pub struct Session {
    /// Its random number.
    pub run: u64,
    sources: HashMap<String, Source>,
    absent: BTreeMap<String, String>,
    watchers: Vec<Arc<Watcher>>,
    _tasks: JoinSet<()>,
}

/// What a thread that has entered a namespace finds and makes there.
struct Opened {
    /// Names of interfaces by index, and addresses.
    interfaces: HashMap<u32, String>,
    locals: HashSet<IpAddr>,
    netlink: Netlink,
    raw: (OwnedFd, Option<OwnedFd>),
    packet: OwnedFd,
    bound: Vec<(Listener, Bound)>,
}

impl Session {
    /// Opens sockets in every namespace of the session. An endpoint that we cannot enter is left out.
    ///
    /// # Errors
    /// If a listener is in an endpoint that is not part of the session, or there can be no thread.
    pub async fn open(server: &Server, request: ProbeSession) -> Result<Self, String> {
        let ProbeSession { run, endpoints, listeners } = request;
        if let Some(stray) = listeners.iter().find(|l| !endpoints.iter().any(|e| e.name == l.endpoint)) {
            return Err(format!("a listener in {}, which is no endpoint of the session", stray.endpoint));
        }
        let mut absent = BTreeMap::new();
        // Endpoints that share a namespace share its sockets.
        let mut places: Vec<(Namespace, Vec<Endpoint>)> = Vec::new();
        for endpoint in endpoints {
            match server.enter(&endpoint.netns) {
                Ok(namespace) => match places.iter_mut().find(|(n, _)| n.id() == namespace.id()) {
                    Some((_, inhabitants)) => inhabitants.push(endpoint),
                    None => places.push((namespace, vec![endpoint])),
                },
                Err(error) => drop(absent.insert(endpoint.name, format!("no network namespace: {error}"))),
            }
        }
        // A bridge's address is checked once its first port is up, and docker-proxy connects from it. Where that does not end,
        // the probes show what comes of it.
        let netlink = Netlink::open(&server.namespace).await.map_err(|e| e.to_string())?;
        let global = |ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if let Err(why) = addresses::settled(&server.namespace, &netlink, global).await {
            tracing::warn!("{why}");
        }
        // One that cannot be read never grows.
        let count = async |family| netlink.neighbours_refused(family).await.unwrap_or(u64::MAX);
        let refused = [count(Family::V4).await, count(Family::V6).await];
        let mut session =
            Self { run, sources: HashMap::new(), absent, watchers: Vec::new(), _tasks: JoinSet::new() };
        let wanted = |inhabitants: &[Endpoint]| -> Vec<Listener> {
            let here = |l: &&Listener| inhabitants.iter().any(|e| e.name == l.endpoint);
            listeners.iter().filter(here).cloned().collect()
        };
        let inputs = places.iter().map(|(namespace, inhabitants)| (namespace.clone(), wanted(inhabitants)));
        let opened = netns::run_in_each(inputs.collect(), open).await.map_err(|e| e.to_string())?;
        for ((namespace, inhabitants), opened) in places.into_iter().zip(opened) {
            let settled = opened.and_then(|opened| session.settle(namespace, &inhabitants, opened, refused));
            if let Err(why) = settled.map_err(|e| e.to_string()) {
                session.absent.extend(inhabitants.into_iter().map(|e| (e.name, why.clone())));
            }
        }
        Ok(session)
    }

    /// Starts the tasks of one namespace.
    fn settle(
        &mut self,
        namespace: Namespace,
        inhabitants: &[Endpoint],
        opened: Opened,
        refused: [u64; 2],
    ) -> io::Result<()> {
        let names: Vec<String> = inhabitants.iter().map(|e| e.name.clone()).collect();
        let Opened { interfaces, locals, netlink, raw, packet, bound } = opened;
        let space = Arc::new(Space::new(namespace, (netlink, locals), raw, self.run, refused)?);
        self._tasks.spawn(space.clone().listen());
        let watcher = Arc::new(Watcher::new(space.clone(), names, self.run, packet, interfaces)?);
        self._tasks.spawn(watcher.clone().watch());
        self.watchers.push(watcher);
        for (listener, bound) in bound {
            let Listener { endpoint, size, .. } = listener;
            listen::serve(bound, self.run, endpoint, size, &mut self._tasks)?;
        }
        for endpoint in inhabitants {
            let source = Source { space: space.clone(), pid: endpoint.pid };
            self.sources.insert(endpoint.name.clone(), source);
        }
        Ok(())
    }

    /// Endpoints that we could not enter, and why.
    pub fn absent(&self) -> &BTreeMap<String, String> {
        &self.absent
    }

    /// An endpoint, or why it cannot send.
    pub fn source(&self, name: &str) -> Result<&Source, String> {
        self.sources.get(name).ok_or_else(|| match self.absent.get(name) {
            Some(why) => format!("{name}: {why}"),
            None => format!("{name} is no endpoint of this session"),
        })
    }

    /// What all watchers saw, in order of time; see [`Watcher::sightings`].
    pub async fn sightings(&self, brief: &HashSet<u32>) -> Vec<Sighting> {
        let mut all = Vec::new();
        for watcher in &self.watchers {
            all.extend(watcher.sightings(brief).await);
        }
        all.sort_by_key(|(time, _)| *time);
        all.into_iter().map(|(_, sighting)| sighting).collect()
    }
}

/// Opens a namespace's sockets and reads its addresses; runs within the namespace.
fn open(wanted: Vec<Listener>) -> io::Result<Opened> {
    let (connection, handle, _messages) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let mut bound = Vec::with_capacity(wanted.len());
    for listener in &wanted {
        for family in &listener.families {
            let attempt = listen::bind(listener.protocol, *family, listener.port);
            bound.extend(attempt?.map(|socket| (listener.clone(), socket)));
        }
    }
    let (mut interfaces, mut locals) = (HashMap::new(), HashSet::new());
    // One call instead of two answers of netlink, each of which wakes two tasks.
    for found in getifaddrs()? {
        let Some(address) = found.address else {
            // A link without an address of its own layer, such as a tun.
            let name = found.interface_name;
            interfaces.extend(if_nametoindex(&*name).ok().map(|index| (index, name)));
            continue;
        };
        if let Some(link) = address.as_link_addr() {
            interfaces.insert(u32::try_from(link.ifindex()).unwrap_or(0), found.interface_name);
        } else if let Some(v4) = address.as_sockaddr_in() {
            locals.insert(v4.ip().into());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            locals.insert(v6.ip().into());
        }
    }
    let raw = (space::raw_socket()?, space::raw_socket_v6()?);
    let netlink = Netlink(handle);
    Ok(Opened { interfaces, locals, netlink, raw, packet: watch::packet_socket()?, bound })
}
