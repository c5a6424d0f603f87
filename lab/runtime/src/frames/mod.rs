//! User-written frames: sent into the lab, and watched for wherever they pass.

mod book;
mod comment;
mod order;
mod tap;
pub mod vxlan;
mod watch;
mod wire;

use std::time::{Duration, Instant};

use ::vxlan::{Decode, Varied, Vary, filter::Filter};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use labctl_model::{Draft, Inject, Source};
use labctl_protocol::messages::{Outgoing, SendFrame};
use labctl_wire::Wire;

pub use comment::comment;
use labctl_report::{
    FactReport, receipts,
    sent::{Arrival, SendReport},
};
pub use order::vxlan_ports;
pub(crate) use tap::SegmentTap;
pub use wire::WireWatch;

use crate::{Error, probe, view::View};
use book::Book;
use order::{Known, Station, Written};
use watch::Watch;

/// Pause between two looks at who got it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Text of reports for a frame that could not be sent.
const NOT_SENT: &str = "the frame was not sent";

/// A frame to send, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where it is sent.
    pub from: Source,
    /// The frame.
    pub frame: Draft,
    /// How many times.
    pub count: u32,
    /// Frames a second; `None`: as fast as possible.
    pub rate: Option<u32>,
    /// Fields that change from one to the next.
    pub vary: Vec<Vary>,
    /// Whether a mark may follow it, by which it is recognised.
    pub mark: bool,
    /// Who must receive it, each time that it is sent.
    pub received_by: Vec<String>,
    /// Who must not.
    pub not_received_by: Vec<String>,
    /// How long to wait for silence after it was sent.
    pub timeout: Duration,
    /// How long those that must receive it may take, if longer.
    pub within: Duration,
}

impl From<&Inject> for Order {
    fn from(inject: &Inject) -> Self {
        Self {
            from: inject.from.clone(),
            frame: inject.frame.clone(),
            count: inject.count,
            rate: Some(inject.rate),
            vary: Vec::new(),
            mark: true,
            received_by: inject.received_by.clone(),
            not_received_by: inject.not_received_by.clone(),
            timeout: inject.timeout,
            within: inject.within,
        }
    }
}

