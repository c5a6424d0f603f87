//! SVG, with its own style: light or dark as the viewer is, and the same in an HTML page as in a file.

use super::{
    drawing::Drawing,
    layout::{LINE, Layout, Line, PAD},
    xml,
};

/// Colours by class. Names begin with `g-`: in an HTML page they share it with other styles.
const STYLE: &str = include_str!("svg.css");

/// Writes a drawing as an SVG image.
pub fn write(drawing: &Drawing) -> String {
    let layout = Layout::of(drawing);
    let (width, height) = (layout.width, layout.height);
    let about = if drawing.about.is_empty() { "A Docker network lab" } else { &drawing.about };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{}: {}</title>\n<style>\n{STYLE}</style>\n",
        xml(&drawing.title),
        xml(about)
    );
    // A host is below the wires, and all else is above: a wire passes behind a bar that it does not join.
    let (hosts, others): (Vec<_>, Vec<_>) =
        (0..drawing.nodes.len()).partition(|n| drawing.inside(*n).next().is_some());
    hosts.iter().for_each(|n| out += &node(drawing, &layout, *n));
    for wire in &layout.wires {
        let points: Vec<_> = wire.iter().map(|(x, y)| format!("{x},{y}")).collect();
        out += &format!("<polyline class=\"g-wire\" points=\"{}\"/>\n", points.join(" "));
    }
    others.iter().for_each(|n| out += &node(drawing, &layout, *n));
    for (x, y) in &layout.joints {
        out += &format!("<circle class=\"g-joint\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>\n");
    }
    out + "</svg>\n"
}

fn node(drawing: &Drawing, layout: &Layout, n: usize) -> String {
    let (node, rect) = (&drawing.nodes[n], layout.boxes[n]);
    let dashed = if node.deferred { " g-deferred" } else { "" };
    let all: Vec<_> = [&node.name].into_iter().chain(&node.notes).map(|line| xml(line)).collect();
    let mut out = format!(
        "<g class=\"g-{}{dashed}\" data-node=\"{n}\"><title>{} {}</title><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"5\"/>",
        node.kind.word(),
        node.kind.word(),
        all.join(", "),
        rect.x,
        rect.y,
        rect.width,
        rect.height
    );
    let top = rect.y + layout.head(drawing, n);
    for (k, line) in (0..).zip(&layout.texts[n]) {
        out += &text(line, rect.x + PAD, top + LINE * (k + 1) - 1);
    }
    out + "</g>\n"
}

fn text((name, rest): &Line, x: i32, y: i32) -> String {
    let name = if name.is_empty() {
        String::new()
    } else {
        format!("<tspan class=\"g-name\">{}</tspan> ", xml(name))
    };
    format!("<text x=\"{x}\" y=\"{y}\">{name}{}</text>", xml(rest))
}
