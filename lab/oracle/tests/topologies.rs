//! Every expectation of every topology, all of which hold on real kernels with a real dockerd: the oracle agrees, or says
//! why it cannot know.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use labctl_model::Lab;
use labctl_oracle::{Agreement, Checked, predict};

#[test]
fn the_oracle_agrees_with_reality() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let mut differs = String::new();
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    let mut agrees = 0;
    for file in &files {
        let lab = Lab::load(file).unwrap();
        let predictions = predict(&lab);
        for stage in &predictions.scenes {
            for check in &stage.checks {
                let cells = match check {
                    Checked::Matrix { cells, .. } => cells.iter().map(|c| c.line).collect(),
                    Checked::Other { line, .. } => vec![*line],
                };
                for (i, (agreement, line)) in check.agreements().into_iter().zip(cells).enumerate() {
                    match agreement {
                        Agreement::Agrees => agrees += 1,
                        Agreement::Unknown(why) => *unknown.entry(why.clone()).or_default() += 1,
                        Agreement::Differs(why) => {
                            let cell = match check {
                                Checked::Matrix { cells, probe, .. } => {
                                    let c = &cells[i];
                                    format!("{probe} {} -> {}: {} not {}", c.from, c.to, c.predicted, c.expected)
                                }
                                Checked::Other { what, .. } => (*what).to_owned(),
                            };
                            writeln!(differs, "{}.yaml:{line} {:?} {cell}: {why}", lab.name, stage.step).unwrap();
                        }
                    }
                }
            }
        }
    }
    let counted = unknown.iter().fold(String::new(), |text, (why, n)| text + &format!("{n}  {why}\n"));
    assert!(differs.is_empty(), "{agrees} agree; these differ:\n{differs}\nunknown:\n{counted}");
    panic!("{agrees} agree, unknown:\n{counted}");
}
