//! A segment looked at for a while: every frame that enters it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lab_wire::{CaptureSpec, CapturedFrame, Wire};
use tokio::task::JoinHandle;

use crate::Error;

/// Frames that wait to be looked at.
const BUFFER: usize = 65_536;
/// How soon the end is noticed.
const PATIENCE: Duration = Duration::from_millis(50);

/// A look at a segment, and what is made of it.
pub struct Tap<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tapped<T>>,
}

/// What came of it.
pub struct Tapped<T> {
    /// What was made of the frames.
    pub found: T,
    /// Frames that nobody could look at, for want of room.
    pub lost: u64,
}

impl<T: Send + 'static> Tap<T> {
    /// Begins: when this returns, no frame is missed. `see` gets each with what was made of those before.
    pub fn begin(
        wire: &Wire,
        segment: &str,
        mut found: T,
        mut see: impl FnMut(&mut T, &CapturedFrame) + Send + 'static,
    ) -> Result<Self, Error> {
        let spec = CaptureSpec { buffer: BUFFER, ..CaptureSpec::default() };
        let capture = wire.capture(segment, spec).map_err(|e| Error::Wire(e.to_string()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // The wire hands frames over by a channel of std's, which only a thread can wait on.
        let thread = tokio::task::spawn_blocking(move || {
            loop {
                let ending = stopped.load(Ordering::Relaxed);
                match capture.recv(if ending { Duration::ZERO } else { PATIENCE }) {
                    Ok(Some(frame)) => see(&mut found, &frame),
                    Ok(None) => break,
                    Err(lab_wire::Silence) if ending => break,
                    Err(lab_wire::Silence) => {}
                }
            }
            Tapped { found, lost: capture.lost() }
        });
        Ok(Self { stop, thread })
    }

    /// Ends it, with all that had entered the segment before.
    pub async fn end(mut self) -> Result<Tapped<T>, Error> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.thread).await.map_err(|e| Error::Wire(e.to_string()))
    }
}

impl<T> Drop for Tap<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
