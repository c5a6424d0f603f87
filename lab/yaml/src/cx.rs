//! The context of reading: the text, and the mistakes found so far.

use std::ops::Range;

use indexmap::IndexSet;

use crate::{
    diagnostic::{Collector, Diagnostic, SourceText},
    span::{At, Span},
};

/// The context that every stage of reading carries along.
#[derive(Debug)]
pub struct Cx {
    /// The text.
    pub source: SourceText,
    /// The mistakes.
    pub found: Collector,
    /// The key whose value is being decoded: what is underlined when something is missing in there.
    pub owner: Span,
    /// Names from elsewhere in the text that some mappings take as keys, besides their own.
    pub names: IndexSet<String>,
    /// What to say about a key that a mapping does not have but that other programs know.
    pub foreign: Foreign,
}

/// Takes what the mapping is, in words, and a key that it does not have; returns a message and a hint if the key is known
/// from elsewhere.
pub type Foreign = fn(&str, &str) -> Option<(String, String)>;

impl Cx {
    /// Reads this text; nothing is found yet.
    pub fn new(source: SourceText) -> Self {
        Self {
            source,
            found: Collector::default(),
            owner: Span::default(),
            names: IndexSet::new(),
            foreign: |_, _| None,
        }
    }

    /// Whether a brace stands right before this place: in a flow mapping, where text may have been meant.
    pub(crate) fn begins_with_brace(&self, at: Span) -> bool {
        let before = self.source.text.get(..at.start).unwrap_or_default().trim_end();
        before.ends_with('{') || self.source.text.get(at.start..).is_some_and(|t| t.starts_with('{'))
    }

    /// Notes a mistake.
    pub fn error(&mut self, d: Diagnostic) {
        self.found.push(d);
    }

    /// The line of a place, counted from 1; for a place in an included file, the line that includes it.
    pub fn line(&self, at: Span) -> u32 {
        self.source.line(self.source.own(at).start)
    }

    /// Where the value of a one-line scalar begins in the text; `None` if quoting hides it.
    pub fn offset_of(&self, text: &At<String>) -> Option<usize> {
        let written = self.source.text.get(text.at.start..text.at.end)?;
        // Only a quote can come before it: no need to search the whole text.
        let offset = (0..=1).find(|o| written.get(*o..).is_some_and(|w| w.starts_with(&text.value)))?;
        (!text.value.is_empty()).then_some(text.at.start + offset)
    }

    /// Where a part of a one-line scalar stands in the text; the whole scalar if quoting hides it.
    pub fn part(&self, text: &At<String>, range: Range<usize>) -> Span {
        self.offset_of(text).map_or(text.at, |o| Span::new(o + range.start, o + range.end))
    }

    /// The lines of a scalar, each with its start in the text if known (in a `|` block it is).
    pub fn lines<'t>(&self, text: &'t At<String>) -> Vec<(&'t str, Option<usize>)> {
        let mut row = Some(self.source.line_at(text.at.start));
        let mut begun = false;
        text.value
            .lines()
            .map(|line| {
                // The span of a block begins at its first line that is not blank.
                begun |= !line.trim().is_empty();
                if !begun {
                    return (line, None);
                }
                let here = row.and_then(|(start, written)| {
                    let (w, l) = (written.trim_end(), line.trim_end());
                    w.ends_with(l).then(|| start + w.len() - l.len())
                });
                row = row.and_then(|(start, _)| self.source.line_after(start));
                (line, here)
            })
            .collect()
    }
}

/// The words of a line, each with its range of bytes.
pub fn split_words(line: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let base = line.as_ptr() as usize;
    line.split_whitespace().map(move |w| {
        let start = w.as_ptr() as usize - base;
        (start..start + w.len(), w)
    })
}
