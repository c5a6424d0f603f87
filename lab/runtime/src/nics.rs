//! The underlay of machines that exist: no wire of ours, so frames are captured and filtered at the machines' NICs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::future::join_all;
use labctl_model::{Lab, Protocol, Traffic};
use labctl_protocol::messages::CaptureOut;
use labctl_wire::{Block, Capture, CaptureSpec, CapturedFrame, Fate, LinkState, Recorder};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    Error,
    filters::{Changes, Filters, Way, port_name},
    view::View,
};

/// How long a machine may take to tell what it has sent so far.
const TOLD: Duration = Duration::from_secs(5);

/// VXLAN as Linux accepts it (RFC 7348 section 5), at the start of a UDP payload: VNI flag, reserved bits zero.
const VXLAN: &str = "@th,64,32 0x08000000 @th,120,8 0";

impl Filters {
    /// Changes the state of ports, each given with its segment.
    pub(crate) async fn set_links(
        &self,
        view: &View<'_>,
        ports: &[(String, String)],
        change: impl Fn(LinkState) -> LinkState,
    ) -> Result<(), Error> {
        let before = self.changes();
        {
            let mut state = self.state();
            for (segment, port) in ports {
                let now = state.links.get(port).map_or(LinkState::UP, |(_, link)| *link);
                match change(now) {
                    LinkState::UP => drop(state.links.shift_remove(port)),
                    link => drop(state.links.insert(port.clone(), (segment.clone(), link))),
                }
            }
        }
        self.apply_or(view, before).await
    }

    /// Adds blocks, each given with its segment.
    pub(crate) async fn block(&self, view: &View<'_>, blocks: Vec<(String, Block)>) -> Result<(), Error> {
        let before = self.changes();
        self.state().blocks.extend(blocks);
        self.apply_or(view, before).await
    }

    /// Removes the blocks of these places; returns how many.
    pub(crate) async fn unblock(
        &self,
        view: &View<'_>,
        filter: Option<Traffic>,
        places: &[Way],
    ) -> Result<usize, Error> {
        let before = self.changes();
        let covers = |named: &Option<String>, port: &Option<String>| named.is_none() || named == port;
        let meant = |segment: &String, block: &Block| {
            filter.is_none_or(|f| f == block.filter)
                && places
                    .iter()
                    .any(|(on, from, to)| on == segment && covers(from, &block.from) && covers(to, &block.to))
        };
        let ended = {
            let mut state = self.state();
            let had = state.blocks.len();
            state.blocks.retain(|(segment, block)| !meant(segment, block));
            had - state.blocks.len()
        };
        self.apply_or(view, before).await?;
        Ok(ended)
    }

    /// Applies the state to the machines, or goes back to the one before.
    async fn apply_or(&self, view: &View<'_>, before: Changes) -> Result<(), Error> {
        let applied = self.apply(view).await;
        if applied.is_err() {
            *self.state() = before;
            // The first error is the one that matters.
            let _ = self.apply(view).await;
        }
        applied
    }

    /// Writes the table of every machine that runs.
    ///
    /// # Errors
    /// A machine has no nft, or refuses.
    pub async fn apply(&self, view: &View<'_>) -> Result<(), Error> {
        let changes = self.changes();
        let tables = view.hosts.values().map(async |host| {
            let (rules, cut) = rules(view.lab, &host.name, &changes);
            host.agent.table(rules, cut).await.map_err(host.failed())
        });
        join_all(tables).await.into_iter().collect()
    }
}

