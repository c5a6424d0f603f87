//! Markdown for a terminal.

use anstyle::Style;
use labctl_report::style;
use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use unicode_width::UnicodeWidthStr;

/// Indentation of code, of what stands in a list, and of quotes.
const CODE: &str = "    ";
/// Widest text: longer lines are hard to read.
const WIDEST: usize = 100;
/// How a text of a lesson writes what differs from one time to the next.
const ANY_TEXT: &str = "[..]";

/// Renders Markdown as styled text for a terminal with so many columns. Ends with a line feed.
pub fn render(markdown: &str, columns: usize) -> String {
    let mut page = Page::new(columns.min(WIDEST));
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        page.event(event);
    }
    page.out
}

/// Pieces of one word, each with its style.
type Word = Vec<(Style, String)>;

/// A list that is open: the number of the next item, if its items have numbers.
type List = Option<u64>;

struct Page {
    out: String,
    columns: usize,
    /// What every line of the block begins with.
    indent: String,
    /// What only the next line begins with, in place of as much of `indent`.
    bullet: Option<String>,
    lists: Vec<List>,
    styles: Vec<Style>,
    words: Vec<Word>,
    /// Whether the next text goes on with the last word.
    glued: bool,
    code: Option<(bool, String)>,
    rows: Vec<Vec<Vec<Word>>>,
    alignments: Vec<Alignment>,
}

