//! What Linux does with packets: a network as a value ([`net`]), rules ([`netfilter`]), and walks of a request through it and
//! of its answer back ([`walk`]). Knows of Docker how it lays its rules out, and of no lab. No I/O.

pub mod net;
pub mod netfilter;
pub mod packet;
pub mod walk;
