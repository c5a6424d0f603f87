//! The parts of a lab. Each has methods for the common keys, and `set` for every other key of the topology reference
//! (`docs/topology.md`).

use super::value::{Map, Value};

macro_rules! part {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[must_use]
        pub struct $name(pub(super) Map);

        impl $name {
            /// Sets any key that the topology reference knows.
            pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
                self.0.set(key, value);
                self
            }
        }

        impl From<$name> for Value {
            fn from(part: $name) -> Self {
                Self::Map(part.0)
            }
        }
    };
}
pub(super) use part;

part! {
    /// An L2 underlay network.
    Segment
}

impl Segment {
    /// A segment with this subnet, such as `192.168.56.0/24`.
    pub fn subnet(subnet: impl Into<Value>) -> Self {
        Self::default().set("subnet", subnet)
    }

    /// Adds the lab's own stand-in router at this address.
    pub fn gateway(self, address: impl Into<Value>) -> Self {
        self.set("gateway", address)
    }
}

/// A subnet alone is a segment.
impl From<&str> for Segment {
    fn from(subnet: &str) -> Self {
        Self::subnet(subnet)
    }
}

part! {
    /// A lab host: one kernel, one dockerd.
    Host
}

impl Host {
    /// A host with a NIC on this segment; [`Host::nic`] adds further ones.
    pub fn on(segment: &str, address: impl Into<Value>) -> Self {
        Self::default().nic(segment, address)
    }

    /// Adds a NIC on this segment, with this address.
    pub fn nic(self, segment: &str, address: impl Into<Value>) -> Self {
        self.set(segment, address)
    }

    /// Chooses whose dockerd runs: `trixie` (26.1, the default), `forky` (28.5), `bookworm` (20.10), a version, or one
    /// from a tarball.
    pub fn engine(self, engine: &str) -> Self {
        self.set("engine", engine)
    }
}

part! {
    /// A Docker network.
    Network
}

impl Network {
    /// A network with this driver.
    pub fn driver(driver: &str) -> Self {
        Self::default().set("driver", driver)
    }

    /// A bridge on each host that has a container on it.
    pub fn bridge() -> Self {
        Self::driver("bridge")
    }

    /// An ipvlan on the hosts' NICs of this segment, in l2 mode unless an option says otherwise.
    pub fn ipvlan(segment: &str) -> Self {
        Self::driver("ipvlan").option("parent", segment)
    }

    /// A macvlan on the hosts' NICs of this segment.
    pub fn macvlan(segment: &str) -> Self {
        Self::driver("macvlan").option("parent", segment)
    }

    /// An overlay of the swarm, which plain containers may join.
    pub fn overlay() -> Self {
        Self::driver("overlay").set("attachable", true)
    }

    /// Sets an option of the driver, in Docker's words.
    pub fn option(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.below("driver_opts").set(key, value);
        self
    }

    /// Adds a subnet; without one, Docker chooses.
    pub fn subnet(mut self, subnet: impl Into<Value>) -> Self {
        self.0.below("ipam").push("config", Value::map([("subnet", subnet.into())]));
        self
    }
}

part! {
    /// A container. If no image is set, it has a built-in one that only waits.
    Container
}

impl Container {
    /// A container on this host.
    pub fn on(host: &str) -> Self {
        Self::default().set("host", host)
    }

    /// Sets its image.
    pub fn image(self, image: &str) -> Self {
        self.set("image", image)
    }

    /// Attaches it to a network; Docker chooses the address. The container is made on its first network.
    pub fn network(mut self, network: &str) -> Self {
        self.0.below("networks").set(network, Map::default());
        self
    }

    /// Attaches it to a network with this address; a second call adds one of the other family.
    pub fn address(mut self, network: &str, address: impl Into<Value>) -> Self {
        let address = address.into();
        let key = if address.is_v6() { "ipv6_address" } else { "ipv4_address" };
        self.0.below("networks").below(network).set(key, address);
        self
    }

    /// Publishes a port, such as `8080:80` or `5353:53/udp`.
    pub fn publish(mut self, port: &str) -> Self {
        self.0.push("ports", port);
        self
    }
}

part! {
    /// A service of the swarm.
    Service
}

impl Service {
    /// A service with this many tasks.
    pub fn replicas(count: u32) -> Self {
        let mut service = Self::default();
        service.0.below("deploy").set("replicas", count);
        service
    }

    /// A service with a task on every node.
    pub fn global() -> Self {
        let mut service = Self::default();
        service.0.below("deploy").set("mode", "global");
        service
    }

    /// Sets its image.
    pub fn image(self, image: &str) -> Self {
        self.set("image", image)
    }

    /// Attaches it to an overlay.
    pub fn network(mut self, network: &str) -> Self {
        self.0.below("networks").set(network, Map::default());
        self
    }

    /// Publishes a port on every node, such as `8080:80`.
    pub fn publish(mut self, port: &str) -> Self {
        self.0.push("ports", port);
        self
    }
}

part! {
    /// A swarm over hosts of the lab. By default the first host is the manager and all others are workers.
    Swarm
}

impl Swarm {
    /// A swarm with these managers; all other hosts are workers. The first manager initializes it.
    pub fn managers(hosts: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        Self::default().set("managers", hosts.into_iter().map(Into::into).collect::<Vec<_>>())
    }
}
