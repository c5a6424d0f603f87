#![doc = include_str!("../README.md")]
//!
//! Multi-byte fields are in host order in this API and in network order in the bytes. No input makes a reader panic.
//!
//! - [`Stack`]: whole frames, built from layers ([`Stack::build`]), read back ([`Stack::parse`], or as far as possible
//!   [`Dissection`]), and written as [`text`].
//! - [`EthernetFrame`], [`Ipv4View`], …: zero-copy views that read one field at a time, for hot paths.
//! - [`FrameTemplate`]: a frame built once and varied in place; [`Varied`]: a template whose fields count up.
//! - `port` (feature `ports`): sends and receives frames on Linux.
//! - [`describe`]: a frame in one line; [`filter`]: selects frames.
//! - [`reply`]: the frames with which a gateway answers; [`checksum`]: the internet checksum, whole and incremental.

pub mod checksum;
mod describe;
mod error;
pub mod filter;
mod mac;
#[cfg(all(feature = "ports", target_os = "linux"))]
pub mod port;
pub mod proto;
pub mod reply;
mod stack;
mod template;
pub mod text;

pub use describe::{describe, describe_as};
pub use error::{Problem, ReadError};
pub use mac::{MacAddr, ParseMacError};
pub use pnet;
pub use proto::arp::Arp;
pub use proto::dot1q::Dot1q;
pub use proto::esp::Esp;
pub use proto::ethernet::{Ether, EthernetFrame, VlanTag};
pub use proto::gbp::Gbp;
pub use proto::gpe::Gpe;
pub use proto::icmp::{Icmp, IcmpView};
pub use proto::icmpv6::Icmpv6;
pub use proto::ip::IpView;
pub use proto::ipv4::{Ipv4, Ipv4View};
pub use proto::ipv6::Ipv6;
pub use proto::tcp::{Tcp, TcpFlags, TcpView};
pub use proto::udp::{Udp, UdpView};
pub use proto::vxlan::Vxlan;
pub use proto::{BuildProblem, Decode, Kind, Layer, Payload, Wrong};
pub use stack::{BuildError, Dissection, MAX_LAYERS, Stack};
pub use template::{Field, FrameTemplate, ParseVaryError, TemplateError, Value, Varied, Vary};
pub use text::ParseStackError;