/// Sends a frame and reports who gets it.
///
/// # Errors
/// [`Error::Frame`] if it cannot be built for this lab as it is now; an agent or a dockerd that does not answer. What
/// becomes of the frame is never an error.
pub async fn send(view: &View<'_>, order: &Order) -> Result<SendReport, Error> {
    let lab = view.lab;
    let snapshot = probe::snapshot(view).await;
    let mut book = Book::new(view, &snapshot);
    let run = rand::random();
    let Written { stack, bytes, sender, known } = order::write(&mut book, order, run).await?;
    let mut watch = Watch::open(view, &view.peers, &snapshot, &known, order::vxlan_ports(lab)).await;
    let decode = Decode { vxlan_ports: order::vxlan_ports(lab), ..Decode::default() };
    let taps = watch::taps(view, std::slice::from_ref(&known), &decode).await?;

    match &sender {
        order::Sender::Interface { host, netns, interface } => {
            let frames = if order.vary.is_empty() {
                Outgoing::Built(vec![BASE64_STANDARD.encode(&bytes)])
            } else {
                let vary = order.vary.iter().map(ToString::to_string).collect();
                Outgoing::Varied { frame: stack.to_string(), vary }
            };
            let frame = SendFrame {
                netns: netns.clone(),
                interface: interface.clone(),
                frames,
                count: order.count,
                rate: order.rate,
            };
            host.agent.send_frame(frame).await.map_err(host.failed())?;
        }
        order::Sender::Station(from) => {
            let frames = Varied::new(&stack, &order.vary).map_err(|e| Error::Frame(e.to_string()))?;
            inject(view.wire()?, from, frames, order.count, order.rate).await?;
        }
    }
    let sent = Instant::now();
    let expectations = !order.received_by.is_empty();
    let receipts = loop {
        let receipts = watch.receipts(&known).await;
        let all =
            order.received_by.iter().all(|name| receipts::received(&receipts, name) >= order.count.into());
        let silence_is_over = sent.elapsed() >= order.timeout;
        // Who must not get it could still do so until the silence is over.
        let enough = expectations && all && (order.not_received_by.is_empty() || silence_is_over);
        if enough || (silence_is_over && sent.elapsed() >= order.within) || (!expectations && silence_is_over)
        {
            // Frames that came while other hosts were asked count too.
            break watch.receipts(&known).await;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let (wire, mut missed) = watch::passages(taps).await?;
    missed.extend(watch.missed());
    let must = order.received_by.iter().map(|name| (name, true));
    let expected = must.chain(order.not_received_by.iter().map(|name| (name, false)));
    let expected: Vec<Arrival> = expected
        .map(|(name, must)| {
            let received = receipts::received(&receipts, name);
            // All of them, or none.
            let (enough, decided) = match must {
                true => (received >= order.count.into(), received >= order.count.into()),
                false => (received == 0, received > 0),
            };
            // What was missed may be just the frames that must, or must not, be there.
            let seen = decided || !missed.contains_key(name);
            let watched = seen && !watch.absent.contains_key(name) && snapshot.runs(lab, name);
            Arrival { endpoint: name.clone(), must, received, holds: watched && enough, watched }
        })
        .collect();
    Ok(SendReport {
        from: order.from.to_string(),
        frame: stack.to_string(),
        bytes: bytes.len(),
        count: order.count,
        missed,
        holds: expected.iter().all(|a| a.holds),
        receipts,
        wire,
        expected,
    })
}

/// Sends from a station.
async fn inject(
    wire: &Wire,
    from: &Station<'_>,
    mut frames: Varied,
    count: u32,
    rate: Option<u32>,
) -> Result<(), Error> {
    let began = Instant::now();
    for n in 0..count {
        if let Some(rate) = rate {
            let due = began + Duration::from_secs(1) * n / rate.max(1);
            tokio::time::sleep_until(due.into()).await;
        }
        let frame = frames.next_frame();
        match from {
            Station::Stranger(segment) => {
                wire.inject(segment, frame).await.map_err(|e| Error::Frame(e.to_string()))?;
            }
            Station::Peer(peer) => peer.send(frame.to_vec()).await?,
        }
    }
    Ok(())
}

/// Fills in the names of a filter with their current values.
///
/// # Errors
/// A name has no value.
pub async fn filter(view: &View<'_>, filter: &Draft) -> Result<Filter, Error> {
    let snapshot = probe::snapshot(view).await;
    let text = Book::new(view, &snapshot).fill(filter).await?;
    text.parse::<Filter>().map_err(|e| Error::Frame(format!("filter `{text}`: {e}")))
}

/// Runs an `inject` of a topology. If the frame could not be sent, the report says why.
pub async fn check(view: &View<'_>, inject: &Inject) -> FactReport {
    let list =
        |names: &[String], words: &str| (!names.is_empty()).then(|| format!("{words} {}", names.join(", ")));
    let parts = [list(&inject.received_by, "received by"), list(&inject.not_received_by, "not received by")];
    let expected: Vec<String> = parts.into_iter().flatten().collect();
    let expected = if expected.is_empty() { "sent".to_owned() } else { expected.join(", ") };
    let subject = format!("frame from {}: {}", inject.from, inject.frame);
    let (observed, holds, error) = match send(view, &inject.into()).await {
        Ok(report) => (report.observed(), report.holds, None),
        Err(error) => (Vec::new(), false, Some(format!("{NOT_SENT}: {error}"))),
    };
    let (printed, line) = (false, inject.line);
    FactReport { subject, expected, observed, printed, holds, error, line }
}

/// The bytes to recognise a frame by, if it has no mark, in base64.
fn needle(known: &Known) -> Option<String> {
    known.needle.as_ref().map(|bytes| BASE64_STANDARD.encode(bytes))
}
