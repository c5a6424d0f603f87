//! How the run's own TCP listeners say who they are: one line, right after a connection was accepted.

use std::time::Duration;

/// How long a connected TCP service may take to say that it is one of the run's listeners: so long, and as many round
/// trips, which count where all processors are busy with a large matrix.
pub const GREETING: Duration = Duration::from_millis(300);
/// See [`GREETING`].
pub const GREETING_ROUND_TRIPS: u32 = 5;

/// Bytes of a greeting at most.
pub const GREETING_LENGTH: usize = 256;

/// What a listener of this run says.
pub fn greeting(run: u64, name: &str) -> String {
    format!("labctl {run:016x} {name}\n")
}

/// The endpoint that a listener of this run named in its greeting.
pub fn greeted(said: &[u8], run: u64) -> Option<String> {
    let line = std::str::from_utf8(said).ok()?.lines().next()?;
    let name = line.strip_prefix("labctl ")?.strip_prefix(&format!("{run:016x} "))?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_runs_greeting_names_anybody() {
        let said = greeting(0xABC, "c1");
        assert_eq!(greeted(said.as_bytes(), 0xABC).as_deref(), Some("c1"));
        assert_eq!(greeted(said.as_bytes(), 0xABD), None);
        assert_eq!(greeted(b"SSH-2.0-OpenSSH_9.2\r\n", 0xABC), None);
        assert_eq!(greeted(b"", 0xABC), None);
    }
}
