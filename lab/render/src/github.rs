//! What GitHub Actions shows of a run: annotations at the topology's lines, and the job's summary in Markdown.
//!
//! The forms: <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>.

use anstream::adapter::strip_str;
use indexmap::IndexMap;
use labctl_report::{CellReport, MatrixReport, Report, cells, text};
use labctl_words::{plain, plain_lines};

use crate::compare::Compared;

/// Most annotations: GitHub shows ten errors of a step and drops the rest.
const MOST: usize = 10;
/// Most cells that an annotation lists.
const MOST_CELLS: usize = 8;
/// Longest details of a lab in the summary, in bytes: GitHub takes 1 MiB for a whole step.
const LONGEST: usize = 16_384;

/// One topology of a run.
pub struct TestedLab<'a> {
    /// Lab.
    pub lab: &'a str,
    /// File, as GitHub knows it: from the checkout's root.
    pub file: String,
    /// What was found; the error if there is none.
    pub found: Result<&'a Report, String>,
    /// Whether it held only when it was tried again.
    pub flaky: bool,
    /// Time, in words.
    pub took: String,
}

/// The annotations, one on each line.
pub fn annotations(runs: &[TestedLab<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    for run in runs {
        match &run.found {
            Ok(found) => all.extend(of_report(run, found)),
            Err(message) => all.push(annotation("error", run, None, message)),
        }
        if run.flaky {
            all.push(annotation("warning", run, None, "it held only when it was tried again"));
        }
    }
    if all.len() > MOST {
        let more = all.len() - (MOST - 1);
        all.truncate(MOST - 1);
        all.push(format!(
            "::error title=labctl::{more} more places do not hold: the job's summary has them all"
        ));
    }
    all
}

fn of_report(run: &TestedLab<'_>, found: &Report) -> Vec<String> {
    let mut all = Vec::new();
    let mut add = |line: u32, text: &str| {
        all.push(annotation("error", run, Some(line), strip_str(text.trim()).to_string().as_str()));
    };
    let steps = found.steps.len();
    for (n, step) in found.steps.iter().enumerate().filter(|(_, s)| !s.actions.holds) {
        add(step.line, &text::step(step, (n, steps), &run.file));
    }
    for (step, check) in found.all_checks().filter(|(_, c)| !c.holds) {
        let after = step.map(|n| format!("after step {}: ", n + 1)).unwrap_or_default();
        if let labctl_report::Found::Matrix(matrix) = &check.found {
            let mut by_line: IndexMap<u32, Vec<&CellReport>> = IndexMap::new();
            for cell in matrix.cells.iter().filter(|c| !c.holds) {
                by_line.entry(cell.line).or_default().push(cell);
            }
            for (line, wrong) in by_line {
                add(line, &of_cells(&after, matrix, &wrong, &run.file));
            }
        }
        for fact in check.facts().filter(|f| !f.holds) {
            add(fact.line, &format!("{after}{}", text::fact(fact, &run.file)));
        }
    }
    all
}

fn of_cells(after: &str, matrix: &MatrixReport, wrong: &[&CellReport], file: &str) -> String {
    let shown: Vec<String> = wrong
        .iter()
        .take(MOST_CELLS)
        .map(|cell| cells::wrong(matrix, cell, file).trim().to_owned())
        .collect();
    let more = match wrong.len().saturating_sub(MOST_CELLS) {
        0 => String::new(),
        more => format!("\nand {more} more"),
    };
    format!("{after}{}{more}", shown.join("\n"))
}

fn annotation(level: &str, run: &TestedLab<'_>, line: Option<u32>, message: &str) -> String {
    let line = line.map(|n| format!(",line={n}")).unwrap_or_default();
    let (file, title) = (property(&run.file), property(run.lab));
    format!("::{level} file={file}{line},title={title}::{}", data(&plain_lines(message)))
}

/// A message, in which a line end and `%` are written as escapes.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property's value, which also ends at `:` and `,`.
fn property(text: &str) -> String {
    data(&plain(text)).replace(':', "%3A").replace(',', "%2C")
}

/// The job's summary.
pub fn summary(runs: &[TestedLab<'_>], compared: Option<&Compared>) -> String {
    let passed = runs.iter().filter(|r| r.found.as_ref().is_ok_and(|f| f.holds)).count();
    let mut out = format!("### labctl: {passed} of {} labs hold\n\n", runs.len());
    out.push_str("| lab | result | as expected | time |\n|---|---|---|---|\n");
    for run in runs {
        let (result, score) = match &run.found {
            Ok(found) if found.holds && run.flaky => ("🟡 flaky", text::score(found, " of ")),
            Ok(found) if found.holds => ("✅ holds", text::score(found, " of ")),
            Ok(found) => ("❌ does not hold", text::score(found, " of ")),
            Err(_) => ("💥 error", String::new()),
        };
        out.push_str(&format!("| {} | {result} | {score} | {} |\n", run.lab, run.took));
    }
    for run in runs {
        let details = match &run.found {
            Ok(found) if found.holds => continue,
            Ok(found) => strip_str(&text::mistakes(found, &run.file)).to_string(),
            Err(message) => message.clone(),
        };
        out.push_str(&format!(
            "\n<details open><summary>{}</summary>\n\n{}\n</details>\n",
            run.lab,
            fenced(&details)
        ));
    }
    if let Some(compared) = compared {
        let text = strip_str(&compared.text()).to_string();
        out.push_str(&format!("\n{}\n", fenced(&text)));
    }
    out
}

/// A text as a block of code that nothing in it can end.
fn fenced(text: &str) -> String {
    let mut text = plain_lines(text.trim_end());
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("\n…");
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_in_a_text_begins_a_command_or_ends_a_block() {
        let run = TestedLab {
            lab: "lab",
            file: "a,b:c.yaml".into(),
            found: Err("100%\n::error::x\x1b[31m\n````\n<script>".into()),
            flaky: false,
            took: String::new(),
        };
        let lines = annotations(std::slice::from_ref(&run));
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].starts_with("::error file=a%2Cb%3Ac.yaml,title=lab::100%25%0A::error::x"),
            "{lines:?}"
        );
        assert!(!lines[0].contains(['\n', '\x1b']), "{lines:?}");
        let text = summary(&[run], None);
        assert!(text.contains("\n`````text\n") && text.contains("\n`````\n"), "{text}");
    }
}