/// The rules of a machine, if any, and the interfaces that they cut.
fn rules(lab: &Lab, host: &str, changes: &Changes) -> (Option<String>, Vec<String>) {
    let (mut chains, mut cut) = (Vec::new(), Vec::new());
    for (index, nic) in lab.hosts.get(host).into_iter().flat_map(|h| &h.nics).enumerate() {
        let port = port_name(host, &nic.name);
        let link = changes.links.get(&port).map_or(LinkState::UP, |(_, link)| *link);
        if link != LinkState::UP {
            cut.push(nic.name.clone());
        }
        let on =
            || changes.blocks.iter().filter(|(segment, _)| *segment == nic.segment).map(|(_, block)| block);
        // As on the wire: a block without `to` drops frames as they come in from a host.
        let sent = on().filter(|b| b.to.is_none() && b.from.as_ref().is_none_or(|from| *from == port));
        let received = on().filter(|b| b.from.is_none() && b.to.as_ref() == Some(&port));
        for (hook, passes, blocks) in [
            ("egress", link.from_host, sent.collect::<Vec<_>>()),
            ("ingress", link.to_host, received.collect()),
        ] {
            let matches = blocks.into_iter().flat_map(|b| matching(b.filter));
            let mut lines: Vec<String> = matches.map(|what| format!("{what} drop")).collect();
            if hook == "egress" {
                lines.extend(cut_off(lab, changes, &nic.segment, &port));
            }
            if !passes {
                lines.insert(0, "drop".to_owned());
            }
            if !lines.is_empty() {
                chains.push(format!(
                    "chain {hook}{index} {{ type filter hook {hook} device \"{}\" priority -400; policy accept;\n{}\n}}",
                    nic.name,
                    lines.join("\n")
                ));
            }
        }
    }
    ((!chains.is_empty()).then(|| chains.join("\n")), cut)
}

/// Rules for what this port sends to NICs of its segment that are cut inbound: dropped there, so that nobody sees it arrive.
/// What goes to other MACs is dropped as it comes in.
fn cut_off(lab: &Lab, changes: &Changes, segment: &str, port: &str) -> Vec<String> {
    let cut = |other: &str| other != port && changes.links.get(other).is_some_and(|(_, link)| !link.to_host);
    let nics = lab.hosts.iter().flat_map(|(host, h)| h.nics.iter().map(move |nic| (host, nic)));
    let far = nics.filter(|(host, nic)| nic.segment == segment && cut(&port_name(host, &nic.name)));
    let mac = |(_, nic): (&String, &labctl_model::Nic)| nic.mac.map(|octet| format!("{octet:02x}")).join(":");
    far.map(|nic| format!("ether daddr {} drop", mac(nic))).collect()
}

/// What of nft(8) matches these packets.
fn matching(traffic: Traffic) -> Vec<String> {
    vec![match traffic {
        Traffic::Ip(number) => format!("meta l4proto {number}"),
        Traffic::Port(Protocol::Tcp, port) => format!("tcp dport {port}"),
        Traffic::Port(Protocol::Udp, port) => format!("udp dport {port}"),
        Traffic::Vxlan(port) => format!("udp dport {port} {VXLAN}"),
        Traffic::TooBig => {
            let in_v4 = "icmp type destination-unreachable icmp code frag-needed".to_owned();
            return vec![in_v4, "icmpv6 type packet-too-big".to_owned()];
        }
    }]
}

/// Asks the machines for all that they have sent so far.
pub struct Flush(Vec<mpsc::Sender<oneshot::Sender<()>>>);

impl Flush {
    /// Returns once it has come, or a machine takes too long.
    pub async fn done(self) {
        let asked = self.0.into_iter().map(async |machine| {
            let (told, all) = oneshot::channel();
            if machine.send(told).await.is_ok() {
                let _ = timeout(TOLD, all).await;
            }
        });
        join_all(asked).await;
    }
}

/// Captures what the hosts send into a segment: what enters it there, as on the wire. What others send is not seen, nor
/// what a host sends that does not answer.
pub async fn capture(view: &View<'_>, segment: &str, spec: &CaptureSpec) -> Result<(Capture, Flush), Error> {
    let (capture, recorder) = Capture::fed(segment, spec).map_err(|e| Error::Wire(e.to_string()))?;
    let recorder = Arc::new(tokio::sync::Mutex::new(recorder));
    let mut flushes = Vec::new();
    for host in view.hosts.values() {
        let nics = view.lab.hosts.get(&host.name).into_iter().flat_map(|h| &h.nics);
        for nic in nics.filter(|n| n.segment == segment) {
            let there = match host.agent.capture(&nic.name, spec.snaplen).await {
                Ok(there) => there,
                // The others still show what they send.
                Err(e) => {
                    tracing::warn!("nothing of what {} sends is captured: {e}", host.name);
                    continue;
                }
            };
            let (ask, asked) = mpsc::channel(1);
            flushes.push(ask);
            let port: Arc<str> = port_name(&host.name, &nic.name).into();
            tokio::spawn(feed(there, asked, recorder.clone(), port));
        }
    }
    Ok((capture, Flush(flushes)))
}

