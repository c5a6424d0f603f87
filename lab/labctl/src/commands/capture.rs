//! `labctl capture`

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use labctl_model::Draft;
use labctl_report::count;
use labctl_runtime::{
    control::{
        Client,
        protocol::{Answer, Frame, Request},
    },
    frames::comment,
};
use labctl_wire::pcapng::{PcapngError, PcapngWriter, Record};
use serde_json::json;
use vxlan::{Decode, Dissection};

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, plain, style},
    session::answer,
    stop::Stop,
};

const EXAMPLES: &str = "\
Examples:
  labctl capture ipvlan-2host lan
  labctl capture ipvlan-2host lan --count 20 --duration 10s
  labctl capture overlay-attachable lan 'vni ${vni:overlay_net} and inner host 10.3.1.21'
  labctl capture overlay-attachable lan --typed udp port 4789 and not inner arp
  labctl capture ipvlan-2host lan -w lan.pcapng
  labctl capture ipvlan-2host lan -w - | wireshark -k -i -";

/// Show or record what passes on a segment
///
/// A filter is made of layers (`arp`, `icmp`, `udp`, `vxlan`, `esp`, …), `vni N`, `vlan N`, `[src|dst] host A`,
/// `[src|dst] net P`, `[src|dst] mac M`, `[udp|tcp] [src|dst] port N` and `bad`, with `and`, `or`, `not`, parentheses, and
/// `inner` or `outer` before what is meant within a tunnel or without.
///
/// Frames are taken as they enter the segment, those that the wire then drops included, with what became of them.
/// Ctrl-C ends the capture; a file that it was written to is complete. Its frames are under the names of the ports by
/// which they came in, and have comments: why the wire dropped one, what is in a tunnel, and which are of a probe or of
/// `send` and `inject`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Segment of the lab
    #[arg(value_name = "SEGMENT")]
    segment: String,
    /// Only frames that this filter means, such as `vxlan and inner host 10.3.1.3`; may be several words
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Show frames in the text form that `labctl send` takes, instead of a summary
    #[arg(long, conflicts_with = "write")]
    typed: bool,
    /// Write pcapng to this file (`-`: stdout) instead of showing lines
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many frames
    #[arg(short, long, value_name = "N")]
    count: Option<NonZeroU64>,
    /// End after so long, like `10s` or `2min`
    #[arg(short, long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Keep so many bytes of each frame
    #[arg(long, value_name = "BYTES", default_value_t = 65_535, value_parser = clap::value_parser!(u32).range(14..=65_535))]
    snaplen: u32,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    let reading = Decode { vxlan_ports: labctl_runtime::frames::vxlan_ports(&plan.lab), ..Decode::default() };
    let filter = filter(&args.filter)?;
    let mut stop = Stop::new()?;
    let mut client = Client::connect(&dir).await?;
    let request = Request::Capture {
        segment: args.segment.clone(),
        count: args.count.map(NonZeroU64::get),
        duration_ms: args.duration.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        snaplen: args.snaplen,
        filter,
    };
    client.send(&request).await?;
    let mut ports: Vec<Arc<str>> = Vec::new();
    // Opened only after the lab has accepted: a wrong name leaves no empty file.
    let mut sink = None;
    let (mut seen, mut lost) = (0_u64, 0_u64);
    while !context.printer.is_closed() {
        let news = tokio::select! {
            news = answer(&dir, &mut client) => news?,
            () = stop.wait() => break,
        };
        match news {
            Answer::Ports(names) => {
                ports = names.into_iter().map(Arc::from).collect();
                context.printer.say(&format!("capturing on {}", args.segment));
                sink =
                    args.write.as_deref().map(|path| open(path, &args.segment, args.snaplen)).transpose()?;
            }
            Answer::Frame(frame) => {
                let port = ports.get(frame.port).cloned().unwrap_or_else(|| Arc::from("?"));
                let data = decode(&frame)?;
                seen += 1;
                lost += frame.lost_before;
                match &mut sink {
                    Some(writer) => {
                        let record = record(&frame, &port, &data, &reading);
                        match writer.write(record).and_then(|()| writer.flush()) {
                            Err(PcapngError::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
                                return Ok(Exit::OK);
                            }
                            done => done.map_err(|e| unwritten(&args, &e))?,
                        }
                    }
                    None => show(context, &frame, &port, &Dissected::of(&data, &reading, args.typed))?,
                }
            }
            Answer::Done => break,
            _ => {}
        }
    }
    let lost = if lost == 0 { String::new() } else { format!(", {lost} lost for want of room") };
    let frames = count(seen, "frame");
    match &args.write {
        Some(path) if path.as_os_str() != "-" => {
            context.printer.say(&format!("{frames} written to {}{lost}", path.display()));
        }
        _ => context.printer.say(&format!("{frames}{lost}")),
    }
    Ok(Exit::OK)
}

