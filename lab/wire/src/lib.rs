//! The underlay: segments as learning switches in userspace.
//!
//! A [`Wire`] carries all segments of a lab in one thread. Every host NIC ends in a *port*. A port belongs to one
//! segment and has a [`Transport`]. A frame enters at a port and passes its policies (cut, port security, MTU, blocks).
//! Captures of the segment record it. It leaves by the port where its destination was learned, or by all others.
//! If a segment has a gateway, a stand-in answers for it and for the outside: nothing leaves the process.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let segments: indexmap::IndexMap<String, labctl_model::lab::Segment> = Default::default();
//! use labctl_wire::{CaptureSpec, PortSpec, Transport, Wire};
//! let wire = Wire::start(
//!     &segments,
//!     vec![PortSpec {
//!         name: "host1/eth0".into(),
//!         segment: "lan".into(),
//!         mac: [2, 0, 0, 0, 0, 1],
//!         transport: Transport::QemuStream { listen: "/run/user/1000/lab/host1-eth0.sock".into() },
//!     }],
//! )?;
//! // qemu … -netdev stream,id=n0,server=off,addr.type=unix,addr.path=/run/user/1000/lab/host1-eth0.sock
//! let mut capture = wire.capture("lan", CaptureSpec { count: Some(10), ..CaptureSpec::default() }).await?;
//! while let Some(frame) = capture.next().await {
//!     println!("{} {} bytes, {}", frame.port, frame.original_len, frame.fate);
//! }
//! wire.stop()?;
//! # Ok(())
//! # }
//! ```

mod advert;
mod block;
mod capture;
mod command;
mod engine;
mod error;
mod fdb;
mod frame;
mod inbox;
mod listen;
mod mld;
mod neighbours;
mod offload;
mod outbox;
pub mod pcapng;
mod policy;
mod port;
mod saved;
mod standin;
mod stats;
mod switch;
mod sys;
mod tap;
mod train;
mod wire;

pub use block::Block;
pub use capture::{Capture, CaptureSpec, CapturedFrame, Fate, Recorder};
pub use error::WireError;
pub use frame::MAX_FRAME_LEN;
pub use policy::{DropReason, LinkState};
pub use port::{PortSpec, Transport};
pub use saved::{Listener, Station, WireState};
pub use standin::GATEWAY_PORT;
pub use stats::{PortStats, SegmentStats, Stats};
pub use switch::station_port;
pub use wire::Wire;
