//! Mappings of which every key is taken or noted.

use labctl_yaml::{At, Cx, Diagnostic, Span, Value, Yaml};

use crate::Note;

/// What is found on the way: mistakes, and notes on what is left out.
pub(crate) struct Notes {
    pub(crate) cx: Cx,
    pub(crate) list: Vec<Note>,
}

impl Notes {
    pub(crate) fn new(cx: Cx) -> Self {
        Self { cx, list: Vec::new() }
    }

    /// Notes what was left out or changed.
    pub(crate) fn add(&mut self, at: Span, text: impl Into<String>) {
        let line = self.cx.line(at);
        self.list.push(Note { line, text: text.into() });
    }

    /// Notes a value of another form than Compose takes.
    pub(crate) fn wrong(&mut self, node: &Yaml, key: Span, expected: &str) {
        let at = if matches!(node.value, Value::Null | Value::Map(_)) { key } else { node.at };
        self.cx.error(Diagnostic::new(at, format!("expected {expected}, found {}", node.what())));
    }
}

/// The entries of a mapping while they are taken one by one.
pub(crate) struct Keys<'n> {
    of: String,
    entries: Vec<(&'n At<String>, &'n Yaml)>,
}

impl<'n> Keys<'n> {
    /// The entries of a mapping; `of` names it in notes. Nothing at all is an empty mapping.
    pub(crate) fn new(node: &'n Yaml, of: impl Into<String>, notes: &mut Notes) -> Option<Self> {
        let of = of.into();
        let entries = match &node.value {
            Value::Map(entries) => entries.iter().map(|(k, v)| (k, v)).collect(),
            Value::Null => Vec::new(),
            _ => {
                notes.wrong(node, node.at, "a mapping");
                return None;
            }
        };
        Some(Self { of, entries })
    }

    /// Whether a key is there that was not taken.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(k, _)| k.value == key)
    }

    /// Takes one key. A key without a value is like none.
    pub(crate) fn take(&mut self, key: &str) -> Option<(&'n At<String>, &'n Yaml)> {
        let i = self.entries.iter().position(|(k, _)| k.value == key)?;
        let (key, node) = self.entries.remove(i);
        (!matches!(node.value, Value::Null)).then_some((key, node))
    }

    /// Takes all of these keys that are there.
    pub(crate) fn take_all(&mut self, keys: &[&str]) -> Vec<(&'n At<String>, &'n Yaml)> {
        keys.iter().filter_map(|key| self.take(key)).collect()
    }

    /// Takes one key's text.
    pub(crate) fn text(&mut self, key: &str, notes: &mut Notes) -> Option<At<String>> {
        let (key, node) = self.take(key)?;
        let text = text(node);
        if text.is_none() {
            notes.wrong(node, key.at, "text");
        }
        Some(At { value: text?, at: node.at })
    }

    /// Takes one key's flag; absent is false.
    pub(crate) fn flag(&mut self, key: &str, notes: &mut Notes) -> bool {
        let Some(text) = self.text(key, notes) else { return false };
        match text.value.as_str() {
            "true" | "True" | "yes" | "on" => true,
            "false" | "False" | "no" | "off" => false,
            other => {
                notes
                    .cx
                    .error(Diagnostic::new(text.at, format!("expected `true` or `false`, found `{other}`")));
                false
            }
        }
    }

    /// Takes one key's list of texts; one text is a list of itself.
    pub(crate) fn texts(&mut self, key: &str, notes: &mut Notes) -> Vec<At<String>> {
        let Some((key, node)) = self.take(key) else { return Vec::new() };
        texts(node, key.at, notes)
    }

    /// The first key that was not taken.
    pub(crate) fn first(&self) -> Option<&'n str> {
        self.entries.first().map(|(k, _)| k.value.as_str())
    }

    /// What was not taken, apart from keys that begin with `x-`, which mean nothing.
    pub(crate) fn rest(self) -> impl Iterator<Item = (&'n At<String>, &'n Yaml)> {
        self.entries
            .into_iter()
            .filter(|(k, node)| !k.value.starts_with("x-") && !matches!(node.value, Value::Null))
    }

    /// Notes what was not taken as left out.
    pub(crate) fn finish(self, notes: &mut Notes) {
        let of = self.of.clone();
        for (key, _) in self.rest() {
            notes.add(key.at, format!("`{}` of {of}: left out, a lab has nothing like it", key.value));
        }
    }
}

/// The text of a scalar.
pub(crate) fn text(node: &Yaml) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Plain(text, _) => Some(text.clone()),
        _ => None,
    }
}

/// The texts of a list; one text is a list of itself.
pub(crate) fn texts(node: &Yaml, key: Span, notes: &mut Notes) -> Vec<At<String>> {
    let nodes = match &node.value {
        Value::List(list) => list.as_slice(),
        Value::Null => return Vec::new(),
        _ => std::slice::from_ref(node),
    };
    let mut all = Vec::new();
    for node in nodes {
        match text(node) {
            Some(value) => all.push(At { value, at: node.at }),
            None => notes.wrong(node, key, "text"),
        }
    }
    all
}

/// The pairs of a mapping, or of a list of `KEY=VALUE`.
pub(crate) fn pairs(node: &Yaml, key: Span, notes: &mut Notes) -> Vec<(At<String>, String)> {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().map(|(k, v)| (k.clone(), text(v).unwrap_or_default())).collect()
        }
        _ => texts(node, key, notes)
            .into_iter()
            .map(|t| {
                let (k, v) = t.value.split_once('=').unwrap_or((&t.value, ""));
                (At { value: k.to_owned(), at: t.at }, v.to_owned())
            })
            .collect(),
    }
}
