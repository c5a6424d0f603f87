//! Reads structs from the YAML tree and notes every mistake instead of stopping at the first.

use labctl_words as words;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

use crate::{
    cx::Cx,
    diagnostic::Diagnostic,
    scalar::Scalar,
    span::{At, Span},
    yaml::{BRACES, Value, Yaml},
};

/// A value that can be read from a node. `None`: it could not be read, and the mistake is noted.
pub trait FromNode: Sized {
    /// Reads the value; notes what is wrong with it.
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self>;

    /// The value of a key that is not there; `None` where the key is required.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Scalar> FromNode for At<T> {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        let (Value::Text(text) | Value::Plain(text, _)) = &node.value else {
            let at = if matches!(node.value, Value::Null) { cx.owner } else { node.at };
            let d = Diagnostic::new(at, format!("expected {}, found {}", T::WHAT, node.what()));
            // `{State}` is a mapping with a key and no value.
            let braces = matches!(&node.value, Value::Map(entries)
                if !entries.is_empty() && entries.iter().all(|(_, n)| matches!(n.value, Value::Null)))
                && cx.begins_with_brace(node.at);
            cx.error(d.maybe_hint(braces.then(|| BRACES.to_owned())));
            return None;
        };
        match T::read(text) {
            Ok(value) => Some(At { value, at: node.at }),
            Err(bad) => {
                let message =
                    bad.message.unwrap_or_else(|| format!("expected {}, found {}", T::WHAT, node.what()));
                cx.error(Diagnostic::new(node.at, message).maybe_hint(bad.hint));
                None
            }
        }
    }
}

impl<T: FromNode> FromNode for Option<T> {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        if matches!(node.value, Value::Null) { Some(None) } else { T::from_node(node, cx).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromNode> FromNode for Box<T> {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        T::from_node(node, cx).map(Box::new)
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        let Value::List(list) = &node.value else {
            let d = Diagnostic::new(node.at, format!("expected a list, found {}", node.what()));
            cx.error(d.maybe_hint(as_list(node)));
            return None;
        };
        let all: Vec<Option<T>> = list.iter().map(|n| value_of(n, n.at, cx)).collect();
        all.into_iter().collect()
    }
}

/// One, or a list of them.
#[derive(Clone, Debug)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T: FromNode> FromNode for OneOrMany<T> {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::from_node(node, cx).map(OneOrMany),
            _ => T::from_node(node, cx).map(|one| OneOrMany(vec![one])),
        }
    }
}

/// A mapping from names, in order. A value that could not be read is `None`: its name is known all the same, so that
/// what refers to it is not blamed.
#[derive(Clone, Debug)]
pub struct Map<T>(pub Vec<(At<String>, Option<T>)>);

impl<T: FromNode> FromNode for Map<T> {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let d = Diagnostic::new(node.at, format!("expected a mapping, found {}", node.what()));
            cx.error(d.hint("as `{ NAME: … }`"));
            return None;
        };
        let read = |(key, value): &(At<String>, Yaml)| (key.clone(), value_of(value, key.at, cx));
        Some(Map(entries.iter().map(read).collect()))
    }
}

/// Reads a value on behalf of its key.
pub fn value_of<T: FromNode>(value: &Yaml, key: Span, cx: &mut Cx) -> Option<T> {
    let outer = std::mem::replace(&mut cx.owner, key);
    let read = T::from_node(value, cx);
    cx.owner = outer;
    read
}

/// Any YAML, as JSON.
#[derive(Clone, Debug)]
pub struct Json(pub At<serde_json::Value>);

impl FromNode for Json {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        let at = if matches!(node.value, Value::Map(_) | Value::Null) { cx.owner } else { node.at };
        Some(Json(At { value: node.to_json(), at }))
    }
}

/// How a scalar is written as a list, for a hint.
fn as_list(node: &Yaml) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Plain(text, _) if text.len() <= 40 && !text.contains('\n') => {
            Some(format!("a list: `[{text}]`"))
        }
        _ => None,
    }
}

/// The keys of a mapping while a struct is read from it.
pub struct Fields<'n> {
    entries: Vec<(&'n At<String>, &'n Yaml)>,
    owner: Span,
    what: &'static str,
    ok: bool,
    /// Whether there was an unknown key. It is probably a missing key misspelt, so missing keys are then not reported.
    unknown: bool,
}

