//! Columns of text, aligned as in a topology's table.

use anstyle::Style;

/// Rows of cells; the columns are as wide as their widest cell and two spaces apart.
#[derive(Debug, Default)]
pub struct Table(Vec<Vec<(String, Style)>>);

impl Table {
    /// A table with a heading row.
    pub fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let style = crate::style::HEAD;
        Self(vec![headings.into_iter().map(|h| (h.into(), style)).collect()])
    }

    /// Adds a row. Its names may be arbitrary: a guest can name an interface as it likes.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (String, Style)>) {
        self.0.push(cells.into_iter().map(|(text, style)| (labctl_words::plain(&text), style)).collect());
    }

    /// Adds a row without emphasis.
    pub fn plain_row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.row(cells.into_iter().map(|c| (c.into(), Style::new())));
    }

    /// Renders the text, with a line feed after each row.
    pub fn render(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            self.0.iter().filter_map(|r| r.get(c)).map(|(t, _)| t.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.0 {
            for (i, ((cell, style), width)) in row.iter().zip(&widths).enumerate() {
                text.push_str(&format!("{style}{cell}{style:#}"));
                if i + 1 < row.len() {
                    text.push_str(&" ".repeat(width - cell.chars().count() + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_emphasis() {
        let mut t = Table::new(["a", "long"]);
        t.row([("x≠y".to_owned(), crate::style::BAD), ("z".to_owned(), Style::new())]);
        let text = anstream::adapter::strip_str(&t.render()).to_string();
        assert_eq!(text, "a    long\nx≠y  z\n");
    }
}
