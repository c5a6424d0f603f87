//! What Compose promises, as expectations: services on a network reach each other by name, others do not, an internal
//! network leads nowhere, and a published port answers on its host.

use indexmap::{IndexMap, IndexSet};

use crate::{
    arrange::{Arranged, Net, Node, Place},
    flow,
    ports::probe,
};

/// An address outside the lab, for which the LAN's gateway answers.
pub(crate) const OUTSIDE: &str = "8.8.8.8";
/// One of IPv6.
pub(crate) const OUTSIDE_V6: &str = "2001:4860:4860::8888";
/// Most rows of a table; more are rules.
const MOST_ROWS: usize = 12;

/// Writes the items of `expect`, each line indented as in a topology.
pub(crate) fn write(a: &Arranged, services: bool) -> String {
    let mut out = Writer::default();
    if services {
        of_services(a, &mut out);
    } else {
        of_containers(a, &mut out);
    }
    out.0
}

#[derive(Default)]
struct Writer(String);

impl Writer {
    fn line(&mut self, line: &str) {
        self.0.push_str("  ");
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn comment(&mut self, text: &str) {
        self.line(&format!("# {text}"));
    }
}

/// What containers reach over one family.
struct Reach<'a> {
    a: &'a Arranged,
    six: bool,
}

fn of_containers(a: &Arranged, out: &mut Writer) {
    Reach { a, six: false }.write(out);
    if a.networks.values().any(|n| n.ipv6) {
        out.comment("With IPv6 it is the same, between networks that have it.");
        Reach { a, six: true }.write(out);
    }
    published(a, out);
}

impl<'a> Reach<'a> {
    /// The container's networks that have the family.
    fn on(&self, node: &'a Node) -> impl Iterator<Item = (&'a str, &'a Net)> {
        let (a, six) = (self.a, self.six);
        node.on().filter_map(|k| Some((k, a.networks.get(k)?))).filter(move |(_, n)| !six || n.ipv6)
    }

    fn write(&self, out: &mut Writer) {
        let a = self.a;
        let on_networks: Vec<&Node> = a.nodes.iter().filter(|n| self.on(n).next().is_some()).collect();
        let overlay = a.networks.values().any(|n| n.driver == "overlay");
        let more = [("family", self.six.then_some("6")), ("within", overlay.then_some("20s"))];
        let more: Vec<_> = more.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
        if on_networks.len() > 1 {
            if !self.six {
                out.comment(
                    "Services on a network reach each other by name; elsewhere the name does not resolve.",
                );
            }
            let word = |from: &Node, to: &Node| match (shares(from, to), self.relation(from, to, true)) {
                (false, _) => "no-name",
                (true, Some(true)) => "yes",
                // The name leads elsewhere, if it is on a network of the other family.
                (true, Some(false)) if self.six => "-",
                (true, Some(false)) => "no",
                (true, None) => "-",
            };
            matrix(&on_networks, true, &more, word, out);
        }
        let bridge = |n: &&Node| !self.six && matches!(n.place, Place::Bridge) || self.on(n).next().is_some();
        let all: Vec<&Node> = a.nodes.iter().filter(bridge).collect();
        let apart =
            |from: &&Node, to: &&Node| from.name != to.name && self.relation(from, to, false) == Some(false);
        if all.iter().any(|from| all.iter().any(|to| apart(from, to))) {
            if !self.six {
                out.comment("By address it is the same: networks are isolated from each other.");
            }
            let word = |from: &Node, to: &Node| match self.relation(from, to, false) {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            };
            matrix(&all, false, &more, word, out);
        }
        let ports = |to: &Node| -> IndexSet<(u16, bool)> {
            to.ports.iter().map(|p| (p.target, p.udp)).chain(to.expose.iter().copied()).collect()
        };
        let mut told = self.six;
        for to in &on_networks {
            let from: Vec<&Node> = on_networks
                .iter()
                .copied()
                .filter(|from| from.name != to.name && self.relation(from, to, true) == Some(true))
                .collect();
            for (port, udp) in ports(to).into_iter().filter(|_| !from.is_empty()) {
                if !std::mem::replace(&mut told, true) {
                    out.comment("They reach each other's ports.");
                }
                let more: String = more.iter().map(|(k, v)| format!(", {k}: {v}")).collect();
                let (from, to) = (names(&from), flow::scalar(&to.name));
                let probe = probe(port, udp);
                out.line(&format!(
                    "- {{ probe: {probe}, by: name, from: {from}, to: {to}, verdict: yes{more} }}"
                ));
            }
        }
        self.outside(out);
    }