impl<'n> Fields<'n> {
    /// The keys of a node; `None` if it is no mapping. Nothing at all counts as an empty mapping.
    ///
    /// `keys` are those that it may have, for a hint.
    pub fn new(node: &'n Yaml, what: &'static str, keys: &[&'static str], cx: &mut Cx) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(m) => {
                m.iter().filter(|(k, _)| !k.value.starts_with("x-")).map(|(k, v)| (k, v)).collect()
            }
            Value::Null => Vec::new(),
            _ => {
                let message = format!("expected {what} (a mapping), found {}", node.what());
                let known = words::list(keys.iter().copied());
                let hint = keys.first().map(|key| format!("as `{{ {key}: … }}`; its keys are {known}"));
                cx.error(Diagnostic::new(node.at, message).maybe_hint(hint));
                return None;
            }
        };
        Some(Self { entries, owner: cx.owner, what, ok: true, unknown: false })
    }

    /// Notes every key that is not one of `keys`.
    pub fn only(&mut self, keys: &[&'static str], cx: &mut Cx) {
        for (key, _) in &self.entries {
            if !keys.contains(&key.value.as_str()) {
                self.ok = false;
                self.unknown = true;
                cx.error(match (cx.foreign)(self.what, &key.value) {
                    Some((message, hint)) => Diagnostic::new(key.at, message).hint(hint),
                    None => {
                        let message = format!("unknown key `{}` in {}", key.value, self.what);
                        Diagnostic::new(key.at, message)
                            .label("no such key")
                            .hint(hint_for_key(&key.value, keys))
                    }
                });
            }
        }
    }

    /// Reads the mapping although it has unknown keys, so that what refers to it is not blamed.
    pub fn tolerate_unknown(&mut self) {
        self.ok = true;
    }

    /// Reads the value of one key.
    pub fn take<T: FromNode>(&mut self, name: &str, cx: &mut Cx) -> Option<T> {
        let read = match self.entries.iter().find(|(k, _)| k.value == name) {
            Some((key, node)) => value_of(node, key.at, cx),
            None => {
                let absent = T::absent();
                if absent.is_none() && !self.unknown {
                    let message = format!("{} needs `{name}`", self.what);
                    cx.error(Diagnostic::new(self.owner, message).label(format!("no `{name}` in here")));
                }
                absent
            }
        };
        self.ok &= read.is_some();
        read
    }

    /// The entries whose keys are not among `keys`.
    pub fn rest(&self, keys: &[&str]) -> Vec<(&'n At<String>, &'n Yaml)> {
        self.entries.iter().filter(|(k, _)| !keys.contains(&k.value.as_str())).copied().collect()
    }

    /// What is underlined when the whole of it is meant.
    pub fn at(&self) -> Span {
        self.owner
    }

    /// Whether no mistake was found so far.
    pub fn ok(&self) -> bool {
        self.ok
    }
}

fn hint_for_key(key: &str, keys: &[&'static str]) -> String {
    if let Some(near) = words::nearest(key, keys.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let known = words::list(keys.iter().copied());
    format!("known keys are {known}; keys that begin with `x-` are ignored")
}

/// Declares a struct that is read from a mapping, with its JSON Schema: one place for the keys of each.
#[macro_export]
macro_rules! raw {
    ($(#[doc = $doc:literal])* $name:ident, $what:literal $(, $tolerant:ident)? { $( $(#[$fmeta:meta])* $field:ident : $type:ty, )* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, extend("patternProperties" = { "^x-": true }))]
        pub struct $name {
            /// What is underlined when the whole of it is meant.
            #[schemars(skip)]
            #[allow(dead_code, reason = "some mappings are never meant as a whole")]
            pub at: $crate::Span,
            $( $(#[$fmeta])* pub $field: $type, )*
        }

        impl $crate::FromNode for $name {
            fn from_node(node: &$crate::Yaml, cx: &mut $crate::Cx) -> Option<Self> {
                let keys = [$( $crate::bare(stringify!($field)), )*];
                let mut fields = $crate::Fields::new(node, $what, &keys, cx)?;
                fields.only(&keys, cx);
                $( fields.$tolerant(); )?
                $( let $field: Option<$type> = fields.take($crate::bare(stringify!($field)), cx); )*
                fields.ok().then_some(())?;
                Some(Self { at: fields.at(), $( $field: $field?, )* })
            }
        }
    };
}

/// The key of a field: without the `r#` of one that is named like a keyword.
pub fn bare(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Gives a type this JSON Schema, written out where the type is used.
#[macro_export]
macro_rules! inline_schema {
    ($type:ident, $generator:pat_param => $schema:expr) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema($generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}

/// Hands the schema of a wrapper on to what it wraps.
macro_rules! schema_of {
    ($wrapper:ident<T: $bound:ident>, $generator:ident => $schema:expr) => {
        impl<T: $bound> JsonSchema for $wrapper<T> {
            fn schema_name() -> Cow<'static, str> {
                format!("{}_{}", stringify!($wrapper), T::schema_name()).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema_of!(OneOrMany<T: JsonSchema>, g => {
    let one = g.subschema_for::<T>();
    json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
});
schema_of!(Map<T: JsonSchema>, g => {
    let value = g.subschema_for::<T>();
    json_schema!({ "type": "object", "additionalProperties": value })
});

impl<T: Scalar> JsonSchema for At<T> {
    fn schema_name() -> Cow<'static, str> {
        T::WHAT.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::schema()
    }
}

inline_schema!(Json, _ => json_schema!({ "type": "object" }));
