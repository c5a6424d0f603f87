//! Every expectation of every topology on every engine, all of which hold on real kernels with a real dockerd: the oracle
//! agrees, or says why it cannot know.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use labctl_model::{Engine, EngineChoice, Lab, Suite};
use labctl_oracle::{Agreement, Checked, predict};

/// What it cannot know, and of how many expectations on the default engine.
const UNKNOWN: &[(usize, &str)] = &[
    (20, "all that a segment carries"),
    (2, "how long `busybox` runs"),
    (2, "nodes that hear each other only one way"),
    (6, "what Docker makes of IPv6 for network inside"),
    (1, "what `bash` has done in host1"),
    (3, "what `bash` prints"),
    (10, "what `busybox` prints"),
    (1, "what `cat` prints"),
    (13, "what `docker` prints"),
    (2, "what `dockerd` prints"),
    (1, "what `hostname` prints"),
    (7, "what `ip` prints"),
    (3, "what `iptables` has done in host1"),
    (5, "what `iptables` has done in host2"),
    (6, "what `iptables` prints"),
    (15, "what `redis-cli` prints"),
    (6, "what `sh` has done in c1"),
    (2, "what `sh` has done in host1"),
    (1, "what `sh` has done in host2"),
    (5, "what `sh` prints"),
    (2, "what `sysctl` prints"),
    (2, "what a name server says of IPv6"),
    (4, "what host1 tells others after force-new-cluster, until its dockerd starts anew"),
    (35, "where a crafted frame goes"),
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
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    let mut agrees = 0;
    let labs = Suite::ALL.into_iter().flat_map(|suite| files.iter().map(move |file| (suite, file)));
    for (suite, file) in labs {
        let unnamed = Some(Engine::Debian(suite));
        let lab = Lab::load_with(file, &EngineChoice { unnamed, ..EngineChoice::default() }).unwrap();
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
                        Agreement::Unknown(why) => *unknown.entry(why.clone()).or_default() += 1,
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
    let counted: Vec<(usize, &str)> = unknown.iter().map(|(why, n)| (*n, why.as_str())).collect();
    assert_eq!(counted, UNKNOWN, "{agrees} agree");
    assert!(agrees > 1000, "{agrees}");
}
