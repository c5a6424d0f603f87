//! `expect` and `steps`.

use std::time::Duration;

use ipnet::IpNet;
use labctl_model::engine::Versions;
use labctl_yaml::{At, Map, OneOrMany, raw};

use crate::scalars::Written;

raw! {
    /// Something that must hold: a table of probes, rules for probes, or a fact.
    Check, "a check" {
        /// The versions of Docker that it is for, as `">=28"`: with a host of another one it is left out. Default: all.
        engines: Option<At<Written<Versions>>>,
        /// What is sent: `icmp` (default), `tcp/PORT`, `udp/PORT` or `dns/NAME`.
        probe: Option<At<String>>,
        /// Which address family is probed: `4`, `6` or `both`, each of which must come out as the verdict says. Default:
        /// 4 where both ends have it, else 6.
        #[schemars(extend("enum" = [4, 6, "both"]))]
        family: Option<At<String>>,
        /// How large what is sent is. `icmp` and `udp`: bytes of the IP packet, headers included, 48 to 9000, never
        /// fragmented, and answered by as many. `tcp`: bytes that must come back over the connection, 1 to 16777216.
        size: Option<At<u32>>,
        /// Whether the destination is reached by `address` (default) or by `name`.
        #[schemars(extend("enum" = ["address", "name"]))]
        by: Option<At<String>>,
        /// How long what stays silent is waited for, once for all cells. Default 2s.
        timeout: Option<At<Duration>>,
        /// How long it may take to become true. Default 0s: at once.
        within: Option<At<Duration>>,
        /// A matrix: a header of destinations, then a line for each source with a word for each cell: `yes`, `no`,
        /// `refused`, `unreachable`, `no-route`, `arp`, `neighbour`, `silent`, `misdelivered`, `asymmetric`, `stalled`, `no-name`, `down`, or
        /// `-` for a cell that is not probed.
        table: Option<At<String>>,
        /// Sources: hosts, containers, peers, or the words `all`, `hosts`, `containers`, `peers`.
        from: Option<OneOrMany<At<String>>>,
        /// Destinations: as `from`, and addresses, and `NAME@NETWORK` or `HOST@SEGMENT`.
        to: Option<OneOrMany<At<String>>>,
        /// What must come out: a word of the tables.
        #[schemars(extend("enum" = ["yes", "no", "refused", "unreachable", "no-route", "arp", "neighbour", "silent", "misdelivered", "asymmetric", "stalled", "no-name", "down"]))]
        verdict: Option<At<String>>,
        /// Who may answer the cells that are `yes`: hosts, containers, peers, services (any of their tasks) or tasks, as
        /// `web.1`. With `requests`, each of them must at least once.
        answered_by: Option<OneOrMany<At<String>>>,
        /// Whom the one that answers must take for the source: an address, a subnet, an endpoint, or a network
        /// (`ingress` for that of the routing mesh).
        source: Option<At<String>>,
        /// How many requests are sent for each cell, all at once: 1 to 100, default 1.
        requests: Option<At<u32>>,
        /// Rules that share one probe; for a cell that several name, the last counts.
        rules: Option<Vec<Rule>>,
        /// A frame that is sent, in the text form of packets, with names of the lab's for what only the running lab knows:
        /// `eth/ip(dst=${vtep:host2})/udp/vxlan(vni=${vni:net1})/eth(dst=${mac:c2})/ip(dst=${ip:c2})/icmp`. `from` says
        /// where: `c1`, `host1:eth1`, or `wire:SEGMENT` for a station that is no host's.
        inject: Option<At<String>>,
        /// How many times the frame is sent. Default 1.
        count: Option<At<u32>>,
        /// How many frames are sent a second. Default 1000.
        rate: Option<At<u32>>,
        /// Hosts, containers and peers that must receive the frame, or what was in its tunnel.
        received_by: Option<OneOrMany<At<String>>>,
        /// Those that must not receive it.
        not_received_by: Option<OneOrMany<At<String>>>,
        /// By segment, filters of each of which a frame must pass while the check runs: `lan: 'udp port 4789 and vni
        /// ${vni:net1}'`.
        on_wire: Option<Map<OneOrMany<At<String>>>>,
        /// By segment, filters of none of which a frame may pass while the check runs.
        not_on_wire: Option<Map<OneOrMany<At<String>>>>,
        /// Fact: interface names of a host or container.
        interfaces: Option<At<String>>,
        /// Fact: addresses of a host or container, without `::1` and those of the link alone (`fe80::/10`).
        addresses: Option<At<String>>,
        /// Fact: names in the /etc/hosts of a container.
        hosts_file: Option<At<String>>,
        /// Fact: Docker networks of a host, apart from bridge, host and none.
        networks: Option<At<String>>,
        /// Fact: subnets of a Docker network.
        subnets: Option<At<String>>,
        /// Fact: state of a container: `running`, `exited`, `created`, `absent`.
        status: Option<At<String>>,
        /// Fact: what a command prints in a host or container, as `c1 -- cat /etc/hostname`. Its program is the
        /// container's own; `c1 with host-tools -- ip route` runs the host's in the container's network namespace.
        exec: Option<At<String>>,
        /// The status that the command of `exec` must end with. Default 0.
        exits: Option<At<u32>>,
        /// Part of what the command of `exec` prints.
        prints: Option<At<String>>,
        /// Fact: hosts whose nodes are ready, as this manager sees them.
        nodes: Option<At<String>>,
        /// Fact: tasks of a service that run, as `web.1`; of a global service `web.HOST`.
        tasks: Option<At<String>>,
        /// Fact: addresses of the nodes that a host knows to be on an overlay, as `NETWORK@HOST`.
        network_peers: Option<At<String>>,
        /// Fact: all addresses that a name resolves to for a host or container, as `NAME@c1`; none if it does not resolve.
        resolves: Option<At<String>>,
        /// The fact is exactly this, in any order.
        equals: Option<OneOrMany<At<String>>>,
        /// The fact has all of these.
        contains: Option<OneOrMany<At<String>>>,
        /// The fact has none of these.
        lacks: Option<OneOrMany<At<String>>>,
        /// The fact is not empty, and all of it lies inside this subnet.
        inside: Option<At<IpNet>>,
        /// The fact is the same as that of this other one.
        same_as: Option<At<String>>,
    }
}