/// Feeds a capture with what one machine sends, until either ends.
async fn feed(
    there: labctl_protocol::client::CaptureClient,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
    recorder: Arc<tokio::sync::Mutex<Recorder>>,
    port: Arc<str>,
) {
    let (mut reader, mut writer) = there.split();
    let until = recorder.lock().await.until().map(tokio::time::Instant::from_std);
    let waiting = Arc::new(Mutex::new(Vec::<oneshot::Sender<()>>::new()));
    let take = async {
        while let Some(out) = reader.next().await {
            match out {
                CaptureOut::All => {
                    let told = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    told.map(|told| told.send(()));
                }
                CaptureOut::Frame(frame) => {
                    let Ok(data) = BASE64_STANDARD.decode(&frame.data) else { continue };
                    let timestamp = SystemTime::UNIX_EPOCH + Duration::from_nanos(frame.time_ns);
                    let mut recorder = recorder.lock().await;
                    recorder.lose(frame.lost_before);
                    let frame = CapturedFrame {
                        timestamp,
                        port: port.clone(),
                        fate: Fate::Sent,
                        original_len: frame.length,
                        data,
                        lost_before: 0,
                    };
                    if !recorder.take(frame) {
                        break;
                    }
                }
            }
        }
    };
    let ask = async {
        while let Some(told) = asked.recv().await {
            waiting.lock().unwrap_or_else(PoisonError::into_inner).push(told);
            if writer.write_all(&[0]).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let over = async {
        match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    let unwanted = async {
        loop {
            let closed = recorder.lock().await.is_unwanted();
            if closed {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! { () = take => {} () = ask => {} () = over => {} () = unwanted => {} }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_machine_gets_the_rules_that_concern_it() {
        let text = "name: t\nsegments: { lan: { subnet: 10.0.0.0/24, block: [vxlan] }, wan: { subnet: 10.1.0.0/24 } }\n\
                    hosts: { a: { lan: 10.0.0.1, wan: 10.1.0.1 }, b: { lan: 10.0.0.2 } }\n";
        let lab = labctl_topology::parse(text, "t.yaml").unwrap();
        let filters = Filters::of(&lab);
        let told = |host: &str| rules(&lab, host, &filters.changes());
        let (rules, cut) = told("b");
        let only = rules.unwrap();
        assert!(
            only.contains("hook egress device \"eth0\"") && only.contains("udp dport 4789 @th"),
            "{only}"
        );
        assert!(!only.contains("ingress") && cut.is_empty(), "{only}");
        filters
            .state()
            .links
            .insert("a/eth1".into(), ("wan".into(), LinkState { from_host: true, to_host: false }));
        let to = Some("b/eth0".to_owned());
        filters.state().blocks.push(("lan".into(), Block { filter: Traffic::Ip(50), from: None, to }));
        let (rules, cut) = told("a");
        let rules = rules.unwrap();
        assert_eq!(cut, ["eth1"]);
        assert!(rules.contains("chain ingress1 { type filter hook ingress device \"eth1\""), "{rules}");
        assert!(!rules.contains("l4proto 50") && !rules.contains("egress1"), "{rules}");
        let (rules, _) = told("b");
        assert!(rules.unwrap().contains("chain ingress0"), "what b receives");
        let inbound = LinkState { from_host: true, to_host: false };
        filters.state().links.insert("b/eth0".into(), ("lan".into(), inbound));
        let mac = lab.hosts["b"].nics[0].mac.map(|octet| format!("{octet:02x}")).join(":");
        assert!(told("a").0.unwrap().contains(&format!("ether daddr {mac} drop")), "what a sends to b");
    }
}
