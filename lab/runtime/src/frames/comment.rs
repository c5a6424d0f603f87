//! The comment that a capture file holds beside a frame.

use labctl_protocol::probe::nonce::{self, Kind, Nonce};
use vxlan::{Decode, Dissection};

/// What other readers of the file cannot know: the frame's fate, if worth saying; what is in a tunnel, whose port may be
/// this lab's own; and what labctl sent it for.
pub fn comment(data: &[u8], fate: Option<String>, reading: &Decode) -> Option<String> {
    let tunnel = Dissection::of(data, reading).stack.layers.iter().any(|layer| layer.kind().is_tunnel());
    let inside = tunnel.then(|| vxlan::describe_as(data, reading));
    let of = nonce::find(data).map(|Nonce { kind, run, cell }| match kind {
        Kind::Request => format!("request of a probe, mark {cell} of run {run:016x}"),
        Kind::Answer => format!("answer to a probe, mark {cell} of run {run:016x}"),
        Kind::Frame => format!("frame {cell} of `send` or `inject`, run {run:016x}"),
    });
    let parts: Vec<String> = [fate, of, inside].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn comments_say_what_no_other_reader_knows() {
        let mark = Nonce { kind: Kind::Frame, run: 0xab, cell: 3 }.bytes();
        let build = |text: &str| text.parse::<vxlan::Stack>().unwrap();
        let sent = (build("eth/ip/udp(dport=7777)/vxlan(vni=9)/eth/arp(who=10.3.1.3)")
            / vxlan::Payload(mark.to_vec()))
        .build()
        .unwrap();
        let reading = Decode { vxlan_ports: vec![7777], ..Decode::default() };
        let all = comment(&sent, Some("dropped at host1/eth0: the port is cut".into()), &reading).unwrap();
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines[0], "dropped at host1/eth0: the port is cut");
        assert_eq!(lines[1], "frame 3 of `send` or `inject`, run 00000000000000ab");
        assert!(lines[2].contains("VXLAN vni 9") && lines[2].contains("ARP"), "{all}");
        assert_eq!(comment(&build("eth/ip/udp").build().unwrap(), None, &reading), None);
    }
}
