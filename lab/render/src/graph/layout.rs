//! Where everything of a drawing is drawn, in pixels. Segments are bars on top, hosts and peers are boxes below them, overlays
//! and services are at the bottom.
//!
//! In a host, NICs sit on its upper edge. Networks are bars, each further to the right than the one above, so that each has
//! room at its left for a rail down to its containers. What leads out of a box downwards, or from a network up to its
//! parent, has a rail at the right. Hosts that do not fit into one row go into the next; their segments are continued above
//! that row by a lane at the left margin, their overlays by one at the right.

use super::drawing::{Drawing, Edge, Kind};

/// A box, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    pub x: i32,
    pub y: i32,
    pub width: i32,
    pub height: i32,
}

/// A line of text in a box: a name and what follows it; either may be empty.
pub type Line = (String, String);

/// A drawing's places.
#[derive(Debug, Default)]
pub struct Layout {
    pub width: i32,
    pub height: i32,
    /// By index of the node.
    pub boxes: Vec<Rect>,
    /// By index of the node.
    pub texts: Vec<Vec<Line>>,
    /// Lines through these points, between boxes.
    pub wires: Vec<Vec<(i32, i32)>>,
    /// Where a wire joins a bar.
    pub joints: Vec<(i32, i32)>,
}

/// Width of a character in tenths of a pixel, and height of a line.
const CHAR_TENTHS: i32 = 73;
pub const LINE: i32 = 17;
/// Between a box and its text.
pub const PAD: i32 = 8;
/// Between boxes, and around everything.
const GAP: i32 = 10;
const MARGIN: i32 = 20;
/// Between two rails or lanes.
const RAIL: i32 = 14;
/// Between segments and hosts, hosts and overlays.
const SPACE: i32 = 34;
/// Widest row of hosts.
const WIDEST: i32 = 1150;
/// Most characters of a line.
const LONGEST: usize = 52;
/// Height of a bar, and of a box of one line.
const BAR: i32 = LINE + PAD;

impl Rect {
    pub fn right(self) -> i32 {
        self.x + self.width
    }
    pub fn bottom(self) -> i32 {
        self.y + self.height
    }
    fn middle(self) -> (i32, i32) {
        (self.x + self.width / 2, self.y + self.height / 2)
    }
}

/// What is in a host, and how large it is.
struct Room {
    node: usize,
    nics: Vec<usize>,
    interfaces: Vec<usize>,
    networks: Vec<usize>,
    containers: Vec<usize>,
    /// Edges from a network up to what it is on.
    parents: Vec<usize>,
    /// Overlays that containers are on.
    overlays: Vec<usize>,
    width: i32,
    height: i32,
}

impl Layout {
    /// Places a drawing.
    pub fn of(drawing: &Drawing) -> Self {
        let texts = (0..drawing.nodes.len()).map(|n| text(drawing, n)).collect();
        let boxes = vec![Rect::default(); drawing.nodes.len()];
        let mut layout = Self { boxes, texts, ..Self::default() };
        layout.place(drawing);
        layout
    }

    fn place(&mut self, drawing: &Drawing) {
        let of = |kind| drawing.of_kind(kind).map(|(n, _)| n).collect::<Vec<_>>();
        let segments = of(Kind::Segment);
        let overlays: Vec<usize> =
            drawing.of_kind(Kind::Network).filter(|(_, n)| n.inside.is_none()).map(|(n, _)| n).collect();
        let services = of(Kind::Service);
        let rooms: Vec<Room> = drawing
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| matches!(node.kind, Kind::Host | Kind::Peer))
            .map(|(n, _)| self.measure(drawing, n, &overlays))
            .collect();
        let rows = rows(&rooms);
        let lanes =
            |bars: &[usize]| RAIL * i32::try_from(rows.len().saturating_sub(1) * bars.len()).unwrap_or(0);
        let left = MARGIN + lanes(&segments);
        let row_width = |row: &[&Room]| row.iter().map(|r| r.width + 2 * GAP).sum::<i32>() - 2 * GAP;
        let widest = rows.iter().map(|row| row_width(row)).max().unwrap_or(0);
        let bars =
            segments.iter().chain(&overlays).map(|n| self.text_width(*n) + RAIL * 4).max().unwrap_or(0);
        let right = left + widest.max(bars).max(300);
        self.width = right + lanes(&overlays) + MARGIN;

