//! Known answers from the wire: what dockerd's overlay sends is read back equal (tests/data/README.md).

use std::path::Path;

use pcap_file::pcapng::{Block, PcapNgReader};
use vxlan::{FrameTemplate, Kind, Layer, Stack};

fn frames(file: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    let mut reader = PcapNgReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        if let (Block::EnhancedPacket(packet), _) = block.unwrap() {
            assert_eq!(packet.data.len(), packet.original_len as usize);
            frames.push(packet.data.into_owned());
        }
    }
    frames
}

fn kinds(stack: &Stack) -> String {
    stack.layers.iter().map(|layer| layer.kind().name()).collect::<Vec<_>>().join("/")
}

/// Reads, builds, writes and reads again, makes a template: nothing is lost, nothing is wrong.
fn read_back_equal(bytes: &[u8]) -> Stack {
    let stack = Stack::parse(bytes).unwrap();
    assert_eq!(stack.build().unwrap(), bytes, "{stack}");
    for layer in &stack.layers {
        assert!(layer.wrong().is_empty(), "{layer} in {stack}");
    }
    assert_eq!(stack.to_string().parse::<Stack>().unwrap(), stack);
    assert_eq!(FrameTemplate::new(&stack).unwrap().frame(), bytes);
    stack
}

#[test]
fn an_overlay() {
    let frames = frames("overlay.pcapng");
    assert_eq!(frames.len(), 30);
    let stacks: Vec<_> = frames.iter().map(|bytes| read_back_equal(bytes)).collect();
    let count = |wanted: &str| stacks.iter().filter(|stack| kinds(stack) == wanted).count();
    assert_eq!(count("eth/ip/udp/vxlan/eth/ip/icmp/payload"), 2);
    assert_eq!(count("eth/ip/udp/vxlan/eth/ip/udp/payload"), 4);
    assert_eq!(count("eth/ip/udp/vxlan/eth/ip/tcp") + count("eth/ip/udp/vxlan/eth/ip/tcp/payload"), 8);
    assert_eq!(count("eth/ip6/icmp6") + count("eth/ip6/icmp6/payload"), 1);
    for stack in &stacks {
        for (index, layer) in stack.layers.iter().enumerate() {
            let Layer::Vxlan(header) = layer else { continue };
            // The first overlay of a swarm has the second VNI of libnetwork's range; the header is as the RFC has it.
            assert_eq!(
                (header.vni, header.flags, header.reserved1, header.reserved2),
                (4097, 8, 0, 0),
                "{stack}"
            );
            let Layer::Udp(udp) = &stack.layers[index - 1] else { panic!("{stack}") };
            assert_eq!(udp.dst_port, Some(4789));
        }
    }
}

#[test]
fn an_encrypted_overlay() {
    let frames = frames("encrypted.pcapng");
    assert_eq!(frames.len(), 9);
    for bytes in &frames {
        let stack = read_back_equal(bytes);
        assert_eq!(kinds(&stack), "eth/ip/esp/payload");
        assert!(stack.layers.iter().all(|layer| layer.kind() != Kind::Vxlan));
        let Layer::Esp(esp) = &stack.layers[2] else { panic!("{stack}") };
        assert!(esp.spi > 255 && esp.seq > 0, "{esp:?}");
    }
}
