//! Swarms on real machines: what the matrix cannot say by itself.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, path::Path};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lab_tests::{Labctl, topology};
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;

fn cells(labctl: &Labctl, lab: &str) -> Vec<Value> {
    let report = labctl.run(["check", lab, "--format", "json"]).exits(0).json();
    report["cells"].as_array().unwrap().clone()
}

fn text<'a>(cell: &'a Value, key: &str) -> &'a str {
    cell[key].as_str().unwrap_or_else(|| panic!("{key} in {cell}"))
}

/// Between the nodes of an encrypted overlay there is ESP, and no VXLAN in clear.
#[test]
fn an_encrypted_overlay_is_esp_on_the_wire() {
    let labctl = Labctl::new();
    labctl.run(["up".as_ref(), topology("overlay-encrypted.yaml").as_os_str()]).exits(0);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lan.pcapng");
    let mut capture = labctl.command(["capture", "overlay-encrypted", "lan", "--duration", "10s", "-w"]);
    let mut capture = capture.arg(&file).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(cells(&labctl, "overlay-encrypted").len(), 25);
    assert!(capture.wait().unwrap().success());
    let (esp, clear) = esp_and_vxlan(&file);
    assert!(esp > 8 && clear == 0, "{esp} of ESP, {clear} of VXLAN in clear");
    labctl.run(["down", "--all"]).exits(0);
}

/// How many packets of a capture are ESP, and how many VXLAN in clear.
fn esp_and_vxlan(file: &Path) -> (usize, usize) {
    const ESP: u8 = 50;
    const VXLAN: u16 = 4789;
    let bytes = std::fs::read(file).unwrap();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let (mut esp, mut vxlan) = (0, 0);
    while let Some(block) = reader.next_block() {
        let Block::EnhancedPacket(packet) = block.unwrap().0 else { continue };
        let frame = SlicedPacket::from_ethernet(&packet.data).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &frame.net else { continue };
        esp += usize::from(ip.header().protocol().0 == ESP);
        if let Some(TransportSlice::Udp(udp)) = &frame.transport {
            vxlan += usize::from(udp.destination_port() == VXLAN);
        }
    }
    (esp, vxlan)
}

/// That every task answers, and that the mesh hides the client, the topology says itself; a client of its own is a peer.
#[test]
fn every_task_answers_and_the_mesh_hides_the_client() {
    let labctl = Labctl::new();
    labctl.run(["up".as_ref(), topology("ingress.yaml").as_os_str()]).exits(0);
    let cells = cells(&labctl, "ingress");
    let of = |probe: &'static str, from: &'static str| {
        cells.iter().filter(move |c| text(c, "probe") == probe && text(c, "from") == from)
    };
    let takers: BTreeSet<&str> = of("tcp/8080", "client")
        .flat_map(|c| c["answered_by"].as_array().unwrap())
        .map(|by| by.as_str().unwrap())
        .collect();
    assert_eq!(takers.into_iter().collect::<Vec<_>>(), ["web.1", "web.2"]);
    assert!(of("tcp/8080", "client").all(|c| c["source"][0].as_str().unwrap().starts_with("10.0.0.")));
    let direct = of("tcp/8081", "client").find(|c| text(c, "to") == "host1").unwrap();
    assert_eq!(direct["source"], serde_json::json!(["192.168.56.20"]));
    labctl.run(["down", "--all"]).exits(0);
}
