//! The marks of a run's packets, and what comes back for them: the same for agents and for peers on the wire.

pub mod greeting;
pub mod heard;
pub mod nonce;
pub mod trace;
