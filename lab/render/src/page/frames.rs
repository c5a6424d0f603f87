//! What the wire carried while a matrix did not hold: the frames, and the files that they are in.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use labctl_report::CheckReport;
use serde::Serialize;

/// A capture of a segment.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The file, as the report names it.
    pub path: PathBuf,
    /// What is in it: pcapng.
    pub file: Vec<u8>,
    /// Its frames.
    pub frames: Vec<Frame>,
}

/// A frame, dissected.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Since 1970.
    pub time: Duration,
    /// The segment.
    pub segment: String,
    /// The port by which it came in.
    pub port: String,
    /// What it is.
    pub what: String,
    /// Why the wire dropped it; empty if it did not.
    pub dropped: String,
    /// The number by which the packets of a request are known.
    pub mark: Option<u32>,
    /// The innermost addresses between which it goes; of ARP, who asks and for whom. Without groups.
    pub ends: Vec<IpAddr>,
}

/// A file to download, in base64; `None`: it is only named.
#[derive(Debug, Serialize)]
pub struct File {
    path: String,
    name: String,
    file: Option<String>,
}

/// The captures of a check, and their frames in the order of time, each with the time since the first.
pub fn carried<'a>(check: &CheckReport, captures: &'a [Capture]) -> (Vec<File>, Vec<(Duration, &'a Frame)>) {
    let (mut files, mut frames) = (Vec::new(), Vec::new());
    for path in &check.captures {
        let capture = captures.iter().find(|capture| capture.path == *path);
        frames.extend(capture.iter().flat_map(|capture| &capture.frames).map(|frame| (frame.time, frame)));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = capture.map(|capture| STANDARD.encode(&capture.file));
        files.push(File { path: path.display().to_string(), name, file });
    }
    frames.sort_by_key(|(time, _)| *time);
    let began = frames.first().map_or(Duration::ZERO, |(time, _)| *time);
    frames.iter_mut().for_each(|(time, _)| *time -= began);
    (files, frames)
}
