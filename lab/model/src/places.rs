//! Where the parts of a lab are written.

use std::sync::Arc;

use indexmap::IndexMap;
use labctl_yaml::{Diagnostic, Diagnostics, SourceText, Span, Value, Yaml};
use serde::{Deserialize, Serialize};

/// Lines in the topology, 1-based, by name, so that Docker's errors can be shown beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Of `swarm`; 0 if there is none.
    pub swarm: u32,
    /// Of hosts.
    pub hosts: IndexMap<String, u32>,
    /// Of networks.
    pub networks: IndexMap<String, u32>,
    /// Of containers.
    pub containers: IndexMap<String, u32>,
    /// Of services.
    pub services: IndexMap<String, u32>,
}

/// A remark on a part of a sound topology.
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

/// The text of a topology and the place of everything in it, as they were parsed. Empty in a lab that was not parsed here.
#[derive(Clone, Default)]
pub struct Places(Option<Arc<(SourceText, Yaml)>>);

impl Places {
    pub(crate) fn new(source: SourceText, root: Yaml) -> Self {
        Self(Some(Arc::new((source, root))))
    }

    /// The remarks as diagnostics of the topology, with their lines. `None` if there are none, or if the text is not known.
    pub fn locate(&self, remarks: &[Remark]) -> Option<Diagnostics> {
        let (source, root) = &**self.0.as_ref().filter(|_| !remarks.is_empty())?;
        let list = remarks.iter().map(|remark| {
            let d = Diagnostic::new(span(root, &remark.path), &remark.message).label(&remark.label);
            d.maybe_hint(remark.hint.clone())
        });
        Some(Diagnostics::new(source.clone(), list.collect(), 0))
    }
}

/// Two labs are the same wherever they are written.
impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Places")
    }
}

/// The place of a path: for a scalar the scalar itself, for a mapping or a list its key.
fn span(root: &Yaml, path: &[String]) -> Span {
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
        let source = SourceText::new("x.yaml", "name: x\nnetworks:\n  blue:\n    driver: ipvlan\n  red:\n");
        let root = labctl_yaml::parse(&source).unwrap();
        let places = Places::new(source, root);
        let line = |path: &[&str]| {
            let path = path.iter().map(ToString::to_string).collect();
            let remark = Remark { path, message: "m".into(), label: "l".into(), hint: None };
            places.locate(&[remark]).unwrap().mistakes()[0].line
        };
        assert_eq!(line(&["networks", "blue", "driver"]), 4);
        assert_eq!(line(&["networks", "red", "driver"]), 5);
        assert_eq!(line(&["networks", "blue"]), 3);
        assert_eq!(places.locate(&[]), None);
    }
}
