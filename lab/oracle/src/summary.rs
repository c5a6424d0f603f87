//! Counts the cells of all pairs without listing them: thousands of endpoints have millions of cells, and few ways of
//! being attached. One cell is walked for each pair of classes (`classes`), and stands for all of them. Where there are very
//! many classes, the smallest ones are not walked: their cells are unknown.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use labctl_model::{By, Check, Lab, Matrix, Probe, Step, Target};
use serde::Serialize;

use crate::{
    cell::{self, Foretold, Scene},
    classes::Classes,
    effort::{Effort, SPENT},
    predict::caption,
    query,
    state::State,
};

/// Most classes whose pairs are walked.
const MOST_CLASSES: usize = 250;

/// The predictions of all pairs of a lab, counted.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The lab.
    pub lab: String,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// The lab as it comes up, then after each of its steps.
    pub scenes: Vec<CountedStage>,
}

/// The counts at a point of a lab's life.
#[derive(Clone, Debug, Serialize)]
pub struct CountedStage {
    /// The step; `None` for the lab as it comes up.
    pub step: Option<String>,
    /// One for each probe.
    pub matrices: Vec<Counts>,
}

/// How many cells come out with each word.
pub type Tally = BTreeMap<String, u64>;

/// The cells of one probe, from every endpoint to every other one.
#[derive(Clone, Debug, Serialize)]
pub struct Counts {
    /// What is probed: `icmp`, `tcp/80`.
    pub probe: String,
    /// How many cells there are.
    pub cells: u64,
    /// How many of them come out with each word.
    pub words: Tally,
    /// Why cells are unknown: how many for each reason.
    pub unknown: Tally,
    /// Endpoints that get the same words from and to the same groups.
    pub groups: Vec<Vec<String>>,
    /// The words from group to group; without those that have no cells. Both are empty where nothing is predicted.
    pub table: Vec<GroupPair>,
}

/// The cells from one group to another one.
#[derive(Clone, Debug, Serialize)]
pub struct GroupPair {
    /// Number of the group of the sources, from 0 on.
    pub from: usize,
    /// Number of the group of the destinations.
    pub to: usize,
    /// Their words.
    pub words: Tally,
}

/// Predicts all pairs of a lab's endpoints by each of these probes, and counts what comes of them. Without probes: as the
/// topology's matrices probe by address, or by ICMP.
pub fn summarize(lab: &Lab, probes: &[Probe]) -> Summary {
    let matrices = match probes {
        [] => probed(lab),
        probes => probes.iter().map(|probe| query::matrix(probe.clone(), Vec::new())).collect(),
    };
    let (mut state, mut effort) = (State::new(lab), Effort::default());
    let mut scenes = vec![stage(&state, None, &matrices, &mut effort)];
    for step in &lab.steps {
        if !effort.is_spent() {
            state.apply(step);
        }
        scenes.push(stage(&state, Some(step), &matrices, &mut effort));
    }
    Summary { lab: lab.name.clone(), endpoints: lab.endpoints().count(), scenes }
}

/// What a topology probes by address, each once and without its cells.
fn probed(lab: &Lab) -> Vec<Matrix> {
    let mut all: Vec<Matrix> = Vec::new();
    for check in lab.expect.iter().chain(lab.steps.iter().flat_map(|s| &s.expect)) {
        let Check::Matrix(m) = check else { continue };
        let (by_address, lookup) = (m.by == By::Address, matches!(m.probe, Probe::Dns(_)));
        let known = |k: &Matrix| (&k.probe, k.size, k.family) == (&m.probe, m.size, m.family);
        if by_address && !lookup && !all.iter().any(known) {
            all.push(Matrix { size: m.size, family: m.family, ..query::matrix(m.probe.clone(), Vec::new()) });
        }
    }
    if all.is_empty() {
        all.push(query::matrix(Probe::Icmp, Vec::new()));
    }
    all
}

fn stage(state: &State<'_>, step: Option<&Step>, matrices: &[Matrix], effort: &mut Effort) -> CountedStage {
    let step = step.map(|s| s.name.clone());
    if effort.is_spent() {
        let endpoints = state.lab.endpoints().count();
        let all = cells(endpoints, endpoints, true);
        return CountedStage { step, matrices: matrices.iter().map(|m| Counts::unknown(m, all)).collect() };
    }
    let scene = Scene::new(state);
    let classes = Classes::new(scene.state(), scene.built());
    let sorted = Sorted::new(state.lab, &classes);
    let fates = sorted.fates();
    let counted = matrices.iter().map(|m| sorted.counts(&scene, m, &fates, effort)).collect();
    effort.add(&scene);
    CountedStage { step, matrices: counted }
}

