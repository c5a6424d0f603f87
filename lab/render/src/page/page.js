"use strict";
// Draws the matrices. All text comes from the data block and is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const word = (n) => data.words[n];
// The places of a cell's values, as `Cell` in data.rs writes them.
const [FROM, TO, WORD, LOOK, EXPECTED, OBSERVED, DETAIL, UNMET, CAUSES, ANSWERED, SOURCE, RTT, LINE, PREDICTED, WHY, WALKS] =
  Array(16).keys();
const LOOKS = ["yes", "no", "wrong", "error"];
const MARKS = ["✓", "–", "✗", "?"];
const WORST = [2, 3, 0, 1]; // Which look a cell has that stands for several: the first of these.
const MOST = 48; // Rows or columns of a table; more are grouped.
const CHUNK = 32; // Most names of a group.
const WIDE = 14; // With more columns, a cell has its mark alone.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};

// Groups of the names of an axis: each name by itself, or the names of one host, in pieces that are not too long.
function groups(names) {
  if (names.length <= MOST) return names.map((n) => ({ label: word(n), names: [n] }));
  const homes = new Map();
  names.forEach((n) => {
    const home = data.homes[n] ?? -1;
    if (!homes.has(home)) homes.set(home, []);
    homes.get(home).push(n);
  });
  const all = [];
  for (const [home, own] of homes) {
    for (let start = 0; start < own.length; start += CHUNK) {
      const part = own.slice(start, start + CHUNK);
      const several = own.length > CHUNK;
      const name = home < 0 ? `${word(part[0])} … ${word(part.at(-1))}` : word(home);
      all.push({ label: home >= 0 && several ? `${name} ${start + 1}–${start + part.length}` : name, names: part });
    }
  }
  return all;
}

// The cells of a matrix by their place in it.
function byPlace(matrix) {
  const places = new Map();
  matrix.cells.forEach((cell) => {
    const place = cell[FROM] * data.words.length + cell[TO];
    if (places.has(place)) places.get(place).push(cell);
    else places.set(place, [cell]);
  });
  return (from, to) => places.get(from * data.words.length + to) ?? [];
}

function worst(cells) {
  const looks = new Set(cells.map((cell) => cell[LOOK]));
  return WORST.find((look) => looks.has(look));
}

// A table of these rows and columns. `open` is called with a place that is chosen: its cells, its row and its column.
function table(rows, columns, at, title, open) {
  const dense = columns.length > WIDE;
  const grid = make("table", { class: dense ? "grid dense" : "grid", role: "grid", "aria-label": title });
  const head = make("tr", {}, make("td", {}));
  columns.forEach((column) => head.append(make("th", { scope: "col" }, column.label)));
  const body = make("tbody");
  const places = [];
  rows.forEach((row) => {
    const line = make("tr", {}, make("th", { scope: "row" }, row.label));
    places.push(columns.map((column) => {
      const cells = row.names.flatMap((from) => column.names.flatMap((to) => at(from, to)));
      if (cells.length === 0) {
        line.append(make("td", {}));
        return null;
      }
      const single = row.names.length === 1 && column.names.length === 1;
      const look = worst(cells);
      const wrong = cells.filter((cell) => cell[LOOK] > 1).length;
      const says = single ? word(cells.at(-1)[WORD]) : wrong > 0 ? `${wrong}` : "";
      const shown = dense && single ? MARKS[look] : `${MARKS[look]} ${says}`;
      const label = single
        ? `${row.label} to ${column.label}: observed ${word(cells.at(-1)[OBSERVED])}, expected ${word(cells.at(-1)[EXPECTED])}${look > 1 ? ": wrong" : ""}`
        : `${row.label} to ${column.label}: ${wrong} of ${cells.length} cells wrong`;
      const place = make("td", { role: "gridcell", tabindex: "-1", class: LOOKS[look], "aria-label": label, title: label }, shown);
      line.append(place);
      return { place, cells, row, column };
    }));
    body.append(line);
  });
  grid.append(make("thead", {}, head), body);
  steer(grid, places, open);
  return grid;
}

