//! One line for a frame, as a live capture prints it.

use std::fmt::Display;

use crate::proto::{Decode, Kind, Layer};
use crate::proto::{arp, gbp, icmp, icmpv6, ip_protocol, ipv4, vxlan};
use crate::stack::Dissection;
use crate::text::{ArpOperation, Icmp6Type, IcmpType, Named};
use crate::{IpView, UdpView};

/// Describes an Ethernet frame in one line, inner layers of VXLAN included, much like tcpdump.
///
/// Unreadable bytes are reported as malformed, with their offset. Wrong lengths and checksums are named.
///
/// ```
/// let stack = "eth(src=02:42:0a:03:01:01)/arp(who=10.3.1.3,tell=10.3.1.1)".parse::<vxlan::Stack>()?;
/// assert_eq!(
///     vxlan::describe(&stack.build()?),
///     "02:42:0a:03:01:01 > ff:ff:ff:ff:ff:ff, ARP who-has 10.3.1.3 tell 10.3.1.1"
/// );
/// assert_eq!(
///     vxlan::describe(&[0; 9]),
///     "malformed: eth.header at offset 0: 9 bytes, 14 are needed"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn describe(bytes: &[u8]) -> String {
    describe_as(bytes, &Decode::default())
}

/// [`describe`] for bytes to be read as `decode` says.
#[must_use]
pub fn describe_as(bytes: &[u8], decode: &Decode) -> String {
    let Dissection { stack, error, .. } = Dissection::of(bytes, decode);
    let mut line = String::new();
    let (mut below, mut in_fragment) = (None, false);
    for (index, layer) in stack.layers.iter().enumerate() {
        let above = &stack.layers[index + 1..];
        if let Some(part) = part(layer, above, below) {
            line.push_str(separator(below));
            line.push_str(&part);
            // Lengths and sums in a fragment belong to the whole packet, so we cannot check them.
            for wrong in layer.wrong().into_iter().filter(|_| !in_fragment) {
                line.push_str(&format!(" [bad {wrong}]"));
            }
        }
        in_fragment |= matches!(layer, Layer::Ipv4(ip) if ip.mf || ip.fragment_offset != 0);
        below = Some(layer.kind());
    }
    if let Some(error) = error {
        line.push_str(separator(below));
        line.push_str(&format!("malformed: {error}"));
    }
    line
}

fn separator(below: Option<Kind>) -> &'static str {
    match below {
        None => "",
        Some(kind) if kind.is_tunnel() => ": ",
        Some(_) => ", ",
    }
}

