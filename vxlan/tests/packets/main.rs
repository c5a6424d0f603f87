//! What the crate promises, tested from outside: known bytes, random stacks, an independent reader, hostile input.
#![allow(clippy::unwrap_used)]

mod filter;
mod hostile;
mod independent;
mod known;
mod round_trip;
mod set_on_purpose;
mod stacks;
mod template;
mod text;
mod tshark;
mod wire;
