//! A lab described in Rust.
//!
//! A builder writes a topology, which is then parsed like a file: the same words, checks and messages.
//! [`LabBuilder::yaml`] returns that topology, to keep as a file or to give to `labctl`.

mod expect;
mod parts;
mod value;

pub use expect::{Expect, Step};
pub use parts::{Container, Host, Network, Segment, Service, Swarm};
pub use value::{Map, Value};

use std::panic::Location;

use crate::{Error, Lab, RunningLab};

/// Describes a lab part by part; [`LabBuilder::up`] brings it up.
///
/// ```
/// use lab::{Lab, builder::{Container, Expect, Host, Network}};
///
/// let lab = Lab::builder("two")
///     .segment("lan", "192.168.56.0/24")
///     .host("host1", Host::on("lan", "192.168.56.3"))
///     .host("host2", Host::on("lan", "192.168.56.7"))
///     .network("net", Network::macvlan("lan").subnet("192.168.56.0/24"))
///     .container("c1", Container::on("host1").address("net", "192.168.56.31"))
///     .container("c2", Container::on("host2").address("net", "192.168.56.32"))
///     .expect(Expect::table(lab::Probe::Icmp, "
///         from\\to  c1   c2   host1
///         c1       -    yes  no
///         c2       yes  -    yes
///     "))
///     .build()?;
/// assert_eq!(lab.model().containers.len(), 2);
/// # Ok::<(), lab::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is made before `up`"]
pub struct LabBuilder(Map, Calls);

/// Where what must hold was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) expect: Vec<&'static Location<'static>>,
    pub(crate) steps: Vec<&'static Location<'static>>,
}

impl Lab {
    /// Describes a lab part by part.
    pub fn builder(name: &str) -> LabBuilder {
        LabBuilder::new(name)
    }
}

impl LabBuilder {
    pub(crate) fn new(name: &str) -> Self {
        let mut topology = Map::default();
        topology.set("name", name);
        Self(topology, Calls::default())
    }

    fn part(mut self, kind: &str, name: &str, part: impl Into<Value>) -> Self {
        self.0.below(kind).set(name, part);
        self
    }

    /// Adds an L2 underlay network; a subnet alone is enough.
    pub fn segment(self, name: &str, segment: impl Into<Segment>) -> Self {
        self.part("segments", name, segment.into())
    }

    /// Adds a lab host.
    pub fn host(self, name: &str, host: Host) -> Self {
        self.part("hosts", name, host)
    }

    /// Adds a swarm over the hosts.
    pub fn swarm(mut self, swarm: Swarm) -> Self {
        self.0.set("swarm", swarm);
        self
    }

    /// Adds a Docker network.
    pub fn network(self, name: &str, network: Network) -> Self {
        self.part("networks", name, network)
    }

    /// Adds a container.
    pub fn container(self, name: &str, container: Container) -> Self {
        self.part("containers", name, container)
    }

    /// Adds a service of the swarm.
    pub fn service(self, name: &str, service: Service) -> Self {
        self.part("services", name, service)
    }

    /// Adds something that must hold once the lab is up. A report cites the line of this call.
    #[track_caller]
    pub fn expect(mut self, expect: Expect) -> Self {
        self.1.expect.push(Location::caller());
        self.0.push("expect", expect);
        self
    }

    /// Adds a change to the running lab, done by [`RunningLab::check_with_steps`].
    #[track_caller]
    pub fn step(mut self, step: Step) -> Self {
        self.1.steps.push(Location::caller());
        self.0.push("steps", step);
        self
    }

    /// Sets any key of a topology that has no method here.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.set(key, value);
        self
    }

    /// Returns the topology as the text of a file.
    pub fn yaml(&self) -> String {
        let options = serde_yaml::ser_options! { min_fold_chars: usize::MAX };
        serde_yaml::to_string_with_options(&self.0, options)
            // Writing such values cannot fail; if it did, parsing the text would report it.
            .unwrap_or_else(|e| format!("# {e}\n"))
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Error::Topology`]: all mistakes, each with its line of [`LabBuilder::yaml`].
    pub fn build(&self) -> Result<Lab, Error> {
        Ok(Lab::from_yaml(&self.yaml())?.called(&self.1))
    }

    /// Checks the description and brings the lab up.
    ///
    /// # Errors
    /// Those of [`LabBuilder::build`] and of [`Lab::up`].
    pub async fn up(self) -> Result<RunningLab, Error> {
        self.build()?.up().await
    }
}
