//! Ctrl-C, SIGTERM and SIGHUP: asked for once, so that none is lost between two awaits.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Error;

/// Listens from the moment that it is made.
pub struct Stop([Signal; 3]);

impl Stop {
    /// From now on these signals are ours to answer.
    pub fn new() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|e| Error::Environment(format!("cannot listen for signals: {e}")));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one.
    pub async fn wait(&mut self) {
        let [int, term, hup] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
}