    fn outside(&self, out: &mut Writer) {
        let leads = |node: &&Node| match &node.place {
            Place::Networks(_) => {
                let each: Vec<Option<bool>> = self.on(node).map(|(_, n)| n.leads_out).collect();
                match (each.contains(&None), each.contains(&Some(true))) {
                    _ if each.is_empty() => None,
                    (true, _) => None,
                    (false, out) => Some(out),
                }
            }
            Place::Bridge if self.six => None,
            Place::Bridge | Place::Host => Some(true),
            Place::None => Some(false),
            Place::Beside(_) => None,
        };
        let some = |wanted: bool| -> Vec<&Node> {
            self.a.nodes.iter().filter(|n| leads(n) == Some(wanted)).collect()
        };
        let (out_of, inside) = (some(true), some(false));
        if out_of.is_empty() && inside.is_empty() {
            return;
        }
        if !self.six {
            out.comment(match inside.is_empty() {
                true => "They reach what is outside; the lab's gateway answers for it.",
                false => "They reach what is outside, for which the lab's gateway answers, unless their networks are internal.",
            });
        }
        let to = if self.six { flow::scalar(OUTSIDE_V6) } else { OUTSIDE.to_owned() };
        out.line("- rules:");
        for (nodes, verdict) in [(out_of, "yes"), (inside, "no")] {
            if !nodes.is_empty() {
                out.line(&format!("    - {{ from: {}, to: {to}, verdict: {verdict} }}", names(&nodes)));
            }
        }
    }

    /// Whether Compose promises that one reaches the other, or that it does not; `None` where it promises nothing.
    /// `by_name`: a name resolves only where they share a network.
    fn relation(&self, from: &'a Node, to: &'a Node, by_name: bool) -> Option<bool> {
        let shared: Vec<Option<bool>> = self
            .on(from)
            .filter(|(k, _)| to.on().any(|other| other == *k))
            .map(|(_, n)| {
                // Without a parent, such a network ends at its host.
                let alone = n.leads_out.is_none() && from.host != to.host;
                n.connects.filter(|_| !alone)
            })
            .collect();
        if shared.contains(&Some(true)) {
            return Some(true);
        }
        if !shared.is_empty() {
            return if shared.contains(&None) { None } else { Some(false) };
        }
        if let (Place::Bridge, Place::Bridge) = (&from.place, &to.place) {
            return Some(from.host == to.host);
        }
        let on_lan = |node: &'a Node| {
            self.on(node).any(|(_, n)| matches!(n.driver, "macvlan" | "ipvlan") && !n.internal)
        };
        // Whoever is on the LAN is reached from all that leads out.
        if !by_name && (on_lan(from) || on_lan(to)) { None } else { Some(false) }
    }
}

fn published(a: &Arranged, out: &mut Writer) {
    let mut told = false;
    for node in &a.nodes {
        let Some((host, _)) = node.host.and_then(|h| a.hosts.get(h)) else { continue };
        // It is published by the network that leads out. If another one beside a bridge does, nothing is promised.
        let by_bridge = |k: &str| a.networks.get(k).is_some_and(|n| matches!(n.driver, "bridge" | "overlay"));
        let open = match &node.place {
            Place::Networks(_) if !node.on().all(by_bridge) => continue,
            Place::Networks(_) => node.on().any(|k| a.networks.get(k).is_some_and(|n| !n.internal)),
            Place::Bridge => true,
            Place::Host | Place::None | Place::Beside(_) => continue,
        };
        for port in &node.ports {
            let Some(probe) = port.probe() else { continue };
            if !std::mem::replace(&mut told, true) {
                out.comment("A published port answers on its host.");
            }
            let from: Vec<String> = [&a.client.0]
                .into_iter()
                .chain(a.hosts.iter().map(|(h, _)| h).filter(|h| *h != host))
                .map(|n| flow::scalar(n))
                .collect();
            let from = flow::list(from);
            let name = flow::scalar(&node.name);
            let mut line = |family: &str, why: Option<String>| {
                let verdict = match why {
                    None => format!("yes, answered_by: {name} }}"),
                    Some(why) => format!("no }}   # {} {why}", node.name),
                };
                out.line(&format!(
                    "- {{ probe: {probe}, from: {from}, to: {host}{family}, verdict: {verdict}"
                ));
            };
            let both = if a.lan6.is_some() { ", family: both" } else { "" };
            match (open, port.host_ip) {
                (true, None) => line(both, None),
                (true, Some(ip)) if ip.is_loopback() => {
                    line(both, Some(format!("publishes it on {ip} alone")))
                }
                (true, Some(ip)) => {
                    let (own, other) = if ip.is_ipv6() { ("6", "4") } else { ("4", "6") };
                    line(&format!(", family: {own}"), None);
                    line(&format!(", family: {other}"), Some(format!("publishes it on {ip} alone")));
                }
                (false, _) => line(both, Some("is on internal networks alone".to_owned())),
            }
        }
    }
}

