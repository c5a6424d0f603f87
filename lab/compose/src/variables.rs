//! `$NAME` and `${NAME:-default}` in values, as Compose replaces them.

use std::collections::{HashMap, HashSet};

use labctl_yaml::{Diagnostic, Span, Value, Yaml};

use crate::keys::Notes;

/// The variables that the text of a `.env` sets.
pub fn in_file(text: &str) -> HashMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    let pairs = lines.filter_map(|l| l.strip_prefix("export ").unwrap_or(l).split_once('='));
    pairs
        .map(|(name, value)| {
            let value = value.trim();
            let unquoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
            // Behind an unquoted value there may be a comment.
            let bare = value.split(" #").next().unwrap_or(value).trim_end();
            (name.trim().to_owned(), unquoted.unwrap_or(bare).to_owned())
        })
        .collect()
}

/// Replaces the variables in all values.
pub(crate) fn replace(root: &mut Yaml, variables: &HashMap<String, String>, notes: &mut Notes) {
    let mut missing = HashSet::new();
    walk(root, variables, &mut missing, notes);
}

fn walk(
    node: &mut Yaml,
    variables: &HashMap<String, String>,
    missing: &mut HashSet<String>,
    notes: &mut Notes,
) {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => {
            let mut reader = Reader { variables, unset: Vec::new() };
            match reader.whole(text) {
                Ok(replaced) => *text = replaced,
                Err(why) => notes.cx.error(Diagnostic::new(node.at, why)),
            }
            let unset = reader.unset;
            told(unset, missing, node.at, notes);
        }
        Value::List(list) => list.iter_mut().for_each(|n| walk(n, variables, missing, notes)),
        Value::Map(map) => map
            .iter_mut()
            .filter(|(k, _)| !k.value.starts_with("x-"))
            .for_each(|(_, n)| walk(n, variables, missing, notes)),
        Value::Null | Value::Text(_) | Value::Plain(..) => {}
    }
}

fn told(unset: Vec<String>, missing: &mut HashSet<String>, at: Span, notes: &mut Notes) {
    for name in unset {
        if missing.insert(name.clone()) {
            notes.add(at, format!("variable `{name}` is not set: nothing stands in its place"));
        }
    }
}

struct Reader<'v> {
    variables: &'v HashMap<String, String>,
    unset: Vec<String>,
}

impl Reader<'_> {
    fn whole(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let end = closing(after).ok_or("a `${` is never closed")?;
                out.push_str(&self.braced(&after[..end])?);
                rest = &after[end + 1..];
            } else {
                let len = name_len(rest);
                if len == 0 {
                    return Err("a `$` before no name; `$$` stands for `$`".to_owned());
                }
                out.push_str(&self.plain(&rest[..len]));
                rest = &rest[len..];
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn plain(&mut self, name: &str) -> String {
        self.variables.get(name).cloned().unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    /// What stands between `${` and `}`.
    fn braced(&mut self, inside: &str) -> Result<String, String> {
        let len = name_len(inside);
        let (name, rest) = inside.split_at(len);
        if name.is_empty() {
            return Err(format!("`${{{inside}}}` names no variable"));
        }
        let value = self.variables.get(name).cloned();
        let (strict, operator) = match rest.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, rest),
        };
        // With a colon, an empty variable counts as none.
        let given = value.filter(|v| !strict || !v.is_empty());
        let word = |operator: char| operator_word(rest, strict, operator);
        match operator.chars().next() {
            None if !strict => Ok(given.unwrap_or_else(|| self.plain(name))),
            Some('-') => given.map_or_else(|| self.whole(word('-')), Ok),
            Some('+') => given.map_or(Ok(String::new()), |_| self.whole(word('+'))),
            Some('?') => given.ok_or_else(|| {
                let why = word('?');
                let why = if why.is_empty() { "it is required" } else { why };
                format!("variable `{name}` is not set: {why}")
            }),
            _ => Err(format!("`${{{inside}}}` is no form of a variable")),
        }
    }
}

/// What follows an operator.
fn operator_word(rest: &str, strict: bool, operator: char) -> &str {
    rest.get(usize::from(strict) + operator.len_utf8()..).unwrap_or_default()
}

/// How many bytes of the text are a name.
fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Where the brace is that closes the one before this text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_variable() {
        let variables = HashMap::from([("A", "one"), ("EMPTY", "")].map(|(k, v)| (k.into(), v.into())));
        let read = |text: &str| Reader { variables: &variables, unset: Vec::new() }.whole(text);
        for (text, value) in [
            ("$A/${A}", "one/one"),
            ("$$A", "$A"),
            ("${NONE}", ""),
            ("${NONE-x}${EMPTY-y}", "x"),
            ("${EMPTY:-y}${A:-z}", "yone"),
            ("${NONE:-${A}}", "one"),
            ("${NONE:-{}}", "{}"),
            ("${A:+set}${NONE:+set}${EMPTY+set}", "setset"),
            ("${A:?needed}", "one"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(value), "{text}");
        }
        assert_eq!(read("${EMPTY:?say it}"), Err("variable `EMPTY` is not set: say it".into()));
        assert!(read("${A").is_err() && read("$ 5").is_err() && read("${A!}").is_err());
    }
}