/// The text that one layer adds to the line.
fn part(layer: &Layer, above: &[Layer], below: Option<Kind>) -> Option<String> {
    let length = match above.first() {
        Some(Layer::Payload(payload)) => payload.0.len(),
        _ => 0,
    };
    Some(match layer {
        Layer::Ether(ether) => {
            let ends = pair(ether.src.unwrap_or_default(), ether.dst.unwrap_or_default());
            ends + &unknown("ethertype", ether.ethertype)
        }
        Layer::Dot1q(tag) => {
            let priority = if tag.pcp == 0 { String::new() } else { format!(" prio {}", tag.pcp) };
            format!("vlan {}{priority}{}", tag.vid, unknown("ethertype", tag.ethertype))
        }
        Layer::Arp(packet) => arp_part(packet),
        Layer::Ipv4(ip) => ipv4_part(ip, above),
        Layer::Ipv6(ip) => {
            let (from, to) = ports(above);
            let end = |address: Option<_>, port| {
                format!("{}{port}", address.unwrap_or(std::net::Ipv6Addr::UNSPECIFIED))
            };
            format!(
                "IP6 {}{}",
                pair(end(ip.src, from), end(ip.dst, to)),
                unknown("next", ip.next_header.map(u16::from))
            )
        }
        Layer::Icmp(message) => icmp_part(message, above),
        Layer::Icmpv6(message) => icmpv6_part(message, above),
        Layer::Tcp(tcp) => {
            format!("TCP [{}] seq {} ack {} win {} length {length}", tcp.flags, tcp.seq, tcp.ack, tcp.window)
        }
        Layer::Udp(udp) => {
            let none = if udp.checksum == Some(0) { " no sum" } else { "" };
            match above.first() {
                Some(next) if next.kind().is_tunnel() => format!("UDP{none}"),
                _ => format!("UDP{none} length {length}"),
            }
        }
        Layer::Esp(esp) => format!("ESP spi {:#x} seq {} length {length}", esp.spi, esp.seq),
        Layer::Vxlan(header) => {
            let odd = header.flags != vxlan::FLAG_VNI || header.reserved1 != 0 || header.reserved2 != 0;
            format!("VXLAN vni {}{}", header.vni, bits(odd, header.flags, header.reserved1, header.reserved2))
        }
        Layer::Gbp(header) => gbp_part(header),
        Layer::Gpe(header) => {
            let odd = header.flags != 0x0c || header.reserved1 != 0 || header.reserved2 != 0;
            let next = unknown("next", header.next_protocol.map(u16::from));
            let bits = bits(odd, header.flags, header.reserved1.into(), header.reserved2);
            format!("VXLAN-GPE vni {}{next}{bits}", header.vni)
        }
        // These layers show the length themselves.
        Layer::Payload(_)
            if matches!(below, Some(Kind::Udp | Kind::Tcp | Kind::Icmp | Kind::Icmpv6 | Kind::Esp)) =>
        {
            return None;
        }
        // A short frame's padding.
        Layer::Payload(bytes) if below == Some(Kind::Arp) && bytes.0.iter().all(|byte| *byte == 0) => {
            return None;
        }
        Layer::Payload(bytes) => format!("{} bytes", bytes.0.len()),
    })
}

fn pair(from: impl Display, to: impl Display) -> String {
    format!("{from} > {to}")
}

/// The number of a type that has no layer here.
fn unknown(what: &str, number: Option<u16>) -> String {
    number.map(|number| format!(" {what} {number:#x}")).unwrap_or_default()
}

fn bits(odd: bool, flags: u8, reserved1: u32, reserved2: u8) -> String {
    if odd { format!(" flags {flags:#04x} reserved {reserved1:#x} {reserved2:#x}") } else { String::new() }
}

/// Ports of the layer above IP, as tcpdump hangs them on the addresses.
fn ports(above: &[Layer]) -> (String, String) {
    let ports = match above.first() {
        Some(Layer::Udp(udp)) => udp.src_port.zip(udp.dst_port),
        Some(Layer::Tcp(tcp)) => Some((tcp.src_port, tcp.dst_port)),
        _ => None,
    };
    ports.map(|(from, to)| (format!(".{from}"), format!(".{to}"))).unwrap_or_default()
}

fn arp_part(packet: &arp::Arp) -> String {
    let sender = packet.sender_ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
    match packet.operation {
        arp::REQUEST => format!("ARP who-has {} tell {sender}", packet.target_ip),
        arp::REPLY => format!("ARP {sender} is-at {}", packet.sender_mac.unwrap_or_default()),
        other => {
            let name = ArpOperation::name(other.into()).map_or_else(|| other.to_string(), str::to_owned);
            format!("ARP op {name} {sender} {}", packet.target_ip)
        }
    }
}

fn ipv4_part(ip: &ipv4::Ipv4, above: &[Layer]) -> String {
    let (from, to) = ports(above);
    let end =
        |address: Option<_>, port| format!("{}{port}", address.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED));
    let ends = pair(end(ip.src, from), end(ip.dst, to));
    let fragment = if ip.mf || ip.fragment_offset != 0 {
        let more = if ip.mf { "+" } else { "" };
        format!(" fragment id {} at {}{more}", ip.id, u32::from(ip.fragment_offset) * 8)
    } else {
        String::new()
    };
    format!("IP {ends}{fragment}{}", unknown("proto", ip.protocol.map(u16::from)))
}

