//! The cells of a report in a form that stays small: each text once, each cell a row of numbers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use indexmap::IndexSet;
use labctl_model::{Lab, Observed};
use labctl_oracle::{Place, Way};
use labctl_report::{CellReport, CheckReport, MatrixReport, cells};
use labctl_words::plain;
use serde::Serialize;

use super::frames::{Capture, Frame};
use crate::graph::Drawing;

/// A cell: `from`, `to`, word, look, expected, observed, detail, unmet, causes, answered by, source, round trip in µs (-1:
/// none), line, predicted, why that, walks (an index of [`Data::walks`]). What is a text is an index of [`Data::words`].
/// page.js reads it by these places.
type Cell = [i64; 16];

/// What the page's script draws.
#[derive(Debug, Default, Serialize)]
pub struct Data {
    /// Every text once, without hostile characters. The first is empty.
    words: IndexSet<String>,
    /// By word: the word of the host that an endpoint of this name is on; -1: unknown.
    homes: Vec<i64>,
    /// The matrices, in the report's order.
    matrices: Vec<Matrix>,
    /// What the oracle's packets did: for a cell one walk for each word. The first is empty.
    walks: Vec<Vec<Walk>>,
}

/// A walk of a request, and its end.
#[derive(Debug, Serialize)]
struct Walk {
    verdict: i64,
    why: i64,
    there: Vec<Hop>,
    back: Vec<Hop>,
    /// Addresses of its packets.
    addresses: BTreeSet<i64>,
}

/// A place, the packet as it is there, what decides, and the drawing's node (-1: none).
type Hop = [i64; 4];

/// What is known of a lab besides its report.
#[derive(Debug, Default)]
pub struct Known<'a> {
    /// What is drawn.
    pub drawing: Drawing,
    /// The oracle's walks.
    pub walks: BTreeMap<Place, Vec<Way>>,
    /// What the wire carried.
    pub captures: &'a [Capture],
}

/// A matrix.
#[derive(Debug, Serialize)]
struct Matrix {
    title: String,
    note: String,
    rows: Vec<i64>,
    columns: Vec<i64>,
    cells: Vec<Cell>,
    frames: Vec<Row>,
}

/// A frame: µs since the first, segment, port, what it is, what became of it, cell of the matrix (-1: it has no mark), and
/// the words of two ends.
type Row = [i64; 8];

impl Data {
    /// Data without matrices.
    pub fn new() -> Self {
        Self { words: IndexSet::from([String::new()]), walks: vec![Vec::new()], ..Self::default() }
    }

    /// Adds the matrix of a check, with what the wire carried, and returns its index. `note` says how the check went; the
    /// place is that of its first cell.
    pub fn add(
        &mut self,
        check: &CheckReport,
        matrix: &MatrixReport,
        note: &str,
        frames: &[(Duration, &Frame)],
        (stage, number): (usize, usize),
        known: &Known<'_>,
    ) -> usize {
        let (rows, columns) = cells::axes(&matrix.cells);
        let rows = rows.into_iter().map(|name| self.word(name)).collect();
        let columns = columns.into_iter().map(|name| self.word(name)).collect();
        let note = format!("line {}{}{note}", check.line, if note.is_empty() { "" } else { ", " });
        let cells = matrix.cells.iter().enumerate().map(|(n, cell)| {
            let ways = known.walks.get(&(stage, number, n));
            let walks = ways.map_or(0, |ways| self.walks(ways, &known.drawing));
            self.cell(cell, walks)
        });
        let cells = cells.collect();
        let mut marked = HashMap::new();
        for (n, cell) in matrix.cells.iter().enumerate() {
            marked.extend(cell.marks.iter().map(|mark| (*mark, index(n))));
        }
        let frames = frames.iter().map(|(time, frame)| self.frame(*time, frame, &marked)).collect();
        self.matrices.push(Matrix {
            title: plain(&cells::caption(matrix)),
            note: plain(&note),
            rows,
            columns,
            cells,
            frames,
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
        index(self.words.insert_full(plain(text)).0)
    }

    fn frame(&mut self, time: Duration, frame: &Frame, marked: &HashMap<u32, i64>) -> Row {
        let mut ends =
            frame.ends.iter().map(|end| self.word(&end.to_string())).collect::<Vec<_>>().into_iter();
        let mut end = || ends.next().unwrap_or(0);
        [
            i64::try_from(time.as_micros()).unwrap_or(0),
            self.word(&frame.segment),
            self.word(&frame.port),
            self.word(&frame.what),
            self.word(&frame.dropped),
            frame.mark.and_then(|mark| marked.get(&mark).copied()).unwrap_or(-1),
            end(),
            end(),
        ]
    }

    /// Adds the walks of a cell and returns their index.
    fn walks(&mut self, ways: &[Way], drawing: &Drawing) -> i64 {
        let walks = ways.iter().map(|way| self.walk(way, drawing)).collect();
        self.walks.push(walks);
        index(self.walks.len() - 1)
    }

    fn walk(&mut self, way: &Way, drawing: &Drawing) -> Walk {
        let mut hops = |hops: &[labctl_oracle::Hop]| -> Vec<Hop> {
            let node = |at: &str| drawing.node_at(at).map_or(-1, index);
            hops.iter()
                .map(|h| [self.word(&h.at), self.word(&h.packet), self.word(&h.by), node(&h.at)])
                .collect()
        };
        let (there, back) = (hops(&way.there), hops(&way.back));
        let addresses = way.there.iter().chain(&way.back).flat_map(|hop| addresses(&hop.packet));
        let addresses = addresses.map(|address| self.word(&address.to_string())).collect();
        Walk { verdict: self.word(way.verdict), why: self.word(&way.why), there, back, addresses }
    }

    fn cell(&mut self, cell: &CellReport, walks: i64) -> Cell {
        let look = match (cell.observed, cell.holds) {
            (Observed::Failed, _) => 3,
            (_, false) => 2,
            (Observed::Yes, true) => 0,
            (Observed::No(_), true) => 1,
        };
        let predicted = cell.predicted.as_ref();
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
            self.word(predicted.map_or("", |p| &p.word)),
            self.word(predicted.map_or("", |p| &p.why)),
            walks,
        ]
    }
}

/// The addresses in a packet's text: `udp 10.3.1.11:40000 > 10.3.1.12:53`.
fn addresses(packet: &str) -> Vec<IpAddr> {
    let words = packet.split([' ', ',']);
    let one = |word: &str| word.parse().or_else(|_| word.parse().map(|a: SocketAddr| a.ip())).ok();
    words.filter_map(one).collect()
}

fn index(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(0)
}

/// Where an endpoint, or an address of one (`host2@data`), is, for groups: on a host, or among its kind.
fn home(lab: &Lab, name: &str) -> Option<String> {
    let name = name.split('@').next().unwrap_or(name);
    let kind = if lab.peers.contains_key(name) { "peers" } else { "services" };
    let is_one = lab.peers.contains_key(name) || lab.services.contains_key(name);
    lab.host_of(name).map(str::to_owned).or_else(|| is_one.then(|| kind.to_owned()))
}
