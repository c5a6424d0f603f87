//! Connection tracking: flows, and what is rewritten because of them.

use std::net::IpAddr;

use super::{Flow, Walker};
use crate::{
    net::At,
    netfilter::{Ruling, Situation, Table, Target},
    packet::{Kind, Packet, Tuple},
};

/// The flow of a packet in a namespace.
#[derive(Clone, Copy)]
pub(super) struct Tracked {
    pub flow: Option<usize>,
    /// Whether it goes against the flow's first packet.
    pub reply: bool,
    pub established: bool,
}

impl Walker<'_> {
    /// Finds the flow of a packet, or begins one, and rewrites the destination.
    pub(super) fn track(&mut self, ns: usize, packet: &mut Packet, chain: &str, input: &str) -> Tracked {
        let t = packet.tuple;
        if let Kind::Complaint(what, about) = packet.kind {
            let flow = self.flows.iter().position(|f| f.ns == ns && f.now == about);
            if let Some(f) = flow {
                packet.tuple.dst = self.flows[f].orig.src;
                packet.kind = Kind::Complaint(what, self.flows[f].orig);
            }
            return Tracked { flow: None, reply: false, established: flow.is_some() };
        }
        // The newest first: a proxy's own connection may have the numbers of another one.
        for (index, f) in self.flows.iter_mut().enumerate().rev().filter(|(_, f)| f.ns == ns) {
            if f.orig == t {
                (packet.tuple.dst, packet.tuple.dport) = (f.now.dst, f.now.dport);
                return Tracked { flow: Some(index), reply: false, established: f.answered };
            }
            if f.now.inverse() == t {
                f.answered = true;
                (packet.tuple.dst, packet.tuple.dport) = (f.orig.src, f.orig.sport);
                return Tracked { flow: Some(index), reply: true, established: true };
            }
        }
        let new = Tracked { flow: Some(self.flows.len()), reply: false, established: false };
        let ruling = self.rules(ns, Table::Nat, chain, packet, (input, ""), new);
        if let Some(Ruling { target: Target::Dnat(to), by }) = ruling {
            self.note(self.net.spaces[ns].name.clone(), packet, by);
            (packet.tuple.dst, packet.tuple.dport) = (to.ip(), to.port());
        }
        self.flows.push(Flow { ns, orig: t, now: packet.tuple, confirmed: false, answered: false });
        new
    }

    pub(super) fn postrouting(
        &mut self,
        at: At,
        hop: IpAddr,
        packet: &mut Packet,
        tracked: Tracked,
        input: Option<At>,
    ) {
        let Some(flow) = tracked.flow else { return };
        let known = self.flows[flow].clone();
        if tracked.reply {
            return self.source_back(packet, tracked);
        }
        if known.confirmed {
            (packet.tuple.src, packet.tuple.sport) = (known.now.src, known.now.sport);
            return;
        }
        let input = input.filter(|i| i.ns == at.ns).map(|i| self.net.at(i).name.clone()).unwrap_or_default();
        let output = self.net.at(at).name.clone();
        let ruling = self.rules(at.ns, Table::Nat, "POSTROUTING", packet, (&input, &output), tracked);
        if let Some(Ruling { target: Target::Masquerade, by }) = ruling
            && let Some(source) = self.net.spaces[at.ns].source(at.iface, hop)
        {
            self.note(self.net.place(at), packet, by);
            packet.tuple.src = source;
        }
        let f = &mut self.flows[flow];
        (f.now, f.confirmed) = (packet.tuple, true);
    }

    /// Gives an answer the source that the question was sent to.
    pub(super) fn source_back(&self, packet: &mut Packet, tracked: Tracked) {
        if let (Some(flow), true) = (tracked.flow, tracked.reply) {
            let orig = self.flows[flow].orig;
            (packet.tuple.src, packet.tuple.sport) = (orig.dst, orig.dport);
        }
    }

    /// The addresses that an answer has for the one who asked, if it answers a flow of this namespace.
    pub(super) fn answers(&self, ns: usize, packet: &Packet) -> Option<Tuple> {
        let mut flows = self.flows.iter().rev().filter(|f| f.ns == ns);
        match packet.kind {
            // It is about a packet, and is not rewritten here: its own addresses are the router's.
            Kind::Complaint(_, about) => flows.any(|f| f.now == about).then_some(packet.tuple),
            _ => flows.find(|f| f.now.inverse() == packet.tuple).map(|f| f.orig.inverse()),
        }
    }

    pub(super) fn rules(
        &self,
        ns: usize,
        table: Table,
        chain: &str,
        packet: &Packet,
        (input, output): (&str, &str),
        tracked: Tracked,
    ) -> Option<Ruling> {
        let space = &self.net.spaces[ns];
        let is_local = |ip| space.is_local(ip);
        let established = tracked.established;
        space.firewall(packet.tuple.dst).ask(
            table,
            chain,
            &Situation { packet, input, output, established, is_local: &is_local },
        )
    }
}
