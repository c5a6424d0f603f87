//! Runs a matrix: one session per host and peer, all cells at once, one deadline for silence.

mod look;
mod session;

use std::collections::{BTreeMap, HashSet};

use futures::future::join_all;
use labctl_model::{Matrix, SourceSeen};
use labctl_protocol::messages::{Outcome, ShotResult};
use labctl_report::{
    MatrixReport,
    answers::Subnets,
    matrix::{self, Told},
    seen::docker_name,
    shots,
};

use crate::view::View;
pub use look::{Here, look, snapshot};
use session::Probing;

/// Probes every cell of a matrix once. If somebody does not answer, the cells that need them say so. The report has where
/// packets passed if `trace` is set.
pub async fn matrix(view: &View<'_>, matrix: &Matrix, trace: bool) -> MatrixReport {
    let snapshot = snapshot(view).await;
    let subnets = subnets(view, matrix).await;
    let (orders, aims) = shots::plan(view.lab, matrix, &snapshot);
    let run: u64 = rand::random();

    // Everybody listens and watches before anybody fires.
    let sessions = orders.into_iter().map(|(name, orders)| Probing::open(view, name, run, orders));
    let mut sessions: Vec<Probing> = join_all(sessions).await.into_iter().flatten().collect();
    let fired = join_all(sessions.iter_mut().map(|s| s.fire(matrix.timeout))).await;
    let results: Vec<ShotResult> = fired.into_iter().flatten().collect();
    let answered = |shot: &&ShotResult| matches!(shot.outcome, Outcome::Answered { .. });
    let brief = match trace {
        true => HashSet::new(),
        false => results.iter().filter(answered).map(|shot| shot.cell).collect(),
    };
    let looked = join_all(sessions.iter_mut().map(|s| s.sightings(&brief))).await;
    let sightings = looked.into_iter().flatten().collect();
    let mut absent: BTreeMap<String, String> = sessions.iter().flat_map(Probing::absent).collect();
    absent.extend(snapshot.unseen_tasks());
    let told = Told { results, sightings, absent };
    let mut report = matrix::judge(view.lab, matrix, &snapshot, &subnets, &aims, told);
    if !trace {
        report.cells.iter_mut().for_each(|cell| cell.passages.clear());
    }
    report
}

/// Reads the subnets that a matrix needs from the dockerds that answer.
async fn subnets(view: &View<'_>, matrix: &Matrix) -> Subnets {
    let mut all = Subnets::new();
    for asked in &matrix.answers {
        let Some(SourceSeen::Network(key)) = &asked.source else { continue };
        for host in view.hosts.values() {
            if all.contains_key(key) {
                break;
            }
            if let Ok(Some(subnets)) = host.docker.subnets(docker_name(view.lab, key)).await {
                all.insert(key.clone(), subnets);
            }
        }
    }
    all
}
