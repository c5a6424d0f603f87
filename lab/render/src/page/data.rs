//! The cells of a report in a form that stays small: each text once, each cell a row of numbers.

use indexmap::IndexSet;
use labctl_model::{Lab, Observed, plain};
use labctl_report::{CellReport, CheckReport, MatrixReport, cells};
use serde::Serialize;

/// A cell: `from`, `to`, word, look, expected, observed, detail, unmet, causes, answered by, source, round trip in µs (-1:
/// none), line. What is a text is an index of [`Data::words`]. page.js reads it by these places.
type Cell = [i64; 13];

/// What the page's script draws.
#[derive(Debug, Default, Serialize)]
pub struct Data {
    /// Every text once, without hostile characters. The first is empty.
    words: IndexSet<String>,
    /// By word: the word of the host that an endpoint of this name is on; -1: unknown.
    homes: Vec<i64>,
    /// The matrices, in the report's order.
    matrices: Vec<Matrix>,
}

/// A matrix.
#[derive(Debug, Serialize)]
struct Matrix {
    title: String,
    note: String,
    rows: Vec<i64>,
    columns: Vec<i64>,
    cells: Vec<Cell>,
}

impl Data {
    /// Data without matrices.
    pub fn new() -> Self {
        Self { words: IndexSet::from([String::new()]), ..Self::default() }
    }

    /// Adds the matrix of a check and returns its index. `note` says how the check went.
    pub fn add(&mut self, check: &CheckReport, matrix: &MatrixReport, note: &str) -> usize {
        let (rows, columns) = cells::axes(&matrix.cells);
        let rows = rows.into_iter().map(|name| self.word(name)).collect();
        let columns = columns.into_iter().map(|name| self.word(name)).collect();
        let note = format!("line {}{}{note}", check.line, if note.is_empty() { "" } else { ", " });
        let cells = matrix.cells.iter().map(|cell| self.cell(cell)).collect();
        self.matrices.push(Matrix {
            title: plain(&cells::caption(matrix)),
            note: plain(&note),
            rows,
            columns,
            cells,
        });
        self.matrices.len() - 1
    }

    /// Says where the endpoints are.
    pub fn place(&mut self, lab: Option<&Lab>) {
        let home = |name: &String| lab.and_then(|lab| home(lab, name));
        let homes: Vec<_> = self.words.iter().map(home).collect();
        self.homes = homes.into_iter().map(|home| home.map_or(-1, |name| self.word(&name))).collect();
    }

    fn word(&mut self, text: &str) -> i64 {
        let (index, _) = self.words.insert_full(plain(text));
        i64::try_from(index).unwrap_or(0)
    }

    fn cell(&mut self, cell: &CellReport) -> Cell {
        let look = match (cell.observed, cell.holds) {
            (Observed::Failed, _) => 3,
            (_, false) => 2,
            (Observed::Yes, true) => 0,
            (Observed::No(_), true) => 1,
        };
        let causes: Vec<_> = cell.causes.iter().map(ToString::to_string).collect();
        let source: Vec<_> = cell.source.iter().map(ToString::to_string).collect();
        [
            self.word(&cell.from),
            self.word(&cell.to),
            self.word(&cells::word(cell)),
            look,
            self.word(&cell.expected.to_string()),
            self.word(cell.observed.word()),
            self.word(&cell.detail),
            self.word(cell.unmet.as_deref().unwrap_or_default()),
            self.word(&causes.join("; ")),
            self.word(&cell.answered_by.join(", ")),
            self.word(&source.join(", ")),
            cell.rtt_us.and_then(|us| i64::try_from(us).ok()).unwrap_or(-1),
            i64::from(cell.line),
        ]
    }
}

/// Where an endpoint, or an address of one (`host2@data`), is, for groups: on a host, or among its kind.
fn home(lab: &Lab, name: &str) -> Option<String> {
    let name = name.split('@').next().unwrap_or(name);
    let kind = if lab.peers.contains_key(name) { "peers" } else { "services" };
    let is_one = lab.peers.contains_key(name) || lab.services.contains_key(name);
    lab.host_of(name).map(str::to_owned).or_else(|| is_one.then(|| kind.to_owned()))
}
