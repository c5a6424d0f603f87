//! Walks a request through the network, and its answer back.

mod ip;
mod link;
mod neighbour;
mod track;
mod trip;
mod tunnel;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use serde::Serialize;

pub use trip::{Asked, Outcome, Trip};

use crate::{
    net::{At, Net},
    packet::{Complaint, Frame, Mac, Packet, Proto, Tuple},
};

/// So many interfaces are looked at in the time of a walk past few.
const LOOKS_IN_A_WALK: usize = 500;

/// Most different ways that one request is followed.
const MOST_WAYS: usize = 256;

/// A place that a packet passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// `host1/eth0`, `segment lan`.
    pub at: String,
    /// The packet as it was there.
    pub packet: String,
    /// The rule, route or table that decided.
    pub by: String,
    /// Its source and destination, innermost if it is in a tunnel; `None` of a complaint about the packet.
    #[serde(skip)]
    pub ends: Option<[IpAddr; 2]>,
}

/// Why something cannot be predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

/// Where the run listens: namespace, protocol and port.
pub type Listeners = BTreeSet<(usize, Proto, u16)>;

/// Who answers for an address at an interface.
#[derive(Clone, Debug, Default)]
struct Neighbour {
    /// MACs of those who answer.
    answers: Vec<Mac>,
    /// MACs of those who do not, but whose own question is heard: from then on they are known.
    heard: Vec<Mac>,
    /// If nobody answers: why.
    why: String,
}

/// What was found out once, and holds for all walks.
#[derive(Default)]
pub struct Cache {
    neighbours: RefCell<HashMap<(At, IpAddr), Result<Neighbour, Unknown>>>,
    walks: Cell<usize>,
    looks: Cell<usize>,
}

impl Cache {
    /// What all walks so far have cost, in walks past few interfaces.
    pub fn work(&self) -> usize {
        self.walks.get() + self.looks.get() / LOOKS_IN_A_WALK
    }

    /// Counts interfaces of which one looked whether a frame is for them.
    fn looked(&self, interfaces: usize) {
        self.looks.set(self.looks.get() + interfaces);
    }
}

/// A flow that a namespace tracks.
#[derive(Clone, Debug)]
struct Flow {
    ns: usize,
    /// As its first packet came.
    orig: Tuple,
    /// As it went on.
    now: Tuple,
    /// Whether it is through with rewriting.
    confirmed: bool,
    /// Whether an answer was seen.
    answered: bool,
}

/// What became of a packet.
#[derive(Clone, Debug)]
enum Fate {
    /// The stack of a namespace took it.
    Taken { ns: usize, packet: Packet },
    /// Gone without a word.
    Lost(String),
    /// Gone without a word in the namespace that has its destination: it has arrived there, as a packet socket sees it.
    Dropped { ns: usize, packet: Packet, why: String },
    /// The sender's own kernel has no route.
    NoRoute,
    /// The sender's own kernel finds no neighbour.
    Arp { hop: IpAddr, why: String },
    /// A router complains to the sender, or the sender's own kernel does.
    Returned { ns: usize, what: Complaint, packet: Packet },
}

/// Choices that nobody can foresee: which backend, which of two owners.
#[derive(Default)]
struct Script {
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Script {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, of));
        }
        let (chosen, _) = self.path[self.at];
        self.at += 1;
        chosen
    }

    /// Whether there is another way.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.path.last_mut() {
            *chosen += 1;
            if *chosen < *of {
                return true;
            }
            self.path.pop();
        }
        false
    }
}

/// One request on its way.
struct Walker<'a> {
    net: &'a Net,
    cache: &'a Cache,
    listeners: &'a Listeners,
    script: &'a mut Script,
    flows: Vec<Flow>,
    hops: Vec<Hop>,
    /// Namespaces whose stacks got a packet from an interface.
    got: Vec<usize>,
    /// Stacks that it may still pass.
    budget: u32,
}

/// Follows a request every way that it may go. At least one trip.
///
/// # Errors
/// If it passes something that cannot be known.
pub fn ask(net: &Net, cache: &Cache, listeners: &Listeners, asked: &Asked) -> Result<Vec<Trip>, Unknown> {
    every_way(net, cache, listeners, |walker| walker.trip(asked))
}

/// Where a written frame enters the network.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// It leaves by this interface, past its namespace's routes and rules.
    Interface(At),
    /// It comes into this segment from a station that is no host's.
    Segment(usize),
}

/// Follows a written frame every way that it may go: the namespaces whose stacks get it.
///
/// # Errors
/// If it passes something that cannot be known.
pub fn follow(
    net: &Net,
    cache: &Cache,
    entry: Entry,
    frame: &Frame,
) -> Result<Vec<BTreeSet<usize>>, Unknown> {
    every_way(net, cache, &Listeners::new(), |mut walker| {
        let no = |_: usize, _: &Packet| None;
        let branches = match entry {
            Entry::Interface(at) => link::Flood::send(net, cache, &no, at, frame.clone()),
            Entry::Segment(wire) => link::Flood::on_wire(net, cache, &no, wire, frame.clone()),
        };
        walker.land(branches)?;
        Ok(walker.got.into_iter().collect())
    })
}

/// Walks once for each sequence of choices.
fn every_way<'a, T>(
    net: &'a Net,
    cache: &'a Cache,
    listeners: &'a Listeners,
    mut walk: impl FnMut(Walker<'_>) -> Result<T, Unknown>,
) -> Result<Vec<T>, Unknown> {
    let mut script = Script::default();
    let mut ways = Vec::new();
    loop {
        cache.walks.set(cache.walks.get() + 1);
        ways.push(walk(Walker {
            net,
            cache,
            listeners,
            script: &mut script,
            flows: Vec::new(),
            hops: Vec::new(),
            got: Vec::new(),
            budget: ip::MOST_STACKS,
        })?);
        if !script.next() {
            return Ok(ways);
        }
        if ways.len() >= MOST_WAYS {
            return Err(Unknown(format!("it may go more than {MOST_WAYS} ways")));
        }
    }
}
