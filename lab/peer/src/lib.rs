//! Endpoints that live on the wire.
//!
//! A [`Peer`] is a station of a segment without a host: one task and one port of the wire. It answers ARP and pings, and
//! refuses packets that nobody listens for. It takes part in probe sessions like an endpoint on a host: its shots give
//! the agent's [`ShotResult`]s, and what it sees gives [`Sighting`]s. smoltcp does TCP, answers to pings and refusals.
//! ARP and routes are our own ([`link`]), since a failed ARP is a verdict here.
//!
//! ```no_run
//! # async fn example(wire: labctl_wire::Wire) -> Result<(), Box<dyn std::error::Error>> {
//! use labctl_peer::{Config, Peer};
//! use labctl_wire::{PortSpec, Transport};
//! let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
//! let mac = [2, 0, 0, 0, 0, 1];
//! let transport = Transport::Connected(theirs);
//! wire.add_port(PortSpec { name: "client/eth0".into(), segment: "lan".into(), mac, transport }).await?;
//! let config = Config {
//!     name: "client".into(),
//!     interface: "eth0".into(),
//!     mac,
//!     addresses: "192.168.56.20/24".parse::<ipnet::IpNet>()?.into(),
//!     gateway: Default::default(),
//!     routes: Vec::new(),
//!     mtu: 1500,
//! };
//! let peer = Peer::start(config, ours)?;
//! let session = peer.open(rand::random(), Vec::new())?;
//! # Ok(())
//! # }
//! ```
//!
//! [`ShotResult`]: labctl_protocol::messages::ShotResult
//! [`Sighting`]: labctl_protocol::messages::Sighting

mod config;
mod datagram;
pub mod link;
mod peer;
mod run;
mod stack;
mod station;

pub use config::Config;
pub use peer::{Gone, Peer, Session, Watch};
