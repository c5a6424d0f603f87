//! Changes to a running lab.

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    check::{Check, Command},
    host::Route,
    service::ServiceChange,
    swarm::Role,
    traffic::Traffic,
};

/// One entry of `steps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the step in reports; the text of its actions if the topology gives none.
    pub name: String,
    /// Done in order.
    pub actions: Vec<Action>,
    /// Part of the error with which the last action must fail, ASCII case ignored; absent: all must succeed.
    pub fails: Option<String>,
    /// How long the checks may take to hold; each check may set its own.
    pub within: Duration,
    /// What must hold afterwards.
    pub expect: Vec<Check>,
    /// Line in the topology, 1-based.
    pub line: u32,
}

/// A change to the running lab. Each variant gives its text form in quotes. Names are checked when the topology is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// `create CONTAINER`: makes and starts a deferred or removed container.
    Create(String),
    /// `start CONTAINER`; a host is [`Action::Power`].
    Start(String),
    /// `stop CONTAINER`
    Stop(String),
    /// `restart CONTAINER`
    Restart(String),
    /// `remove CONTAINER`: by force, as `docker rm -f`.
    Remove(String),
    /// `connect CONTAINER NETWORK [ADDRESS]`
    Connect {
        /// Container.
        container: String,
        /// Key of the network.
        network: String,
        /// Static address.
        address: Option<IpAddr>,
    },
    /// `disconnect CONTAINER NETWORK`
    Disconnect {
        /// Container.
        container: String,
        /// Key of the network.
        network: String,
    },
    /// `create network NETWORK`, on its hosts.
    CreateNetwork(String),
    /// `remove network NETWORK`, on its hosts.
    RemoveNetwork(String),
    /// `prune networks HOST`
    PruneNetworks(String),
    /// `route add HOST PREFIX [via ADDRESS] [dev INTERFACE] [metric N]`
    RouteAdd {
        /// Host.
        host: String,
        /// The route.
        route: Route,
    },
    /// `route del HOST PREFIX [via ADDRESS] [dev INTERFACE] [metric N]`
    RouteDel {
        /// Host.
        host: String,
        /// The route.
        route: Route,
    },
    /// `create interface HOST NAME`: a deferred one.
    CreateInterface {
        /// Host.
        host: String,
        /// Interface.
        name: String,
    },
    /// `remove interface HOST NAME`
    RemoveInterface {
        /// Host.
        host: String,
        /// Interface.
        name: String,
    },
    /// `create service SERVICE [within DURATION]`: a deferred or removed one; done when its tasks run.
    CreateService {
        /// Service.
        service: String,
        /// How long its tasks may take to run; the runtime's default if absent.
        within: Option<Duration>,
    },
    /// `remove service SERVICE`
    RemoveService(String),
    /// `scale SERVICE REPLICAS [within DURATION]`: done when its tasks run.
    Scale {
        /// Service.
        service: String,
        /// How many tasks.
        replicas: u32,
        /// How long they may take to run; the runtime's default if absent.
        within: Option<Duration>,
    },
    /// `update SERVICE {CHANGES} [within DURATION]`: as `docker service update`; done when Docker has replaced its tasks.
    Update {
        /// Service.
        service: String,
        /// What changes.
        change: Box<ServiceChange>,
        /// How long that may take; the runtime's default if absent.
        within: Option<Duration>,
    },
    /// `drain HOST`: its tasks go elsewhere.
    Drain(String),
    /// `activate HOST`: it takes tasks again.
    Activate(String),
    /// `promote HOST`: a worker becomes a manager.
    Promote(String),
    /// `demote HOST`: a manager becomes a worker.
    Demote(String),
    /// `leave HOST`: leaves the swarm; a manager does so by force.
    Leave(String),
    /// `join HOST as worker|manager [advertising SEGMENT|ADDRESS] [with a wrong token|with an old token]`
    Join {
        /// Host.
        host: String,
        /// Role that it gets.
        role: Role,
        /// Token that it presents.
        token: Token,
        /// Address that it advertises; if absent, the one from `swarm`, or that of its first NIC.
        advertise: Option<IpAddr>,
    },
    /// `remove node HOST [by force]`: as `docker node rm`; if the host has several entries, only the stale ones.
    RemoveNode {
        /// Host.
        host: String,
        /// Whether to remove a node that is not down, too.
        force: bool,
    },
    /// `reset`: the lab is again what it was at the end of `up`.
    Reset,
    /// `force-new-cluster HOST`: a manager becomes the only one, as with `docker swarm init --force-new-cluster`.
    ForceNewCluster(String),
    /// `exec HOST|CONTAINER [with host-tools] -- COMMAND`: must end with status 0.
    Exec(Command),
    /// `configure docker HOST JSON`: replaces daemon.json and restarts dockerd.
    ConfigureDocker {
        /// Host.
        host: String,
        /// The whole of daemon.json.
        daemon_json: serde_json::Map<String, serde_json::Value>,
    },
    /// `kill HOST`, `stop HOST`, `start HOST`, `restart HOST`
    Power {
        /// Host.
        host: String,
        /// What is done to it.
        power: Power,
    },
    /// `kill docker HOST`, `stop docker HOST`, `start docker HOST`, `restart docker HOST`
    Docker {
        /// Host.
        host: String,
        /// What is done to its dockerd.
        power: Power,
    },
    /// `cut HOST [on SEGMENT] [inbound|outbound]`
    Cut {
        /// Host.
        host: String,
        /// The segment that it is cut from; all of its segments if absent.
        segment: Option<String>,
        /// The direction in which frames are dropped.
        direction: Direction,
    },
    /// `heal HOST [on SEGMENT]`: both directions.
    Heal {
        /// Host.
        host: String,
        /// The segment; all of its segments if absent.
        segment: Option<String>,
    },
    /// `block FILTER [on SEGMENT] [from HOST] [to HOST]`
    Block {
        /// What the wire drops.
        filter: Traffic,
        /// Where it drops them.
        place: Place,
    },
    /// `unblock FILTER|all [on SEGMENT] [from HOST] [to HOST]`: removes the blocks that these words cover.
    Unblock {
        /// What they drop; anything if absent.
        filter: Option<Traffic>,
        /// Where they are.
        place: Place,
    },
}

/// What can be done to a host, or to its dockerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// Pulls the plug of a host, or sends SIGKILL to dockerd: nothing shuts down cleanly.
    Kill,
    /// Stops containers and dockerd, then the machine.
    Stop,
    /// Makes a killed or stopped host again, as the topology describes it. Its disk is new: what was written is gone. A
    /// dockerd starts with the daemon.json that it had.
    Start,
    /// Stops and starts it.
    Restart,
}

/// A direction across a port, as its host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// What it sends and what it receives.
    Both,
    /// What it receives.
    Inbound,
    /// What it sends.
    Outbound,
}

/// Where on the wire; everywhere if nothing is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// On this segment.
    pub segment: Option<String>,
    /// What this host sends.
    pub from: Option<String>,
    /// What this host receives.
    pub to: Option<String>,
}

/// The token with which a host joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Token {
    /// The right one.
    Right,
    /// One that belongs to no swarm.
    Wrong,
    /// The right one, which a rotation has just made invalid.
    Old,
}
