//! Mistakes in a text, and warnings, shown as a good compiler shows them.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use labctl_words::{plain, styled_lines};
use serde::Serialize;

use crate::span::Span;

/// Most diagnostics that are kept; further ones are only counted, so that a hopeless file stays cheap.
const MOST: usize = 100;
/// Longest message, label or hint in characters: the names in them can have any length.
const LONGEST_WORDS: usize = 1000;
/// Lines shown on either side of an underlined one.
const CONTEXT: usize = 1;
/// Longest source line that is shown, in bytes: a snippet of a longer one would explain nothing.
const LONGEST_LINE: usize = 2000;

/// One mistake: where it is, what it is, and how to fix it if we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is underlined.
    pub at: Span,
    /// The id of a warning; a mistake has none.
    pub id: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// Words beside the underline; may be empty.
    pub label: String,
    /// Other places that are part of the mistake, each with its words.
    pub others: Vec<(Span, String)>,
    /// How to fix it, if known.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A mistake without label or hint.
    pub fn new(at: Span, message: impl Into<String>) -> Self {
        Self { at, id: None, message: message.into(), label: String::new(), others: Vec::new(), hint: None }
    }

    /// Makes a warning of it.
    pub fn warning(mut self, id: &'static str) -> Self {
        self.id = Some(id);
        self
    }

    /// Sets the words beside the underline.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds another place that is part of the mistake.
    pub fn other(mut self, at: Span, label: impl Into<String>) -> Self {
        self.others.push((at, label.into()));
        self
    }

    /// Sets the hint: how to fix it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Shortens the words and makes them printable: names from the text can be long or hold control characters.
    fn tame(&mut self) {
        let texts = [&mut self.message, &mut self.label].into_iter().chain(&mut self.hint);
        for text in texts.chain(self.others.iter_mut().map(|(_, label)| label)) {
            if let Some((end, _)) = text.char_indices().nth(LONGEST_WORDS) {
                text.truncate(end);
                text.push('…');
            }
            *text = plain(text);
        }
    }

    /// Sets the hint, or removes it.
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// A text, and where its lines begin. It may go on with another file that it includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Name of the file, for messages.
    pub name: String,
    /// The text, with the included file's behind it.
    pub text: String,
    starts: Vec<usize>,
    included: Option<Box<Included>>,
}

/// A file that a text includes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Included {
    name: String,
    /// Row of its first line, in the whole text.
    row: usize,
    /// Where the text includes it.
    by: Span,
}

impl SourceText {
    /// The text of the file `name`.
    pub fn new(name: &str, text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { name: plain(name), text: text.to_owned(), starts, included: None }
    }

    /// Puts the file that is included at `by` behind the text; returns by how much the places in that file move.
    pub fn include(&mut self, file: &SourceText, by: Span) -> usize {
        self.text.push('\n');
        let base = self.text.len();
        self.included = Some(Box::new(Included { name: file.name.clone(), row: self.starts.len(), by }));
        self.text.push_str(&file.text);
        self.starts.extend(file.starts.iter().map(|s| base + s));
        base
    }

    /// The file that holds this row, and its first row.
    fn file_of(&self, row: usize) -> (&str, usize) {
        match &self.included {
            Some(file) if row >= file.row => (&file.name, file.row),
            _ => (&self.name, 0),
        }
    }

    /// Where the text itself says what stands at this place: for an included file, where that is included.
    pub(crate) fn own(&self, at: Span) -> Span {
        match &self.included {
            Some(file) if self.row(at.start) >= file.row => file.by,
            _ => at,
        }
    }

    /// Row, counted from 0 over all files.
    pub fn row(&self, byte: usize) -> usize {
        self.starts.partition_point(|&s| s <= byte).saturating_sub(1)
    }

    /// Line in its file, counted from 1.
    pub fn line(&self, byte: usize) -> u32 {
        let row = self.row(byte);
        u32::try_from(row - self.file_of(row).1 + 1).unwrap_or(u32::MAX)
    }