type Sink = PcapngWriter<Box<dyn Write + Send>>;

fn open(path: &Path, segment: &str, snaplen: u32) -> Result<Sink, Error> {
    let writer: Box<dyn Write + Send> = if path.as_os_str() == "-" {
        Box::new(BufWriter::new(io::stdout()))
    } else {
        Box::new(BufWriter::new(File::create(path).map_err(Error::file("write", path.display()))?))
    };
    let mut sink = PcapngWriter::new(writer, segment, snaplen as usize)
        .map_err(|e| Error::Environment(e.to_string()))?;
    sink.flush().map_err(|e| Error::Environment(e.to_string()))?;
    Ok(sink)
}

fn unwritten(args: &Args, error: &PcapngError) -> Error {
    let path = args.write.as_deref().unwrap_or(Path::new("-"));
    Error::Environment(format!("{}: {error}", path.display()))
}

fn record<'a>(frame: &Frame, port: &'a Arc<str>, data: &'a [u8], reading: &Decode) -> Record<'a> {
    Record {
        timestamp: time(frame),
        port,
        original_len: frame.length as usize,
        data,
        lost_before: frame.lost_before,
        comment: comment(data, frame.dropped.then(|| frame.fate.clone()), reading).map(Into::into),
    }
}

/// Joins the words of a filter and checks that they are one.
fn filter(words: &[String]) -> Result<Option<String>, Error> {
    if words.is_empty() {
        return Ok(None);
    }
    let text = words.join(" ");
    match Draft::filter(&text) {
        Ok(_) => Ok(Some(text)),
        Err(e) => {
            let marks = format!(
                "{}{}",
                " ".repeat(text[..e.at.start].chars().count()),
                "^".repeat(e.at.len().max(1))
            );
            let hint = e.hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            Err(Error::Usage(format!("{}\n  {text}\n  {marks}{hint}", e.message)))
        }
    }
}

/// A frame's summary, and its text form.
struct Dissected {
    summary: String,
    typed: String,
    show_typed: bool,
}

impl Dissected {
    fn of(data: &[u8], decode: &Decode, show_typed: bool) -> Self {
        let dissection = Dissection::of(data, decode);
        let rest = dissection.error.map(|e| format!(" malformed: {e}")).unwrap_or_default();
        let summary = plain(&vxlan::describe_as(data, decode));
        Self { summary, typed: plain(&format!("{}{rest}", dissection.stack)), show_typed }
    }
}

fn show(context: &Context, frame: &Frame, port: &str, dissected: &Dissected) -> Result<(), Error> {
    let Dissected { summary, typed, show_typed } = dissected;
    let what = if *show_typed { typed } else { summary };
    if context.printer.format == Format::Json {
        let line = json!({
            "time_ns": frame.time_ns, "port": port, "length": frame.length, "dropped": frame.dropped,
            "fate": frame.fate, "summary": summary, "frame": typed, "data": frame.data,
        });
        return context.printer.json_line(&line);
    }
    let (dim, fate) = (style::DIM, if frame.dropped { style::BAD } else { style::DIM });
    context.printer.data(&format!(
        "{dim}{}{dim:#}  {port:<12}  {what}  {fate}({}){fate:#}",
        clock(frame.time_ns),
        frame.fate
    ))
}

/// Time of day in UTC, with microseconds.
fn clock(time_ns: u64) -> String {
    let (s, us) = (time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000);
    format!("{:02}:{:02}:{:02}.{us:06}", s / 3600 % 24, s / 60 % 60, s % 60)
}

fn time(frame: &Frame) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(frame.time_ns)
}

fn decode(frame: &Frame) -> Result<Vec<u8>, Error> {
    BASE64_STANDARD.decode(&frame.data).map_err(|e| labctl_runtime::Error::Control(e.to_string()).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_of_the_day_in_utc() {
        assert_eq!(clock(86_399_000_001_000 + 86_400_000_000_000), "23:59:59.000001");
    }

    fn frame(data: &[u8], dropped: bool) -> Frame {
        Frame {
            time_ns: 1,
            port: 0,
            length: u32::try_from(data.len()).unwrap(),
            data: BASE64_STANDARD.encode(data),
            fate: "dropped at host1/eth0: the port is cut".into(),
            dropped,
            lost_before: 0,
        }
    }

    #[test]
    fn a_dropped_frame_says_why_in_the_file() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("x.pcapng");
        let frame = frame(&[0; 60], true);
        let mut sink = open(&path, "lan", 65_535).unwrap();
        let data = decode(&frame).unwrap();
        sink.write(record(&frame, &Arc::from("host1/eth0"), &data, &Decode::default())).unwrap();
        sink.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(has("host1/eth0") && has("the port is cut") && has("segment lan"));
    }
}
