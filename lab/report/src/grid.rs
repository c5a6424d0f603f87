//! Tables of words by source and destination. One that is too wide for a screen is shown with its columns by number, and
//! without the rows that are as expected.

use std::collections::HashSet;

use anstyle::Style;
use indexmap::IndexMap;

use crate::{style, table::Table};

/// Widest table that is shown whole, in characters: a screen would break the lines of a wider one within words.
const WIDEST: usize = 100;

/// A table of words, each with its source and destination: sources down, destinations across, in the topology's order; `-`
/// where there is none. `whole`: however wide it is.
pub fn grid<'a>(cells: impl IntoIterator<Item = (&'a str, &'a str, (String, Style))>, whole: bool) -> String {
    let rows = by_row(cells);
    let columns = merged(rows.values().map(|row| row.keys().copied()));
    let text = words(&rows, &columns);
    if whole || fits(&text) { text } else { numbered(&rows, columns) }
}

type Rows<'a, W> = IndexMap<&'a str, IndexMap<&'a str, W>>;

fn words(rows: &Rows<'_, (String, Style)>, columns: &[&str]) -> String {
    let mut table = Table::new(std::iter::once("from\\to").chain(columns.iter().copied()));
    for (source, row) in rows {
        let words = columns.iter().map(|to| row.get(to).cloned().unwrap_or_else(none));
        table.row(std::iter::once(((*source).to_owned(), style::HEAD)).chain(words));
    }
    table.render()
}

fn none() -> (String, Style) {
    ("-".to_owned(), style::DIM)
}

fn fits(text: &str) -> bool {
    anstream::adapter::strip_str(text).to_string().lines().all(|line| line.chars().count() <= WIDEST)
}

/// The rows with a word that is not as expected, with marks for words and numbers for columns; if that is too wide as well,
/// only columns with such a word.
fn numbered(rows: &Rows<'_, (String, Style)>, mut columns: Vec<&str>) -> String {
    let number: IndexMap<&str, String> =
        columns.iter().enumerate().map(|(n, name)| (*name, (n + 1).to_string())).collect();
    let differs = |(word, _): &(String, Style)| word.contains('≠') || mark(word) == "?";
    let shown: Vec<_> = rows.iter().filter(|(_, row)| row.values().any(differs)).collect();
    let (dim, all) = (style::DIM, format!("{} rows, {} columns", rows.len(), columns.len()));
    if shown.is_empty() {
        return format!("{all}, all as expected  {dim}(`--wide` shows them){dim:#}\n");
    }
    let label = |name: &str| match number.get(name) {
        Some(number) => format!("{number} {}", labctl_words::plain(name)),
        None => labctl_words::plain(name),
    };
    let labels: Vec<String> = shown.iter().map(|(source, _)| label(source)).collect();
    let wide = labels.iter().map(|l| l.chars().count()).max().unwrap_or(0).max("from\\to".len());
    let render = |columns: &[&str]| {
        let head = style::HEAD;
        let mut text = format!("{head}{:wide$}{head:#}", "from\\to");
        columns.iter().for_each(|to| text += &format!("{head} {:>2}{head:#}", number[*to]));
        for (label, (_, row)) in labels.iter().zip(&shown) {
            text += &format!("\n{head}{label:wide$}{head:#}");
            for to in columns {
                let (mark, s) = row.get(to).map_or_else(none, |(word, s)| (mark(word), *s));
                text += &format!(" {s}{mark:>w$}{s:#}", w = number[*to].len().max(2));
            }
        }
        text + "\n"
    };
    let mut text = render(&columns);
    if !fits(&text) {
        columns.retain(|to| shown.iter().any(|(_, row)| row.get(to).is_some_and(differs)));
        text = render(&columns);
    }
    if !fits(&text) {
        return format!("{all}  {dim}(`--wide` shows them){dim:#}\n");
    }
    let named: Vec<String> = columns
        .iter()
        .filter(|to| !shown.iter().any(|(from, _)| **from == **to))
        .map(|to| format!("{} {}", number[*to], labctl_words::plain(to)))
        .collect();
    for line in named.chunks(4) {
        text += &format!("{}\n", line.join(", "));
    }
    let left_out = rows.len() - shown.len();
    let left_out =
        if left_out == 0 { String::new() } else { format!("{left_out} rows as expected left out; ") };
    text + &format!(
        "{dim}y yes, n no, ? not known, ≠ not as expected; {left_out}`--wide` shows the words{dim:#}\n"
    )
}