    /// Column in characters, counted from 1.
    fn column(&self, byte: usize) -> u32 {
        let start = self.starts[self.row(byte)];
        let chars = self.text.get(start..byte).map_or(byte - start, |s| s.chars().count());
        u32::try_from(chars + 1).unwrap_or(u32::MAX)
    }

    /// The byte at a row and a character in it, both counted from 0; the nearest one that exists.
    pub fn offset(&self, row: usize, character: usize) -> usize {
        let (start, line) = self.line_of_row(row.min(self.starts.len() - 1));
        start + line.char_indices().nth(character).map_or(line.len(), |(i, _)| i)
    }

    /// Start of the line that holds this byte, and the line without its line end.
    pub fn line_at(&self, byte: usize) -> (usize, &str) {
        self.line_of_row(self.row(byte))
    }

    /// All lines, each with its start.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (0..self.starts.len()).map(|row| self.line_of_row(row))
    }

    /// The line after the one that holds this byte.
    pub fn line_after(&self, byte: usize) -> Option<(usize, &str)> {
        let row = self.row(byte) + 1;
        (row < self.starts.len()).then(|| self.line_of_row(row))
    }

    fn line_of_row(&self, row: usize) -> (usize, &str) {
        let start = self.starts[row];
        let end = self.starts.get(row + 1).map_or(self.text.len(), |e| e - 1);
        (start, self.text.get(start..end).unwrap_or_default())
    }

    /// The lines of one file around these spans, with each span underlined.
    fn snippet<'s>(
        &'s self,
        spans: Vec<(Range<usize>, &'s str, AnnotationKind)>,
    ) -> Snippet<'s, annotate_snippets::Annotation<'s>> {
        // Only the lines around the mistake: the whole file for each of many mistakes would be slow.
        let first = spans.iter().map(|(s, _, _)| self.row(s.start)).min().unwrap_or(0);
        let last = spans.iter().map(|(s, _, _)| self.row(s.end.max(s.start + 1) - 1)).max().unwrap_or(0);
        let (name, top) = self.file_of(first);
        let bottom = match &self.included {
            Some(file) if top < file.row => file.row,
            _ => self.starts.len(),
        };
        let first = first.saturating_sub(CONTEXT).max(top);
        let from = self.starts[first];
        let (start, text) = self.line_of_row((last + CONTEXT).min(bottom - 1));
        let to = start + text.len();
        let mut snippet = Snippet::source(self.text.get(from..to).unwrap_or_default())
            .line_start(first - top + 1)
            .path(name)
            .fold(true);
        for (s, label, kind) in spans {
            // A span over several lines is cut after the first: that says enough.
            let (start, line) = self.line_at(s.start);
            let end = s.end.min(start + line.len()).max(s.start);
            let annotation = kind.span(s.start - from..end - from);
            snippet = snippet.annotation(if label.is_empty() { annotation } else { annotation.label(label) });
        }
        snippet
    }

    /// The span moved to character boundaries inside the text; it covers at least one character if possible.
    fn sane(&self, span: Span) -> Range<usize> {
        let len = self.text.len();
        let mut start = span.start.min(len);
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = span.end.clamp(start, len);
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        if end == start
            && let Some(c) = self.text[start..].chars().next()
            && c != '\n'
        {
            end += c.len_utf8();
        }
        start..end
    }
}

/// Everything that is wrong with one text, or all warnings about it, in the order of the text. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostics {
    source: SourceText,
    list: Vec<Diagnostic>,
    /// How many further mistakes were only counted.
    more: usize,
}

/// One mistake, for machines to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file, if it is one that the text includes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// The id of a warning; a mistake has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// How to fix it, if known.
    pub hint: Option<String>,
}

impl Diagnostics {
    /// These mistakes, of which the first are kept, and how many more were only counted.
    pub fn new(source: SourceText, mut list: Vec<Diagnostic>, more: usize) -> Self {
        list.sort_by_key(|d| d.at);
        let more = more + list.len().saturating_sub(MOST);
        list.truncate(MOST);
        list.iter_mut().for_each(Diagnostic::tame);
        Self { source, list, more }
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }

