//! Labs of real Docker hosts, in Rust tests.
//!
//! A lab has hosts with their own kernel and dockerd, connected by a switch in this process. A topology describes it, in
//! a file or built in Rust. Every pair in it can be probed. Dropping it takes it down. A lab needs no root, no Docker
//! daemon and no registry, and changes nothing on this machine.
//!
//! ```no_run
//! use lab::{Lab, Probe, Verdict};
//!
//! #[tokio::test]
//! # async fn not_run() {}
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), lab::Error> { containers_meet().await }
//! async fn containers_meet() -> Result<(), lab::Error> {
//!     let lab = Lab::from_file("topologies/ipvlan-2host.yaml")?.up().await?;
//!
//!     let report = lab.check().await?;                            // what the topology expects
//!     assert!(report.holds, "{report}");                          // the matrix, and why each wrong cell is so
//!
//!     let answer = lab.probe("c1-1", "c2-1", Probe::Icmp).await?; // or a probe of one's own
//!     assert_eq!(answer.verdict, Verdict::Yes, "{answer}");
//!
//!     let docker = lab.docker("host1")?;                          // a bollard client of the host's own dockerd
//!     assert!(docker.version().await?.version.is_some());
//!     Ok(())                                                      // down on drop
//! }
//! ```
//!
//! The same without a file: [`Lab::builder`].
//!
//! ```no_run
//! use lab::{Lab, builder::{Expect, Host, Service, Swarm}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), lab::Error> {
//! let lab = Lab::builder("swarm")
//!     .segment("lan", "192.168.56.0/24")
//!     .host("host1", Host::on("lan", "192.168.56.3"))
//!     .host("host2", Host::on("lan", "192.168.56.7"))
//!     .swarm(Swarm::default())
//!     .service("web", Service::replicas(2).publish("8080:80"))
//!     .expect(Expect::all_meet())
//!     .up()
//!     .await?;
//! lab.kill_host("host2").await?;                                  // and see what the others notice
//! # Ok(()) }
//! ```
//!
//! # What it needs
//! QEMU 7.2 (`scripts/setup` installs it), the agent (`make build`; [`Lab::agent`] says where it is searched) and a node
//! image, which the first [`Lab::up`] makes in half a minute. A topology on an emulated machine takes seconds: run such
//! tests with `--release`. With few processors, run tests of several labs with `--test-threads 1`.
//!
//! # Where it lives
//! Each lab has its own thread and async runtime. So it goes on while a test blocks, and is taken down even if a test
//! panics. Futures of this crate may be awaited on any executor.

pub mod builder;
mod error;
mod home;
mod lab;
mod running;
#[cfg(feature = "testcontainers")]
pub mod testcontainers;

pub use bollard;
pub use builder::LabBuilder;
pub use error::Error;
pub use lab::Lab;
pub use labctl_machines::Event;
/// The model of a topology, parsed and checked.
pub use labctl_model as model;
pub use labctl_model::{Expected, No, Observed as Verdict, Probe};
pub use labctl_protocol::client::Output;
pub use labctl_report::{
    ActionsReport, Cause, CellReport, CheckReport, FactReport, Found, MatrixReport, Report, StepReport,
};
pub use labctl_runtime::lab::Frames;
pub use labctl_state::Runtime;
pub use labctl_wire::{CapturedFrame, Fate};
pub use running::{Answer, RunningLab};
