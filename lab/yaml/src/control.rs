//! Rejects control characters in text.

use crate::{
    cx::Cx,
    diagnostic::Diagnostic,
    span::Span,
    yaml::{Value, Yaml},
};

/// Notes every key and every scalar with a control character in it. No name, path, command or variable can have one: NUL
/// ends a string in C, and the others steer terminals. Line ends and tabs are fine in values.
pub fn reject_controls(node: &Yaml, cx: &mut Cx) {
    match &node.value {
        Value::Null => {}
        Value::Text(text) | Value::Plain(text, _) => {
            let hostile = |c: char| c.is_control() && c != '\n' && c != '\t';
            told("this text", text.chars().find(|c| hostile(*c)), node.at, cx);
        }
        Value::List(list) => list.iter().for_each(|n| reject_controls(n, cx)),
        Value::Map(entries) => {
            for (key, value) in entries {
                told("this key", key.value.chars().find(|c| c.is_control()), key.at, cx);
                reject_controls(value, cx);
            }
        }
    }
}

fn told(what: &str, found: Option<char>, at: Span, cx: &mut Cx) {
    let Some(c) = found else { return };
    let d = Diagnostic::new(at, format!("{what} has a control character, U+{:04X}", u32::from(c)));
    cx.error(d.hint("leave it out; where a program is to print one, let it make it: `printf '\\033'`"));
}
