//! A Compose file inside a topology: the topology that it becomes, each part with its place in the Compose file.

use labctl_yaml::{At, Diagnostic, Diagnostics, SourceText, Span, Value, Yaml};

use crate::{ImportError, ImportOptions, Note, make, write};

/// The topology of a Compose file, as a tree.
#[derive(Clone, Debug)]
pub struct Included {
    /// The topology. Its places are in the text that includes the Compose file: [`SourceText::include`] has put it there.
    pub tree: Yaml,
    /// What was left out or changed, in the order of the file.
    pub notes: Vec<Note>,
}

/// Makes a topology of a Compose file for a text that includes it at `by`, and puts the file behind that text. Arguments
/// are those of [`import`](crate::import) else.
///
/// # Errors
/// As [`import`](crate::import).
pub fn include(
    into: &mut SourceText,
    by: Span,
    text: &str,
    file: &str,
    folder: &str,
    options: &ImportOptions,
) -> Result<Included, ImportError> {
    let made = make(SourceText::new(file, text), folder, options)?;
    let written = SourceText::new(file, &write::topology(&made.arranged, file, options));
    // What we write is YAML; if it is none, that is told and not hidden.
    let mut tree = labctl_yaml::parse(&written).map_err(|d| {
        ImportError::Invalid(Diagnostics::new(written, vec![Diagnostic::new(by, d.message)], 0))
    })?;
    let base = into.include(&made.source, by);
    let mut root = made.root;
    root.place(&|at| Span::new(at.start + base, at.end + base));
    tree.place(&|_| by);
    for part in ["networks", "containers", "services"] {
        for (name, node) in entries_mut(&mut tree, part) {
            let node_of = made.arranged.nodes.iter().find(|n| part != "networks" && n.name == name.value);
            let written = match node_of {
                Some(n) => entry(&root, "services", &n.service),
                None if part == "networks" => entry(&root, part, &name.value),
                None => None,
            };
            if let Some((key, written)) = written {
                name.at = key.at;
                align(node, Some(written), key.at);
            }
        }
    }
    // In a topology, options are keys.
    let mut notes = made.notes;
    notes.iter_mut().for_each(|n| n.text = n.text.replace("`--", "`"));
    Ok(Included { tree, notes })
}

/// The entries of a mapping in a mapping.
fn entries_mut<'n>(root: &'n mut Yaml, part: &str) -> impl Iterator<Item = &'n mut (At<String>, Yaml)> {
    let Value::Map(top) = &mut root.value else { return [].iter_mut() };
    match top.iter_mut().find(|(k, _)| k.value == part).map(|(_, n)| &mut n.value) {
        Some(Value::Map(entries)) => entries.iter_mut(),
        _ => [].iter_mut(),
    }
}

fn entry<'n>(root: &'n Yaml, part: &str, name: &str) -> Option<(&'n At<String>, &'n Yaml)> {
    key(key(root, part)?.1, name)
}

fn key<'n>(node: &'n Yaml, name: &str) -> Option<(&'n At<String>, &'n Yaml)> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(k, _)| k.value == name).map(|(k, n)| (k, n))
}

/// Gives a node and all in it the places of what it was made of, as deep as both are alike; `of` is where that begins.
fn align(node: &mut Yaml, made_of: Option<&Yaml>, of: Span) {
    node.at = made_of.filter(|n| !matches!(n.value, Value::Null | Value::Map(_))).map_or(of, |n| n.at);
    match (&mut node.value, made_of.map(|n| &n.value)) {
        (Value::Map(entries), _) => {
            for (name, node) in entries {
                match made_of.and_then(|n| key(n, &name.value)) {
                    Some((key, made_of)) => {
                        name.at = key.at;
                        align(node, Some(made_of), key.at);
                    }
                    None => {
                        name.at = of;
                        align(node, None, of);
                    }
                }
            }
        }
        (Value::List(items), Some(Value::List(all))) if items.len() == all.len() => {
            items.iter_mut().zip(all).for_each(|(item, made_of)| align(item, Some(made_of), made_of.at));
        }
        (Value::List(items), _) => items.iter_mut().for_each(|item| align(item, None, of)),
        _ => {}
    }
}