impl Counts {
    /// Those of a probe of which nothing is predicted any more.
    fn unknown(probe: &Matrix, cells: u64) -> Self {
        let tally = |key: &str| Tally::from([(key.to_owned(), cells)]);
        Self {
            probe: caption(probe),
            cells,
            words: tally(Foretold::UNKNOWN),
            unknown: tally(SPENT),
            groups: Vec::new(),
            table: Vec::new(),
        }
    }
}

/// Endpoints of one class with the same addresses.
struct Alike<'a> {
    class: usize,
    names: Vec<&'a str>,
}

/// Cells with one fate: all from one class to another one whose ends have an address in common, or all whose ends have none.
struct Fate<'a> {
    from: usize,
    to: usize,
    cells: u64,
    /// One of them; `None` of those that are not walked.
    sample: Option<(&'a str, &'a str)>,
}

/// The endpoints of a lab by class.
struct Sorted<'a> {
    lab: &'a Lab,
    /// Each with its class, in the lab's order.
    names: Vec<(&'a str, usize)>,
    alike: Vec<Alike<'a>>,
    /// Indices into `alike`, by class.
    classes: Vec<Vec<usize>>,
    /// How many of these classes are walked: all, or all but the last, which holds whoever is in none of the largest.
    walked: usize,
    /// Those that have an address in common with another one, or with themselves.
    meets: Vec<BTreeSet<usize>>,
}

impl<'a> Sorted<'a> {
    fn new(lab: &'a Lab, classes: &Classes) -> Self {
        let number = largest(lab, classes);
        let (names, alike, of_class, meets) = Default::default();
        let mut sorted = Self { lab, names, alike, classes: of_class, walked: number.len(), meets };
        let (mut known, mut holders) = (HashMap::new(), HashMap::<_, Vec<usize>>::new());
        let mut addresses = Vec::new();
        for name in lab.endpoints() {
            let member = classes.member(name);
            let class = member.and_then(|m| number.get(&m.class)).copied().unwrap_or(sorted.walked);
            let own =
                member.map(|m| m.addresses.as_slice()).filter(|_| class < sorted.walked).unwrap_or_default();
            let next = sorted.alike.len();
            let at = *known.entry((class, own)).or_insert(next);
            if at == next {
                sorted.alike.push(Alike { class, names: Vec::new() });
                sorted.classes.resize(sorted.classes.len().max(class + 1), Vec::new());
                sorted.classes[class].push(at);
                own.iter().for_each(|ip| holders.entry(ip).or_default().push(at));
                addresses.push(own);
            }
            sorted.alike[at].names.push(name);
            sorted.names.push((name, class));
        }
        let meets = |all: &[_]| all.iter().flat_map(|ip| &holders[ip]).copied().collect();
        sorted.meets = addresses.into_iter().map(meets).collect();
        sorted
    }