        let mut y = MARGIN;
        for n in &segments {
            self.boxes[*n] = Rect { x: MARGIN, y, width: right - MARGIN, height: BAR };
            y += BAR + GAP;
        }
        y += SPACE - GAP;
        // Overlays are below everything: each, and where a wire down to it begins.
        let mut down: Vec<(usize, (i32, i32))> = Vec::new();
        for (r, row) in rows.iter().enumerate() {
            let gap = if r == 0 { 0 } else { self.segments_again(&segments, r, y, right) };
            y += gap;
            let mut x = left;
            let mut of_row = Vec::new();
            for room in row {
                self.room(drawing, room, x, y);
                self.up(drawing, room, &segments, r, y - gap);
                for (k, overlay) in (0..).zip(&room.overlays) {
                    let rail = x + room.width - PAD - k * RAIL;
                    of_row.push((*overlay, (rail, self.joined(drawing, &room.containers, *overlay, rail))));
                }
                x += room.width + 2 * GAP;
            }
            y += row.iter().map(|room| room.height).max().unwrap_or(0) + SPACE;
            if r + 1 == rows.len() {
                down.extend(of_row);
                continue;
            }
            // The overlays of this row are continued at the right.
            for (k, overlay) in (0..).zip(&overlays) {
                let lane = right + RAIL * (i32::try_from(r * overlays.len()).unwrap_or(0) + k + 1);
                let bus = y - SPACE + GAP + k * 6;
                let starts: Vec<_> =
                    of_row.iter().filter(|(n, _)| n == overlay).map(|(_, start)| *start).collect();
                down.extend(starts.first().map(|_| (*overlay, (lane, bus))));
                self.wires.extend(starts.into_iter().map(|(x, y)| vec![(x, y), (x, bus), (lane, bus)]));
            }
        }
        let end = self.stack(drawing, &overlays, &services, (MARGIN, right + lanes(&overlays)), y);
        for (overlay, (x, start)) in down {
            let top = self.boxes[overlay].y;
            self.wires.push(vec![(x, start), (x, top)]);
            self.joints.push((x, top));
        }
        let nothing_below = overlays.is_empty() && services.is_empty();
        self.height = if nothing_below { y - SPACE } else { end } + MARGIN;
    }

    fn text_width(&self, n: usize) -> i32 {
        width(&self.texts[n])
    }

    fn text_height(&self, n: usize) -> i32 {
        LINE * i32::try_from(self.texts[n].len()).unwrap_or(1) + PAD
    }

    /// From the upper edge of a box to its text: below its NICs, if it has any there.
    pub fn head(&self, drawing: &Drawing, n: usize) -> i32 {
        let has_nics = drawing.inside(n).any(|(_, node)| node.kind == Kind::Nic);
        if has_nics { BAR / 2 + 2 } else { 0 }
    }

    /// The size of a host or peer.
    fn measure(&self, drawing: &Drawing, node: usize, overlays: &[usize]) -> Room {
        let inside = |kind| drawing.inside(node).filter(move |(_, n)| n.kind == kind).map(|(n, _)| n);
        let leads_to =
            |n: usize, kind| drawing.edges.iter().any(|e| e.from == n && drawing.nodes[e.to].kind == kind);
        let (nics, interfaces): (Vec<_>, Vec<_>) =
            inside(Kind::Nic).partition(|n| leads_to(*n, Kind::Segment));
        let networks: Vec<_> = inside(Kind::Network).collect();
        let containers: Vec<_> = inside(Kind::Container).collect();
        let parents = |e: &Edge| networks.contains(&e.from) && drawing.nodes[e.to].kind == Kind::Nic;
        let parents: Vec<_> =
            drawing.edges.iter().enumerate().filter(|(_, e)| parents(e)).map(|(n, _)| n).collect();
        let on = |o: &&usize| drawing.edges.iter().any(|e| e.to == **o && containers.contains(&e.from));
        let overlays: Vec<_> = overlays.iter().filter(on).copied().collect();
        let rails = |n: usize| RAIL * i32::try_from(n).unwrap_or(0);
        let at_right = rails(parents.len() + overlays.len());
        let steps = (0..).zip(&networks).map(|(k, n)| k * RAIL + self.text_width(*n));
        let items = containers.iter().map(|n| rails(networks.len()) + self.text_width(*n));
        let inner =
            steps.chain(items).chain(interfaces.iter().map(|n| self.text_width(*n))).map(|w| w + at_right);
        let ports: i32 = nics.iter().map(|n| self.text_width(*n) + GAP).sum();
        let width =
            inner.max().unwrap_or(0).max(ports + at_right).max(self.text_width(node)).max(160) + 2 * PAD;
        let rows = interfaces.iter().chain(&networks).map(|_| BAR);
        let rows = rows.chain(containers.iter().map(|n| self.text_height(*n)));
        let height = self.head(drawing, node) + self.text_height(node) + rows.map(|h| h + GAP).sum::<i32>();
        Room { node, nics, interfaces, networks, containers, parents, overlays, width, height }
    }

    /// Places a host with all that is inside it, or a peer.
    fn room(&mut self, drawing: &Drawing, room: &Room, x: i32, y: i32) {
        self.boxes[room.node] = Rect { x, y, width: room.width, height: room.height };
        let mut port = x + PAD;
        for n in &room.nics {
            let width = self.text_width(*n);
            self.boxes[*n] = Rect { x: port, y: y - BAR / 2, width, height: BAR };
            port += width + GAP;
        }
        let mut top = y + self.head(drawing, room.node) + self.text_height(room.node);
        let (left, right) = (x + PAD, x + room.width - PAD);
        for n in &room.interfaces {
            let width = self.text_width(*n);
            self.boxes[*n] = Rect { x: left, y: top, width, height: BAR };
            top += BAR + GAP;
        }
        let rails = RAIL * i32::try_from(room.parents.len() + room.overlays.len()).unwrap_or(0);
        self.stack(drawing, &room.networks, &room.containers, (left, right - rails), top);
        for (k, edge) in (0..).zip(&room.parents) {
            let Edge { from, to, .. } = drawing.edges[*edge];
            let rail = right - RAIL * (i32::try_from(room.overlays.len()).unwrap_or(0) + k);
            let (nic, network) = (self.boxes[to], self.boxes[from]);
            // A NIC is left at its lower edge, an interface inside the host at its right.
            let start = if room.nics.contains(&to) {
                let y = nic.bottom() + 4 + k * 3;
                vec![(nic.right() - PAD, nic.bottom()), (nic.right() - PAD, y), (rail, y)]
            } else {
                vec![(nic.right(), nic.middle().1), (rail, nic.middle().1)]
            };
            let end = network.middle().1;
            self.wires.push(start.into_iter().chain([(rail, end), (network.right(), end)]).collect());
            self.joints.push((network.right(), end));
        }
    }

    /// Places bars and, below them, the items that hang on them by rails at their left. Returns where it ends.
    fn stack(
        &mut self,
        drawing: &Drawing,
        bars: &[usize],
        items: &[usize],
        (left, right): (i32, i32),
        y: i32,
    ) -> i32 {
        let mut y = y;
        for (k, n) in (0..).zip(bars) {
            let x = left + k * RAIL;
            self.boxes[*n] = Rect { x, y, width: right - x, height: BAR };
            y += BAR + GAP;
        }
        let x = left + RAIL * i32::try_from(bars.len()).unwrap_or(0);
        // Inside a host all items are as wide as there is room; at the bottom, as their text.
        let common = items.iter().map(|n| self.text_width(*n)).max().unwrap_or(0);
        for n in items {
            let inside = drawing.nodes[*n].inside.is_some();
            let (width, height) = (if inside { right - x } else { common }, self.text_height(*n));
            self.boxes[*n] = Rect { x, y, width, height };
            y += height + GAP;
        }
        for (k, bar) in (0..).zip(bars) {
            let rail = left + k * RAIL + 5;
            let on = drawing.edges.iter().filter(|e| e.to == *bar && items.contains(&e.from));
            let ys: Vec<i32> = on.map(|e| self.boxes[e.from].y + BAR / 2).collect();
            let start = self.boxes[*bar].bottom();
            if let Some(end) = ys.iter().max() {
                self.wires.push(vec![(rail, start), (rail, *end)]);
            }
            for y in ys {
                self.wires.push(vec![(rail, y), (x, y)]);
                self.joints.push((rail, y));
            }
        }
        y
    }

    /// Wires from containers to a rail at their right. Returns where the rail begins.
    fn joined(&mut self, drawing: &Drawing, containers: &[usize], overlay: usize, rail: i32) -> i32 {
        let on = drawing.edges.iter().filter(|e| e.to == overlay && containers.contains(&e.from));
        let mut top = i32::MAX;
        for edge in on {
            let item = self.boxes[edge.from];
            let y = item.y + BAR / 2;
            self.wires.push(vec![(item.right(), y), (rail, y)]);
            self.joints.push((rail, y));
            top = top.min(y);
        }
        top
    }

    /// Continues the segments above a further row, by a lane at the left. Returns how much room that takes.
    fn segments_again(&mut self, segments: &[usize], row: usize, y: i32, right: i32) -> i32 {
        for (k, n) in segments.iter().enumerate() {
            let lane = MARGIN + RAIL * i32::try_from((row - 1) * segments.len() + k).unwrap_or(0) + 5;
            let (bus, start) = (Self::bus(y, k), self.boxes[*n].bottom());
            self.wires.push(vec![(lane, start), (lane, bus), (right, bus)]);
            self.joints.push((lane, start));
        }
        Self::bus(0, segments.len()) + BAR / 2
    }

    /// Height of the k-th segment where it is continued above a row.
    fn bus(y: i32, k: usize) -> i32 {
        y + 6 * i32::try_from(k).unwrap_or(0)
    }

    /// Wires from the NICs of a host, or from a peer, up to their segments. `y` is where the row's segments are continued.
    fn up(&mut self, drawing: &Drawing, room: &Room, segments: &[usize], row: usize, y: i32) {
        for n in room.nics.iter().chain([&room.node]) {
            for edge in drawing.edges.iter().filter(|e| e.from == *n) {
                let Some(k) = segments.iter().position(|s| *s == edge.to) else { continue };
                let (x, top) = (self.boxes[*n].middle().0, self.boxes[*n].y);
                let end = if row == 0 { self.boxes[edge.to].bottom() } else { Self::bus(y, k) };
                self.wires.push(vec![(x, top), (x, end)]);
                self.joints.push((x, end));
            }
        }
    }
}

