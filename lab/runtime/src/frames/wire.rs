//! What a segment must and must not carry while a check runs.

use lab_model::{Lab, OnWire};
use lab_wire::Wire;
use vxlan::{Decode, Dissection, filter::Filter};

use super::{
    book::Book,
    order,
    tap::{Tap, Tapped},
};
use crate::{
    Error,
    probe::{self, Hosts},
    report::FactReport,
};

/// A watch over the segments of some expectations.
pub struct WireWatch {
    watched: Vec<(OnWire, String, Tap<Passed>)>,
}

/// Frames that a filter let through: how many, and the first of them.
#[derive(Default)]
struct Passed {
    count: u64,
    first: Option<String>,
}

impl WireWatch {
    /// Begins; when this returns, no frame is missed. Names in the filters have the values of this moment.
    ///
    /// # Errors
    /// A name that has no value now.
    pub async fn begin(lab: &Lab, hosts: &Hosts, wire: &Wire, expected: &[OnWire]) -> Result<Self, Error> {
        let mut watched = Vec::new();
        if expected.is_empty() {
            return Ok(Self { watched });
        }
        let snapshot = probe::snapshot(lab, hosts).await?;
        let mut book = Book::new(lab, hosts, wire, &snapshot);
        let decode = Decode { vxlan_ports: order::vxlan_ports(lab), ..Decode::default() };
        for one in expected {
            let text = book.fill(&one.filter).await?;
            let filter = text.parse::<Filter>().map_err(|e| Error::Frame(format!("filter `{text}`: {e}")))?;
            let decode = decode.clone();
            let tap =
                Tap::begin(wire, &one.segment, Passed::default(), move |passed: &mut Passed, frame| {
                    let dissection = Dissection::of(&frame.data, &decode);
                    if filter.meets(&dissection) {
                        passed.count += 1;
                        passed.first.get_or_insert_with(|| {
                            format!("{}: {}", frame.port, vxlan::describe_as(&frame.data, &decode))
                        });
                    }
                })?;
            watched.push((one.clone(), text, tap));
        }
        Ok(Self { watched })
    }

    /// Ends it and says how the expectations came out.
    ///
    /// # Errors
    /// The wire has stopped.
    pub async fn end(self) -> Result<Vec<FactReport>, Error> {
        let mut reports = Vec::new();
        for (expected, filter, tap) in self.watched {
            reports.push(report(&expected, &filter, tap.end().await?));
        }
        Ok(reports)
    }
}

fn report(expected: &OnWire, filter: &str, tapped: Tapped<Passed>) -> FactReport {
    let Tapped { found: Passed { count, first }, lost } = tapped;
    // What was lost may have been just that which must not be there.
    let error = (lost > 0 && !expected.must && count == 0)
        .then(|| format!("{lost} frames passed faster than they could be looked at"));
    let observed = match first {
        Some(first) => vec![format!("{count} of them"), format!("the first from {first}")],
        None => Vec::new(),
    };
    FactReport {
        subject: format!("wire {}", expected.segment),
        expected: format!("{} {filter}", if expected.must { "carries" } else { "never carries" }),
        observed,
        holds: error.is_none() && (count > 0) == expected.must,
        error,
        check: 0,
        step: None,
        line: expected.line,
    }
}

/// Reports in the place of expectations that could not be watched for.
pub fn unwatched(expected: &[OnWire], error: &Error) -> Vec<FactReport> {
    let nothing = || Tapped { found: Passed::default(), lost: 0 };
    let failed = |one: &OnWire| FactReport {
        holds: false,
        error: Some(error.to_string()),
        ..report(one, one.filter.as_str(), nothing())
    };
    expected.iter().map(failed).collect()
}
