//! What Compose promises, as expectations: services on a network reach each other by name, others do not, an internal
//! network leads nowhere, and a published port answers on its host.

use indexmap::{IndexMap, IndexSet};

use crate::{
    arrange::{Arranged, Node, Place},
    flow,
    ports::probe,
};

/// An address outside the lab, for which the LAN's gateway answers.
pub(crate) const OUTSIDE: &str = "8.8.8.8";
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

fn of_containers(a: &Arranged, out: &mut Writer) {
    let on_networks: Vec<&Node> = a.nodes.iter().filter(|n| n.on().next().is_some()).collect();
    let within = if a.networks.values().any(|n| n.driver == "overlay") { Some("20s") } else { None };
    if on_networks.len() > 1 {
        out.comment("Services on a network reach each other by name; elsewhere the name does not resolve.");
        let word = |from: &Node, to: &Node| match (shares(from, to), relation(a, from, to, true)) {
            (false, _) => "no-name",
            (true, Some(true)) => "yes",
            (true, Some(false)) => "no",
            (true, None) => "-",
        };
        matrix(&on_networks, "name", within, word, out);
    }
    let all: Vec<&Node> =
        a.nodes.iter().filter(|n| matches!(n.place, Place::Networks(_) | Place::Bridge)).collect();
    let apart =
        |from: &&Node, to: &&Node| from.name != to.name && relation(a, from, to, false) == Some(false);
    if all.iter().any(|from| all.iter().any(|to| apart(from, to))) {
        out.comment("By address it is the same: networks are isolated from each other.");
        let word = |from: &Node, to: &Node| match relation(a, from, to, false) {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        matrix(&all, "address", within, word, out);
    }
    let ports = |to: &Node| -> IndexSet<(u16, bool)> {
        to.ports.iter().map(|p| (p.target, p.udp)).chain(to.expose.iter().copied()).collect()
    };
    let mut told = false;
    for to in &on_networks {
        let from: Vec<&Node> = on_networks
            .iter()
            .copied()
            .filter(|from| from.name != to.name && relation(a, from, to, true) == Some(true))
            .collect();
        for (port, udp) in ports(to).into_iter().filter(|_| !from.is_empty()) {
            if !std::mem::replace(&mut told, true) {
                out.comment("They reach each other's ports.");
            }
            let within = within.map(|w| format!(", within: {w}")).unwrap_or_default();
            let (from, to) = (names(&from), flow::scalar(&to.name));
            let probe = probe(port, udp);
            out.line(&format!(
                "- {{ probe: {probe}, by: name, from: {from}, to: {to}, verdict: yes{within} }}"
            ));
        }
    }
    outside(a, out);
    published(a, out);
}

fn outside(a: &Arranged, out: &mut Writer) {
    let leads = |node: &&Node| match &node.place {
        Place::Networks(_) => {
            let each: Vec<Option<bool>> =
                node.on().filter_map(|k| Some(a.networks.get(k)?.leads_out)).collect();
            match (each.contains(&None), each.contains(&Some(true))) {
                (true, _) => None,
                (false, out) => Some(out),
            }
        }
        Place::Bridge | Place::Host => Some(true),
        Place::None => Some(false),
        Place::Beside(_) => None,
    };
    let some = |wanted: bool| -> Vec<&Node> { a.nodes.iter().filter(|n| leads(n) == Some(wanted)).collect() };
    let (out_of, inside) = (some(true), some(false));
    if out_of.is_empty() && inside.is_empty() {
        return;
    }
    out.comment(match inside.is_empty() {
        true => "They reach what is outside; the lab's gateway answers for it.",
        false => "They reach what is outside, for which the lab's gateway answers, unless their networks are internal.",
    });
    out.line("- rules:");
    for (nodes, verdict) in [(out_of, "yes"), (inside, "no")] {
        if !nodes.is_empty() {
            out.line(&format!("    - {{ from: {}, to: {OUTSIDE}, verdict: {verdict} }}", names(&nodes)));
        }
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
            match (open, port.host_ip) {
                (true, None) => out.line(&format!(
                    "- {{ probe: {probe}, from: {from}, to: {host}, verdict: yes, answered_by: {name} }}"
                )),
                (true, Some(ip)) => out.line(&format!(
                    "- {{ probe: {probe}, from: {from}, to: {host}, verdict: no }}   # {} publishes it on {ip} alone", node.name
                )),
                (false, _) => out.line(&format!(
                    "- {{ probe: {probe}, from: {from}, to: {host}, verdict: no }}   # {} is on internal networks alone", node.name
                )),
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

/// Whether Compose promises that one reaches the other, or that it does not; `None` where it promises nothing.
/// `by_name`: a name resolves only where they share a network.
fn relation(a: &Arranged, from: &Node, to: &Node, by_name: bool) -> Option<bool> {
    let shared = from.on().filter(|k| to.on().any(|other| other == *k)).filter_map(|k| a.networks.get(k));
    let shared: Vec<Option<bool>> = shared
        .map(|n| {
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
    let on_lan = |node: &Node| {
        node.on().any(|k| {
            a.networks.get(k).is_some_and(|n| matches!(n.driver, "macvlan" | "ipvlan") && !n.internal)
        })
    };
    // Whoever is on the LAN is reached from all that leads out.
    if !by_name && (on_lan(from) || on_lan(to)) { None } else { Some(false) }
}

/// Writes a matrix: a table, or rules if it is large.
fn matrix(
    nodes: &[&Node],
    by: &str,
    within: Option<&str>,
    word: impl Fn(&Node, &Node) -> &'static str,
    out: &mut Writer,
) {
    out.line("- probe: icmp");
    if by == "name" {
        out.line("  by: name");
    }
    if let Some(within) = within {
        out.line(&format!("  within: {within}"));
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
