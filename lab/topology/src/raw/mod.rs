//! The topology as it is written: one struct for each mapping, every scalar with its place. What the doc comments say
//! is what editors show, by way of the JSON Schema.

mod checks;
mod compose;
mod containers;
mod foreign;
mod hosts;
mod images;
mod networks;
mod options;
mod services;
mod swarm;

pub use checks::Check;
pub(crate) use checks::{FactKind, Form, Step};
pub(crate) use compose::*;
pub(crate) use containers::*;
pub(crate) use foreign::key as foreign_key;
pub(crate) use hosts::*;
pub(crate) use images::*;
pub(crate) use networks::*;
pub(crate) use options::*;
pub(crate) use services::*;
pub(crate) use swarm::*;

use labctl_model::engine::Versions;
use labctl_yaml::{At, Map, raw};

use crate::scalars::Written;

raw! {
    /// A lab: hosts on segments, Docker networks and containers on the hosts, and what must hold between them.
    Topology, "a topology" {
        /// Name of the lab: 1 to 32 of `a-z`, `0-9` and `-`, beginning with a letter.
        name: At<String>,
        /// What the lab shows, in a sentence.
        description: Option<At<String>>,
        /// Whether hosts run Docker without labctl's shortcuts, which emulated machines have otherwise.
        vanilla: Option<At<bool>>,
        /// Whether `up` may take the lab from a checkpoint, and leave one. Default: true.
        checkpoint: Option<At<bool>>,
        /// The versions of Docker that it is for, as `">=28"`. Default: all.
        engines: Option<At<Written<Versions>>>,
        /// A Compose file whose networks, services and promises are the lab's too: its path, or also how it is taken. Then
        /// `name` and `hosts` may be left out.
        compose: Option<Compose>,
        /// L2 underlay networks by name: what hosts' NICs are plugged into.
        segments: Option<Map<Segment>>,
        /// Lab hosts by name: each has its own kernel and its own dockerd.
        hosts: Map<Host>,
        /// Endpoints that live on the wire, by name: a TCP/IP stack each, without a host.
        peers: Option<Map<Peer>>,
        /// A Docker swarm over the hosts.
        swarm: Option<Swarm>,
        /// Container images made of Debian packages, by name.
        images: Option<Map<Image>>,
        /// Docker networks by name.
        networks: Option<Map<Network>>,
        /// Containers by name.
        containers: Option<Map<Container>>,
        /// Services of the swarm by name.
        services: Option<Map<Service>>,
        /// What must hold once the lab is up.
        expect: Option<Vec<Check>>,
        /// Changes to the running lab, in order, each with what must hold after it.
        steps: Option<Vec<Step>>,
    }
}
