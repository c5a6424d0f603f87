//! Checks that containers which need others first do not form a circle.

use std::collections::HashMap;

use labctl_model::lab::Lab;
use labctl_words as words;
use labctl_yaml::{Cx, Diagnostic, Span};

use super::entries;
use crate::raw;

pub(super) fn check(t: &raw::Topology, lab: &Lab, cx: &mut Cx) {
    let at: HashMap<&str, Span> =
        entries(&t.containers).map(|(k, c)| (k.value.as_str(), need_at(c).unwrap_or(k.at))).collect();
    let mut done: HashMap<&str, bool> = HashMap::new();
    for start in lab.containers.keys() {
        // Depth first, without recursion: a chain may be as long as a lab has containers.
        let mut path: Vec<(&str, std::vec::IntoIter<&str>)> = Vec::new();
        let mut next = Some(start.as_str());
        while let Some(name) = next.take().or_else(|| advance(&mut path, &mut done)) {
            match done.get(name) {
                Some(true) => {}
                Some(false) => {
                    let from = path.iter().position(|(n, _)| *n == name).unwrap_or(0);
                    let circle: Vec<&str> = path[from..].iter().map(|(n, _)| *n).chain([name]).collect();
                    let d = Diagnostic::new(
                        at.get(name).copied().unwrap_or_default(),
                        format!("`{name}` needs itself"),
                    );
                    cx.error(d.hint(match circle.as_slice() {
                        [_, _] => "no container links to itself".to_owned(),
                        [others @ .., _] => format!(
                            "{} need each other: each must be there before the next, so one link or `container:` must go",
                            words::list(others.iter().copied())
                        ),
                        [] => String::new(),
                    }));
                }
                None => {
                    done.insert(name, false);
                    path.push((name, lab.needs(name).into_iter()));
                }
            }
        }
    }
}

/// The next container that the top of the path needs; removes those from the path that need nothing more.
fn advance<'a>(
    path: &mut Vec<(&'a str, std::vec::IntoIter<&'a str>)>,
    done: &mut HashMap<&'a str, bool>,
) -> Option<&'a str> {
    while let Some((name, needs)) = path.last_mut() {
        if let Some(next) = needs.next() {
            return Some(next);
        }
        done.insert(name, true);
        path.pop();
    }
    None
}

fn need_at(c: &raw::Container) -> Option<Span> {
    let mode = c.network_mode.as_ref().filter(|m| m.value.starts_with("container:"));
    mode.map(|m| m.at).or_else(|| c.links.as_ref()?.first().map(|l| l.at))
}
