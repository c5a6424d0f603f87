//! Watches the interfaces of namespaces for marked frames.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use labctl_protocol::{
    frames::{Gathered, Marks},
    lines::{self, LineError},
    messages::{Endpoint, FrameWatch, Reply, SeenFrame, WatchIn, WatchOut},
};
use tokio::io::{AsyncWriteExt, BufReader, split};
use vxlan::port::{Batch, Direction, PacketPort};

use crate::{
    netlink::Netlink,
    netns::Namespace,
    server::{Server, ServerStream, refuse},
};

/// Pause between two looks: long enough not to keep an emulated processor busy.
const LOOK: Duration = Duration::from_millis(50);
/// Most bytes of a frame that are looked at.
const LONGEST: usize = 9300;
/// Frames in one batch from a socket.
const AT_ONCE: usize = 64;
/// Batches from one socket before the next one has its turn.
const IN_ONE_LOOK: usize = 64;
/// Most frames in one line: even with jumbo frames far below the longest line.
const IN_ONE_LINE: usize = 200;

/// One namespace.
struct Place {
    names: Vec<String>,
    netlink: Netlink,
    interfaces: HashMap<u32, String>,
    port: PacketPort,
    gathered: Gathered,
}

/// Serves a watch until the stream ends.
pub async fn serve(server: &Server, request: FrameWatch, mut stream: ServerStream) -> Result<(), LineError> {
    let FrameWatch { endpoints, run, needle, vxlan_ports } = request;
    let needle = match needle.map(|n| STANDARD.decode(n)).transpose() {
        Ok(needle) => needle,
        Err(e) => {
            refuse(stream, format!("the needle is no base64: {e}")).await;
            return Ok(());
        }
    };
    let marks = Marks::new(run, needle);
    let (mut places, absent) =
        open(server, endpoints, || Gathered::new(marks.clone(), vxlan_ports.clone())).await;
    lines::write(&mut stream, &Reply::Ok(serde_json::to_value(absent)?)).await?;
    let (read, mut write) = split(stream);
    let (orders_in, mut orders) = tokio::sync::mpsc::channel(4);
    let mut reading = std::pin::pin!(lines::pump(BufReader::new(read), orders_in));
    let mut look = tokio::time::interval(LOOK);
    let mut batch = Batch::new(AT_ONCE, LONGEST);
    loop {
        tokio::select! {
            ended = &mut reading => {
                ended?;
                break;
            }
            _ = look.tick() => {
                let mut more = false;
                for place in &mut places {
                    more |= place.drain(&mut batch);
                }
                if more {
                    look.reset_immediately();
                }
            }
            Some(WatchIn::Seen) = orders.recv() => {
                let mut all = Vec::new();
                let mut missed = BTreeMap::new();
                for place in &mut places {
                    while place.drain(&mut batch) {
                        tokio::task::yield_now().await;
                    }
                    all.extend(place.tell().await);
                    let dropped = place.port.stats().map_or(0, |stats| stats.dropped) + place.gathered.uncounted();
                    if dropped > 0 {
                        missed.extend(place.names.iter().map(|name| (name.clone(), dropped)));
                    }
                }
                while !all.is_empty() {
                    let part = all.drain(..all.len().min(IN_ONE_LINE)).collect();
                    lines::write(&mut write, &WatchOut::Seen(part)).await?;
                }
                lines::write(&mut write, &WatchOut::All { missed }).await?;
            }
        }
    }
    // Closing packet sockets waits for all processors, so not on the runtime's thread.
    drop(tokio::task::spawn_blocking(move || drop(places)));
    write.shutdown().await?;
    Ok(())
}

/// Opens a socket in every namespace; namespaces that we cannot enter are reported.
async fn open(
    server: &Server,
    endpoints: Vec<Endpoint>,
    nothing: impl Fn() -> Gathered,
) -> (Vec<Place>, BTreeMap<String, String>) {
    let mut absent = BTreeMap::new();
    let mut spaces: Vec<(Namespace, Vec<String>)> = Vec::new();
    for endpoint in endpoints {
        match server.enter(&endpoint.netns) {
            Ok(namespace) => match spaces.iter_mut().find(|(n, _)| n.id() == namespace.id()) {
                Some((_, names)) => names.push(endpoint.name),
                None => spaces.push((namespace, vec![endpoint.name])),
            },
            Err(error) => drop(absent.insert(endpoint.name, format!("no network namespace: {error}"))),
        }
    }
    let mut places = Vec::new();
    for (namespace, names) in spaces {
        match Place::open(&namespace, names.clone(), nothing()).await {
            Ok(place) => places.push(place),
            Err(why) => absent.extend(names.into_iter().map(|n| (n, why.clone()))),
        }
    }
    (places, absent)
}

impl Place {
    async fn open(namespace: &Namespace, names: Vec<String>, gathered: Gathered) -> Result<Self, String> {
        let netlink = Netlink::open(namespace).await.map_err(|e| e.to_string())?;
        let port = namespace.run(PacketPort::everywhere).await.map_err(|e| e.to_string())?;
        let mut place = Self { names, netlink, interfaces: HashMap::new(), port, gathered };
        place.learn_interfaces().await;
        Ok(place)
    }

    /// Updates the names of interfaces; one that is gone keeps its name.
    async fn learn_interfaces(&mut self) {
        if let Ok(links) = self.netlink.links().await {
            self.interfaces.extend(links.into_iter().map(|l| (l.index, l.name)));
        }
    }

    /// Reads frames from the socket; returns whether there may be more.
    fn drain(&mut self, batch: &mut Batch) -> bool {
        for _ in 0..IN_ONE_LOOK {
            // The socket is empty, or reports once that an interface went down.
            if self.port.recv_batch(batch).is_err() {
                return false;
            }
            for received in batch.iter() {
                let way = received.direction();
                let inbound = way != Some(Direction::Outgoing);
                let for_us =
                    matches!(way, Some(Direction::ToUs | Direction::Broadcast | Direction::Multicast));
                self.gathered.see(received.interface().unwrap_or(0), inbound, for_us, &received.frame());
            }
        }
        true
    }

    async fn tell(&mut self) -> Vec<SeenFrame> {
        if self.gathered.interfaces().any(|index| !self.interfaces.contains_key(&index)) {
            self.learn_interfaces().await;
        }
        let named =
            |index: u32| self.interfaces.get(&index).cloned().unwrap_or_else(|| format!("interface {index}"));
        self.gathered.tell(&self.names, named)
    }
}
