//! Captures: frames recorded as they enter a segment, whatever becomes of them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use crate::{WireError, frame::MAX_FRAME_LEN, policy::DropReason};

/// Most frames that may wait for the reader.
const MAX_BUFFER: usize = 65_536;

/// What to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSpec {
    /// Bytes kept of each frame.
    pub snaplen: usize,
    /// Ends after this many frames.
    pub count: Option<u64>,
    /// Ends after this time.
    pub duration: Option<Duration>,
    /// How many frames may wait for the reader, 1 to 65,536; further ones are lost and counted.
    pub buffer: usize,
}

impl Default for CaptureSpec {
    /// Whole frames, no limits, a buffer of 4,096 frames.
    fn default() -> Self {
        Self { snaplen: MAX_FRAME_LEN, count: None, duration: None, buffer: 4096 }
    }
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent out by one port, or received by the stand-in.
    Forwarded {
        /// Name of the port.
        to: Arc<str>,
    },
    /// Sent out by all ports that may send it.
    Flooded {
        /// How many ports.
        ports: usize,
    },
    /// Sent into a segment that is no switch of ours: what became of it there is not known.
    Sent,
    /// Delivered to nobody.
    Dropped {
        /// The port that dropped it: where it came in, or where it should have left.
        at: Arc<str>,
        /// Why.
        reason: DropReason,
    },
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarded { to } => write!(f, "to {to}"),
            Self::Flooded { ports: 1 } => f.write_str("flooded to 1 port"),
            Self::Flooded { ports } => write!(f, "flooded to {ports} ports"),
            Self::Sent => f.write_str("sent"),
            Self::Dropped { at, reason } => write!(f, "dropped at {at}: {reason}"),
        }
    }
}

/// A recorded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// When it entered the switch.
    pub timestamp: SystemTime,
    /// Name of the port it entered by; [`crate::GATEWAY_PORT`] for the stand-in.
    pub port: Arc<str>,
    /// What became of it.
    pub fate: Fate,
    /// Its length in bytes.
    pub original_len: usize,
    /// Its first bytes, as many as the capture keeps.
    pub data: Vec<u8>,
    /// Frames lost since the one before, because the buffer was full.
    pub lost_before: u64,
}

/// A running capture; dropping it ends it. It ends by itself at its count or duration, or with the wire.
#[derive(Debug)]
pub struct Capture {
    frames: Receiver<CapturedFrame>,
    lost: Arc<AtomicU64>,
    segment: String,
    snaplen: usize,
}

impl Capture {
    /// The next frame; `None` once the capture has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<CapturedFrame> {
        self.frames.recv().await
    }

    /// [`next`](Self::next) for implementors of streams.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<CapturedFrame>> {
        self.frames.poll_recv(cx)
    }

    /// A frame that is waiting already, if there is one.
    pub fn try_next(&mut self) -> Option<CapturedFrame> {
        self.frames.try_recv().ok()
    }

    /// Frames lost so far because they were not read fast enough.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The segment that is recorded.
    #[must_use]
    pub fn segment(&self) -> &str {
        &self.segment
    }

    /// Bytes kept of each frame.
    #[must_use]
    pub fn snaplen(&self) -> usize {
        self.snaplen
    }
}

/// The other end of a capture, which feeds it.
#[derive(Debug)]
pub struct Recorder {
    frames: Sender<CapturedFrame>,
    lost: Arc<AtomicU64>,
    lost_before: u64,
    snaplen: usize,
    left: Option<u64>,
    until: Option<Instant>,
}

impl Capture {
    /// A capture of a segment that is no switch of ours, and its other end.
    ///
    /// # Errors
    /// The limits make no sense.
    pub fn fed(segment: &str, spec: &CaptureSpec) -> Result<(Self, Recorder), WireError> {
        open(segment, spec, Instant::now())
    }
}

/// A capture and the wire's end of it.
pub(crate) fn open(
    segment: &str,
    spec: &CaptureSpec,
    now: Instant,
) -> Result<(Capture, Recorder), WireError> {
    if spec.snaplen == 0 {
        return Err(WireError::CaptureSpec("a snaplen of at least 1 byte"));
    }
    if !(1..=MAX_BUFFER).contains(&spec.buffer) {
        return Err(WireError::CaptureSpec("a buffer of 1 to 65536 frames"));
    }
    if spec.count == Some(0) {
        return Err(WireError::CaptureSpec("a count of at least 1 frame"));
    }
    let (sender, frames) = channel(spec.buffer);
    let lost = Arc::<AtomicU64>::default();
    let tap = Recorder {
        frames: sender,
        lost: Arc::clone(&lost),
        lost_before: 0,
        snaplen: spec.snaplen,
        left: spec.count,
        // A duration too long for the clock is no limit.
        until: spec.duration.and_then(|duration| now.checked_add(duration)),
    };
    let snaplen = spec.snaplen.min(MAX_FRAME_LEN);
    Ok((Capture { frames, lost, segment: segment.into(), snaplen }, tap))
}

impl Recorder {
    /// Records a frame. Returns false once the capture has ended.
    pub(crate) fn offer(
        &mut self,
        timestamp: SystemTime,
        port: &Arc<str>,
        fate: &Fate,
        bytes: &[u8],
    ) -> bool {
        let frame = CapturedFrame {
            timestamp,
            port: Arc::clone(port),
            fate: fate.clone(),
            original_len: bytes.len(),
            data: bytes[..bytes.len().min(self.snaplen)].to_vec(),
            lost_before: 0,
        };
        self.take(frame)
    }

    /// Records this frame. Returns false once the capture has ended.
    pub fn take(&mut self, frame: CapturedFrame) -> bool {
        if self.left == Some(0) {
            return false;
        }
        match self.frames.try_send(CapturedFrame { lost_before: self.lost_before, ..frame }) {
            Ok(()) => {
                self.lost_before = 0;
                self.left = self.left.map(|left| left - 1);
                self.left != Some(0)
            }
            Err(TrySendError::Full(_)) => {
                self.lost_before += 1;
                self.lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    /// Counts frames that were lost before they came here.
    pub fn lose(&mut self, frames: u64) {
        self.lost_before += frames;
        self.lost.fetch_add(frames, Ordering::Relaxed);
    }

    /// Whether nobody reads the capture any more.
    pub fn is_unwanted(&self) -> bool {
        self.frames.is_closed()
    }

    /// When it ends by itself.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}
