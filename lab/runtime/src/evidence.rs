//! Captures the wire while a matrix is probed; kept as pcapng if the matrix does not hold.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io::BufWriter,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use labctl_model::Lab;
use labctl_wire::{
    CapturedFrame, Fate, MAX_FRAME_LEN,
    pcapng::{PcapngError, PcapngWriter, Record},
};
use vxlan::Decode;

use crate::{
    Error,
    frames::{self, SegmentTap},
    view::View,
};

/// Bytes of frames kept per segment: the last ones.
const MOST: usize = 8 << 20;

/// A capture of every segment while a matrix is probed. Dropping it keeps nothing.
pub struct Evidence(Vec<(String, SegmentTap<Ring>)>);

/// The last frames of a segment.
#[derive(Default)]
struct Ring {
    frames: VecDeque<CapturedFrame>,
    bytes: usize,
}

impl Ring {
    fn push(&mut self, frame: &CapturedFrame) {
        self.bytes += frame.data.len();
        self.frames.push_back(frame.clone());
        while self.bytes > MOST {
            self.bytes -= self.frames.pop_front().map_or(self.bytes, |f| f.data.len());
        }
    }
}

impl Evidence {
    /// Begins; when this returns, no frame is missed.
    ///
    /// # Errors
    /// The wire has stopped.
    pub async fn begin(view: &View<'_>) -> Result<Self, Error> {
        let mut taps = Vec::new();
        for segment in view.lab.segments.keys() {
            taps.push((
                segment.clone(),
                SegmentTap::begin(view, segment, Ring::default(), Ring::push).await?,
            ));
        }
        Ok(Self(taps))
    }

    /// Writes `STEM.SEGMENT.pcapng` for each segment that carried anything; returns the paths.
    ///
    /// # Errors
    /// The wire has stopped; a file cannot be written.
    pub async fn keep(self, lab: &Lab, folder: &Path, stem: &str) -> Result<Vec<PathBuf>, Error> {
        let reading = Decode { vxlan_ports: frames::vxlan_ports(lab), ..Decode::default() };
        let mut files = Vec::new();
        for (segment, tap) in self.0 {
            let ring = tap.end().await?.found;
            if ring.frames.is_empty() {
                continue;
            }
            fs::create_dir_all(folder).map_err(Error::io("cannot make the folder", folder))?;
            let path = folder.join(format!("{stem}.{segment}.pcapng"));
            write(&path, &segment, &ring, &reading)
                .map_err(|e| Error::Wire(format!("{}: {e}", path.display())))?;
            files.push(path);
        }
        Ok(files)
    }
}

fn write(path: &Path, segment: &str, ring: &Ring, reading: &Decode) -> Result<(), PcapngError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut writer = PcapngWriter::new(BufWriter::new(file), segment, MAX_FRAME_LEN)?;
    for frame in &ring.frames {
        let fate = matches!(frame.fate, Fate::Dropped { .. }).then(|| frame.fate.to_string());
        let comment = frames::comment(&frame.data, fate, reading);
        writer.write(Record { comment: comment.map(Into::into), ..Record::from(frame) })?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::SystemTime};

    #[test]
    fn only_the_last_frames_are_kept() {
        let mut ring = Ring::default();
        let frame = |first: u8| CapturedFrame {
            timestamp: SystemTime::UNIX_EPOCH,
            port: Arc::from("host1/eth0"),
            fate: Fate::Flooded { ports: 1 },
            original_len: MOST / 4,
            data: vec![first; MOST / 4],
            lost_before: 0,
        };
        for first in 0..6 {
            ring.push(&frame(first));
        }
        let kept: Vec<u8> = ring.frames.iter().map(|f| f.data[0]).collect();
        assert_eq!((kept, ring.bytes), (vec![2, 3, 4, 5], MOST));
    }
}
