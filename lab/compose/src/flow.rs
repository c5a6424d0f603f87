//! YAML on one line.

use labctl_yaml::{Value, Yaml};

/// Writes a node in flow style.
pub(crate) fn node(yaml: &Yaml) -> String {
    match &yaml.value {
        Value::Null => "null".to_owned(),
        Value::Text(text) => scalar(text),
        Value::Plain(text, _) => text.clone(),
        Value::List(nodes) => list(nodes.iter().map(node)),
        Value::Map(entries) => map(entries.iter().map(|(k, v)| (k.value.clone(), node(v)))),
    }
}

/// `[a, b]` of what is written already.
pub(crate) fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    if items.is_empty() { "[]".to_owned() } else { format!("[{}]", items.join(", ")) }
}

/// `{ a: b, c: d }` of keys and of values that are written already.
pub(crate) fn map(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries: Vec<String> = entries.into_iter().map(|(k, v)| format!("{}: {v}", scalar(&k))).collect();
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// A text, in quotes where YAML could take it for something else.
pub(crate) fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(plain)
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_lowercase().as_str());
    if word { text.to_owned() } else { quoted(text) }
}

/// An address or a subnet: IPv6 in quotes.
pub(crate) fn address(ip: &impl ToString) -> String {
    let text = ip.to_string();
    if text.contains(':') { scalar(&text) } else { text }
}

/// A text in double quotes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if labctl_words::is_hostile(c) => out.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