impl Page {
    fn new(columns: usize) -> Self {
        Self {
            out: String::new(),
            columns,
            indent: String::new(),
            bullet: None,
            lists: Vec::new(),
            styles: vec![Style::new()],
            words: Vec::new(),
            glued: false,
            code: None,
            rows: Vec::new(),
            alignments: Vec::new(),
        }
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match &mut self.code {
                Some((_, code)) => code.push_str(&text),
                None => self.text(&text),
            },
            Event::Code(code) => {
                self.styles.push(self.style().fg_color(style::HINT.get_fg_color()));
                self.text(&format!("`{code}`"));
                self.styles.pop();
            }
            Event::SoftBreak => self.glued = false,
            Event::HardBreak => self.paragraph(),
            Event::Rule => {
                self.gap();
                self.out.push_str(&format!("{}\n", "─".repeat(self.columns.min(40))));
            }
            Event::Html(text) | Event::InlineHtml(text) => self.text(&text),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.gap();
                let heading = style::HEAD;
                self.styles.push(if level == HeadingLevel::H1 { heading.underline() } else { heading });
            }
            Tag::Paragraph => self.gap(),
            Tag::BlockQuote(_) => {
                self.gap();
                self.indent.push_str("│ ");
            }
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.gap();
                }
                self.paragraph();
                self.lists.push(first);
            }
            Tag::Item => {
                self.paragraph();
                let bullet = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "• ".to_owned(),
                };
                self.indent.push_str(&" ".repeat(bullet.width()));
                self.bullet = Some(bullet);
            }
            Tag::CodeBlock(kind) => {
                self.paragraph();
                self.gap();
                let console = matches!(&kind, CodeBlockKind::Fenced(info) if &**info == "console");
                self.code = Some((console, String::new()));
            }
            Tag::Table(alignments) => {
                self.gap();
                self.alignments = alignments;
            }
            Tag::TableHead | Tag::TableRow => self.rows.push(Vec::new()),
            Tag::Strong => self.styles.push(self.style().bold()),
            Tag::Emphasis => self.styles.push(self.style().italic()),
            Tag::Link { .. } => self.styles.push(self.style().underline()),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.styles.pop();
                self.paragraph();
            }
            TagEnd::Paragraph => self.paragraph(),
            TagEnd::BlockQuote(_) => {
                self.paragraph();
                self.indent.truncate(self.indent.len() - "│ ".len());
            }
            TagEnd::List(_) => {
                self.paragraph();
                self.lists.pop();
            }
            TagEnd::Item => {
                self.paragraph();
                let width = match self.lists.last() {
                    Some(Some(number)) => format!("{}. ", number - 1).width(),
                    _ => 2,
                };
                self.indent.truncate(self.indent.len().saturating_sub(width));
                self.bullet = None;
            }
            TagEnd::CodeBlock => {
                if let Some((console, code)) = self.code.take() {
                    self.code_block(console, &code);
                }
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.words);
                self.glued = false;
                if let Some(row) = self.rows.last_mut() {
                    row.push(cell);
                }
            }
            TagEnd::Table => self.table(),
            TagEnd::Strong | TagEnd::Emphasis | TagEnd::Link => _ = self.styles.pop(),
            _ => {}
        }
    }

    fn style(&self) -> Style {
        self.styles.last().copied().unwrap_or_default()
    }

    /// Adds an empty line between two blocks.
    fn gap(&mut self) {
        let first_of_item = self.bullet.is_some();
        if !self.out.is_empty() && !self.out.ends_with("\n\n") && !first_of_item {
            self.out.push('\n');
        }
    }

    fn text(&mut self, text: &str) {
        let style = self.style();
        for (n, part) in text.split(char::is_whitespace).enumerate() {
            if n > 0 {
                self.glued = false;
            }
            if part.is_empty() {
                continue;
            }
            match self.words.last_mut().filter(|_| self.glued) {
                Some(word) => word.push((style, part.to_owned())),
                None => self.words.push(vec![(style, part.to_owned())]),
            }
            self.glued = true;
        }
    }

    /// Writes the words so far as lines.
    fn paragraph(&mut self) {
        let words = std::mem::take(&mut self.words);
        self.glued = false;
        let mut line = String::new();
        let mut used = 0;
        let room = self.columns.saturating_sub(self.indent.width()).max(10);
        for word in words {
            let width = width(&word);
            if used > 0 && used + 1 + width > room {
                self.line(&line);
                (line, used) = (String::new(), 0);
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(&styled(&word));
            used += width;
        }
        if used > 0 {
            self.line(&line);
        }
    }

    fn line(&mut self, line: &str) {
        let begin = match self.bullet.take() {
            Some(bullet) => {
                let keep = self.indent.len().saturating_sub(bullet.width());
                format!("{}{bullet}", &self.indent[..keep])
            }
            None => self.indent.clone(),
        };
        self.out.push_str(&format!("{begin}{line}\n"));
    }

    fn code_block(&mut self, console: bool, code: &str) {
        let mut continues = false;
        for line in code.lines() {
            let line = line.replace(ANY_TEXT, "…");
            let is_command = console && (line.starts_with("$ ") || continues && line.starts_with("> "));
            continues = is_command;
            let shown = match is_command {
                true => {
                    let s = style::HINT.bold();
                    format!("{s}{line}{s:#}")
                }
                false => line,
            };
            self.line(format!("{CODE}{shown}").trim_end());
        }
    }

    fn table(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let of = |cell: &[Word]| cell.iter().map(width).sum::<usize>() + cell.len().saturating_sub(1);
        let widths: Vec<usize> = (0..columns)
            .map(|n| rows.iter().filter_map(|r| r.get(n)).map(|c| of(c)).max().unwrap_or(0))
            .collect();
        for (number, row) in rows.iter().enumerate() {
            let mut line = String::new();
            for (n, cell) in row.iter().enumerate() {
                let text = cell.iter().map(styled).collect::<Vec<_>>().join(" ");
                let blanks = " ".repeat(widths[n] - of(cell));
                let right = self.alignments.get(n) == Some(&Alignment::Right);
                let cell = if right { format!("{blanks}{text}") } else { format!("{text}{blanks}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            let line = line.trim_end().to_owned();
            let head = style::HEAD;
            self.line(&if number == 0 { format!("{head}{line}{head:#}") } else { line });
        }
    }
}

fn width(word: &Word) -> usize {
    word.iter().map(|(_, text)| text.width()).sum()
}

fn styled(word: &Word) -> String {
    word.iter().map(|(s, text)| format!("{s}{text}{s:#}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(markdown: &str, columns: usize) -> String {
        anstream::adapter::strip_str(&render(markdown, columns)).to_string()
    }

    #[test]
    fn text_is_wrapped_and_blocks_stand_apart() {
        let text = "# Head\n\nOne *two* three `four five` six.\nSeven.\n\n- a b c d e f g h i j k l m n\n- second\n\n1. x\n2. y\n\nEnd.\n";
        let shown = "Head\n\nOne two three `four\nfive` six. Seven.\n\n• a b c d e f g h i\n  j k l m n\n• second\n\n1. x\n2. y\n\nEnd.\n";
        assert_eq!(plain(text, 20), shown);
    }

    #[test]
    fn code_is_not_wrapped_and_what_differs_is_three_dots() {
        let text = "Type:\n\n```console\n$ labctl exec lab host1 -- ip -brief address show dev eth0\neth0  UP  [..]\n```\n";
        let shown =
            "Type:\n\n    $ labctl exec lab host1 -- ip -brief address show dev eth0\n    eth0  UP  …\n";
        assert_eq!(plain(text, 20), shown);
    }

    #[test]
    fn a_table_has_columns() {
        let text = "| a | number |\n|---|---:|\n| **long** name | 1 |\n";
        assert_eq!(plain(text, 80), "a          number\nlong name       1\n");
    }

    #[test]
    fn emphasis_is_only_colour() {
        assert!(render("a **b**", 80).contains("\u{1b}[1mb\u{1b}[0m"));
        assert_eq!(plain("> quoted\n\nnot", 80), "│ quoted\n\nnot\n");
    }
}
