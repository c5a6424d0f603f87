//! Writes pairs of names in few words: `a, b -> c, d, and back` stands for eight pairs.

use std::{collections::BTreeSet, fmt};

use indexmap::{IndexMap, IndexSet};

/// A group of pairs: every name of `from` with every name of `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs<'a> {
    /// Sources.
    from: Vec<&'a str>,
    /// Destinations; with `each_other` there may be none.
    to: Vec<&'a str>,
    /// The same pairs also the other way.
    back: bool,
    /// Also every two of `from`, both ways.
    each_other: bool,
}

type Rows<'a> = IndexMap<&'a str, IndexSet<&'a str>>;

/// Groups pairs; each is in exactly one group. There may be a way with fewer groups.
pub fn compress<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Pairs<'a>> {
    let mut rows = Rows::new();
    for (from, to) in pairs {
        rows.entry(from).or_default().insert(to);
    }
    let mut groups = meshes(&mut rows);
    let mut columns = Rows::new();
    for (from, tos) in &rows {
        for to in tos {
            columns.entry(to).or_default().insert(from);
        }
    }
    let turned = |p: Pairs<'a>| Pairs { from: p.to, to: p.from, ..p };
    let by_row = rectangles(&rows);
    let by_column = rectangles(&columns);
    match by_column.len() < by_row.len() {
        true => groups.extend(by_column.into_iter().map(turned)),
        false => groups.extend(by_row),
    }
    groups
}

/// Removes the rows of three or more names that all lead to each other and to the same other names; returns them as groups.
fn meshes<'a>(rows: &mut Rows<'a>) -> Vec<Pairs<'a>> {
    let mut alike: IndexMap<BTreeSet<&str>, Vec<&str>> = IndexMap::new();
    for (from, tos) in rows.iter().filter(|(from, tos)| !tos.contains(*from)) {
        alike.entry(tos.iter().chain([from]).copied().collect()).or_default().push(from);
    }
    let meshes = alike.into_values().filter(|from| from.len() > 2);
    let mesh = |from: Vec<&'a str>| {
        let rows: Vec<_> = from.iter().filter_map(|name| rows.shift_remove(name)).collect();
        let to = rows.first().into_iter().flatten().filter(|to| !from.contains(to)).copied().collect();
        Pairs { from, to, back: false, each_other: true }
    };
    meshes.map(mesh).collect()
}

/// Joins rows that lead to the same names, then joins each group with the one that is its way back.
fn rectangles<'a>(rows: &Rows<'a>) -> Vec<Pairs<'a>> {
    let mut alike: IndexMap<BTreeSet<&str>, Pairs<'a>> = IndexMap::new();
    for (from, tos) in rows {
        let new =
            || Pairs { from: Vec::new(), to: tos.iter().copied().collect(), back: false, each_other: false };
        alike.entry(tos.iter().copied().collect()).or_insert_with(new).from.push(from);
    }
    let mut joined: IndexMap<(BTreeSet<&str>, BTreeSet<&str>), Pairs<'a>> = IndexMap::new();
    for (to, pairs) in alike {
        let from: BTreeSet<&str> = pairs.from.iter().copied().collect();
        match joined.get_mut(&(to.clone(), from.clone())) {
            Some(other) => other.back = true,
            None => drop(joined.insert((from, to), pairs)),
        }
    }
    joined.into_values().collect()
}

impl Pairs<'_> {
    /// The number of pairs in the group.
    pub fn count(&self) -> usize {
        let mesh = if self.each_other { self.from.len() * (self.from.len() - 1) } else { 0 };
        mesh + self.from.len() * self.to.len() * if self.back { 2 } else { 1 }
    }
}

/// Most names on either side that are written.
const MOST_NAMES: usize = 6;

fn few(names: &[&str]) -> String {
    match names.len().checked_sub(MOST_NAMES) {
        None | Some(0 | 1) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..MOST_NAMES].join(", ")),
    }
}

/// The pairs in words: `a, b -> c, and back`, `a, b, c -> each other, d`. Of many names the first.
impl fmt::Display for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each_other = self.each_other.then_some("each other");
        let to: Vec<&str> = each_other.into_iter().chain(self.to.iter().copied()).collect();
        let back = if self.back { ", and back" } else { "" };
        write!(f, "{} -> {}{back}", few(&self.from), few(&to))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(pairs: &[(&str, &str)]) -> Vec<String> {
        compress(pairs.iter().copied()).iter().map(ToString::to_string).collect()
    }

    fn product<'a>(from: &[&'a str], to: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b).collect()
    }

    #[test]
    fn a_cut_is_one_group_and_its_way_back() {
        let (one, two) = (["host1", "c1-1"], ["host2", "c2-1", "c2-2"]);
        let pairs = [product(&one, &two), product(&two, &one)].concat();
        assert_eq!(words(&pairs), ["host1, c1-1 -> host2, c2-1, c2-2, and back"]);
    }

    #[test]
    fn all_among_each_other_are_one_group() {
        let all = ["a", "b", "c"];
        assert_eq!(words(&product(&all, &all)), ["a, b, c -> each other"]);
        assert_eq!(words(&product(&all, &["a", "b", "c", "8.8.8.8"])), ["a, b, c -> each other, 8.8.8.8"]);
    }

    #[test]
    fn what_is_shorter_by_column_is_told_so() {
        let (x, y, z) = (
            product(&["a", "b", "c", "d"], &["x"]),
            product(&["b", "c"], &["y"]),
            product(&["c", "d"], &["z"]),
        );
        assert_eq!(words(&[x, y, z].concat()), ["a, b, c, d -> x", "b, c -> y", "c, d -> z"]);
    }

    proptest! {
        #[test]
        fn every_pair_is_in_one_group(pairs in proptest::collection::vec(("[a-e]", "[a-g]"), 0..30)) {
            let pairs: BTreeSet<(&str, &str)> = pairs.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let groups = compress(pairs.iter().copied());
            let mut named = Vec::new();
            for group in &groups {
                let forth = group.from.iter().flat_map(|a| group.to.iter().map(move |b| (*a, *b)));
                let forth: Vec<_> = forth.collect();
                if group.back {
                    named.extend(forth.iter().map(|(a, b)| (*b, *a)));
                }
                if group.each_other {
                    named.extend(product(&group.from, &group.from));
                }
                named.extend(forth);
            }
            prop_assert_eq!(named.len(), groups.iter().map(Pairs::count).sum::<usize>());
            named.sort_unstable();
            prop_assert_eq!(named, pairs.into_iter().collect::<Vec<_>>(), "all of them, none twice");
        }
    }
}
