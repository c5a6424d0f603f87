//! Checks what a segment must and must not carry while a check runs.

use labctl_model::OnWire;
use labctl_report::FactReport;
use vxlan::{Decode, Dissection, filter::Filter};

use super::{
    NOT_SENT,
    book::Book,
    order,
    tap::{SegmentTap, Tapped},
};
use crate::{Error, probe, view::View};

/// Watches the segments of some expectations. Each is independent: if one cannot begin, its report says so.
pub struct WireWatch {
    watched: Vec<(OnWire, Result<Watched, Error>)>,
}

/// A filled-in filter and its tap.
struct Watched {
    filter: String,
    tap: SegmentTap<Passed>,
}

/// Frames that matched a filter: how many, and the first.
#[derive(Default)]
struct Passed {
    count: u64,
    first: Option<String>,
}

impl WireWatch {
    /// Begins; when this returns, no frame is missed. Names in the filters get their current values.
    pub async fn begin(view: &View<'_>, expected: &[OnWire]) -> Self {
        let mut watched = Vec::new();
        if expected.is_empty() {
            return Self { watched };
        }
        let snapshot = probe::snapshot(view).await;
        let mut book = Book::new(view, &snapshot);
        let decode = Decode { vxlan_ports: order::vxlan_ports(view.lab), ..Decode::default() };
        for one in expected {
            let begun = match book.fill(&one.filter).await {
                Ok(filter) => begin(view, &one.segment, filter, decode.clone()).await,
                Err(error) => Err(error),
            };
            watched.push((one.clone(), begun));
        }
        Self { watched }
    }

    /// Ends it and reports on the expectations. If the frame was not `sent`, they were not tested.
    pub async fn end(self, sent: bool) -> Vec<FactReport> {
        let mut reports = Vec::new();
        for (expected, watched) in self.watched {
            let seen = match watched {
                Ok(Watched { filter, tap }) => tap.end().await.map(|tapped| (filter, tapped)),
                Err(error) => Err(error),
            };
            reports.push(match seen {
                Ok((filter, tapped)) => report(&expected, &filter, tapped, sent),
                Err(error) => unwatched(&expected, &error),
            });
        }
        reports
    }
}

async fn begin(view: &View<'_>, segment: &str, text: String, decode: Decode) -> Result<Watched, Error> {
    let filter = text.parse::<Filter>().map_err(|e| Error::Frame(format!("filter `{text}`: {e}")))?;
    let tap = SegmentTap::begin(view, segment, Passed::default(), move |passed: &mut Passed, frame| {
        let dissection = Dissection::of(&frame.data, &decode);
        if filter.meets(&dissection) {
            passed.count += 1;
            passed.first.get_or_insert_with(|| {
                format!("{}: {}", frame.port, vxlan::describe_as(&frame.data, &decode))
            });
        }
    })
    .await?;
    Ok(Watched { filter: text, tap })
}

fn report(expected: &OnWire, filter: &str, tapped: Tapped<Passed>, sent: bool) -> FactReport {
    let Tapped { found: Passed { count, first }, lost } = tapped;
    let error = match (count, expected.must) {
        (0, _) if !sent => Some(NOT_SENT.to_owned()),
        // A lost frame may be just the one that must not be there.
        (0, false) if lost > 0 => Some(format!("{lost} frames passed faster than they could be looked at")),
        _ => None,
    };
    let observed = match first {
        Some(first) => vec![format!("{count} of them"), format!("the first from {first}")],
        None => Vec::new(),
    };
    FactReport {
        subject: format!("wire {}", expected.segment),
        expected: format!("{} {filter}", if expected.must { "carries" } else { "never carries" }),
        observed,
        printed: false,
        holds: error.is_none() && (count > 0) == expected.must,
        error,
        line: expected.line,
    }
}

/// The report for an expectation that could not be watched.
fn unwatched(expected: &OnWire, error: &Error) -> FactReport {
    let nothing = Tapped { found: Passed::default(), lost: 0 };
    FactReport {
        holds: false,
        error: Some(format!("the wire was not watched for it: {error}")),
        ..report(expected, expected.filter.as_str(), nothing, true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use labctl_model::Draft;
    use labctl_wire::Wire;

    use crate::{peers::Peers, view::Hosts};

    use super::*;

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts: { a: { lan: 10.0.0.1 } }
containers: { c1: {} }
";

    /// What comes out of these filters, all of which must be met, where one datagram passes.
    async fn found(filters: &[&str], sent: bool) -> Vec<FactReport> {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let wire = Arc::new(Wire::start(&lab.segments, Vec::new()).unwrap());
        let view = View {
            lab: &lab,
            hosts: Hosts::default(),
            peers: Peers::default(),
            wire: Some(wire.clone()),
            filters: None,
        };
        let one = |text: &&str| OnWire {
            segment: "lan".into(),
            filter: Draft::filter(text).unwrap(),
            must: true,
            line: 1,
        };
        let expected: Vec<OnWire> = filters.iter().map(one).collect();
        let watch = WireWatch::begin(&view, &expected).await;
        let frame =
            "eth(src=02:00:00:00:00:01,dst=ff:ff:ff:ff:ff:ff)/ip/udp".parse::<vxlan::Stack>().unwrap();
        wire.inject("lan", &frame.build().unwrap()).await.unwrap();
        watch.end(sent).await
    }

    #[tokio::test]
    async fn a_name_without_a_value_spoils_its_own_filter_alone() {
        let found = found(&["host ${ip:c1}", "udp"], true).await;
        let why = found[0].error.as_deref().unwrap();
        assert!(!found[0].holds && why.contains("c1 has no address"), "{why}");
        assert!(found[1].holds, "{:?}", found[1]);
    }

    #[tokio::test]
    async fn nothing_is_proved_by_a_frame_that_was_not_sent() {
        let found = found(&["tcp", "udp"], false).await;
        assert_eq!((found[0].holds, found[0].error.as_deref()), (false, Some(NOT_SENT)));
        assert!(found[1].holds, "somebody else's");
    }
}