/// What a check is, by the keys that only one form has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'c> {
    /// A matrix drawn as a table.
    Table(&'c At<String>),
    /// `from`, `to` and `verdict`, of which some may be missing.
    Rule,
    /// Rules that share a probe.
    Rules(&'c [Rule]),
    /// Something that is read; see [`Check::subjects`].
    Fact,
    /// A frame that is sent.
    Frame(&'c At<String>),
}

/// What a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FactKind {
    Interfaces,
    Addresses,
    HostsFile,
    Networks,
    Subnets,
    Status,
    Exec,
    Nodes,
    Tasks,
    NetworkPeers,
    Resolves,
}

impl Check {
    /// What this check is; sound with exactly one form.
    pub(crate) fn forms(&self) -> Vec<Form<'_>> {
        // The `from` of an `inject` makes no rule.
        let rule =
            self.inject.is_none() && (self.from.is_some() || self.to.is_some() || self.verdict.is_some());
        let forms = [
            self.table.as_ref().map(Form::Table),
            rule.then_some(Form::Rule),
            self.rules.as_deref().map(Form::Rules),
            (!self.subjects().is_empty()).then_some(Form::Fact),
            self.inject.as_ref().map(Form::Frame),
        ];
        forms.into_iter().flatten().collect()
    }

    /// What a fact is about; sound with exactly one.
    pub(crate) fn subjects(&self) -> Vec<(FactKind, &At<String>)> {
        let all = [
            (FactKind::Interfaces, &self.interfaces),
            (FactKind::Addresses, &self.addresses),
            (FactKind::HostsFile, &self.hosts_file),
            (FactKind::Networks, &self.networks),
            (FactKind::Subnets, &self.subnets),
            (FactKind::Status, &self.status),
            (FactKind::Exec, &self.exec),
            (FactKind::Nodes, &self.nodes),
            (FactKind::Tasks, &self.tasks),
            (FactKind::NetworkPeers, &self.network_peers),
            (FactKind::Resolves, &self.resolves),
        ];
        all.into_iter().filter_map(|(kind, subject)| Some((kind, subject.as_ref()?))).collect()
    }
}

raw! {
    /// Cells with one verdict.
    Rule, "a rule" {
        /// Sources: hosts, containers, peers, or the words `all`, `hosts`, `containers`, `peers`.
        from: OneOrMany<At<String>>,
        /// Destinations: as `from`, and addresses, and `NAME@NETWORK` or `HOST@SEGMENT`.
        to: OneOrMany<At<String>>,
        /// What must come out: a word of the tables.
        #[schemars(extend("enum" = ["yes", "no", "refused", "unreachable", "no-route", "arp", "neighbour", "silent", "misdelivered", "asymmetric", "stalled", "no-name", "down"]))]
        verdict: At<String>,
        /// Who may answer the cells that are `yes`: hosts, containers, peers, services (any of their tasks) or tasks, as
        /// `web.1`. With `requests`, each of them must at least once.
        answered_by: Option<OneOrMany<At<String>>>,
        /// Whom the one that answers must take for the source: an address, a subnet, an endpoint, or a network
        /// (`ingress` for that of the routing mesh).
        source: Option<At<String>>,
        /// How many requests are sent for each cell, all at once: 1 to 100, default 1.
        requests: Option<At<u32>>,
    }
}

raw! {
    /// A change to the running lab, and what must hold after it.
    Step, "a step" {
        /// What it is called in reports; default the text of its actions.
        name: Option<At<String>>,
        /// The versions of Docker that it is for, as `">=28"`: with a host of another one it is left out. Default: all.
        engines: Option<At<Written<Versions>>>,
        /// What is done: one action or a list, as `stop c1` or `connect c1 net2`. Nothing, where a named step only checks.
        r#do: Option<OneOrMany<At<String>>>,
        /// A part of Docker's message with which the last action must be refused.
        fails: Option<At<String>>,
        /// How long the checks may take to hold, where they do not say so themselves.
        within: Option<At<Duration>>,
        /// What must hold afterwards.
        expect: Option<Vec<Check>>,
    }
}
