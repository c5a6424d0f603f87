//! Watches a segment for a while: every frame that enters it.

use labctl_wire::{CaptureSpec, CapturedFrame};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{Error, nics::Flush, view::View, wire};

/// Most frames that wait to be looked at.
const BUFFER: usize = 65_536;
/// How many of them are looked at before others get a turn.
const AT_ONCE: usize = 256;

/// A watch on a segment, and what is made of its frames. Dropping it ends it.
pub struct SegmentTap<T> {
    stop: oneshot::Sender<()>,
    flush: Option<Flush>,
    task: JoinHandle<Tapped<T>>,
}

/// The result of a watch.
pub struct Tapped<T> {
    /// What was made of the frames.
    pub found: T,
    /// Frames lost for want of buffer space.
    pub lost: u64,
}

impl<T: Send + 'static> SegmentTap<T> {
    /// Begins: when this returns, no frame is missed. `see` gets each frame with the result so far.
    pub async fn begin(
        view: &View<'_>,
        segment: &str,
        mut found: T,
        mut see: impl FnMut(&mut T, &CapturedFrame) + Send + 'static,
    ) -> Result<Self, Error> {
        let spec = CaptureSpec { buffer: BUFFER, ..CaptureSpec::default() };
        let (mut capture, flush) = wire::capture(view, segment, spec).await?;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    frame = capture.next() => match frame {
                        Some(frame) => see(&mut found, &frame),
                        None => break,
                    },
                    _ = &mut stopped => {
                        // Those that wait; a flood may go on.
                        for n in 0..BUFFER {
                            match capture.try_next() {
                                Some(frame) => see(&mut found, &frame),
                                None => break,
                            }
                            if n % AT_ONCE == 0 {
                                tokio::task::yield_now().await;
                            }
                        }
                        break;
                    }
                }
            }
            Tapped { found, lost: capture.lost() }
        });
        Ok(Self { stop, flush, task })
    }

    /// Ends it, after all frames that entered the segment before.
    pub async fn end(self) -> Result<Tapped<T>, Error> {
        if let Some(flush) = self.flush {
            flush.done().await;
        }
        // Fails if the capture has ended by itself; then there is nobody to tell.
        let _ = self.stop.send(());
        self.task.await.map_err(|e| Error::Wire(e.to_string()))
    }
}