    /// Every fate that there is, with one of its cells.
    fn fates(&self) -> Vec<Fate<'a>> {
        let mut met: HashMap<(usize, usize), Fate<'a>> = HashMap::new();
        for (i, meets) in self.meets.iter().enumerate() {
            for &j in meets {
                let sample = self.sample(i, j);
                if sample.is_none() {
                    continue;
                }
                let (from, to) = (self.alike[i].class, self.alike[j].class);
                let fate = met.entry((from, to)).or_insert(Fate { from, to, cells: 0, sample });
                fate.cells += cells(self.alike[i].names.len(), self.alike[j].names.len(), i == j);
            }
        }
        let mut fates = Vec::new();
        for (from, sources) in self.classes.iter().enumerate() {
            for (to, targets) in self.classes.iter().enumerate() {
                let together = met.remove(&(from, to));
                let all = cells(self.size(from), self.size(to), from == to);
                let rest = all - together.as_ref().map_or(0, |f| f.cells);
                fates.extend(together);
                let pairs = || sources.iter().flat_map(|i| targets.iter().map(move |j| (*i, *j)));
                let apart = (rest > 0).then(pairs).into_iter().flatten();
                let mut apart = apart.filter(|(i, j)| !self.meets[*i].contains(j));
                let is_walked = from.max(to) < self.walked;
                let sample = apart.find_map(|(i, j)| self.sample(i, j)).filter(|_| is_walked);
                fates.extend((rest > 0).then_some(Fate { from, to, cells: rest, sample }));
            }
        }
        // Those of most cells are walked first, before the work is spent.
        fates.sort_by_key(|fate| Reverse(fate.cells));
        fates
    }

    /// Two different endpoints of these.
    fn sample(&self, i: usize, j: usize) -> Option<(&'a str, &'a str)> {
        let from = *self.alike[i].names.first()?;
        Some((from, *self.alike[j].names.get(usize::from(i == j))?))
    }

    fn size(&self, class: usize) -> usize {
        self.classes[class].iter().map(|i| self.alike[*i].names.len()).sum()
    }

    fn counts(&self, scene: &Scene<'_>, probe: &Matrix, fates: &[Fate<'a>], effort: &Effort) -> Counts {
        let listeners = scene.listeners(&Matrix { cells: self.listened(fates), ..probe.clone() });
        let (mut words, mut unknown) = (Tally::new(), Tally::new());
        let mut by_class: BTreeMap<(usize, usize), Tally> = BTreeMap::new();
        for fate in fates {
            let foretold = match fate.sample.filter(|_| !effort.is_spent_with(scene)) {
                Some(ends) => scene.predict(probe, &asked(ends), &listeners).foretold,
                None => Foretold::Unknown(SPENT.to_owned()),
            };
            let word = foretold.text();
            if let Foretold::Unknown(why) = foretold {
                *unknown.entry(why).or_default() += fate.cells;
            }
            *words.entry(word.clone()).or_default() += fate.cells;
            *by_class.entry((fate.from, fate.to)).or_default().entry(word).or_default() += fate.cells;
        }
        let group_of = groups(self.classes.len(), &by_class);
        let mut groups: Vec<Vec<String>> = vec![Vec::new(); group_of.iter().max().map_or(0, |last| last + 1)];
        for (name, class) in &self.names {
            groups[group_of[*class]].push((*name).to_owned());
        }
        let mut table: BTreeMap<(usize, usize), Tally> = BTreeMap::new();
        for ((from, to), tally) in by_class {
            let here = table.entry((group_of[from], group_of[to])).or_default();
            tally.into_iter().for_each(|(word, n)| *here.entry(word).or_default() += n);
        }
        Counts {
            probe: caption(probe),
            cells: words.values().sum(),
            words,
            unknown,
            groups,
            table: table.into_iter().map(|((from, to), words)| GroupPair { from, to, words }).collect(),
        }
    }

    /// Cells that make everybody listen who does if all pairs are probed. What a port of a host's namespace leads to hangs
    /// on the one who asks; all others listen themselves.
    fn listened(&self, fates: &[Fate<'a>]) -> Vec<labctl_model::Cell> {
        let is_host =
            |name: &str| self.lab.namespace_of(name).is_some_and(|space| self.lab.hosts.contains_key(space));
        let walked = fates.iter().filter_map(|f| f.sample);
        let next = self.names.iter().cycle().skip(1);
        let around = self.names.iter().zip(next).filter(|((from, _), (to, _))| from != to);
        // Of a class that is not walked, each is asked by one at least.
        let others = around.filter(|(_, (to, class))| !is_host(to) || *class >= self.walked);
        let others = others.map(|((from, _), (to, _))| (*from, *to));
        walked.filter(|(_, to)| is_host(to)).chain(others).map(asked).collect()
    }
}

/// New numbers of the largest classes, in the order of all.
fn largest(lab: &Lab, classes: &Classes) -> HashMap<usize, usize> {
    let mut sizes = BTreeMap::new();
    for member in lab.endpoints().filter_map(|name| classes.member(name)) {
        *sizes.entry(member.class).or_insert(0usize) += 1;
    }
    let mut all: Vec<_> = sizes.into_iter().collect();
    all.sort_by_key(|(_, size)| Reverse(*size));
    all.truncate(MOST_CLASSES);
    all.sort_unstable();
    all.into_iter().enumerate().map(|(number, (class, _))| (class, number)).collect()
}

fn asked((from, to): (&str, &str)) -> labctl_model::Cell {
    cell::asked(from, Target::Endpoint { name: to.to_owned(), at: None })
}

/// Cells from so many endpoints to so many; `same`: to each other.
fn cells(from: usize, to: usize, same: bool) -> u64 {
    from as u64 * to as u64 - if same { from as u64 } else { 0 }
}

/// The group of each class. Classes that get the same words from and to the same groups are one group: all are one at first,
/// and groups are split until that is so.
fn groups(classes: usize, by_class: &BTreeMap<(usize, usize), Tally>) -> Vec<usize> {
    let mut numbers: HashMap<Vec<&str>, usize> = HashMap::new();
    // Which words: how many there are of each hangs on the size of a class.
    let which: Vec<(usize, usize, usize)> = by_class
        .iter()
        .map(|((from, to), tally)| {
            let next = numbers.len();
            let words = tally.keys().map(String::as_str).collect();
            (*from, *to, *numbers.entry(words).or_insert(next))
        })
        .collect();
    let (mut group_of, mut count) = (vec![0; classes], 1);
    loop {
        let mut seen = vec![BTreeSet::new(); classes];
        for &(from, to, words) in &which {
            seen[from].insert((group_of[to], words, true));
            seen[to].insert((group_of[from], words, false));
        }
        let mut known = HashMap::new();
        let split = group_of.iter().zip(seen).map(|(group, seen)| {
            let next = known.len();
            *known.entry((*group, seen)).or_insert(next)
        });
        group_of = split.collect();
        if known.len() == count {
            return group_of;
        }
        count = known.len();
    }
}
