//! What labctl and the agents of lab hosts say to each other: the messages, how a session carries them, labctl's side of
//! a session, and what both sides must know to recognise a run's packets.
//!
//! Nothing here changes a machine: the agent is another crate, and who only talks to agents links none of it.

pub mod client;
pub mod frames;
pub mod kernel;
pub mod lines;
pub mod made;
pub mod messages;
pub mod mux;
pub mod node;
pub mod polling;
pub mod preamble;
pub mod probe;
