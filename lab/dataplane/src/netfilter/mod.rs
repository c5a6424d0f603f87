//! Netfilter: chains of rules in the order in which iptables lists them, and what they say of a packet.

pub mod docker;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use crate::packet::{Packet, Proto};

/// Chains that lead to chains that lead to chains: Docker's are three deep.
const DEEPEST: usize = 8;

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Drops before anything else is known of a packet.
    Raw,
    /// Rewrites addresses.
    Nat,
    /// Lets through or drops.
    Filter,
}

/// One condition of a rule. The flag is iptables' `!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// `-i`
    In(bool, String),
    /// `-o`
    Out(bool, String),
    /// `-s`
    Src(bool, IpNet),
    /// `-d`
    Dst(bool, IpNet),
    /// `-p`
    Of(Proto),
    /// `-p … --dport`
    Port(Proto, u16),
    /// `-p … --sport`
    FromPort(Proto, u16),
    /// `-m conntrack --ctstate RELATED,ESTABLISHED`
    Established,
    /// `-m addrtype --dst-type LOCAL`
    ToLocal,
    /// `-m addrtype --src-type LOCAL`
    FromLocal,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Lets it through.
    Accept,
    /// Drops it without a word.
    Drop,
    /// Back to the chain before.
    Return,
    /// On to another chain.
    Jump(String),
    /// Rewrites the destination.
    Dnat(SocketAddr),
    /// Rewrites the source to that of the interface that it leaves by.
    Masquerade,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of them must hold.
    pub matches: Vec<Match>,
    /// What is done then.
    pub target: Target,
}

impl fmt::Display for Rule {
    /// As `iptables -S` shows it, without the chain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |no: &bool| if *no { "! " } else { "" };
        for m in &self.matches {
            match m {
                Match::In(no, name) => write!(f, "{}-i {name} ", not(no))?,
                Match::Out(no, name) => write!(f, "{}-o {name} ", not(no))?,
                Match::Src(no, net) => write!(f, "{}-s {net} ", not(no))?,
                Match::Dst(no, net) => write!(f, "{}-d {net} ", not(no))?,
                Match::Of(proto) => write!(f, "-p {proto} ")?,
                Match::Port(proto, port) => write!(f, "-p {proto} --dport {port} ")?,
                Match::FromPort(proto, port) => write!(f, "-p {proto} --sport {port} ")?,
                Match::Established => f.write_str("-m conntrack --ctstate RELATED,ESTABLISHED ")?,
                Match::ToLocal => f.write_str("-m addrtype --dst-type LOCAL ")?,
                Match::FromLocal => f.write_str("-m addrtype --src-type LOCAL ")?,
            }
        }
        match &self.target {
            Target::Accept => f.write_str("-j ACCEPT"),
            Target::Drop => f.write_str("-j DROP"),
            Target::Return => f.write_str("-j RETURN"),
            Target::Jump(chain) => write!(f, "-j {chain}"),
            Target::Dnat(to) => write!(f, "-j DNAT --to-destination {to}"),
            Target::Masquerade => f.write_str("-j MASQUERADE"),
        }
    }
}

/// What is known of a packet where rules are asked.
pub struct Situation<'a> {
    /// The packet.
    pub packet: &'a Packet,
    /// Interface that it came in by; empty for one that begins here.
    pub input: &'a str,
    /// Interface that it leaves by; empty where that is not known yet, or nowhere.
    pub output: &'a str,
    /// Whether it belongs to a flow that was answered, or is about one.
    pub established: bool,
    /// Whether an address belongs to this namespace.
    pub is_local: &'a dyn Fn(IpAddr) -> bool,
}

impl Situation<'_> {
    fn holds(&self, m: &Match) -> bool {
        let t = &self.packet.tuple;
        match m {
            Match::In(no, name) => (self.input == name) != *no,
            Match::Out(no, name) => (self.output == name) != *no,
            Match::Src(no, net) => net.contains(&t.src) != *no,
            Match::Dst(no, net) => net.contains(&t.dst) != *no,
            Match::Of(proto) => t.proto == *proto,
            Match::Port(proto, port) => t.proto == *proto && t.dport == *port,
            Match::FromPort(proto, port) => t.proto == *proto && t.sport == *port,
            Match::Established => self.established,
            Match::ToLocal => (self.is_local)(t.dst),
            Match::FromLocal => (self.is_local)(t.src),
        }
    }
}

/// The rules of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    chains: BTreeMap<(Table, String), Vec<Rule>>,
    /// Whether FORWARD drops what no rule accepts.
    pub forward_drops: bool,
}

/// What the rules say, and which rule said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What is done.
    pub target: Target,
    /// `filter FORWARD: -i br0 -j DROP`
    pub by: String,
}

impl Firewall {
    /// Puts a rule behind the others of its chain.
    pub fn append(&mut self, table: Table, chain: &str, matches: Vec<Match>, target: Target) {
        self.chains.entry((table, chain.to_owned())).or_default().push(Rule { matches, target });
    }

    /// The first rule that decides; `None` where none does, or where the chain's end leaves it to the policy.
    pub fn ask(&self, table: Table, chain: &str, at: &Situation<'_>) -> Option<Ruling> {
        let ruling = self.follow(table, chain, at, 0).filter(|r| r.target != Target::Return);
        if ruling.is_none() && chain == "FORWARD" && table == Table::Filter && self.forward_drops {
            return Some(Ruling {
                target: Target::Drop,
                by: "filter FORWARD: its policy is DROP".to_owned(),
            });
        }
        ruling
    }

    fn follow(&self, table: Table, chain: &str, at: &Situation<'_>, depth: usize) -> Option<Ruling> {
        let rules = self.chains.get(&(table, chain.to_owned())).filter(|_| depth < DEEPEST)?;
        for rule in rules.iter().filter(|r| r.matches.iter().all(|m| at.holds(m))) {
            match &rule.target {
                Target::Return => return None,
                Target::Jump(to) => {
                    if let Some(ruling) = self.follow(table, to, at, depth + 1) {
                        return Some(ruling);
                    }
                }
                target => {
                    let table = match table {
                        Table::Raw => "raw",
                        Table::Nat => "nat",
                        Table::Filter => "filter",
                    };
                    return Some(Ruling { target: target.clone(), by: format!("{table} {chain}: {rule}") });
                }
            }
        }
        None
    }
}
