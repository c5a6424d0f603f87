//! Mermaid: a lab as a flowchart, a walk as a sequence diagram. What would end a label, or be markup, is written by its
//! number.

use labctl_oracle::{Hop, Way};
use labctl_words::plain;

use super::drawing::{Drawing, Kind, Node};
use crate::beside::{Beside, Followed, Sight};

/// Writes a drawing as a flowchart.
pub fn write(drawing: &Drawing) -> String {
    let mut out = "flowchart TB\n".to_owned();
    for (n, node) in drawing.nodes.iter().enumerate().filter(|(_, node)| node.inside.is_none()) {
        if node.kind == Kind::Host {
            out += &format!("    subgraph n{n}[\"{}\"]\n", label(node));
            drawing.inside(n).for_each(|(n, node)| out += &format!("    {}", self::node(n, node)));
            out += "    end\n";
        } else {
            out += &self::node(n, node);
        }
    }
    for edge in &drawing.edges {
        let label =
            if edge.label.is_empty() { String::new() } else { format!("|\"{}\"|", text(&edge.label)) };
        // From above, so that segments are drawn on top.
        out += &format!("    n{} ---{label} n{}\n", edge.to, edge.from);
    }
    out += "    classDef segment fill:#56b4e955,stroke:#0072b2\n";
    out += "    classDef network fill:#e69f0033,stroke:#b87d00\n";
    out += "    classDef deferred stroke-dasharray:4 3\n";
    let mut class = |name: &str, of: &dyn Fn(&Node) -> bool| {
        let nodes = drawing.nodes.iter().enumerate().filter(|(_, node)| of(node));
        let nodes: Vec<_> = nodes.map(|(n, _)| format!("n{n}")).collect();
        if !nodes.is_empty() {
            out += &format!("    class {} {name}\n", nodes.join(","));
        }
    };
    class("segment", &|node| node.kind == Kind::Segment);
    class("network", &|node| node.kind == Kind::Network);
    class("deferred", &|node| node.deferred);
    out
}

/// Writes the walks of a cell as sequence diagrams, one for each word that it may come to: who hands which packet to whom,
/// the answer dashed, with what decides in notes, and what was seen there.
pub fn walks(ways: &[Way], observed: Option<&Beside>) -> String {
    let one = |(n, way): (usize, &Way)| walk(way, observed, observed.and_then(|o| o.walks.get(n)));
    ways.iter().enumerate().map(one).collect::<Vec<_>>().join("\n")
}

fn walk(way: &Way, observed: Option<&Beside>, seen: Option<&Followed>) -> String {
    let hops = || way.there.iter().chain(&way.back);
    let mut places: Vec<&str> = Vec::new();
    for place in hops().map(place) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let number = |hop: &Hop| places.iter().position(|p| *p == place(hop)).unwrap_or_default();
    let mut out = "sequenceDiagram\n".to_owned();
    for (n, place) in places.iter().enumerate() {
        out += &format!("    participant p{n} as {}\n", text(place));
    }
    let (there, back) = (seen.map(|s| &s.there), seen.map(|s| &s.back));
    for (hops, arrow, seen) in [(&way.there, "->>", there), (&way.back, "-->>", back)] {
        for (n, hop) in hops.iter().enumerate() {
            let here = number(hop);
            let sight = match seen.and_then(|s| s.get(n)) {
                Some(Sight { seen: Some(true), how }) => format!("<br/>seen {}", text(how)),
                Some(Sight { seen: Some(false), .. }) => "<br/>not seen".to_owned(),
                Some(Sight { seen: None, .. }) | None => String::new(),
            };
            out += &format!("    Note over p{here}: {}: {}{sight}\n", text(&hop.at), text(&hop.by));
            if let Some(next) = hops.get(n + 1).map(number).filter(|next| *next != here) {
                out += &format!("    p{here}{arrow}p{next}: {}\n", text(&hop.packet));
            }
        }
    }
    let why = if way.why.is_empty() { String::new() } else { format!(": {}", text(&way.why)) };
    if let Some(last) = hops().last() {
        let came = observed.map(|o| format!("<br/>observed {}", o.verdict)).unwrap_or_default();
        out += &format!("    Note over p{}: {}{why}{came}\n", number(last), way.verdict);
    }
    out
}

/// The namespace or segment of a hop.
fn place(hop: &Hop) -> &str {
    hop.at.split('/').next().unwrap_or_default()
}

fn node(n: usize, node: &Node) -> String {
    let (open, close) = match node.kind {
        Kind::Segment | Kind::Network => ("([", "])"),
        Kind::Service => ("[[", "]]"),
        Kind::Peer => ("(", ")"),
        Kind::Host | Kind::Nic | Kind::Container => ("[", "]"),
    };
    format!("    n{n}{open}\"{}\"{close}\n", label(node))
}

fn label(node: &Node) -> String {
    let lines = [&node.name].into_iter().chain(&node.notes);
    lines.map(|line| text(line)).collect::<Vec<_>>().join("<br/>")
}

/// A line of a label: letters, digits, blanks and a few marks as they are, all other ASCII by its number.
fn text(line: &str) -> String {
    let mut out = String::new();
    for c in plain(line).chars() {
        match c {
            c if !c.is_ascii() || c.is_ascii_alphanumeric() || " .,:/-_=()".contains(c) => out.push(c),
            c => out += &format!("#{};", u32::from(c)),
        }
    }
    out
}
