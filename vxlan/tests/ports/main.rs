//! Ports, on real interfaces in network namespaces of the tests' own. Needs root, or CAP_SYS_ADMIN and CAP_NET_RAW.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod frames;
mod net;
mod packets;
