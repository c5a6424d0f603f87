//! Reads the captures that a report names, for its page.

use std::{fs, net::IpAddr, path::Path};

use labctl_protocol::probe::nonce::{self, Kind};
use labctl_render::page::{Capture, Frame};
use labctl_report::Report;
use labctl_wire::pcapng::{self, Recorded};
use vxlan::{Decode, Dissection, Layer};

/// Most bytes of files in a page.
const MOST_BYTES: u64 = 4 << 20;
/// Most frames that a page lists.
const MOST_FRAMES: usize = 5000;

/// The captures of a report, as far as a page has room for them.
pub fn of(report: &Report) -> Vec<Capture> {
    let (mut bytes, mut frames) = (MOST_BYTES, MOST_FRAMES);
    let paths = report.all_checks().flat_map(|(_, check)| &check.captures);
    let captures = paths.filter_map(|path| {
        let file = fitting(path, bytes)?;
        let recorded = pcapng::read(&file)?;
        let segment = path.file_stem()?.to_str()?.rsplit('.').next()?;
        let frames_of = |frame: &Recorded| dissect(segment, frame);
        let capture = Capture {
            path: path.clone(),
            frames: recorded.iter().take(frames).map(frames_of).collect(),
            file,
        };
        bytes -= capture.file.len() as u64;
        frames -= capture.frames.len();
        Some(capture)
    });
    captures.collect()
}

/// A file's bytes, if it is one and not larger.
fn fitting(path: &Path, most: u64) -> Option<Vec<u8>> {
    fs::metadata(path).ok().filter(|file| file.is_file() && file.len() <= most)?;
    fs::read(path).ok()
}

fn dissect(segment: &str, frame: &Recorded) -> Frame {
    // The other lines of a comment are for readers who know neither marks nor VXLAN.
    let dropped = frame.comment.lines().next().filter(|line| line.starts_with("dropped"));
    let mark = nonce::find(&frame.data).filter(|found| found.kind != Kind::Frame).map(|found| found.cell);
    Frame {
        time: frame.time,
        segment: segment.to_owned(),
        port: frame.port.clone(),
        what: vxlan::describe(&frame.data),
        dropped: dropped.unwrap_or_default().to_owned(),
        mark,
        ends: ends(&frame.data),
    }
}

/// The innermost addresses of a frame.
fn ends(data: &[u8]) -> Vec<IpAddr> {
    let layers = Dissection::of(data, &Decode::default()).stack.layers;
    let of = |layer: &Layer| -> Option<Vec<IpAddr>> {
        match layer {
            Layer::Arp(arp) => Some(vec![arp.sender_ip?.into(), arp.target_ip.into()]),
            Layer::Ipv4(ip) => Some(vec![ip.src?.into(), ip.dst?.into()]),
            Layer::Ipv6(ip) => Some(vec![ip.src?.into(), ip.dst?.into()]),
            _ => None,
        }
    };
    let mut ends = layers.iter().rev().find_map(of).unwrap_or_default();
    ends.retain(|ip| !ip.is_multicast());
    ends
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use labctl_protocol::probe::nonce::Nonce;
    use labctl_report::{CheckReport, FactReport, Found};
    use labctl_wire::pcapng::{PcapngWriter, Record};

    #[test]
    fn captures_that_are_there_and_fit_are_dissected() {
        let tmp = tempfile::tempdir().unwrap();
        let path = |name: &str| tmp.path().join(name);
        let mut writer = PcapngWriter::new(Vec::new(), "lan", 65_535).unwrap();
        let mark = Nonce { kind: Kind::Request, run: 1, cell: 7 }.bytes();
        for (ms, text, after, comment) in [
            (1, "eth/arp(who=10.0.0.3,tell=10.0.0.2)", &[][..], "more"),
            (2, "eth/ip(src=10.0.0.2,dst=10.0.0.3)/udp(dport=53)", &mark, "dropped at b/eth0: cut\nmore"),
        ] {
            let mut data = text.parse::<vxlan::Stack>().unwrap().build().unwrap();
            data.extend(after);
            let (timestamp, port) =
                (SystemTime::UNIX_EPOCH + Duration::from_millis(ms), &Arc::from("a/eth0"));
            let (original_len, comment) = (data.len(), Some(comment.into()));
            let record = Record { timestamp, port, original_len, data: &data, lost_before: 0, comment };
            writer.write(record).unwrap();
        }
        let file = writer.finish().unwrap();
        fs::write(path("t.check1.lan.pcapng"), &file).unwrap();
        fs::write(path("none.pcapng"), "text").unwrap();
        fs::write(path("large.pcapng"), vec![0; 5 << 20]).unwrap();
        let captures =
            ["none.pcapng", "large.pcapng", "gone.pcapng", "t.check1.lan.pcapng", "."].map(path).to_vec();
        let fact = FactReport {
            subject: String::new(),
            expected: String::new(),
            observed: Vec::new(),
            printed: false,
            holds: false,
            error: None,
            line: 1,
        };
        let check = CheckReport {
            line: 1,
            holds: false,
            within_ms: 0,
            settled_ms: None,
            looks: 1,
            captures,
            found: Found::Fact(fact),
            wire: Vec::new(),
        };
        let found = of(&Report { checks: vec![check], ..Report::new("t", "vm") });
        let [capture] = &found[..] else { panic!("{} captures", found.len()) };
        assert_eq!((&capture.path, &capture.file), (&path("t.check1.lan.pcapng"), &file));
        let [arp, udp] = &capture.frames[..] else { panic!("{:?}", capture.frames) };
        assert!(arp.what.contains("who-has 10.0.0.3 tell 10.0.0.2"), "{arp:?}");
        assert_eq!((arp.mark, arp.dropped.as_str(), arp.segment.as_str()), (None, "", "lan"));
        assert_eq!(
            (udp.mark, udp.dropped.as_str(), udp.port.as_str()),
            (Some(7), "dropped at b/eth0: cut", "a/eth0")
        );
        assert_eq!(udp.time, Duration::from_millis(2));
        let ends = ["10.0.0.2", "10.0.0.3"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!((&arp.ends[..], &udp.ends[..]), (&ends[..], &ends[..]));
    }
}