/// Distributes hosts and peers over rows.
fn rows(rooms: &[Room]) -> Vec<Vec<&Room>> {
    let mut rows: Vec<Vec<&Room>> = Vec::new();
    let mut used = 0;
    for room in rooms {
        used += room.width + 2 * GAP;
        match rows.last_mut() {
            Some(row) if used <= WIDEST => row.push(room),
            _ => {
                used = room.width + 2 * GAP;
                rows.push(vec![room]);
            }
        }
    }
    rows
}

/// The lines in a node's box. What a container's wires cannot say, its addresses, is among them.
fn text(drawing: &Drawing, n: usize) -> Vec<Line> {
    let node = &drawing.nodes[n];
    let several = drawing.edges.iter().filter(|e| e.from == n).count() > 1;
    let addresses = drawing.edges.iter().filter(|e| e.from == n && !e.label.is_empty());
    let addresses = addresses.filter(|e| drawing.nodes[e.to].kind == Kind::Network).map(|e| match several {
        true => format!("{} in {}", e.label, drawing.nodes[e.to].name),
        false => e.label.clone(),
    });
    let mut notes: Vec<String> = addresses.chain(node.notes.iter().cloned()).collect();
    match node.kind {
        Kind::Segment | Kind::Network | Kind::Nic | Kind::Host => {
            vec![shortened(&node.name, &notes.join(" · "))]
        }
        Kind::Container | Kind::Service | Kind::Peer => {
            let first = if notes.is_empty() || several { String::new() } else { notes.remove(0) };
            let rest = notes.iter().map(|note| shortened("", note));
            [shortened(&node.name, &first)].into_iter().chain(rest).collect()
        }
    }
}

/// A line that is not longer than [`LONGEST`].
fn shortened(name: &str, rest: &str) -> Line {
    let short = |text: &str, most: usize| match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let name = short(name, LONGEST / 2);
    let rest = short(rest, LONGEST.saturating_sub(name.chars().count()));
    (name, rest)
}

/// Width of a box with these lines.
fn width(lines: &[Line]) -> i32 {
    let chars = |(name, rest): &Line| {
        name.chars().count() + rest.chars().count() + if name.is_empty() || rest.is_empty() { 0 } else { 1 }
    };
    let most = lines.iter().map(chars).max().unwrap_or(0);
    let most = i32::try_from(most).unwrap_or(0);
    (most * CHAR_TENTHS + 9) / 10 + 2 * PAD
}
