//! The smallest lab that still shows a difference.

use anyhow::Result;
use lab::Runtime;
use serde_json::Value;

use crate::compare::{self, Difference, Outcome};

/// Every lab that is this one without one key or element, largest parts first.
fn smaller(lab: &Value) -> Vec<Value> {
    let mut paths = Vec::new();
    collect(lab, &mut Vec::new(), &mut paths);
    paths.sort_by_key(Vec::len);
    paths.iter().filter_map(|path| without(lab, path)).collect()
}

fn collect(value: &Value, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => return,
    };
    for (key, child) in children {
        path.push(key);
        all.push(path.clone());
        collect(child, path, all);
        path.pop();
    }
}

fn without(lab: &Value, path: &[String]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut smaller = lab.clone();
    match smaller.pointer_mut(
        &parents.iter().map(|p| format!("/{}", p.replace('~', "~0").replace('/', "~1"))).collect::<String>(),
    )? {
        Value::Object(map) => {
            map.remove(last)?;
        }
        Value::Array(list) => {
            list.remove(last.parse().ok()?);
        }
        _ => return None,
    }
    Some(smaller)
}

/// Takes part after part away as long as the same cell differs in the same way, in at most `tries` runs.
pub async fn shrink(
    lab: &Value,
    wanted: &Difference,
    runtime: Runtime,
    mut tries: usize,
) -> Result<(Value, Difference)> {
    let (mut least, mut found) = (lab.clone(), wanted.clone());
    'again: loop {
        for candidate in smaller(&least) {
            // The step in which it differs may be another one then.
            let Some((_, predictions)) = compare::predictions(&candidate) else { continue };
            let is_same = |predicted: &str, probe: &str, from: &str, to: &str| {
                predicted == found.predicted
                    && (probe, from, to) == (&found.at.probe, &found.at.from, &found.at.to)
            };
            if !compare::words(&predictions).iter().any(|(p, word)| is_same(word, &p.probe, &p.from, &p.to)) {
                continue;
            }
            if tries == 0 {
                return Ok((least, found));
            }
            tries -= 1;
            let Outcome::Ran(comparison) = compare::run(&candidate, &predictions, runtime).await? else {
                continue;
            };
            let same = comparison.differences.into_iter().find(|d| {
                d.observed == found.observed && is_same(&d.predicted, &d.at.probe, &d.at.from, &d.at.to)
            });
            if let Some(difference) = same {
                (least, found) = (candidate, difference);
                continue 'again;
            }
        }
        return Ok((least, found));
    }
}