    /// The name of the file as it was given.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// The mistakes for machines to read, at most 100.
    pub fn mistakes(&self) -> Vec<Mistake> {
        self.list
            .iter()
            .map(|d| {
                let at = self.source.sane(d.at).start;
                let (file, first) = self.source.file_of(self.source.row(at));
                Mistake {
                    file: (first > 0).then(|| file.to_owned()),
                    line: self.source.line(at),
                    column: self.source.column(at),
                    id: d.id,
                    message: d.message.clone(),
                    hint: d.hint.clone(),
                }
            })
            .collect()
    }

    /// The mistakes for people to read, each with `file:line:column`, its line, the words underlined, and a hint. Ends in
    /// a newline. `color` adds ANSI escapes.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for d in &self.list {
            out.push_str(&self.render_one(d, &renderer));
            out.push_str("\n\n");
        }
        let count = self.count();
        let more =
            if self.more > 0 { format!(" (the first {} are shown)", self.list.len()) } else { String::new() };
        let (level, word) = match self.list.iter().all(|d| d.id.is_some()) {
            true => (Level::WARNING, "warning"),
            false => (Level::ERROR, "error"),
        };
        let plural = if count == 1 { "" } else { "s" };
        let total = format!("{} has {count} {word}{plural}{more}", self.source.name);
        let group = Group::with_title(level.primary_title(total));
        out.push_str(&renderer.render(&[group]));
        out.push('\n');
        // The snippets are the file's own text, which may hold hostile characters.
        styled_lines(&out)
    }

    fn render_one(&self, d: &Diagnostic, renderer: &Renderer) -> String {
        let source = &self.source;
        let primary = source.sane(d.at);
        let title = match d.id {
            Some(id) => Level::WARNING.primary_title(&d.message).id(id),
            None => Level::ERROR.primary_title(&d.message),
        };
        let mut group = title.elements(Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new());
        let (_, line) = source.line_at(primary.start);
        if line.len() > LONGEST_LINE {
            let origin = annotate_snippets::Origin::path(source.file_of(source.row(primary.start)).0)
                .line(source.line(primary.start) as usize)
                .char_column(source.column(primary.start) as usize);
            group = group.element(origin);
        } else {
            let mut spans = vec![(primary, d.label.as_str(), AnnotationKind::Primary)];
            for (at, label) in &d.others {
                spans.push((source.sane(*at), label.as_str(), AnnotationKind::Context));
            }
            spans.retain(|(s, _, _)| source.line_at(s.start).1.len() <= LONGEST_LINE);
            let file = |span: &Range<usize>| source.file_of(source.row(span.start)).1;
            let here = file(&spans[0].0);
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                spans.into_iter().partition(|(s, _, _)| file(s) == here);
            for spans in [here, elsewhere].into_iter().filter(|s| !s.is_empty()) {
                group = group.element(source.snippet(spans));
            }
        }
        if let Some(hint) = &d.hint {
            group = group.element(Level::HELP.message(hint));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Collects mistakes while a text is read.
#[derive(Debug, Default)]
pub struct Collector {
    list: Vec<Diagnostic>,
    more: usize,
}

impl Collector {
    /// Notes a mistake; beyond the first hundred only its number.
    pub fn push(&mut self, mut d: Diagnostic) {
        if self.list.len() < MOST {
            d.tame();
            self.list.push(d);
        } else {
            self.more += 1;
        }
    }

    /// Whether further mistakes are only counted: then details are wasted effort.
    pub fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// Whether there is none so far.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Ends the collection: `Ok` if there was no mistake.
    ///
    /// # Errors
    /// All mistakes, if there are any.
    pub fn finish(self, source: SourceText) -> Result<(), Diagnostics> {
        if self.list.is_empty() { Ok(()) } else { Err(Diagnostics::new(source, self.list, self.more)) }
    }
}
