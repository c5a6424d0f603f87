//! YAML as a tree with the place of everything in the text. We use our own tree, not serde structs, because serde stops
//! at the first mistake and an author wants to see all of them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, Spanned};

use crate::{
    diagnostic::{Diagnostic, SourceText},
    span::{At, Span},
};

/// Most events that aliases may expand to; far more than a person writes.
const MOST_ALIASED: usize = 100_000;

/// The hint for text with braces that YAML takes for a mapping.
pub(crate) const BRACES: &str = "text with braces is quoted: `'{{.State}}'`";

/// A node of the tree.
#[derive(Clone, Debug)]
pub struct Yaml {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub at: Span,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// Any scalar, as text.
    Text(String),
    /// A plain number or `true`/`false`, as written; its value for JSON.
    Plain(String, serde_json::Value),
    /// A list.
    List(Vec<Yaml>),
    /// A mapping, in order.
    Map(Vec<(At<String>, Yaml)>),
}

impl Yaml {
    /// What a reader sees here, in words: "a list", "`42`".
    pub fn what(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Text(t) | Value::Plain(t, _) => {
                let short: String = t.chars().take(40).collect();
                if short.len() == t.len() && !t.contains('\n') {
                    format!("`{t}`")
                } else {
                    "a long text".into()
                }
            }
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    /// Moves all spans to their places in another text.
    pub fn place(&mut self, to: &impl Fn(Span) -> Span) {
        self.at = to(self.at);
        match &mut self.value {
            Value::List(l) => l.iter_mut().for_each(|n| n.place(to)),
            Value::Map(m) => m.iter_mut().for_each(|(key, n)| {
                key.at = to(key.at);
                n.place(to);
            }),
            Value::Null | Value::Text(_) | Value::Plain(..) => {}
        }
    }

    /// Converts the node to JSON. Its depth is bounded by the parser's budget.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Text(t) => t.clone().into(),
            Value::Plain(_, v) => v.clone(),
            Value::List(l) => l.iter().map(Yaml::to_json).collect(),
            Value::Map(m) => m
                .iter()
                .map(|(k, v)| (k.value.clone(), v.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// Reads a whole document.
///
/// # Errors
/// If it is no YAML, or more than one document.
pub fn parse(source: &SourceText) -> Result<Yaml, Box<Diagnostic>> {
    let options = serde_yaml::options! {
        strict_booleans: true,
        with_snippet: false,
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: MOST_ALIASED },
    };
    let mut node: Yaml = serde_yaml::from_str_with_options(&source.text, options)
        .map_err(|e| Box::new(diagnostic(source, &e)))?;
    restore(&mut node, &source.text);
    Ok(node)
}

/// Restores numbers as written, because serde turns them into values (`1.10` is not `1.1`, nor `0x10` 16).
fn restore(node: &mut Yaml, text: &str) {
    match &mut node.value {
        Value::Plain(written, _) => {
            if let Some(slice) = text.get(node.at.start..node.at.end)
                && !slice.is_empty()
            {
                *written = slice.to_owned();
            }
        }
        Value::List(l) => l.iter_mut().for_each(|n| restore(n, text)),
        Value::Map(m) => m.iter_mut().for_each(|(_, n)| restore(n, text)),
        Value::Null | Value::Text(_) => {}
    }
}

/// The place of an error; some errors have only a line and a column.
fn place(source: &SourceText, l: Location) -> Span {
    if l.span().byte_offset().is_some_and(|o| o > 0) {
        return span(l);
    }
    let number = |v: u64| usize::try_from(v).unwrap_or(usize::MAX).saturating_sub(1);
    let at = source.offset(number(l.line()), number(l.column()));
    Span::new(at, at)
}

fn span(l: Location) -> Span {
    let at = |v: Option<u64>| v.and_then(|v| usize::try_from(v).ok()).unwrap_or(0);
    let start = at(l.span().byte_offset());
    Span::new(start, start.saturating_add(at(l.span().byte_len())))
}

/// A parser error as a diagnostic, in our words where the library's are too technical.
fn diagnostic(source: &SourceText, e: &serde_yaml::Error) -> Diagnostic {
    use serde_yaml::Error as E;
    let mut e = e.without_snippet();
    // The place where the alias is used, not where it is defined.
    let at = e.location().map(|l| place(source, l)).unwrap_or_default();
    while let E::AliasError { error, .. } = e {
        e = error;
    }
    match e {
        E::Budget { .. } => {
            return Diagnostic::new(at, "this is more YAML than a topology can need")
                .hint("at most 64 levels, 250000 values, and aliases that do not multiply each other");
        }
        E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. } => {
            return Diagnostic::new(at, format!("the aliases stand for more than {MOST_ALIASED} values"))
                .hint("aliases of aliases multiply: write less of them");
        }
        E::MultipleDocuments { .. } => {
            return Diagnostic::new(at, "a topology is one YAML document, and here a second begins")
                .hint("one file for each lab");
        }
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_ref().map_or("this key".to_owned(), |k| format!("`{k}`"));
            return Diagnostic::new(at, format!("{key} is there twice")).hint("a mapping has each key once");
        }
        E::UnknownAnchor { .. } => {
            return Diagnostic::new(at, "this alias refers to nothing")
                .hint("`&name` comes first, then `*name`");
        }
        _ => {}
    }
    let text = e.to_string();
    // The place is shown by the snippet.
    let text = text.split(" at line ").next().unwrap_or(&text).trim_end();
    let text = if text == "expected string scalar" { "a key must be plain text" } else { text };
    let tab = source.text.get(..at.start).is_some_and(|_| {
        let (start, line) = source.line_at(at.start);
        source
            .text
            .get(start..start + (line.len() - line.trim_start().len()))
            .is_some_and(|i| i.contains('\t'))
    });
    let d = Diagnostic::new(at, text);
    if tab {
        d.hint("YAML is indented with spaces, never with tabs")
    } else if has_bare_braces(source, at) {
        d.hint(BRACES)
    } else {
        d
    }
}

/// Whether the line of a mistake, or the one before, has braces as in `{{.State}}` or `${vni:net}` that no quotes enclose.
fn has_bare_braces(source: &SourceText, at: Span) -> bool {
    let (start, line) = source.line_at(at.start);
    let before = start.checked_sub(1).map_or("", |end| source.line_at(end).1);
    [line, before].iter().any(|line| {
        let bare: String = line.split(['\'', '"']).step_by(2).collect();
        bare.contains("{{") || bare.contains("${")
    })
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = Spanned::<Value>::deserialize(d)?;
        // For an alias, the definition is underlined, because the words are there.
        let mut at = span(s.defined);
        if let (Value::Map(entries), true) = (&s.value, at.start == at.end)
            && let Some((key, _)) = entries.first()
        {
            at = key.at;
        }
        Ok(Yaml { value: s.value, at })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Plain(v.to_string(), v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Plain(v.to_string(), v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Plain(v.to_string(), v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Plain(v.to_string(), v.into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(n) = seq.next_element()? {
            list.push(n);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = At { value: key.value, at: span(key.defined) };
            entries.push((key, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}