fn of_services(a: &Arranged, out: &mut Writer) {
    if !a.observers.is_empty() {
        out.comment("Services on a network are reached by name. A service asks nobody itself, so a container on the network does.");
    }
    let on = |key: &str| -> Vec<&Node> { a.nodes.iter().filter(|n| n.on().any(|k| k == key)).collect() };
    for (observer, key) in &a.observers {
        let from = flow::scalar(observer);
        for service in on(key) {
            let to = flow::scalar(&service.name);
            out.line(&format!("- {{ probe: dns/{to}, from: {from}, to: {to}, verdict: yes, within: 20s }}"));
        }
        let mut by_port: IndexMap<(u16, bool), Vec<&Node>> = IndexMap::new();
        for service in on(key) {
            let ports: IndexSet<(u16, bool)> = service
                .ports
                .iter()
                .map(|p| (p.target, p.udp))
                .chain(service.expose.iter().copied())
                .collect();
            for port in ports {
                by_port.entry(port).or_default().push(service);
            }
        }
        for ((port, udp), services) in by_port {
            let (probe, to) = (probe(port, udp), names(&services));
            out.line(&format!(
                "- {{ probe: {probe}, by: name, from: {from}, to: {to}, verdict: yes, within: 20s }}"
            ));
        }
    }
    let mut told = false;
    for (observer, key) in &a.observers {
        for service in a.nodes.iter().filter(|n| n.on().next().is_some() && !n.on().any(|k| k == key)) {
            if !std::mem::replace(&mut told, true) {
                out.comment("On another network the name does not resolve.");
            }
            let (from, to) = (flow::scalar(observer), flow::scalar(&service.name));
            out.line(&format!("- {{ probe: dns/{to}, from: {from}, to: {to}, verdict: no-name }}"));
        }
    }
    if !a.observers.is_empty() {
        out.comment(
            "What is outside is reached, unless the network is internal; the lab's gateway answers for it.",
        );
        out.line("- rules:");
        for (observer, key) in &a.observers {
            let verdict = if a.networks.get(key).is_some_and(|n| n.internal) { "no" } else { "yes" };
            out.line(&format!(
                "    - {{ from: {}, to: {OUTSIDE}, verdict: {verdict} }}",
                flow::scalar(observer)
            ));
        }
    }
    let mut told = false;
    for service in &a.nodes {
        for port in &service.ports {
            let Some(probe) = port.probe() else { continue };
            let placed = service.host.and_then(|h| a.hosts.get(h));
            let everywhere = service.deploy.global && service.deploy.constraints.is_empty();
            let to: Vec<String> = match (port.host_mode, placed) {
                (true, Some((host, _))) => vec![host.clone()],
                // Nobody knows where its tasks run.
                (true, None) if !everywhere => continue,
                _ => a.hosts.iter().map(|(h, _)| h.clone()).collect(),
            };
            if !std::mem::replace(&mut told, true) {
                out.comment("A published port answers on every node, in host mode where a task is.");
            }
            let (to, name, from) = (flow::list(to), flow::scalar(&service.name), &a.client.0);
            out.line(&format!(
                "- {{ probe: {probe}, from: {from}, to: {to}, verdict: yes, answered_by: {name}, within: 30s }}"
            ));
        }
    }
}

fn shares(from: &Node, to: &Node) -> bool {
    from.on().any(|k| to.on().any(|other| other == k))
}

/// Writes a matrix: a table, or rules if it is large.
fn matrix(
    nodes: &[&Node],
    by_name: bool,
    more: &[(&str, &str)],
    word: impl Fn(&Node, &Node) -> &'static str,
    out: &mut Writer,
) {
    out.line("- probe: icmp");
    if by_name {
        out.line("  by: name");
    }
    for (key, value) in more {
        out.line(&format!("  {key}: {value}"));
    }
    if nodes.len() > MOST_ROWS {
        out.line("  rules:");
        let mut rows: IndexMap<(Vec<&str>, &'static str), Vec<&str>> = IndexMap::new();
        for from in nodes {
            let mut by_word: IndexMap<&'static str, Vec<&str>> = IndexMap::new();
            for to in nodes.iter().filter(|to| to.name != from.name) {
                by_word.entry(word(from, to)).or_default().push(&to.name);
            }
            by_word.shift_remove("-");
            for (word, to) in by_word {
                rows.entry((to, word)).or_default().push(&from.name);
            }
        }
        let list = |names: Vec<&str>| flow::list(names.into_iter().map(flow::scalar));
        for ((to, word), from) in rows {
            out.line(&format!("    - {{ from: {}, to: {}, verdict: {word} }}", list(from), list(to)));
        }
        return;
    }
    out.line("  table: |");
    let name = |n: &Node| n.name.clone();
    let wide = nodes.iter().map(|n| name(n).len()).max().unwrap_or(0).max("from\\to".len());
    let width = |n: &Node| name(n).len().max("no-name".len());
    let row = |first: &str, cells: Vec<String>| {
        let mut line = format!("    {first:wide$}");
        for (cell, node) in cells.iter().zip(nodes) {
            line.push_str(&format!("  {cell:w$}", w = width(node)));
        }
        line.trim_end().to_owned()
    };
    out.line(&row("from\\to", nodes.iter().map(|n| name(n)).collect()));
    for from in nodes {
        let cells = nodes
            .iter()
            .map(|to| if to.name == from.name { "-".to_owned() } else { word(from, to).to_owned() });
        out.line(&row(&from.name, cells.collect()));
    }
}

fn names(nodes: &[&Node]) -> String {
    match nodes {
        [one] => flow::scalar(&one.name),
        all => flow::list(all.iter().map(|n| flow::scalar(&n.name))),
    }
}
