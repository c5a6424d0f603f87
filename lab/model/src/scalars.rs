//! Scalars that only topologies have.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use labctl_yaml::{Bad, Scalar, words};
use schemars::{Schema, json_schema};

use crate::{
    engine::Versions,
    traffic::{NoTraffic, Traffic},
};

/// The destination of a route: a prefix, a bare address for itself alone, or `default`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination(pub(crate) Ipv4Net);

impl Scalar for Destination {
    const WHAT: &'static str = "a prefix as 172.16.0.0/12, an address, or `default`";

    fn read(text: &str) -> Result<Self, Bad> {
        if text == "default" {
            return Ok(Self(Ipv4Net::default()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self(address.into()));
        }
        Ipv4Net::read(text).map(Self).map_err(|_| Bad::default())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(default|[0-9.]+(/[0-9]{1,2})?)$" })
    }
}

impl Scalar for Traffic {
    const WHAT: &'static str = "what is blocked, as `udp/4789`";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|why: NoTraffic| {
            let hint = match &why {
                NoTraffic::Unknown(word) => match words::nearest(word, Traffic::WORDS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`udp/PORT`, `tcp/PORT`, `vxlan`, `esp`, `icmp`, or `ip/NUMBER` of any protocol"
                        .into(),
                },
                NoTraffic::NoPorts(name) => format!("`{name}` alone"),
                NoTraffic::Port(_) => "as in `udp/4789`".into(),
                NoTraffic::Protocol(_) => "as in `ip/50`".into(),
            };
            Bad { message: Some(why.to_string()), hint: Some(hint) }
        })
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^(icmp|esp|tcp|udp|vxlan|(tcp|udp|vxlan|ip)/[0-9]+)$",
            "examples": ["udp/4789", "tcp/2377", "vxlan", "esp"]
        })
    }
}

impl Scalar for Versions {
    const WHAT: &'static str = "versions of Docker, as `\">=28\"`";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| Bad::hint("`>=28`, `<27`, `20.10`, or several: `>=27 <28`"))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": r"^ *((>=|<=|>|<)?[0-9]+(\.[0-9]+)? *)+$",
            "examples": [">=28", "<28", "20.10"]
        })
    }
}
