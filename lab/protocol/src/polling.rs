//! Waiting for what tells nobody when it changes.

use std::time::{Duration, Instant};

/// Looks that are repeated with a pause between two, until a deadline.
#[derive(Clone, Copy, Debug)]
pub struct Polling {
    deadline: Instant,
    pause: Duration,
}

impl Polling {
    /// For this long from now.
    pub fn new(within: Duration, pause: Duration) -> Self {
        Self::since(Instant::now(), within, pause)
    }

    /// For this long from an earlier moment.
    pub fn since(began: Instant, within: Duration, pause: Duration) -> Self {
        Self { deadline: began + within, pause }
    }

    /// Whether the next look should be the last.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Pauses before another look.
    pub async fn pause(&self) {
        tokio::time::sleep(self.pause).await;
    }

    /// Pauses before another look, or returns `false` at once if the time is over.
    pub async fn again(&self) -> bool {
        if self.is_over() {
            return false;
        }
        self.pause().await;
        true
    }
}
