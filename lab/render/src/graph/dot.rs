//! Graphviz's language. Hosts are clusters.

use labctl_words::plain;

use super::drawing::{Drawing, Kind, Node};

/// Writes a drawing as an undirected graph.
pub fn write(drawing: &Drawing) -> String {
    let mut out = format!("graph {} {{\n", quoted([&drawing.title]));
    out += "    graph [fontname=\"sans-serif\", rankdir=TB, ranksep=0.6]\n";
    out += "    node [fontname=\"sans-serif\", fontsize=11, shape=box, style=\"filled\", fillcolor=white]\n";
    out += "    edge [fontname=\"sans-serif\", fontsize=10]\n";
    for (n, node) in drawing.nodes.iter().enumerate().filter(|(_, node)| node.inside.is_none()) {
        // A cluster with nothing in it is not drawn.
        if node.kind == Kind::Host && drawing.inside(n).next().is_some() {
            out += &format!(
                "    subgraph cluster_{n} {{\n        label={}\n        style=rounded\n",
                label(node)
            );
            drawing.inside(n).for_each(|(n, node)| out += &format!("    {}", self::node(n, node)));
            out += "    }\n";
        } else {
            out += &self::node(n, node);
        }
    }
    for edge in &drawing.edges {
        let label =
            if edge.label.is_empty() { String::new() } else { format!(" [label={}]", quoted([&edge.label])) };
        // From above, so that segments are drawn on top.
        out += &format!("    n{} -- n{}{label}\n", edge.to, edge.from);
    }
    out + "}\n"
}

fn node(n: usize, node: &Node) -> String {
    let look = match node.kind {
        Kind::Segment => ", fillcolor=\"#cfe8f7\"",
        Kind::Network => ", fillcolor=\"#fbe7c3\"",
        Kind::Peer => ", shape=ellipse",
        Kind::Service => ", shape=box3d",
        Kind::Host | Kind::Nic | Kind::Container => "",
    };
    let dashed = if node.deferred { ", style=\"filled,dashed\"" } else { "" };
    format!("    n{n} [label={}{look}{dashed}]\n", label(node))
}

fn label(node: &Node) -> String {
    quoted([&node.name].into_iter().chain(&node.notes))
}

/// Lines as a quoted string. Within one, Graphviz knows `"`, `\` and HTML's entities.
fn quoted<'a>(lines: impl IntoIterator<Item = &'a String>) -> String {
    let line = |l: &String| plain(l).replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", lines.into_iter().map(line).collect::<Vec<_>>().join("\\n"))
}
