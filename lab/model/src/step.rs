//! Changes to a running lab.

use std::{net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    check::{Check, Command},
    diagnostic::Diagnostics,
    filter::Filter,
    lab::{Lab, Route},
    service::ServiceChange,
    swarm::Role,
    validate,
};

/// One entry of `steps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What the step is called in reports; the text of its actions where the topology gives no name.
    pub name: String,
    /// Done in order.
    pub actions: Vec<Action>,
    /// A part of the message with which the last action must be refused, ASCII case ignored; absent: all must succeed.
    pub fails: Option<String>,
    /// How long the checks may take to hold; the default of each of them.
    pub within: Duration,
    /// What must hold afterwards.
    pub expect: Vec<Check>,
    /// Line in the topology, 1-based.
    pub line: u32,
}

/// A change. The text form of each is given in quotes; names are checked when the topology is read.
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
        ipv4_address: Option<Ipv4Addr>,
    },
    /// `disconnect CONTAINER NETWORK`
    Disconnect {
        /// Container.
        container: String,
        /// Key of the network.
        network: String,
    },
    /// `create network NETWORK`, on the hosts that it has.
    CreateNetwork(String),
    /// `remove network NETWORK`, on the hosts that it has.
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
        /// How long its tasks may take to run; the runtime's own patience where absent.
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
        /// How long they may take to run; the runtime's own patience where absent.
        within: Option<Duration>,
    },
    /// `update SERVICE {CHANGES} [within DURATION]`: as `docker service update`; done when Docker has replaced its tasks.
    Update {
        /// Service.
        service: String,
        /// What becomes different.
        change: Box<ServiceChange>,
        /// How long that may take; the runtime's own patience where absent.
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
    /// `leave HOST`: out of the swarm, as a manager by force.
    Leave(String),
    /// `join HOST as worker|manager [advertising SEGMENT|ADDRESS] [with a wrong token|with an old token]`
    Join {
        /// Host.
        host: String,
        /// As what.
        role: Role,
        /// By which token.
        token: Token,
        /// What it tells the others to reach it by; what `swarm` says of it, or its first NIC, where absent.
        advertise: Option<Ipv4Addr>,
    },
    /// `remove node HOST [by force]`: as `docker node rm`; of several entries of a host, those that it is no longer.
    RemoveNode {
        /// Host.
        host: String,
        /// Also one that is not down.
        force: bool,
    },
    /// `force-new-cluster HOST`: a manager becomes the only one, as by `docker swarm init --force-new-cluster`.
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
        /// The segment that it is cut from; all of its segments where absent.
        segment: Option<String>,
        /// Which way frames go no more.
        direction: Direction,
    },
    /// `heal HOST [on SEGMENT]`: both directions.
    Heal {
        /// Host.
        host: String,
        /// The segment; all of its segments where absent.
        segment: Option<String>,
    },
    /// `block FILTER [on SEGMENT] [from HOST] [to HOST]`
    Block {
        /// What the wire drops.
        filter: Filter,
        /// Where.
        place: Place,
    },
    /// `unblock FILTER|all [on SEGMENT] [from HOST] [to HOST]`: takes away the blocks that these words cover.
    Unblock {
        /// What they drop; anything where absent.
        filter: Option<Filter>,
        /// Where they are.
        place: Place,
    },
}

/// What can be done to a host, or to its dockerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// The plug is pulled, or SIGKILL sent: nothing gets to say goodbye.
    Kill,
    /// Containers and dockerd are stopped, then the machine.
    Stop,
    /// A host that was killed or stopped is made again, with what the topology gives it. Its disk is new: what was
    /// written in it is gone. A dockerd starts with the daemon.json that it had.
    Start,
    /// Stopped and started.
    Restart,
}

/// A way across a port, as its host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// What it sends and what it is sent.
    Both,
    /// What it is sent.
    Inbound,
    /// What it sends.
    Outbound,
}

/// Where on the wire: all of it, where nothing is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// On this segment.
    pub segment: Option<String>,
    /// What this host sends.
    pub from: Option<String>,
    /// What this host is sent.
    pub to: Option<String>,
}

/// The token by which a host joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Token {
    /// The right one.
    Right,
    /// One of no swarm.
    Wrong,
    /// The right one, rotated away just before.
    Old,
}

impl Action {
    /// Reads the text form of one action, its names checked against a lab.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, lab: &Lab) -> Result<Self, Diagnostics> {
        validate::action(text, lab)
    }
}
