//! Kinds of scalars, each with its name for messages and its JSON Schema.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use schemars::{Schema, json_schema};

/// Longest duration.
const LONGEST: Duration = Duration::from_secs(600);

/// A scalar that can be read from its text.
pub trait Scalar: Sized {
    /// What is expected, in words: "an IPv4 address".
    const WHAT: &'static str;

    /// Reads the value from its text.
    ///
    /// # Errors
    /// Why the text is no such value.
    fn read(text: &str) -> Result<Self, Bad>;

    /// The JSON Schema of its text.
    fn schema() -> Schema;
}

/// Why a scalar could not be read; has a message if "expected …" says too little.
#[derive(Debug, Default)]
pub struct Bad {
    /// What is wrong; absent: "expected …, found …".
    pub message: Option<String>,
    /// How to fix it, if known.
    pub hint: Option<String>,
}

impl Bad {
    /// An error with this hint.
    pub fn hint(hint: impl Into<String>) -> Self {
        Self { message: None, hint: Some(hint.into()) }
    }

    /// An error with this message.
    pub fn because(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), hint: None }
    }
}

impl Scalar for String {
    const WHAT: &'static str = "text";

    fn read(text: &str) -> Result<Self, Bad> {
        Ok(text.to_owned())
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl Scalar for bool {
    const WHAT: &'static str = "`true` or `false`";

    fn read(text: &str) -> Result<Self, Bad> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            "yes" | "on" | "True" | "TRUE" => Err(Bad::hint("write `true`")),
            "no" | "off" | "False" | "FALSE" => Err(Bad::hint("write `false`")),
            _ => Err(Bad::default()),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl Scalar for u32 {
    const WHAT: &'static str = "a whole number";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| Bad::default())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

impl Scalar for i64 {
    const WHAT: &'static str = "a whole number";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| Bad::default())
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer" })
    }
}

impl Scalar for IpAddr {
    const WHAT: &'static str = "an IP address";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| no_address::<Self>(text))
    }

    fn schema() -> Schema {
        json_schema!({ "anyOf": [Ipv4Addr::schema(), Ipv6Addr::schema()] })
    }
}

impl Scalar for Ipv4Addr {
    const WHAT: &'static str = "an IPv4 address";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| match text.parse::<Ipv6Addr>() {
            Ok(_) => Bad::hint("this is IPv6: `ipv6_address`, for one, takes it"),
            Err(_) => no_address::<Self>(text),
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "ipv4" })
    }
}

impl Scalar for Ipv6Addr {
    const WHAT: &'static str = "an IPv6 address";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| match text.parse::<Ipv4Addr>() {
            Ok(_) => Bad::hint("this is IPv4: `ipv4_address`, for one, takes it"),
            Err(_) => no_address::<Self>(text),
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "ipv6" })
    }
}

/// Why a text is no address of this kind.
fn no_address<T: FromStr>(text: &str) -> Bad {
    if let Some((address, _)) = text.split_once('/')
        && address.parse::<T>().is_ok()
    {
        return Bad::hint(format!("without the prefix length: `{address}`"));
    }
    if let Some((address, _)) = text.split_once('%')
        && address.parse::<T>().is_ok()
    {
        return Bad::hint(format!("without the interface: `{address}`"));
    }
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Some(address) = inner.filter(|address| address.parse::<T>().is_ok()) {
        return Bad::hint(format!("without brackets: `{address}`"));
    }
    Bad::default()
}

impl Scalar for IpNet {
    const WHAT: &'static str = "an IP address with its prefix length, as 192.168.56.0/24 or fd00:56::/64";

    fn read(text: &str) -> Result<Self, Bad> {
        // Rejects leading zeros, which ipnet accepts and other programs read as octal.
        let parts = text.split_once('/').and_then(|(address, length)| {
            let plain = length.len() == 1 || !length.starts_with('0');
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            IpNet::new(address.parse().ok()?, length.parse().ok().filter(|_| plain && digits)?).ok()
        });
        parts.ok_or_else(|| {
            let zero = |part: &str| part.len() > 1 && part.starts_with('0');
            if text.contains('/') && !text.contains(':') && text.split(['.', '/']).any(zero) {
                return Bad::hint("without leading zeros: some read them as octal");
            }
            match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => Bad::hint(format!(
                    "the prefix length is missing: `{text}/24`, for one; `/32` is this address alone"
                )),
                Ok(IpAddr::V6(_)) => Bad::hint(format!(
                    "the prefix length is missing: `{text}/64`, for one; `/128` is this address alone"
                )),
                Err(_) => Bad::default(),
            }
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9a-fA-F.:]+/[0-9]{1,3}$" })
    }
}

impl Scalar for Duration {
    const WHAT: &'static str = "a duration as 500ms, 10s or 2m";

    fn read(text: &str) -> Result<Self, Bad> {
        let duration = humantime::parse_duration(text).map_err(|_| {
            let number = text.parse::<f64>().is_ok();
            if number { Bad::hint(format!("with its unit: `{text}s`")) } else { Bad::default() }
        })?;
        if duration > LONGEST {
            let mut bad = Bad::because(format!("`{text}` is longer than anything here may take"));
            bad.hint = Some("at most `10m`".into());
            return Err(bad);
        }
        Ok(duration)
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["string", "integer"], "examples": ["500ms", "10s", "2m"] })
    }
}
