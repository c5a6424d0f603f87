#![allow(clippy::unwrap_used)]
//! Drawings of small labs, of all topologies, and of labs whose names are hostile.

use std::fs;

use labctl_model::{By, Lab, Probed};
use labctl_oracle::{Query, explain};
use labctl_words::is_hostile;
use roxmltree::Document;

use super::{
    Form, draw,
    drawing::{Drawing, Kind},
    layout::{Layout, Rect},
    walks,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A bit of everything.
const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24, gateway: 10.0.0.1 } }
hosts:
  a: { lan: 10.0.0.2, interfaces: { shim: { parent: lan, type: macvlan, addresses: [10.0.0.9/32] } } }
  b: { lan: 10.0.0.3 }
peers: { client: { lan: 10.0.0.20 } }
swarm: { managers: [a], workers: [b] }
networks:
  mvl: { driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 10.0.0.0/24 } ] } }
  web: { driver: overlay, attachable: true }
containers:
  c1: { host: a, networks: { mvl: { ipv4_address: 10.0.0.31 }, web: {} } }
  c2: { host: a, network_mode: host }
  c3: { host: b, ports: [ '8080:80' ] }
services:
  s1: { networks: [web], ports: [ '80:80' ], deploy: { replicas: 2 } }
";

fn lab() -> Lab {
    labctl_topology::parse(LAB, "t.yaml").unwrap()
}

/// Ends a string, a tag, a statement and a line in each form, and steers a terminal.
const HOSTILE: &str =
    "<script>alert(1)</script>\"'`]})-->\\\n; click n0 %%{init}%% &lt; #quot; \x1b[31m\u{202e}\u{ffff}";

/// The lab, with a hostile text wherever a text can be. Validation refuses such names: here they come as from elsewhere.
fn hostile() -> Lab {
    let mut lab = lab();
    for name in ["lan", "a", "b", "client", "mvl", "web", "c1", "c2", "c3", "s1", "eth0", "shim"] {
        let json = serde_json::to_string(&lab).unwrap();
        let new = serde_json::to_string(&format!("{name}{HOSTILE}")).unwrap();
        lab = serde_json::from_str(&json.replace(&format!("\"{name}\""), &new)).unwrap();
    }
    Lab { name: HOSTILE.into(), description: HOSTILE.into(), ..lab }
}

fn walk_of(lab: &Lab) -> String {
    let (from, to) =
        (lab.peers.keys().next().unwrap().clone(), lab.hosts.keys().nth(1).unwrap().as_str().into());
    let probe = "tcp/8080".parse().unwrap();
    let query = Query { from, to, probe, by: By::Address, family: Probed::default(), size: None, step: 0 };
    walks(&explain(lab, &query).walks, None)
}

#[test]
fn a_walk_is_a_sequence_diagram() {
    insta::assert_snapshot!(walk_of(&lab()));
    let (ours, hostile) = (walk_of(&lab()), walk_of(&hostile()));
    assert!(!hostile.contains(|c| is_hostile(c) && c != '\n'), "{hostile}");
    assert_eq!(hostile.lines().count(), ours.lines().count(), "{hostile}");
}

#[test]
fn mermaid() {
    insta::assert_snapshot!(draw(&lab(), Form::Mermaid));
}

#[test]
fn dot() {
    insta::assert_snapshot!(draw(&lab(), Form::Dot));
}

#[test]
fn svg() {
    insta::assert_snapshot!(draw(&lab(), Form::Svg));
}

#[test]
fn drawio() {
    insta::assert_snapshot!(draw(&lab(), Form::Drawio));
}

/// All topologies of the repository, by file.
fn topologies() -> Vec<(String, Lab)> {
    let files = fs::read_dir(format!("{ROOT}/topologies")).unwrap().map(|e| e.unwrap().path());
    let files = files.filter(|p| p.extension().is_some_and(|e| e == "yaml"));
    files.map(|p| (p.display().to_string(), labctl_topology::load(&p).unwrap())).collect()
}

