//! Watches a segment for a while: every frame that enters it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use labctl_wire::{CaptureSpec, CapturedFrame, Wire};
use tokio::task::JoinHandle;

use crate::Error;

/// Most frames that wait to be looked at.
const BUFFER: usize = 65_536;
/// Longest time to notice the end.
const PATIENCE: Duration = Duration::from_millis(50);

/// A watch on a segment, and what is made of its frames.
pub struct Tap<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Tapped<T>>,
}

/// The result of a watch.
pub struct Tapped<T> {
    /// What was made of the frames.
    pub found: T,
    /// Frames lost for want of buffer space.
    pub lost: u64,
}

impl<T: Send + 'static> Tap<T> {
    /// Begins: when this returns, no frame is missed. `see` gets each frame with the result so far.
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
        // The wire delivers frames over a std channel, which only a thread can wait on.
        let thread = tokio::task::spawn_blocking(move || {
            loop {
                let ending = stopped.load(Ordering::Relaxed);
                match capture.recv(if ending { Duration::ZERO } else { PATIENCE }) {
                    Ok(Some(frame)) => see(&mut found, &frame),
                    Ok(None) => break,
                    Err(labctl_wire::Silence) if ending => break,
                    Err(labctl_wire::Silence) => {}
                }
            }
            Tapped { found, lost: capture.lost() }
        });
        Ok(Self { stop, thread })
    }

    /// Ends it, after all frames that entered the segment before.
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
