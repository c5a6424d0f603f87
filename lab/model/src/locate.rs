//! Places later remarks on a sound topology in its text.

use std::path::Path;

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Source, Span},
    input::yaml::{self, Node, Value},
};

/// A remark on a part of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Keys from the top to the part: `networks`, `blue`, `driver`. If the part is not in the text (a default), the deepest
    /// key that is counts.
    pub path: Vec<String>,
    /// The message.
    pub message: String,
    /// Words beside the part.
    pub label: String,
    /// How to fix it.
    pub hint: Option<String>,
}

/// The remarks as diagnostics of this topology, with their lines. `None` if there are none, or if the file can no
/// longer be read.
pub fn locate(file: &Path, remarks: &[Remark]) -> Option<Diagnostics> {
    if remarks.is_empty() {
        return None;
    }
    locate_in(Source::new(&file.to_string_lossy(), &crate::read::read(file).ok()?), remarks)
}

fn locate_in(source: Source, remarks: &[Remark]) -> Option<Diagnostics> {
    let root = yaml::parse(&source).ok()?;
    let list = remarks.iter().map(|remark| Diagnostic {
        at: span(&root, &remark.path),
        message: remark.message.clone(),
        label: remark.label.clone(),
        others: Vec::new(),
        hint: remark.hint.clone(),
    });
    Some(Diagnostics::new(source, list.collect(), 0))
}

/// The place of a path: for a scalar the scalar itself, for a mapping or a list its key.
fn span(root: &Node, path: &[String]) -> Span {
    let (mut at, mut node) = (root.at, root);
    for key in path {
        let next = match &node.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.value == *key).map(|(k, n)| (k.at, n)),
            _ => None,
        };
        let Some((key, inner)) = next else { break };
        (at, node) = (key, inner);
    }
    match node.value {
        Value::Text(_) | Value::Plain(..) => node.at,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_part_is_found_as_deep_as_the_text_goes() {
        let text = "name: x\nnetworks:\n  blue:\n    driver: ipvlan\n  red:\n";
        let line = |path: &[&str]| {
            let remark = Remark {
                path: path.iter().map(ToString::to_string).collect(),
                message: "m".into(),
                label: "l".into(),
                hint: None,
            };
            locate_in(Source::new("x.yaml", text), &[remark]).unwrap().reports()[0].line
        };
        assert_eq!(line(&["networks", "blue", "driver"]), 4);
        assert_eq!(line(&["networks", "red", "driver"]), 5);
        assert_eq!(line(&["networks", "blue"]), 3);
        assert_eq!(locate(Path::new("/nonexistent"), &[]), None);
    }
}
