//! `segments`, `hosts` and `peers`.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use labctl_model::traffic::Traffic;
use labctl_words as words;
use labctl_yaml::{
    At, Cx, Diagnostic, Fields, FromNode, Json, Map, OneOrMany, Value, Yaml, inline_schema, raw, value_of,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::scalars::{Destination, Written};

raw! {
    /// An L2 underlay network: one learning switch.
    Segment, "a segment", tolerate_unknown {
        /// The subnet that its NICs take their addresses from, or one of each address family.
        subnet: OneOrMany<At<IpNet>>,
        /// The address that the lab's own stand-in router answers for. A host's default route goes to the gateway of
        /// its first segment that has one. One of each address family, if it has both.
        gateway: Option<OneOrMany<At<IpAddr>>>,
        /// Largest IP packet that it carries, in bytes: 576 to 9000, default 1500.
        mtu: Option<At<u32>>,
        /// Drop frames whose source MAC is not that of the host's NIC on that port, as a hypervisor's vSwitch does.
        /// Default false.
        port_security: Option<At<bool>>,
        /// What lies behind the gateway and answers ICMP echo. Default: everything of the gateway's address family.
        outside: Option<Vec<At<IpNet>>>,
        /// Largest IP packet, in bytes, that passes on behind the gateway: it sends larger ones back, with Packet Too Big or
        /// "fragmentation needed". Default: the segment's `mtu`.
        path_mtu: Option<At<u32>>,
        /// What it drops from the start: `udp/PORT`, `tcp/PORT`, `vxlan`, `esp`, `icmp`, `icmp6`, `too-big`,
        /// `ip/NUMBER`.
        block: Option<Vec<At<Written<Traffic>>>>,
        /// Whether the gateway advertises itself as an IPv6 router, with the subnet as prefix; or what else it advertises.
        /// Default false.
        ra: Option<RouterAdvertisements>,
        /// MLD snooping: whether frames to an IPv6 group go only to ports behind which somebody listens. Default false.
        mld: Option<At<bool>>,
    }
}

raw! {
    /// What a gateway advertises beside itself and the subnet.
    AdvertisedKeys, "router advertisements" {
        /// IPv6 addresses of name servers, one or a list of at most 3.
        dns: Option<OneOrMany<At<IpAddr>>>,
    }
}

/// `ra`: `true`, or what is advertised.
#[derive(Clone, Debug)]
pub(crate) enum RouterAdvertisements {
    Flag(At<bool>),
    Long(AdvertisedKeys),
}

impl FromNode for RouterAdvertisements {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match node.value {
            Value::Map(_) => AdvertisedKeys::from_node(node, cx).map(Self::Long),
            _ => At::from_node(node, cx).map(Self::Flag),
        }
    }
}

inline_schema!(RouterAdvertisements, g => {
    let long = g.subschema_for::<AdvertisedKeys>();
    json_schema!({ "anyOf": [{ "type": "boolean" }, long] })
});

raw! {
    /// A NIC of a host, in its long form.
    Nic, "a NIC" {
        /// Its address, from the segment's subnet; one of each address family if it has both.
        address: OneOrMany<At<IpAddr>>,
        /// Its name in the host, at most 15 bytes. Default `eth0`, `eth1`, … in order.
        interface: Option<At<String>>,
        /// Makes it point-to-point: the address of the other side.
        peer: Option<OneOrMany<At<IpAddr>>>,
        /// Largest IP packet that the host sends by it, in bytes: 576 to 9000. Default that of the segment.
        mtu: Option<At<u32>>,
    }
}

raw! {
    /// A route.
    Route, "a route" {
        /// Destination: a prefix, an address, or `default`.
        to: At<Destination>,
        /// Address of the next hop.
        via: Option<At<IpAddr>>,
        /// Name of an interface, or of a segment for the NIC on it.
        dev: Option<At<String>>,
        /// Of two routes to one destination the kernel takes the one with the lower metric. Default 0.
        metric: Option<At<u32>>,
    }
}

raw! {
    /// An interface on top of others.
    Interface, "an interface" {
        /// `macvlan`, `ipvlan`, `vlan` or `bridge`.
        #[schemars(extend("enum" = ["macvlan", "ipvlan", "vlan", "bridge"]))]
        r#type: At<String>,
        /// The interface it sits on, or a segment for the NIC on it; not of a bridge.
        parent: Option<At<String>>,
        /// The NICs that a bridge connects, each by its name or its segment. The bridge has their addresses.
        ports: Option<Vec<At<String>>>,
        /// VLAN id of a `vlan`, 1 to 4094.
        id: Option<At<u32>>,
        /// Its addresses with prefix lengths.
        addresses: Option<Vec<At<IpNet>>>,
        /// Made only by a step (`do: create interface HOST NAME`).
        deferred: Option<At<bool>>,
    }
}