#[test]
fn every_topology_is_drawn_with_all_that_it_has_and_no_box_lies_on_another() {
    let all = topologies();
    assert!(all.len() > 40);
    for (file, lab) in all {
        let drawing = Drawing::of(&lab);
        for name in lab.endpoints().chain(lab.networks.keys().chain(lab.services.keys()).map(String::as_str))
        {
            assert!(drawing.nodes.iter().any(|n| n.name == name), "{file}: no {name}");
        }
        let joined = lab.containers.values().map(|c| match &c.attach {
            labctl_model::Attach::Networks(all) => all.len(),
            labctl_model::Attach::DefaultBridge { .. } | labctl_model::Attach::Container(_) => 1,
            labctl_model::Attach::Host | labctl_model::Attach::None => 0,
        });
        let of_containers =
            drawing.edges.iter().filter(|e| drawing.nodes[e.from].kind == Kind::Container).count();
        assert_eq!(of_containers, joined.sum::<usize>(), "{file}: edges of containers");

        let layout = Layout::of(&drawing);
        for (n, node) in drawing.nodes.iter().enumerate() {
            let rect = layout.boxes[n];
            assert!(
                rect.width > 0 && rect.x >= 0 && rect.right() <= layout.width,
                "{file}: {}: {rect:?}",
                node.name
            );
            assert!(rect.y >= 0 && rect.bottom() <= layout.height, "{file}: {}: {rect:?}", node.name);
            for (m, other) in
                drawing.nodes.iter().enumerate().skip(n + 1).filter(|(_, o)| o.inside != Some(n))
            {
                assert!(!overlap(rect, layout.boxes[m]), "{file}: {} lies on {}", node.name, other.name);
            }
        }
    }
}

#[test]
fn a_walk_leads_over_the_drawing() {
    let drawing = Drawing::of(&lab());
    let node = |at: &str| {
        let node = &drawing.nodes[drawing.node_at(at).unwrap_or_else(|| panic!("{at} is nowhere"))];
        format!("{} {}", node.kind.word(), node.name)
    };
    for (at, expected) in [
        ("segment lan", "segment lan"),
        ("gateway of lan/eth0", "segment lan"),
        ("a", "host a"),
        ("a/eth0", "nic eth0"),
        ("a/shim", "nic shim"),
        ("b/docker0", "network bridge"),
        ("c1/eth1", "container c1"),
        ("client/eth0", "peer client"),
        ("web of b/vxlan0", "network web"),
        ("lb-web of a", "network web"),
        ("ingress_sbox of b/eth1", "host b"),
        ("s1.2/eth0", "service s1"),
    ] {
        assert_eq!(node(at), expected, "{at}");
    }
    assert_eq!(drawing.node_at("elsewhere/eth0"), None);
}

fn overlap(a: Rect, b: Rect) -> bool {
    a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom()
}

#[test]
fn many_hosts_go_into_rows() {
    let hosts: String = (0..12).map(|n| format!("  h{n}: {{ lan: 10.0.1.{} }}\n", n + 1)).collect();
    let nodes: Vec<String> = (0..12).map(|n| format!("h{n}")).collect();
    let containers: String =
        (0..12).map(|n| format!("  c{n}: {{ host: h{n}, networks: [web] }}\n")).collect();
    let text = format!(
        "name: t\nsegments: {{ lan: {{ subnet: 10.0.0.0/16 }} }}\nhosts:\n{hosts}swarm: {{ managers: [{}] }}\nnetworks: \
         {{ web: {{ driver: overlay, attachable: true }} }}\ncontainers:\n{containers}",
        nodes.join(", ")
    );
    let drawing = Drawing::of(&labctl_topology::parse(&text, "t.yaml").unwrap());
    let layout = Layout::of(&drawing);
    let mut rows: Vec<i32> = drawing.of_kind(Kind::Host).map(|(n, _)| layout.boxes[n].y).collect();
    rows.dedup();
    assert!(rows.len() > 1 && layout.width < 1300, "{} rows, {} wide", rows.len(), layout.width);
    let is_out = |(x, y): &(i32, i32)| *x < 0 || *x > layout.width || *y < 0 || *y > layout.height;
    assert!(!layout.wires.iter().flatten().any(is_out));
}

