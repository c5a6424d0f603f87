//! Supplies the frames of an order one after another.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use labctl_protocol::messages::Outgoing;
use vxlan::{Stack, Varied, Vary};

/// Source of the next frame.
pub enum Supply {
    /// Frames in turn.
    Built { frames: Vec<Vec<u8>>, next: usize },
    /// One frame that varies.
    Varied(Box<Varied>),
}

impl Supply {
    pub fn new(order: Outgoing) -> Result<Self, String> {
        match order {
            Outgoing::Built(frames) => {
                let frames: Result<Vec<_>, _> = frames.iter().map(|frame| STANDARD.decode(frame)).collect();
                let frames = frames.map_err(|e| format!("a frame is no base64: {e}"))?;
                Ok(Self::Built { frames, next: 0 })
            }
            Outgoing::Varied { frame, vary } => {
                let stack: Stack = frame.parse().map_err(|e| format!("{frame}: {e}"))?;
                let vary: Result<Vec<Vary>, _> = vary.iter().map(|text| text.parse()).collect();
                let varied = Varied::new(&stack, &vary.map_err(|e| e.to_string())?);
                varied.map(|varied| Self::Varied(Box::new(varied))).map_err(|e| e.to_string())
            }
        }
    }

    /// Number of frames that the order's count multiplies.
    pub fn kinds(&self) -> u32 {
        match self {
            Self::Built { frames, .. } => u32::try_from(frames.len()).unwrap_or(u32::MAX),
            Self::Varied(_) => 1,
        }
    }

    /// Length of the longest frame in bytes.
    pub fn longest(&self) -> usize {
        match self {
            Self::Built { frames, .. } => frames.iter().map(Vec::len).max().unwrap_or(0),
            Self::Varied(varied) => varied.len(),
        }
    }

    /// The next frame.
    pub fn next(&mut self) -> &[u8] {
        match self {
            Self::Built { frames, next } => {
                let frame = frames.get(*next).map_or(&[][..], Vec::as_slice);
                *next = (*next + 1) % frames.len().max(1);
                frame
            }
            Self::Varied(varied) => varied.next_frame(),
        }
    }
}
