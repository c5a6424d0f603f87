//! draw.io's XML, with our layout's places. Labels are plain text (`html=0`); draw.io draws the edges.

use super::{
    drawing::{Drawing, Kind, Node},
    layout::Layout,
    xml,
};

/// Writes a drawing as a draw.io file of one page.
pub fn write(drawing: &Drawing) -> String {
    let layout = Layout::of(drawing);
    let mut out = format!(
        "<mxfile host=\"labctl\">\n<diagram name=\"{}\">\n<mxGraphModel grid=\"1\" gridSize=\"10\" page=\"0\">\n<root>\n\
         <mxCell id=\"0\"/>\n<mxCell id=\"1\" parent=\"0\"/>\n",
        xml(&drawing.title)
    );
    for (n, node) in drawing.nodes.iter().enumerate() {
        let rect = layout.boxes[n];
        // The places of what is inside a host count from the host's corner.
        let (parent, x, y) = match node.inside {
            Some(host) => (format!("n{host}"), rect.x - layout.boxes[host].x, rect.y - layout.boxes[host].y),
            None => ("1".to_owned(), rect.x, rect.y),
        };
        out += &format!(
            "<mxCell id=\"n{n}\" value=\"{}\" style=\"{}\" vertex=\"1\" parent=\"{parent}\"><mxGeometry x=\"{x}\" \
             y=\"{y}\" width=\"{}\" height=\"{}\" as=\"geometry\"/></mxCell>\n",
            label(node),
            style(node),
            rect.width,
            rect.height
        );
    }
    for (n, edge) in drawing.edges.iter().enumerate() {
        out += &format!(
            "<mxCell id=\"e{n}\" value=\"{}\" style=\"edgeStyle=orthogonalEdgeStyle;html=0;endArrow=none\" edge=\"1\" \
             parent=\"1\" source=\"n{}\" target=\"n{}\"><mxGeometry relative=\"1\" as=\"geometry\"/></mxCell>\n",
            xml(&edge.label),
            edge.from,
            edge.to
        );
    }
    out + "</root>\n</mxGraphModel>\n</diagram>\n</mxfile>\n"
}

/// The name and the notes: on one line where the box is a bar.
fn label(node: &Node) -> String {
    let lines: Vec<_> = [&node.name].into_iter().chain(&node.notes).map(|line| xml(line)).collect();
    match node.kind {
        Kind::Segment | Kind::Network | Kind::Nic | Kind::Host => lines.join("  "),
        Kind::Peer | Kind::Container | Kind::Service => lines.join("&#10;"),
    }
}

fn style(node: &Node) -> String {
    let look = match node.kind {
        Kind::Segment => "fillColor=#cfe8f7",
        Kind::Host => "fillColor=#f6f8fa;verticalAlign=top;spacingTop=12;container=1;collapsible=0",
        Kind::Nic => "fillColor=#eaeef2",
        Kind::Peer => "fillColor=#ffffff;arcSize=40",
        Kind::Network => "fillColor=#fbe7c3",
        Kind::Container => "fillColor=#ffffff",
        Kind::Service => "fillColor=#e3f3ec",
    };
    let dashed = if node.deferred { ";dashed=1" } else { "" };
    format!(
        "rounded=1;whiteSpace=wrap;html=0;fontSize=11;strokeColor=#6e7781;fontColor=#1f2328;{look}{dashed}"
    )
}
