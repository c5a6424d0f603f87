//! A lesson as a learner goes through it, and as it is proved.

use std::{fs, path::Path};

use labctl_tests::{Labctl, root};

use crate::checkpoint::own_cache;

/// Goes wrong on purpose, takes a hint, goes on after the lab was taken down, is shown a repair, and goes back.
#[test]
fn a_learner_breaks_looks_repairs_and_goes_on() {
    let (labctl, _cache) = own_cache();
    let lesson = |words: &[&str]| labctl.run([&["lesson"], words].concat());
    lesson(&["check"]).exits(2).says("no lesson was begun yet");
    let shown = lesson(&["start", "host", "--name", "anna"]).exits(0).stdout();
    assert!(
        shown.contains("step 1 of 3") && shown.contains("labctl exec --host-tools anna host1/web"),
        "{shown}"
    );
    lesson(&["start", "2", "--name", "anna"]).exits(2).says("is up already");
    lesson(&["hint"]).exits(0).says("nothing is wrong here");
    lesson(&["next"]).exits(0);
    assert!(lesson(&["check"]).exits(1).says("not yet").stdout().contains("no-route"));
    lesson(&["next"]).exits(1);
    let hint = || lesson(&["hint", "--format", "json"]).exits(0).json()["hint"].as_str().unwrap().to_owned();
    let hints = [hint(), hint()];
    assert!(hints[0].contains("docker network connect") && hints[1].contains("disconnect"), "{hints:?}");

    let docker = |words: &str| labctl.run(["exec", "anna", "host1", "--", "sh", "-c", words]).exits(0);
    docker("docker network disconnect none lonely && docker network connect bridge lonely");
    assert!(lesson(&["check"]).exits(0).stdout().contains("In host mode this would not work"));
    lesson(&["next"]).exits(0);
    labctl.run(["down", "anna"]).exits(0);
    lesson(&["check"]).exits(2).says("labctl lesson start 02-host-none-container --name anna");
    let again = lesson(&["start", "2", "--name", "anna"]).exits(0).says("taken from a checkpoint");
    assert!(again.stdout().contains("step 3 of 3"));
    docker("docker rm -f side");
    let shown = lesson(&["solve"]).exits(0).stdout();
    assert!(shown.contains("$ labctl docker anna host1 -- restart side"), "{shown}");
    lesson(&["reset"]).exits(0);
    lesson(&["check"]).exits(1);
    lesson(&["next"]).exits(0).says("is done");
    let progress = lesson(&["progress", "--format", "json"]).exits(0).json();
    let ended: Vec<_> =
        progress[0]["steps"].as_array().unwrap().iter().map(|s| s["outcome"].as_str()).collect();
    assert_eq!(ended, [Some("read"), Some("repaired"), Some("shown")]);
    assert!(lesson(&["list"]).exits(0).stdout().lines().any(|l| l.starts_with("02-") && l.ends_with("done")));
}

#[test]
fn a_lesson_that_is_not_true_is_found_out() {
    let labctl = Labctl::new();
    let tmp = tempfile::tempdir().unwrap();
    let from = root().join("vagrant/lessons/02-host-none-container");
    for entry in fs::read_dir(&from).unwrap().flatten() {
        fs::copy(entry.path(), tmp.path().join(entry.file_name())).unwrap();
    }
    edit(tmp.path(), "lesson.yaml", "verdict: no-route }\n    check", "verdict: arp }\n    check");
    edit(
        tmp.path(),
        "lesson.yaml",
        "solve: exec host1 -- docker restart side",
        "solve: exec host1 -- docker restart web",
    );
    edit(tmp.path(), "1-host.md", "docker0", "docker7");
    let proof =
        labctl.run(["lesson", "test", "--format", "json", tmp.path().to_str().unwrap()]).exits(1).json();
    let wrong: Vec<_> =
        proof["lessons"][0]["wrong"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    let [text, broken, solved] = wrong.as_slice() else { panic!("{wrong:#?}") };
    assert!(text.starts_with("step 1, ") && text.contains("prints something else"), "{text}");
    assert!(broken.starts_with("step 2, it is broken, but not as `broken` says"), "{broken}");
    assert!(solved.starts_with("step 3, it is solved, and does not hold"), "{solved}");
    assert_eq!(labctl.run(["ps", "--format", "json"]).exits(0).json().as_array().unwrap().len(), 0);
}

fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}
