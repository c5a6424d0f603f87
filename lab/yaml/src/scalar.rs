//! Kinds of scalars, each with its name for messages and its JSON Schema.

use std::{net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
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

impl Scalar for Ipv4Addr {
    const WHAT: &'static str = "an IPv4 address";

    fn read(text: &str) -> Result<Self, Bad> {
        text.parse().map_err(|_| {
            if let Some((address, _)) = text.split_once('/')
                && address.parse::<Ipv4Addr>().is_ok()
            {
                return Bad::hint(format!("without the prefix length: `{address}`"));
            }
            if text.parse::<std::net::Ipv6Addr>().is_ok() {
                return Bad::hint("this version knows IPv4 only");
            }
            Bad::default()
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "ipv4" })
    }
}

impl Scalar for Ipv4Net {
    const WHAT: &'static str = "an IPv4 address with its prefix length, as 192.168.56.0/24";

    fn read(text: &str) -> Result<Self, Bad> {
        // Rejects leading zeros, which ipnet accepts and other programs read as octal.
        let parts = text.split_once('/').and_then(|(address, length)| {
            let plain = length.len() == 1 || !length.starts_with('0');
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            Ipv4Net::new(address.parse().ok()?, length.parse().ok().filter(|_| plain && digits)?).ok()
        });
        parts.ok_or_else(|| {
            let zero = |part: &str| part.len() > 1 && part.starts_with('0');
            if text.contains('/') && text.split(['.', '/']).any(zero) {
                return Bad::hint("without leading zeros: some read them as octal");
            }
            if text.parse::<Ipv4Addr>().is_ok() {
                return Bad::hint(format!(
                    "the prefix length is missing: `{text}/24`, for one; `/32` is this address alone"
                ));
            }
            if text.contains(':') {
                return Bad::hint("this version knows IPv4 only");
            }
            Bad::default()
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9.]+/[0-9]{1,2}$" })
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
