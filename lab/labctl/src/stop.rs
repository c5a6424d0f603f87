//! Ctrl-C, SIGTERM and SIGHUP: registered once, so that none is lost between two awaits.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Error;

/// Listens for the signals from the moment that it is made.
pub struct Stop([Signal; 3]);

impl Stop {
    /// Handles these signals from now on.
    pub fn new() -> Result<Self, Error> {
        let listen =
            |kind| signal(kind).map_err(|e| Error::Environment(format!("cannot listen for signals: {e}")));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of the signals.
    pub async fn wait(&mut self) {
        let [int, term, hup] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
}