#[test]
fn hostile_names_steer_no_terminal() {
    for form in [Form::Mermaid, Form::Dot, Form::Svg, Form::Drawio] {
        let drawn = draw(&hostile(), form);
        assert!(!drawn.contains(|c| is_hostile(c) && c != '\n'), "{form:?}:\n{drawn}");
        // In SVG, boxes that are as wide as these go into more rows, and have more wires.
        let things = |text: &str| {
            text.lines().filter(|l| !l.starts_with("<polyline") && !l.starts_with("<circle")).count()
        };
        assert_eq!(things(&drawn), things(&draw(&lab(), form)), "{form:?}: a line for each thing");
    }
}

#[test]
fn hostile_names_are_text_in_xml() {
    for form in [Form::Svg, Form::Drawio] {
        let (ours, drawn) = (draw(&lab(), form), draw(&hostile(), form));
        let elements = |text: &str| {
            let document = Document::parse(text).unwrap_or_else(|e| panic!("{form:?}: {e}\n{text}"));
            let elements = document.descendants().filter(roxmltree::Node::is_element);
            elements.map(|e| (e.tag_name().name().to_owned(), e.attributes().len())).collect::<Vec<_>>()
        };
        let count = |text: &str, tag: &str| elements(text).iter().filter(|(name, _)| name == tag).count();
        assert_eq!(count(&drawn, "script"), 0);
        for tag in ["g", "rect", "text", "mxCell"] {
            assert_eq!(count(&drawn, tag), count(&ours, tag), "{form:?}: <{tag}>");
        }
        assert!(drawn.contains("&lt;script&gt;"), "{form:?}: it is shown, as text");
    }
    let drawn = draw(&hostile(), Form::Drawio);
    let document = Document::parse(&drawn).unwrap();
    let labels = document.descendants().filter_map(|n| n.attribute("style"));
    assert!(labels.clone().count() > 20 && labels.into_iter().all(|style| style.contains("html=0")));
}

#[test]
fn hostile_names_end_no_label_of_mermaid_and_dot() {
    let drawn = draw(&hostile(), Form::Mermaid);
    for line in drawn.lines() {
        assert!(line.matches('"').count() % 2 == 0, "{line}");
        let label = line.split('"').nth(1).unwrap_or_default().replace("<br/>", "");
        assert!(!label.contains(['<', '>', '`', '\\', '&', '%', '[', ']', '{', '}']), "{line}");
        let entities = label.split('#').skip(1);
        assert!(
            entities.into_iter().all(|e| e.split_once(';').is_some_and(|(n, _)| n.parse::<u32>().is_ok()))
        );
    }
    for line in draw(&hostile(), Form::Dot).lines() {
        let (mut quoted, mut escaped, mut outside) = (false, false, String::new());
        for c in line.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                c if !quoted => outside.push(c),
                _ => {}
            }
        }
        assert!(!quoted && !outside.contains(['<', ';', '\'']) && !outside.contains("script"), "{line}");
    }
}

/// `docs/*.svg` are what `labctl graph` draws. `UPDATE_PICTURES=1` draws them again.
#[test]
fn the_pictures_of_the_docs_are_up_to_date() {
    let lab = labctl_topology::load(format!("{ROOT}/topologies/ipvlan-2host.yaml")).unwrap();
    let (picture, new) = (format!("{ROOT}/docs/ipvlan-2host.svg"), draw(&lab, Form::Svg));
    if std::env::var_os("UPDATE_PICTURES").is_some() {
        fs::write(&picture, &new).unwrap();
    }
    let again = "UPDATE_PICTURES=1 cargo test --profile quick -p labctl-render pictures";
    assert!(
        fs::read_to_string(&picture).is_ok_and(|old| old == new),
        "{picture} is not what is drawn now: {again}"
    );
}
