//! Every expectation of every topology on every engine, all of which hold on real kernels with a real dockerd: the oracle
//! agrees, or says why it cannot know.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use labctl_model::{Engine, EngineChoice, Suite};
use labctl_oracle::{Agreement, Checked, predict};
use labctl_topology::Topology;

/// What it cannot know on the default engine.
const UNKNOWN: &[&str] = &[
    "a rule that leads to 127.0.0.0/8",
    "all that a segment carries",
    "how long `busybox` runs",
    "nodes that hear each other only one way",
    "what `bash` has done in host1",
    "what `bash` prints",
    "what `busybox` prints",
    "what `cat` prints",
    "what `docker` has done in host1",
    "what `docker` prints",
    "what `dockerd` prints",
    "what `hostname` prints",
    "what `ip` prints",
    "what `iptables` has done in host1",
    "what `iptables` has done in host2",
    "what `iptables` prints",
    "what `redis-cli` prints",
    "what `sh` has done in c1",
    "what `sh` has done in host1",
    "what `sh` has done in host2",
    "what `sh` prints",
    "what `sysctl` prints",
    "what a frame with a foreign MAC has taught the switch",
    "what host1 tells others after force-new-cluster, until its dockerd starts anew",
    "where a frame of such layers goes",
    "where a frame to everybody goes",
];

#[test]
fn the_oracle_agrees_with_reality() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    let folders = [dir.clone(), dir.join("reports")];
    let mut files: Vec<_> =
        folders.iter().flat_map(|d| fs::read_dir(d).unwrap()).map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let mut differs = String::new();
    let mut unknown = BTreeSet::new();
    let (mut agrees, mut open) = (0, 0);
    let labs = Suite::ALL.into_iter().flat_map(|suite| files.iter().map(move |file| (suite, file)));
    for (suite, file) in labs {
        let unnamed = Some(Engine::Debian(suite));
        let lab = Topology::load(file, &EngineChoice { unnamed, ..EngineChoice::default() }).unwrap().lab;
        if lab.unfit().is_some() {
            continue;
        }
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
                        Agreement::Unknown(_) if suite != Suite::default() => {}
                        Agreement::Unknown(why) => {
                            open += 1;
                            unknown.insert(why.clone());
                        }
                        Agreement::Differs(why) => {
                            let cell = match check {
                                Checked::Matrix { cells, probe, .. } => {
                                    let c = &cells[i];
                                    format!(
                                        "{probe} {} -> {}: {} not {}",
                                        c.from, c.to, c.predicted, c.expected
                                    )
                                }
                                Checked::Other { what, .. } => (*what).to_owned(),
                            };
                            writeln!(
                                differs,
                                "{suite} {}.yaml:{line} {:?} {cell}: {why}",
                                lab.name, stage.step
                            )
                            .unwrap();
                        }
                    }
                }
            }
        }
    }
    assert!(differs.is_empty(), "{agrees} agree; these differ:\n{differs}");
    assert_eq!(unknown.iter().collect::<Vec<_>>(), UNKNOWN);
    assert!(agrees > 20 * open && open > 0, "{agrees} agree, {open} are not known");
}