// Keys and clicks: arrows, Home and End move, Enter and space choose. One cell is in the tab order.
function steer(grid, places, open) {
  const flat = places.flat().filter(Boolean);
  const first = flat.find(({ cells }) => worst(cells) > 1) ?? flat[0];
  if (!first) return;
  first.place.tabIndex = 0;
  let now = first;
  const move = (to) => {
    now.place.tabIndex = -1;
    now = to;
    now.place.tabIndex = 0;
    now.place.focus();
  };
  const find = (target) => flat.find(({ place }) => place === target.closest("td"));
  const choose = (chosen) => {
    document.querySelectorAll("[aria-selected]").forEach((old) => old.removeAttribute("aria-selected"));
    chosen.place.setAttribute("aria-selected", "true");
    open(chosen);
  };
  grid.addEventListener("click", (event) => {
    const chosen = find(event.target);
    if (!chosen) return;
    move(chosen);
    choose(chosen);
  });
  grid.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter" || event.key === " ") choose(now);
    else if (event.key === "Home") move(flat[0]);
    else if (event.key === "End") move(flat.at(-1));
    else if (ways[event.key]) {
      const [down, across] = ways[event.key];
      let row = places.findIndex((line) => line.includes(now));
      let column = places[row].indexOf(now);
      // Over places where nothing was probed.
      do {
        row += down;
        column += across;
      } while (places[row] && places[row][column] === null);
      if (places[row]?.[column]) move(places[row][column]);
    } else return;
    event.preventDefault();
  });
}

const details = document.getElementById("details");
let back = null;

const SVG = "http://www.w3.org/2000/svg";
const picture = document.querySelector("svg.graph");

// Draws a way on a copy of the topology: through the middle of each node, upright where two lie one above the other.
function draw(copy, hops, className, inset) {
  const nodes = hops.map((hop) => hop[3]).filter((node) => node >= 0);
  const rects = nodes.flatMap((node) => {
    const group = copy.querySelector(`[data-node="${node}"]`);
    group.classList.add("walked");
    const [x, y, width, height] = ["x", "y", "width", "height"].map((side) => Number(group.firstElementChild.nextElementSibling.getAttribute(side)));
    // In a host its name is on top.
    return [{ node, left: x, right: x + width, middle: y + (group.classList.contains("g-host") ? 26 : height / 2) }];
  }).filter(({ node }, n, all) => n === 0 || node !== all[n - 1].node);
  if (rects.length === 0) return;
  const center = ({ left, right, middle }) => [(left + right) / 2, middle];
  const points = rects.length === 1 ? [center(rects[0])] : [];
  for (let n = 1; n < rects.length; n++) {
    const [a, b] = [rects[n - 1], rects[n]];
    const right = Math.min(a.right, b.right);
    if (right > Math.max(a.left, b.left)) points.push([right - inset, a.middle], [right - inset, b.middle]);
    else points.push(center(a), center(b));
  }
  const add = (tag, attributes) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    copy.append(element);
  };
  add("polyline", { class: className, points: points.map((point) => point.join()).join(" ") });
  const [from, to] = [points[0], points.at(-1)];
  if (points.length > 1) add("circle", { class: `${className} end`, cx: from[0], cy: from[1], r: 4 });
  if (className.includes("lost")) add("path", { class: className, d: `M${to[0] - 6} ${to[1] - 6}l12 12m0 -12l-12 12` });
  else add("path", { class: `${className} end`, d: `M${to[0] - 5} ${to[1] - 5}h10v10h-10z` });
}

// A walk of the oracle: drawn, and hop by hop.
function walked(walk) {
  const box = make("div", { class: "walk" }, make("h4", {}, `Walk of the oracle: ${word(walk.verdict)}`));
  if (picture) {
    const copy = picture.cloneNode(true);
    const lost = word(walk.verdict) === "yes" ? "" : " lost";
    draw(copy, walk.there, `g-walk${walk.back.length > 0 ? "" : lost}`, 12);
    draw(copy, walk.back, `g-walk back${lost}`, 24);
    box.append(make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "The walk on the topology" }, copy));
  }
  const row = (way) => (hop, n) =>
    make("tr", {}, make("td", {}, `${way} ${n + 1}`), ...hop.slice(0, 3).map((text) => make("td", {}, word(text))));
  const rows = walk.there.map(row("request")).concat(walk.back.map(row("answer")));
  box.append(rows.length > 0 ? make("div", { class: "scroll" }, make("table", { class: "hops" }, ...rows)) : word(walk.why));
  return box;
}

