//! The sockets and tasks of a probe session.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    sync::Arc,
};

use labctl_model::Family;
use labctl_protocol::messages::{Endpoint, Listener, ProbeSession, Sighting};
use tokio::task::JoinSet;

use super::{
    listen::{self, Bound},
    space::{self, Space},
    watch::{self, Watcher},
};
use crate::{netlink::Netlink, netns::Namespace, ops::addresses, server::Server};

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

/// The sockets of a namespace, made by one thread that enters it once.
struct Opened {
    netlink: Netlink,
    raw: (OwnedFd, Option<OwnedFd>),
    packet: OwnedFd,
    bound: Vec<(Listener, Bound)>,
}

impl Session {
    /// Opens sockets in every namespace of the session. An endpoint that we cannot enter is left out.
    ///
    /// # Errors
    /// If a listener is in an endpoint that is not part of the session.
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
        for (namespace, inhabitants) in places {
            if let Err(why) = session.settle(namespace, &inhabitants, &listeners, refused).await {
                session.absent.extend(inhabitants.into_iter().map(|e| (e.name, why.clone())));
            }
        }
        Ok(session)
    }

    /// Opens what one namespace needs and starts its tasks.
    async fn settle(
        &mut self,
        namespace: Namespace,
        inhabitants: &[Endpoint],
        listeners: &[Listener],
        refused: [u64; 2],
    ) -> Result<(), String> {
        let names: Vec<String> = inhabitants.iter().map(|e| e.name.clone()).collect();
        let wanted: Vec<Listener> =
            listeners.iter().filter(|l| names.contains(&l.endpoint)).cloned().collect();
        let opened = namespace.run(move || open(&wanted)).await.map_err(|e| e.to_string())?;
        let Opened { netlink, raw, packet, bound } = opened;
        let links = netlink.links().await.map_err(|e| e.to_string())?;
        let interfaces = links.into_iter().map(|l| (l.index, l.name)).collect();
        let space =
            Space::new(namespace, netlink, raw, self.run, refused).await.map_err(|e| e.to_string())?;
        let space = Arc::new(space);
        self._tasks.spawn(space.clone().listen());
        let watcher = Watcher::new(space.clone(), names, self.run, packet, interfaces);
        let watcher = Arc::new(watcher.map_err(|e| e.to_string())?);
        self._tasks.spawn(watcher.clone().watch());
        self.watchers.push(watcher);
        for (listener, bound) in bound {
            let Listener { endpoint, size, .. } = listener;
            listen::serve(bound, self.run, endpoint, size, &mut self._tasks).map_err(|e| e.to_string())?;
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

    /// What all watchers saw, in order of time.
    pub async fn sightings(&self) -> Vec<Sighting> {
        let mut all = Vec::new();
        for watcher in &self.watchers {
            all.extend(watcher.sightings().await);
        }
        all.sort_by_key(|(time, _)| *time);
        all.into_iter().map(|(_, sighting)| sighting).collect()
    }
}

/// Opens a namespace's sockets; runs within the namespace.
fn open(wanted: &[Listener]) -> io::Result<Opened> {
    let (connection, handle, _messages) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let mut bound = Vec::with_capacity(wanted.len());
    for listener in wanted {
        for family in &listener.families {
            let attempt = listen::bind(listener.protocol, *family, listener.port);
            bound.extend(attempt?.map(|socket| (listener.clone(), socket)));
        }
    }
    let raw = (space::raw_socket()?, space::raw_socket_v6()?);
    Ok(Opened { netlink: Netlink(handle), raw, packet: watch::packet_socket()?, bound })
}
