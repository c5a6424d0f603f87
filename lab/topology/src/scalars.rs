//! Scalars that only topologies have.

use std::net::IpAddr;

use ipnet::IpNet;
use labctl_model::{
    engine::Versions,
    family::Family,
    traffic::{NoTraffic, Traffic},
};
use labctl_words as words;
use labctl_yaml::{Bad, Scalar};
use schemars::{Schema, json_schema};

/// The destination of a route: a prefix, a bare address for itself alone, or `default`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Destination {
    /// Everything of the next hop's family.
    Default,
    /// A prefix.
    Prefix(IpNet),
}

impl Destination {
    /// The prefix; `family` is that of the next hop.
    pub(crate) fn prefix(self, family: Option<Family>) -> IpNet {
        match self {
            Self::Default => family.unwrap_or(Family::V4).everything(),
            Self::Prefix(net) => net,
        }
    }
}

impl Scalar for Destination {
    const WHAT: &'static str = "a prefix as 172.16.0.0/12, an address, or `default`";

    fn read(text: &str) -> Result<Self, Bad> {
        if text == "default" {
            return Ok(Self::Default);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Prefix(address.into()));
        }
        IpNet::read(text).map(Self::Prefix).map_err(|_| Bad::default())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(default|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$" })
    }
}

/// A type of the model, as a topology's scalar.
#[derive(Clone, Debug)]
pub struct Written<T>(pub T);

impl Scalar for Written<Traffic> {
    const WHAT: &'static str = "what is blocked, as `udp/4789`";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map(Self).map_err(|why: NoTraffic| {
            let hint = match &why {
                NoTraffic::Unknown(word) => match words::nearest(word, Traffic::WORDS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        let named = "`udp/PORT`, `tcp/PORT`, `vxlan`, `esp`, `icmp`, `icmp6`, `too-big`";
                        format!("{named}, or `ip/NUMBER` of any protocol")
                    }
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
            "pattern": r"^(icmp|icmp6|esp|tcp|udp|vxlan|too-big|(tcp|udp|vxlan|ip)/[0-9]+)$",
            "examples": ["udp/4789", "tcp/2377", "vxlan", "esp"]
        })
    }
}

impl Scalar for Written<Versions> {
    const WHAT: &'static str = "versions of Docker, as `\">=28\"`";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map(Self).map_err(|_| Bad::hint("`>=28`, `<27`, `20.10`, or several: `>=27 <28`"))
    }

    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "pattern": r"^ *((>=|<=|>|<)?[0-9]+(\.[0-9]+)? *)+$",
            "examples": [">=28", "<28", "20.10"]
        })
    }
}
