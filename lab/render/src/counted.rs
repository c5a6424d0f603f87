//! All pairs of a lab, counted, as text: how many cells come out with each word, and groups of endpoints with one fate.

use std::collections::HashMap;

use labctl_oracle::{Counts, Summary, Tally};
use labctl_report::{count, style, table::Table};
use labctl_words::plain;

/// Most groups whose table is shown: it has as many rows and columns.
const MOST_GROUPS: usize = 12;
/// Most runs of names that stand for a group.
const MOST_RUNS: usize = 4;

/// The counts of a lab. `whole`: every group and the whole table, however many there are.
pub fn text(summary: &Summary, whole: bool) -> String {
    let (head, good) = (style::HEAD, style::GOOD);
    let mut out = String::new();
    for stage in &summary.scenes {
        if let Some(step) = &stage.step {
            out += &format!("{head}step {}{head:#}\n", plain(step));
        }
        stage.matrices.iter().for_each(|counts| out += &matrix(counts, whole));
    }
    out + &format!("{good}lab {}: {}{good:#}\n", plain(&summary.lab), count(summary.endpoints, "endpoint"))
}

fn matrix(counts: &Counts, whole: bool) -> String {
    let (head, dim) = (style::HEAD, style::DIM);
    let (probe, cells) = (plain(&counts.probe), count(counts.cells, "cell"));
    let mut out = format!("{head}{probe}{head:#}  {cells}: {}\n", words(&counts.words));
    for (why, n) in &counts.unknown {
        out += &format!("{dim}unknown, {n}: {}{dim:#}\n", plain(why));
    }
    let shown = if whole { counts.groups.len() } else { counts.groups.len().min(MOST_GROUPS) };
    let mut table = Table::new(["group", "endpoints", "names"]);
    for (n, names) in counts.groups.iter().enumerate().take(shown) {
        table.plain_row([(n + 1).to_string(), names.len().to_string(), runs(names)]);
    }
    out += &table.render();
    if shown < counts.groups.len() {
        let more = counts.groups.len() - shown;
        return out
            + &format!("{dim}and {} (`--wide` shows them, and the table){dim:#}\n\n", count(more, "group"));
    }
    let numbers = 0..counts.groups.len();
    let mut table =
        Table::new(["from\\to".to_owned()].into_iter().chain(numbers.clone().map(|n| (n + 1).to_string())));
    let cells: HashMap<_, _> = counts.table.iter().map(|p| ((p.from, p.to), &p.words)).collect();
    for from in numbers.clone() {
        let row = numbers.clone().map(|to| cells.get(&(from, to)).map_or("-".to_owned(), |w| words(w)));
        table.plain_row([(from + 1).to_string()].into_iter().chain(row));
    }
    out + &table.render() + "\n"
}

/// `yes 4990000, arp 10000`: the commonest word first.
fn words(tally: &Tally) -> String {
    let mut all: Vec<_> = tally.iter().collect();
    all.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let all: Vec<String> = all.into_iter().map(|(word, n)| format!("{word} {n}")).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// Names in few words: `h0-h39, c0-c9998 by 2, db`. Only names that follow each other are taken together.
fn runs(names: &[String]) -> String {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for name in names {
        if !runs.last_mut().is_some_and(|run| run.take(name)) {
            runs.push(Run { first: name, last: name, length: 1, step: 0 });
        }
    }
    let (shown, hidden) = runs.split_at(runs.len().min(MOST_RUNS));
    let mut all: Vec<String> = shown.iter().map(Run::text).collect();
    match hidden.iter().map(|run| run.length).sum() {
        0 => {}
        more => all.push(format!("and {more} more")),
    }
    all.join(", ")
}

/// Names that count up in equal steps.
struct Run<'a> {
    first: &'a str,
    last: &'a str,
    length: usize,
    step: u64,
}

impl<'a> Run<'a> {
    /// Takes the next name in, if it goes on with the run.
    fn take(&mut self, name: &'a str) -> bool {
        let (Some((stem, last)), Some((its, next))) = (numbered(self.last), numbered(name)) else {
            return false;
        };
        let Some(step) = next.checked_sub(last).filter(|step| stem == its && *step > 0) else { return false };
        let fits = self.length == 1 || step == self.step;
        if fits {
            (self.last, self.step, self.length) = (name, step, self.length + 1);
        }
        fits
    }

    fn text(&self) -> String {
        match (self.length, self.step) {
            (1, _) => plain(self.first),
            (2, _) => format!("{}, {}", plain(self.first), plain(self.last)),
            (_, 1) => format!("{}-{}", plain(self.first), plain(self.last)),
            (_, step) => format!("{}-{} by {step}", plain(self.first), plain(self.last)),
        }
    }
}

/// A name's stem and the number at its end.
fn numbered(name: &str) -> Option<(&str, u64)> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((stem, name[stem.len()..].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_count_up_are_taken_together() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (all, short) in [
            ("c1 c2 c3 c4", "c1-c4"),
            ("c0 c2 c4 c5", "c0-c4 by 2, c5"),
            ("web db c1 c2", "web, db, c1, c2"),
            ("c1 d2 c3", "c1, d2, c3"),
            ("c3 c2 c1", "c3, c2, c1"),
            ("a b c d e f", "a, b, c, d, and 2 more"),
            ("c1-1 c1-2 c1-3 c2-1", "c1-1-c1-3, c2-1"),
        ] {
            assert_eq!(runs(&names(all)), short);
        }
    }
}