raw! {
    /// A lab host's own keys; every other key is a segment that it has a NIC on.
    HostKeys, "a host" {
        /// Whose dockerd runs: that of a Debian suite, `trixie` (26.1, default), `forky` (28.5) or `bookworm` (20.10);
        /// a version, as `28`; or a node image that `labctl image build --docker` has made.
        #[schemars(extend("examples" = ["trixie", "forky", "bookworm", "28"]))]
        engine: Option<At<String>>,
        /// Memory in MiB, default 1024.
        memory: Option<At<u32>>,
        /// Kernel settings, as `net.ipv4.ip_forward: 1`.
        sysctls: Option<Map<At<String>>>,
        /// Contents of /etc/docker/daemon.json.
        daemon_json: Option<Json>,
        /// Routes beyond the connected ones and the default.
        routes: Option<Vec<Route>>,
        /// Interfaces on top of NICs, by name.
        interfaces: Option<Map<Interface>>,
    }
}

/// A lab host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) keys: HostKeys,
    /// NICs by segment.
    pub(crate) nics: Vec<(At<String>, Nic)>,
}

/// The keys of a host that name no segment.
pub(crate) const HOST_KEYS: [&str; 6] =
    ["engine", "memory", "sysctls", "daemon_json", "routes", "interfaces"];

raw! {
    /// A peer's own keys; the other one is the segment that it is on.
    PeerKeys, "a peer" {
        /// Next hop of its default route; one of each address family if it has both. Default the segment's gateway, if it
        /// has one.
        gateway: Option<OneOrMany<At<IpAddr>>>,
        /// Further routes.
        routes: Option<Vec<Route>>,
    }
}

/// An endpoint that lives on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) keys: PeerKeys,
    /// NICs by segment.
    pub(crate) nics: Vec<(At<String>, Nic)>,
}

/// The keys of a peer that name no segment.
pub(crate) const PEER_KEYS: [&str; 2] = ["gateway", "routes"];

impl FromNode for Host {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        let (keys, nics) = on_segments(node, "a host", &HOST_KEYS, cx)?;
        Some(Self { keys, nics })
    }
}

impl FromNode for Peer {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        let (keys, nics) = on_segments(node, "a peer", &PEER_KEYS, cx)?;
        Some(Self { keys, nics })
    }
}

/// A mapping of its own keys, and of NICs by segment.
#[allow(clippy::type_complexity, reason = "read once, right below")]
fn on_segments<T: FromNode>(
    node: &Yaml,
    what: &'static str,
    own_keys: &[&'static str],
    cx: &mut Cx,
) -> Option<(T, Vec<(At<String>, Nic)>)> {
    let fields = Fields::new(node, what, &[], cx)?;
    let rest = fields.rest(own_keys);
    let own = match &node.value {
        Value::Map(m) => {
            let own = m.iter().filter(|(k, _)| own_keys.contains(&k.value.as_str())).cloned().collect();
            Yaml { value: Value::Map(own), at: node.at }
        }
        _ => node.clone(),
    };
    let keys = T::from_node(&own, cx);
    let nics: Vec<_> =
        rest.iter().map(|(k, n)| Some(((*k).clone(), nic(k, n, (what, own_keys), cx)?))).collect();
    Some((keys?, nics.into_iter().collect::<Option<_>>()?))
}

/// A NIC in either form.
fn nic(key: &At<String>, node: &Yaml, (what, own): (&str, &[&str]), cx: &mut Cx) -> Option<Nic> {
    if !cx.names.contains(&key.value) && cx.found.is_full() {
        cx.error(Diagnostic::new(key.at, ""));
        return None;
    }
    if !cx.names.contains(&key.value) {
        let segments = cx.names.iter().map(String::as_str);
        let hint = match words::nearest(&key.value, own.iter().copied().chain(segments)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let segments = words::known("segment", &key.value, cx.names.iter().map(String::as_str));
                format!("known keys are {}; {segments}", words::list(own.iter().copied()))
            }
        };
        if let Some((message, hint)) = (cx.foreign)(what, &key.value) {
            cx.error(Diagnostic::new(key.at, message).hint(hint));
            return None;
        }
        let message = format!("`{}` is neither a key of {what} nor a segment", key.value);
        cx.error(Diagnostic::new(key.at, message).label("no such key, no such segment").hint(hint));
        return None;
    }
    match node.value {
        Value::Map(_) => value_of(node, key.at, cx),
        _ => {
            let address = value_of(node, key.at, cx)?;
            Some(Nic { at: key.at, address, interface: None, peer: None, mtu: None })
        }
    }
}

impl JsonSchema for Host {
    fn schema_name() -> Cow<'static, str> {
        "Host".into()
    }

    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let what = "A lab host. Every key that is not listed is a segment that it has a NIC on: `lan: 192.168.56.3`.";
        on_segments_schema::<HostKeys>(what, g)
    }
}

impl JsonSchema for Peer {
    fn schema_name() -> Cow<'static, str> {
        "Peer".into()
    }

    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let what = "An endpoint that lives on the wire: a TCP/IP stack that probes and is probed, without a host. The \
                    key that is not listed is the segment that it is on: `lan: 192.168.56.20`.";
        on_segments_schema::<PeerKeys>(what, g)
    }
}

fn on_segments_schema<T: JsonSchema>(what: &str, g: &mut SchemaGenerator) -> Schema {
    let mut schema = T::json_schema(g);
    let nic = g.subschema_for::<Nic>();
    schema.insert("description".into(), what.into());
    let addresses = g.subschema_for::<OneOrMany<At<IpAddr>>>();
    let nic = json_schema!({ "anyOf": [addresses, nic] });
    schema.insert("additionalProperties".into(), nic.to_value());
    schema
}
