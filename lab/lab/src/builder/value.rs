//! The values that a builder collects: those of YAML. Mappings keep the order in which they were given.

use indexmap::IndexMap;
use serde::Serialize;

/// Any value of a topology, as an argument of the builders' `set`.
///
/// ```
/// use lab::builder::Value;
/// let pool = Value::map([("base", Value::from("12.11.0.0/16")), ("size", Value::from(24))]);
/// let daemon_json = Value::map([("default-address-pools", Value::from([pool]))]);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Number(u64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A mapping.
    Map(Map),
}

/// A mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Map(pub(super) IndexMap<String, Value>);

impl Value {
    /// A mapping of these entries, in this order.
    pub fn map<K: Into<String>, V: Into<Value>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(Map(entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect()))
    }
}

impl Value {
    /// Whether it is an IPv6 address.
    pub(super) fn is_v6(&self) -> bool {
        matches!(self, Self::Text(text) if text.parse::<std::net::Ipv6Addr>().is_ok())
    }
}

impl Map {
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// The mapping below a key; made if missing.
    pub(super) fn below(&mut self, key: &str) -> &mut Map {
        let value = self.0.entry(key.to_owned()).or_insert_with(|| Value::Map(Map::default()));
        if !matches!(value, Value::Map(_)) {
            *value = Value::Map(Map::default());
        }
        match value {
            Value::Map(map) => map,
            _ => unreachable!("it was made one"),
        }
    }

    /// Adds to the list below a key; makes the list if it is missing.
    pub(super) fn push(&mut self, key: &str, item: impl Into<Value>) {
        let value = self.0.entry(key.to_owned()).or_insert_with(|| Value::List(Vec::new()));
        if !matches!(value, Value::List(_)) {
            *value = Value::List(Vec::new());
        }
        if let Value::List(list) = value {
            list.push(item.into());
        }
    }
}

macro_rules! into_value {
    ($($type:ty => |$v:ident| $value:expr),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from($v: $type) -> Self {
                $value
            }
        }
    )*};
}

into_value! {
    bool => |v| Self::Bool(v),
    u64 => |v| Self::Number(v),
    u32 => |v| Self::Number(v.into()),
    u16 => |v| Self::Number(v.into()),
    i32 => |v| u64::try_from(v).map_or_else(|_| Self::Text(v.to_string()), Self::Number),
    &str => |v| Self::Text(v.to_owned()),
    String => |v| Self::Text(v),
    std::net::IpAddr => |v| Self::Text(v.to_string()),
    std::net::Ipv4Addr => |v| Self::Text(v.to_string()),
    std::net::Ipv6Addr => |v| Self::Text(v.to_string()),
    Map => |v| Self::Map(v),
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(list: [T; N]) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}