/// A word in two characters.
fn mark(word: &str) -> String {
    let (observed, wrong) = word.split_once('≠').map_or((word, ""), |(observed, _)| (observed, "≠"));
    let short = match observed {
        "yes" => "y",
        "-" => observed,
        // A prediction: not known, or one of several.
        word if word == "unknown" || word.contains(['?', '|']) => "?",
        _ => "n",
    };
    format!("{wrong}{short}")
}

pub(crate) fn by_row<'a, W>(cells: impl IntoIterator<Item = (&'a str, &'a str, W)>) -> Rows<'a, W> {
    let mut rows: Rows<'a, W> = IndexMap::new();
    for (from, to, word) in cells {
        rows.entry(from).or_default().insert(to, word);
    }
    rows
}

/// The order of the columns. Every row has them in order but lacks some, at least its own; so a column that a row adds
/// goes behind the one that it follows there.
pub(crate) fn merged<'a>(rows: impl Iterator<Item = impl Iterator<Item = &'a str>>) -> Vec<&'a str> {
    let (mut order, mut known): (Vec<&str>, HashSet<&str>) = Default::default();
    for row in rows {
        let mut last = None;
        for name in row {
            if known.insert(name) {
                let after = last.and_then(|l| order.iter().position(|n| *n == l));
                order.insert(after.map_or(0, |i| i + 1), name);
            }
            last = Some(name);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_in_the_order_of_the_topologys_table() {
        let rows = [vec!["b", "c", "8.8.8.8"], vec!["a", "c", "8.8.8.8"], vec!["a", "b", "x", "8.8.8.8"]];
        assert_eq!(merged(rows.into_iter().map(Vec::into_iter)), ["a", "b", "x", "c", "8.8.8.8"]);
    }

    /// Twenty containers with long names, of which one does not reach two.
    #[test]
    fn a_wide_table_shows_by_number_what_differs() {
        let names: Vec<String> = (1..=20).map(|n| format!("application-server-no-{n:03}")).collect();
        let cells = |wrong: &[(usize, usize)], other: &str| {
            let pairs = (0..20).flat_map(|a| (0..20).map(move |b| (a, b))).filter(|(a, b)| a != b);
            let word = |at| if wrong.contains(&at) { other } else { "yes" };
            let all: Vec<_> = pairs.map(|at| (at.0, at.1, word(at).to_owned())).collect();
            let cells = all
                .iter()
                .map(|(a, b, w)| (names[*a].as_str(), names[*b].as_str(), (w.clone(), Style::new())));
            anstream::adapter::strip_str(&grid(cells, false)).to_string()
        };
        assert_eq!(cells(&[], ""), "20 rows, 20 columns, all as expected  (`--wide` shows them)\n");
        let text = cells(&[(4, 0), (4, 19)], "silent≠yes");
        let mut lines = text.lines();
        assert_eq!(
            lines.next().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).as_deref(),
            Some("from\\to 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20")
        );
        let row = lines.next().unwrap_or_default();
        assert!(row.starts_with("5 application-server-no-005 ≠n  y") && row.ends_with("≠n"), "{text}");
        assert!(
            text.contains("1 application-server-no-001, 2 application")
                && text.contains("19 rows as expected"),
            "{text}"
        );
        assert!(text.lines().count() < 10 && fits(&text.replace(", ", "\n")), "{text}");
        // What is not known is not as expected either.
        for unknown in ["unknown", "arp|silent"] {
            let text = cells(&[(4, 0)], unknown);
            let row = text.lines().nth(1).unwrap_or_default();
            assert!(row.starts_with("5 application-server-no-005  ?  y"), "{text}");
        }
    }
}
