//! A matrix drawn as a table.

use std::collections::HashMap;

use labctl_model::check::{Cell, Expected, Target};
use labctl_yaml::{At, Cx, Diagnostic, Span, split_words};

use super::{
    cells::{Budget, Scope, verdict},
    checks::How,
};

/// A word and where it stands.
type Word<'t> = (Span, &'t str);

pub(super) fn read(
    table: &At<String>,
    (how, answers, requests): (How, Option<usize>, u32),
    scope: &Scope,
    budget: &mut Budget,
    cx: &mut Cx,
) -> Vec<Cell> {
    let lines = lines(table, cx);
    let mut rows = lines.iter();
    let Some(header) = rows.next() else {
        let d = Diagnostic::new(table.at, "the table is empty");
        cx.error(d.hint("a header of destinations, then a line for each source: `from\\to  c1 c2`"));
        return Vec::new();
    };
    let columns = columns(header.get(1..).unwrap_or_default(), how.by_name, scope, cx);
    if columns.is_empty() {
        let at = header.first().map_or(table.at, |(at, _)| *at);
        let d = Diagnostic::new(at, "the table has no columns");
        cx.error(d.hint("its first line names the destinations: `from\\to  c1 c2`"));
        return Vec::new();
    }
    if rows.len() == 0 {
        let at = header.first().map_or(table.at, |(at, _)| *at);
        cx.error(Diagnostic::new(at, "the table has no rows").hint("a line for each source: `c1  - yes`"));
        return Vec::new();
    }
    if !budget.take(columns.len().saturating_mul(rows.len()).saturating_mul(requests as usize), table.at, cx)
    {
        return Vec::new();
    }
    let mut cells = Vec::new();
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for row in rows {
        let Some(&(at, from)) = row.first() else { continue };
        let known = scope.source(&At { value: from.to_owned(), at }, how.looks_up, cx);
        if let Some(first) = seen.insert(from, at) {
            let d = Diagnostic::new(at, format!("row `{from}` is there twice"));
            cx.error(d.other(first, "the first").hint("leave one of them out"));
        }
        let words = row.get(1..).unwrap_or_default();
        length(from, at, words, &columns, cx);
        for ((at, word), (_, _, to)) in words.iter().zip(&columns) {
            if *word == "-" {
                continue;
            }
            let expected = verdict(&At { value: (*word).to_owned(), at: *at }, cx);
            if let (true, Some(expected), Some(to)) = (known, expected, to) {
                let answers = answers.filter(|_| expected == Expected::Yes);
                let (from, to) = (from.to_owned(), to.clone());
                cells.push(Cell { from, to, expected, answers, line: cx.line(*at) });
            }
        }
    }
    cells
}

/// The lines with words; `#` begins a comment.
fn lines<'t>(table: &'t At<String>, cx: &Cx) -> Vec<Vec<Word<'t>>> {
    let all = cx.lines(table).into_iter().map(|(line, start)| {
        let line = line.split('#').next().unwrap_or_default();
        let place = |r: std::ops::Range<usize>| start.map_or(table.at, |s| Span::new(s + r.start, s + r.end));
        split_words(line).map(|(range, word)| (place(range), word)).collect::<Vec<_>>()
    });
    all.filter(|words| !words.is_empty()).collect()
}

/// A column: the place of its word, the word, and its target if valid.
type Column<'t> = (Span, &'t str, Option<Target>);

fn columns<'t>(header: &[Word<'t>], by_name: bool, scope: &Scope, cx: &mut Cx) -> Vec<Column<'t>> {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    let mut columns = Vec::with_capacity(header.len());
    for &(at, word) in header {
        if let Some(first) = seen.insert(word, at) {
            let d = Diagnostic::new(at, format!("column `{word}` is there twice"));
            cx.error(d.other(first, "the first").hint("leave one of them out"));
        }
        columns.push((at, word, scope.target(&At { value: word.to_owned(), at }, by_name, cx)));
    }
    columns
}

fn length(from: &str, at: Span, words: &[Word], columns: &[Column], cx: &mut Cx) {
    let cells = |n: usize| if n == 1 { "1 cell".to_owned() } else { format!("{n} cells") };
    let names = if columns.len() == 1 { "1 column".to_owned() } else { format!("{} columns", columns.len()) };
    if let Some(((_, first_missing, _), true)) =
        columns.get(words.len()).map(|c| (c, words.len() < columns.len()))
    {
        let d =
            Diagnostic::new(at, format!("row `{from}` has {}, the table has {names}", cells(words.len())));
        let d = d.label(format!("nothing under `{first_missing}`"));
        cx.error(d.hint("a cell that is not probed is written `-`"));
    } else if let Some((extra, _)) = words.get(columns.len()) {
        let d = Diagnostic::new(
            *extra,
            format!("row `{from}` has {}, the table has {names}", cells(words.len())),
        );
        cx.error(d.label("under no column").hint("the header names one destination for each cell"));
    }
}
