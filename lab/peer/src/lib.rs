//! Endpoints that live on the wire.
//!
//! A [`Peer`] is a station of a segment without a host behind it: one task and a port of the wire. It answers ARP and
//! pings, refuses what nobody listens for, and takes part in probe sessions as an endpoint on a host does: its shots come
//! out as the agent's [`ShotResult`]s, what it sees as [`Sighting`]s. TCP, the answers to pings and the refusals are
//! smoltcp's; ARP and routes are its own ([`link`]), since what a failed ARP looks like is a verdict here.
//!
//! ```no_run
//! # async fn example(wire: lab_wire::Wire) -> Result<(), Box<dyn std::error::Error>> {
//! use lab_peer::{Config, Peer};
//! use lab_wire::{PortSpec, Transport};
//! let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
//! let mac = [2, 0, 0, 0, 0, 1];
//! let transport = Transport::Connected(theirs);
//! wire.add_port(PortSpec { name: "client/eth0".into(), segment: "lan".into(), mac, transport })?;
//! let config = Config {
//!     name: "client".into(),
//!     interface: "eth0".into(),
//!     mac,
//!     address: "192.168.56.20".parse()?,
//!     subnet: "192.168.56.0/24".parse()?,
//!     gateway: None,
//!     routes: Vec::new(),
//!     mtu: 1500,
//! };
//! let peer = Peer::start(config, ours)?;
//! let session = peer.open(rand::random(), Vec::new())?;
//! # Ok(())
//! # }
//! ```
//!
//! [`ShotResult`]: lab_agent::protocol::ShotResult
//! [`Sighting`]: lab_agent::protocol::Sighting

mod config;
mod datagram;
pub mod link;
mod peer;
mod run;
mod stack;
mod station;

pub use config::Config;
pub use peer::{Gone, Peer, Session, Watch};