// Frames of a matrix as a table.
function listed(frames) {
  const rows = frames.map(([time, segment, port, what, fate]) => make("tr", fate ? { class: "bad" } : {},
    make("td", {}, `${(time / 1000).toFixed(3)} ms`), make("td", {}, `${word(segment)} ${word(port)}`),
    make("td", {}, word(what), make("b", {}, fate ? ` ${word(fate)}` : ""))));
  return make("div", { class: "scroll" }, make("table", { class: "hops" }, ...rows));
}

// The frames of a cell: those with its mark, and those without any between addresses of its walks.
function carried(matrix, cell) {
  const number = matrix.cells.indexOf(cell);
  const known = new Set(data.walks[cell[WALKS]].flatMap((walk) => walk.addresses));
  const own = matrix.frames.filter(([, , , , , of, ...ends]) =>
    of === number || (of < 0 && ends[0] > 0 && ends.every((end) => end === 0 || known.has(end))));
  if (matrix.frames.length === 0) return [];
  const title = `On the wire: ${own.length} of ${matrix.frames.length} frames are of this cell`;
  return [make("h4", {}, title), listed(own)];
}

// Shows cells: what was expected, what was seen, and why.
function show(matrix, cells, place) {
  const close = make("button", { type: "button" }, "Close");
  close.addEventListener("click", hide);
  back = place;
  const parts = cells.flatMap((cell) => {
    const list = make("dl");
    const add = (term, text) => text && list.append(make("dt", {}, term), make("dd", {}, text));
    add("expected", word(cell[EXPECTED]));
    add("observed", word(cell[OBSERVED]));
    add("but", word(cell[UNMET]));
    add("predicted", word(cell[PREDICTED]) + (cell[WHY] ? `: ${word(cell[WHY])}` : ""));
    add("evidence", word(cell[DETAIL]));
    add("cause", word(cell[CAUSES]));
    add("answered by", word(cell[ANSWERED]));
    add("seen source", word(cell[SOURCE]));
    add("round trip", cell[RTT] < 0 ? "" : `${cell[RTT]} µs`);
    add("the check", matrix.note);
    add("line", `${cell[LINE]} of the topology`);
    const mark = `${MARKS[cell[LOOK]]} ${word(cell[FROM])} → ${word(cell[TO])}  ${matrix.title}`;
    return [make("h3", {}, mark), list, ...data.walks[cell[WALKS]].map(walked), ...carried(matrix, cell)];
  });
  details.replaceChildren(close, ...parts);
  details.hidden = false;
  place.scrollIntoView({ block: "nearest" });
}

function hide() {
  details.hidden = true;
  back?.focus();
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !details.hidden) hide();
});

document.querySelectorAll("[data-matrix]").forEach((box) => {
  const matrix = data.matrices[Number(box.dataset.matrix)];
  const at = byPlace(matrix);
  const [rows, columns] = [groups(matrix.rows), groups(matrix.columns)];
  const scroll = (inside) => make("div", { class: "scroll" }, inside);
  const below = make("div");
  const single = ({ cells, place }) => show(matrix, cells, place);
  const grouped = rows.concat(columns).some((group) => group.names.length > 1);
  const inside = ({ row, column, place }) => {
    const each = (group) => group.names.map((n) => ({ label: word(n), names: [n] }));
    const title = `${row.label} → ${column.label}`;
    const close = make("button", { type: "button" }, "Close");
    close.addEventListener("click", () => {
      below.replaceChildren();
      place.focus();
    });
    const grid = table(each(row), each(column), at, `${matrix.title}, ${title}`, single);
    below.replaceChildren(make("h3", {}, `${title} `, close), scroll(grid));
    grid.querySelector("[tabindex='0']")?.focus();
  };
  box.append(scroll(table(rows, columns, at, matrix.title, grouped ? inside : single)));
  if (grouped) box.append(make("p", { class: "legend" }, "A cell stands for all between two groups and says how many are wrong; choose it to see them."));
  box.append(below);
  if (matrix.frames.length > 0) {
    const frames = make("details", {}, make("summary", {}, `What the wire carried meanwhile: ${matrix.frames.length} frames`));
    frames.addEventListener("toggle", () => frames.append(listed(matrix.frames)), { once: true });
    box.append(frames);
  }
});
