//! Remarks on a sound file, made after it was read: a part is named by its keys, and has its line here.

use std::sync::Arc;

use crate::{Diagnostic, Diagnostics, SourceText, Span, Value, Yaml};

/// A remark on a part of a sound file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Keys from the top to the part: `networks`, `blue`, `driver`; of a list's item its place, from 0. If the part is not
    /// in the text (a default), the deepest key that is counts.
    pub path: Vec<String>,
    /// The message.
    pub message: String,
    /// Words beside the part.
    pub label: String,
    /// How to fix it.
    pub hint: Option<String>,
}

/// What will hurt in a sound file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Its id, by which a comment silences it: `port-published-twice`.
    pub id: &'static str,
    /// What, where, and the way out.
    pub remark: Remark,
    /// Another part of the file that it is about, and words beside it.
    pub other: Option<(Vec<String>, String)>,
}

/// How a comment that silences warnings begins.
const ALLOW: &str = "# labctl: allow(";
/// The id of the warning about a comment that silences nothing.
pub const UNUSED_ALLOW: &str = "unused-allow";

/// A text and the place of everything in it, as they were parsed. Empty for what was not parsed here.
#[derive(Clone, Default)]
pub struct Places(Option<Arc<(SourceText, Yaml)>>);

impl Places {
    /// Of this text.
    pub fn new(source: SourceText, root: Yaml) -> Self {
        Self(Some(Arc::new((source, root))))
    }

    /// The scalar at this path, as it is written.
    pub fn scalar(&self, path: &[&str]) -> Option<&str> {
        let (_, root) = &**self.0.as_ref()?;
        let node = path.iter().try_fold(root, |node, key| match &node.value {
            Value::Map(entries) => entries.iter().find(|(k, _)| k.value == *key).map(|(_, n)| n),
            _ => None,
        })?;
        match &node.value {
            Value::Text(text) | Value::Plain(text, ..) => Some(text),
            _ => None,
        }
    }

    /// The remarks as diagnostics, with their lines. `None` if there are none, or if the text is not known.
    pub fn locate(&self, remarks: &[Remark]) -> Option<Diagnostics> {
        let (source, root) = &**self.0.as_ref().filter(|_| !remarks.is_empty())?;
        let list = remarks.iter().map(|remark| located(root, remark));
        Some(Diagnostics::new(source.clone(), list.collect(), 0))
    }

    /// The warnings that no comment silences, with their lines, and the comments that silence nothing. `None` if there are
    /// none, or if the text is not known.
    ///
    /// `# labctl: allow(ID)` silences the warnings with that id on its own line, and on the first line after the comment.
    pub fn warn(&self, warnings: &[Warning]) -> Option<Diagnostics> {
        let (source, root) = &**self.0.as_ref()?;
        let mut allowed = allowed(source);
        let mut list = Vec::new();
        for warning in warnings {
            let at = span(root, &warning.remark.path);
            let row = source.row(at.start);
            let mut silencing = allowed.iter_mut().filter(|a| a.rows.contains(&row) && a.id == warning.id);
            if let Some(allow) = silencing.next() {
                allow.used = true;
                continue;
            }
            let d = located(root, &warning.remark).warning(warning.id);
            list.push(match &warning.other {
                Some((path, label)) => d.other(span(root, path), label),
                None => d,
            });
        }
        list.extend(allowed.iter().filter(|a| !a.used).map(|a| {
            let d = Diagnostic::new(a.at, format!("nothing here is silenced by `allow({})`", a.id));
            d.warning(UNUSED_ALLOW).label("no such warning").hint("leave the comment out")
        }));
        (!list.is_empty()).then(|| Diagnostics::new(source.clone(), list, 0))
    }
}

fn located(root: &Yaml, remark: &Remark) -> Diagnostic {
    let d = Diagnostic::new(span(root, &remark.path), &remark.message).label(&remark.label);
    d.maybe_hint(remark.hint.clone())
}

/// An id in a comment.
struct Allow<'a> {
    id: &'a str,
    at: Span,
    /// The lines on which it silences, counted from 0.
    rows: [usize; 2],
    used: bool,
}

fn allowed(source: &SourceText) -> Vec<Allow<'_>> {
    let mut all = Vec::new();
    let lines: Vec<_> = source.lines().collect();
    // By line: the first one from there on that is more than a comment.
    let mut content: Vec<usize> = (0..lines.len()).collect();
    for row in (0..lines.len().saturating_sub(1)).rev() {
        if lines[row].1.trim_start().starts_with('#') {
            content[row] = content[row + 1];
        }
    }
    for (row, (start, line)) in lines.iter().enumerate() {
        let Some((before, comment)) = line.split_once(ALLOW) else { continue };
        let Some((ids, _)) = comment.split_once(')') else { continue };
        let at = start + before.len();
        // A comment may have more lines. Beside something it is about that.
        let next = content[row];
        let at = Span { start: at, end: at + ALLOW.len() + ids.len() + 1 };
        all.extend(ids.split(',').map(|id| Allow { id: id.trim(), at, rows: [row, next], used: false }));
    }
    all
}

/// What was read is the same wherever it is written.
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
            Value::List(items) => key.parse().ok().and_then(|i: usize| items.get(i)).map(|n| (n.at, n)),
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
        let root = crate::parse(&source).unwrap();
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

    #[test]
    fn a_comment_silences_its_line_and_the_next_for_one_id() {
        let text = |comments: [&str; 3]| {
            let [above, beside, after] = comments;
            format!("name: x\n{above}\nnetworks: {beside}\n  blue: {{}}\n{after}\n")
        };
        let warned = |comments| {
            let source = SourceText::new("x.yaml", &text(comments));
            let root = crate::parse(&source).unwrap();
            let remark =
                Remark { path: vec!["networks".into()], message: "m".into(), label: "l".into(), hint: None };
            let found = Places::new(source, root).warn(&[Warning { id: "odd", remark, other: None }]);
            let all = found.map(|f| f.mistakes()).unwrap_or_default();
            all.iter().filter_map(|m| m.id).collect::<Vec<_>>()
        };
        assert_eq!(warned(["", "", ""]), ["odd"]);
        assert_eq!(warned(["# labctl: allow(odd)", "", ""]), [""; 0]);
        assert_eq!(warned(["# labctl: allow(odd): it is what this\n# is about.", "", ""]), [""; 0]);
        assert_eq!(warned(["", "# labctl: allow(odd)", ""]), [""; 0]);
        assert_eq!(warned(["", "# labctl: allow(even, odd)", ""]), [UNUSED_ALLOW]);
        assert_eq!(warned(["", "", "# labctl: allow(odd)"]), ["odd", UNUSED_ALLOW]);
    }
}
