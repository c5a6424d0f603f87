//! The text of a step: Markdown, with commands and what they print.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// What stands in texts for the name of the learner's lab.
pub const LAB: &str = "{lab}";

/// The line that divides what is shown at the beginning of a step from what is shown once it holds.
const DIVIDER: &str = "\n---\n";

/// Any number of lines.
const ANY_LINES: &str = "...";
/// Any text within a line.
const ANY_TEXT: &str = "[..]";

/// The text of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The whole, as it is written.
    pub source: String,
    /// Where the second part begins; the end if there is none.
    divider: usize,
}

/// A command of a text, and what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The command line, for a shell.
    pub command: String,
    /// The lines that it prints: `...` stands for any lines, `[..]` for any text within one.
    pub printed: Vec<String>,
    /// Where these lines are in the file, in bytes.
    pub range: Range<usize>,
    /// Line of the command in the file, from 1.
    pub line: usize,
}

impl Text {
    /// Reads the text of a step.
    ///
    /// # Errors
    /// If a block of commands begins with something else: its line and what is wrong.
    pub fn read(source: &str) -> Result<Self, (usize, String)> {
        let divider = source.find(DIVIDER).map_or(source.len(), |at| at + 1);
        let text = Self { source: source.to_owned(), divider };
        text.blocks()?;
        Ok(text)
    }

    /// What is shown at the beginning of the step.
    pub fn before(&self) -> &str {
        self.source[..self.divider].trim()
    }

    /// What is shown once the step holds; may be empty.
    pub fn after(&self) -> &str {
        self.source.get(self.divider + DIVIDER.len() - 1..).unwrap_or_default().trim()
    }

    /// The commands of the first part, and those of the second.
    pub fn typed(&self) -> (Vec<Typed>, Vec<Typed>) {
        // It was read without a mistake.
        self.blocks().unwrap_or_default().into_iter().partition(|typed| typed.range.start < self.divider)
    }

    fn blocks(&self) -> Result<Vec<Typed>, (usize, String)> {
        let mut all = Vec::new();
        let mut inside: Option<Range<usize>> = None;
        for (event, range) in Parser::new(&self.source).into_offset_iter() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) if &*info == "console" => {
                    inside = Some(range.end..range.start);
                }
                Event::Text(_) => {
                    if let Some(all) = &mut inside {
                        *all = all.start.min(range.start)..all.end.max(range.end);
                    }
                }
                Event::End(TagEnd::CodeBlock) => {
                    if let Some(block) = inside.take().filter(|block| block.start < block.end) {
                        self.block(block, &mut all)?;
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    fn block(&self, block: Range<usize>, all: &mut Vec<Typed>) -> Result<(), (usize, String)> {
        let first = all.len();
        let mut at = block.start;
        for line in self.source[block].split_inclusive('\n') {
            let number = self.source[..at].matches('\n').count() + 1;
            let end = at + line.len();
            let words = line.trim_end();
            if let Some(command) = words.strip_prefix("$ ") {
                all.push(Typed {
                    command: command.into(),
                    printed: Vec::new(),
                    range: end..end,
                    line: number,
                });
            } else if let Some(typed) = all.get_mut(first..).and_then(<[Typed]>::last_mut) {
                match words.strip_prefix("> ") {
                    Some(more) if typed.printed.is_empty() => {
                        typed.command.push('\n');
                        typed.command.push_str(more);
                        typed.range = end..end;
                    }
                    _ => {
                        typed.printed.push(words.to_owned());
                        typed.range.end = end;
                    }
                }
            } else {
                return Err((number, "a block of commands begins with a command: `$ labctl …`".to_owned()));
            }
            at = end;
        }
        Ok(())
    }
}

/// Whether a command printed what a text says. Blanks in a row count as one.
pub fn fits(said: &[String], printed: &str) -> bool {
    let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
    let said: Vec<&str> = said.iter().map(|line| line.trim_end()).collect();
    lines_fit(trimmed(&said), trimmed(&lines))
}

/// Without empty lines at either end.
fn trimmed<'a, 'b>(mut lines: &'a [&'b str]) -> &'a [&'b str] {
    while let [rest @ .., ""] = lines {
        lines = rest;
    }
    while let ["", rest @ ..] = lines {
        lines = rest;
    }
    lines
}

fn lines_fit(said: &[&str], printed: &[&str]) -> bool {
    match (said, printed) {
        ([], printed) => printed.is_empty(),
        ([ANY_LINES, rest @ ..], _) => (0..=printed.len()).any(|n| lines_fit(rest, &printed[n..])),
        ([line, rest @ ..], [first, more @ ..]) => line_fits(line, first) && lines_fit(rest, more),
        (_, []) => false,
    }
}

fn line_fits(said: &str, printed: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let (said, printed) = (words(said), words(printed));
    let mut parts = said.split(ANY_TEXT);
    let Some(mut rest) = parts.next().and_then(|first| printed.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "# A title

Look:

```console
$ labctl exec {lab} host1 -- ip a
lo  127.0.0.1
...
$ labctl docker {lab} host1 -- run \\
> -d x
```

```yaml
$ no: command
```

---

And:

```console
$ true
```
";

    #[test]
    fn commands_are_found_with_what_they_print_and_where() {
        let text = Text::read(TEXT).unwrap();
        assert!(text.before().starts_with("# A title") && text.before().ends_with("```"));
        assert!(text.after().starts_with("And:"));
        let (before, after) = text.typed();
        assert_eq!(before.len(), 2);
        assert_eq!(before[0].command, "labctl exec {lab} host1 -- ip a");
        assert_eq!(before[0].printed, ["lo  127.0.0.1", "..."]);
        assert_eq!(&TEXT[before[0].range.clone()], "lo  127.0.0.1\n...\n");
        assert_eq!(before[0].line, 6);
        assert_eq!(before[1].command, "labctl docker {lab} host1 -- run \\\n-d x");
        assert_eq!(TEXT.lines().nth(after[0].line - 1), Some("$ true"));
        assert!(after[0].printed.is_empty() && after[0].range.is_empty());
        assert_eq!(Text::read("a\n\n```console\nlabctl ps\n```\n").unwrap_err().0, 4);
        assert_eq!(Text::read("only this").unwrap().after(), "");
    }

    #[test]
    fn what_is_printed_may_differ_only_where_the_text_says_so() {
        let fits = |said: &str, printed: &str| {
            super::fits(&said.lines().map(str::to_owned).collect::<Vec<_>>(), printed)
        };
        assert!(fits("a  b\nc", "\na b  \nc\n"));
        assert!(!fits("a b", "a b\nc\n"));
        assert!(fits("a\n...\nd", "a\nb\nc\nd\n") && fits("a\n...", "a\n") && !fits("...\nd", "d\ne\n"));
        assert!(fits("time=[..] ms [..]", "time=0.3 ms ttl=64") && !fits("time=[..] ms", "time=0.3 s"));
        assert!(!fits("a[..]b", "ab c") && fits("[..]", "anything") && !fits("x", ""));
    }
}