fn type_name<N: Named>(icmp_type: u8, code: u8) -> String {
    let name = N::name(icmp_type.into()).map_or_else(|| format!("type {icmp_type}"), str::to_owned);
    if code == 0 { name } else { format!("{name} code {code}") }
}

fn icmp_part(message: &icmp::Icmp, above: &[Layer]) -> String {
    let name = type_name::<IcmpType>(message.icmp_type, message.code);
    let payload = match above.first() {
        Some(Layer::Payload(payload)) => payload.0.as_slice(),
        _ => &[],
    };
    if !icmp::is_error(message.icmp_type) {
        return format!("ICMP {name} id {} seq {} length {}", message.id, message.seq, payload.len());
    }
    let needed =
        message.icmp_type == icmp::UNREACHABLE && message.code == icmp::unreachable::FRAGMENTATION_NEEDED;
    let mtu = if needed { format!(" mtu {}", message.seq) } else { String::new() };
    format!("ICMP {name}{mtu}{}", quoted(payload))
}

fn icmpv6_part(message: &icmpv6::Icmpv6, above: &[Layer]) -> String {
    let name = type_name::<Icmp6Type>(message.icmp_type, message.code);
    let payload = match above.first() {
        Some(Layer::Payload(payload)) => payload.0.as_slice(),
        _ => &[],
    };
    let head = [message.icmp_type, message.code, 0, 0, 0, 0, 0, 0];
    let whole = [&head[..], payload].concat();
    if let Some(found) = icmpv6::Discovery::of(std::net::Ipv6Addr::UNSPECIFIED, &whole) {
        return match (found.asks, found.mac) {
            (true, _) => format!("ICMP6 who-has {}", found.target),
            (false, Some(mac)) => format!("ICMP6 {} is-at {mac}", found.target),
            (false, None) => format!("ICMP6 {} is here", found.target),
        };
    }
    match message.icmp_type {
        // Bytes 4 to 7 are the MTU.
        icmpv6::PACKET_TOO_BIG => {
            let mtu = u32::from(message.id) << 16 | u32::from(message.seq);
            format!("ICMP6 {name} mtu {mtu}{}", quoted(payload))
        }
        icmpv6::UNREACHABLE | icmpv6::TIME_EXCEEDED | icmpv6::PARAMETER_PROBLEM => {
            format!("ICMP6 {name}{}", quoted(payload))
        }
        _ => format!("ICMP6 {name} id {} seq {} length {}", message.id, message.seq, payload.len()),
    }
}

/// The packet that an ICMP error is about.
fn quoted(packet: &[u8]) -> String {
    let Ok(ip) = IpView::header_checked(packet) else { return String::new() };
    let ports = match ip.protocol() {
        // TCP's ports are where UDP's are.
        ip_protocol::TCP | ip_protocol::UDP if ip.fragment_offset() == 0 => {
            UdpView::header_checked(ip.payload()).ok()
        }
        _ => None,
    };
    let from = ports.as_ref().map(|udp| format!(".{}", udp.src_port())).unwrap_or_default();
    let to = ports.as_ref().map(|udp| format!(".{}", udp.dst_port())).unwrap_or_default();
    format!(" about {}{from} > {}{to} proto {}", ip.src(), ip.dst(), ip.protocol())
}

fn gbp_part(header: &gbp::Gbp) -> String {
    let plain = gbp::Gbp::default();
    let odd = header.flags != plain.flags || header.reserved1 != 0 || header.reserved2 != 0;
    let word = |set: bool, word: &'static str| if set { word } else { "" };
    format!(
        "VXLAN vni {} policy {}{}{}{}",
        header.vni,
        header.policy,
        word(header.dont_learn, " dontlearn"),
        word(header.applied, " applied"),
        bits(odd, header.flags, header.reserved1.into(), header.reserved2),
    )
}
