//! How values are written: one style per kind of field.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::proto::{arp, gpe, icmp, icmpv6};
use crate::{MacAddr, TcpFlags};

/// How a `T` is written. A bare key reads like an empty text, so only flags accept it.
pub(super) trait Style<T> {
    fn read(text: &str) -> Result<T, String>;
    fn show(value: &T) -> String;
}

/// Written as the type writes itself; numbers in decimal.
pub(super) struct Plain;
/// Numbers in hex.
pub(super) struct Hex;
/// Numbers by name, if they have one.
pub(super) struct Names<N>(std::marker::PhantomData<N>);

/// Unset values are left out, so only set ones are shown.
impl<T, S: Style<T>> Style<Option<T>> for S {
    fn read(text: &str) -> Result<Option<T>, String> {
        S::read(text).map(Some)
    }

    fn show(value: &Option<T>) -> String {
        value.as_ref().map(S::show).unwrap_or_default()
    }
}

/// Types that write themselves.
pub(super) trait Plainly: Sized {
    fn read(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

impl<T: Plainly> Style<T> for Plain {
    fn read(text: &str) -> Result<T, String> {
        T::read(text)
    }

    fn show(value: &T) -> String {
        value.show()
    }
}

/// Unsigned numbers of a header.
pub(super) trait Number: Copy + TryFrom<u64> + Into<u64> {
    const MAX: u64;

    fn parse(text: &str) -> Option<Self> {
        // from_str_radix accepts a sign; numbers here have none.
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            _ if text.contains('+') => return None,
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        Self::try_from(number.ok()?).ok()
    }

    fn read_number(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| format!("{text:?} is no number from 0 to {}", Self::MAX))
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Number for $number {
            const MAX: u64 = <$number>::MAX as u64;
        }

        impl Plainly for $number {
            fn read(text: &str) -> Result<Self, String> {
                Self::read_number(text)
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }

        impl Style<$number> for Hex {
            fn read(text: &str) -> Result<$number, String> {
                <$number>::read_number(text)
            }

            fn show(value: &$number) -> String {
                format!("{value:#x}")
            }
        }

        impl<N: Named> Style<$number> for Names<N> {
            fn read(text: &str) -> Result<$number, String> {
                let named = N::NAMES.iter().find(|(name, _)| *name == text);
                let number = named.map(|(_, number)| <$number>::try_from(*number).ok());
                number.unwrap_or_else(|| <$number>::parse(text)).ok_or_else(|| {
                    let names: Vec<_> = N::NAMES.iter().map(|(name, _)| *name).collect();
                    format!("{text:?} is no number from 0 to {} and none of {}", <$number>::MAX, names.join(", "))
                })
            }

            fn show(value: &$number) -> String {
                N::name(u64::from(*value)).map_or_else(|| value.to_string(), str::to_owned)
            }
        }
    )*};
}
numbers! { u8 u16 u32 }

/// Numbers with names.
pub(crate) trait Named {
    const NAMES: &[(&'static str, u64)];

    fn name(number: u64) -> Option<&'static str> {
        Self::NAMES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
    }
}

macro_rules! named {
    ($($style:ident { $($name:literal = $number:expr,)* })*) => {$(
        pub(crate) struct $style;

        impl Named for $style {
            const NAMES: &[(&'static str, u64)] = &[$(($name, $number as u64),)*];
        }
    )*};
}

named! {
    ArpOperation {
        "request" = arp::REQUEST,
        "reply" = arp::REPLY,
    }
    IcmpType {
        "echo-request" = icmp::ECHO_REQUEST,
        "echo-reply" = icmp::ECHO_REPLY,
        "unreachable" = icmp::UNREACHABLE,
        "redirect" = icmp::REDIRECT,
        "time-exceeded" = icmp::TIME_EXCEEDED,
        "parameter-problem" = icmp::PARAMETER_PROBLEM,
    }
    Icmp6Type {
        "echo-request" = icmpv6::ECHO_REQUEST,
        "echo-reply" = icmpv6::ECHO_REPLY,
        "unreachable" = icmpv6::UNREACHABLE,
        "packet-too-big" = icmpv6::PACKET_TOO_BIG,
        "time-exceeded" = icmpv6::TIME_EXCEEDED,
        "parameter-problem" = icmpv6::PARAMETER_PROBLEM,
        "neighbor-solicitation" = icmpv6::NEIGHBOR_SOLICITATION,
        "neighbor-advertisement" = icmpv6::NEIGHBOR_ADVERTISEMENT,
    }
    GpeNext {
        "ip" = gpe::next::IPV4,
        "ip6" = gpe::next::IPV6,
        "eth" = gpe::next::ETHERNET,
        "nsh" = gpe::next::NSH,
    }
}

macro_rules! addresses {
    ($($address:ty = $example:literal)*) => {$(
        impl Plainly for $address {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("{text:?} is no address such as {}", $example))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
addresses! { MacAddr = "02:42:0a:03:01:03" Ipv4Addr = "10.3.1.3" Ipv6Addr = "2001:db8::1" }

impl Plainly for bool {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }

    fn show(&self) -> String {
        if *self { String::new() } else { "false".into() }
    }
}

impl Plainly for TcpFlags {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Bytes as hex digits.
impl Plainly for Vec<u8> {
    fn read(text: &str) -> Result<Self, String> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
        let (pairs, odd) = text.as_bytes().as_chunks::<2>();
        let bytes =
            pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect::<Option<_>>();
        match bytes {
            Some(bytes) if odd.is_empty() => Ok(bytes),
            Some(_) => Err("an odd number of hex digits".into()),
            None => Err("bytes are hex digits, as in 0a1b2c".into()),
        }
    }

    fn show(&self) -> String {
        self.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
