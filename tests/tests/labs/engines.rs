//! Engines: one of the user's own, from a tarball as Docker publishes them, and one topology on several.

use std::{fs, path::Path, process::Command};

use labctl_tests::{Labctl, one_host, own_images, write};

/// Packs Docker's binaries of a node image as Docker's own tarballs are packed.
const PACK: &str = r#"
set -eu
zstd -dc < "$1/root.tar.zst" | tar -x ./usr/bin ./usr/sbin
mkdir docker
for name in docker dockerd containerd containerd-shim-runc-v2 runc ctr docker-init docker-proxy; do
    for dir in usr/sbin usr/bin; do
        if [ -f "$dir/$name" ] && [ ! -L "$dir/$name" ]; then cp "$dir/$name" docker/; fi
    done
done
if [ ! -e docker/docker-init ]; then cp "usr/bin/$(basename "$(readlink usr/bin/docker-init)")" docker/docker-init; fi
tar -cf own.tgz -I 'gzip -1' docker
rm docker/runc
tar -cf lacking.tgz -I 'gzip -1' docker
"#;

fn run(dir: &Path, script: &str, argument: &Path) {
    let status = Command::new("sh").args(["-c", script, "sh"]).arg(argument).current_dir(dir).status();
    assert!(status.unwrap().success());
}

#[test]
fn an_engine_from_a_tarball_is_one_and_a_tarball_that_lacks_a_binary_is_none() {
    let mut labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    labctl.cache = dir.path().join("cache");
    let image = own_images(&labctl.cache);
    run(dir.path(), PACK, &image);
    let build = |file: &str, name: &str| {
        let file = dir.path().join(file);
        labctl.run(["image", "build", "--docker", file.to_str().unwrap(), "--name", name])
    };
    build("lacking.tgz", "mine").exits(2).says("lacking.tgz is no tarball of Docker: it lacks runc");
    build("own.tgz", "trixie").exits(2).says("`trixie` cannot be the name of an engine");
    let made = build("own.tgz", "mine").exits(0).stdout();
    assert!(made.starts_with("mine-") && made.contains("Docker 26.1"), "{made}");
    let listed = labctl.run(["image", "ls"]).exits(0).stdout();
    assert!(listed.contains("engine mine: Docker 26.1"), "{listed}");

    let lab = |engine: &str| {
        let text = one_host("own").replace("host1: {", &format!("host1: {{ engine: {engine},"));
        let expect = "expect:\n  - { exec: host1 -- test -e /usr/sbin/dockerd, exits: 1 }\n  \
                      - { exec: host1 -- dockerd --version, prints: version 26.1 }\n  - { from: c1, to: host1, verdict: yes }\n";
        write(dir.path(), "own.yaml", &format!("{text}containers: {{ c1: {{ host: host1 }} }}\n{expect}"))
    };
    let test = |file: &Path| labctl.run([Path::new("test"), file]);
    test(&lab("yours")).exits(2).says("there is no engine `yours`").says("mine (Docker 26.1)");
    test(&lab("mine")).exits(0);
    // What it was made of is not needed any more.
    fs::remove_file(dir.path().join("own.tgz")).unwrap();
    labctl.run(["image", "rm", "mine"]).exits(0);
    test(&lab("mine")).exits(2).says("there is no engine `mine`");
}

#[test]
fn several_engines_are_tested_one_after_the_other_and_what_differs_is_shown() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{}expect:\n  - {{ engines: \"<26\", exec: host1 -- dockerd --version, prints: version 20.10 }}\n  \
         - {{ engines: \">=26\", exec: host1 -- dockerd --version, prints: version 26.1 }}\n",
        one_host("each")
    );
    write(dir.path(), "each.yaml", &text);
    write(dir.path(), "modern.yaml", &format!("engines: \">=26\"\n{}", one_host("modern")));
    let ran =
        labctl.run(["test".as_ref(), "--engines".as_ref(), "20.10,trixie".as_ref(), dir.path().as_os_str()]);
    let ran = ran.exits(0).says("engine 20.10 is bookworm (Docker 20.10)").says("left out: ");
    let lines: Vec<String> =
        ran.stdout().lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["topology bookworm trixie", "each ok ok", "modern - ok", "3 passed, 0 failed, 1 left out"] {
        assert!(lines.iter().any(|l| l == line), "{line}: {lines:#?}");
    }
    let modern = dir.path().join("modern.yaml");
    let none = labctl.run(["test".as_ref(), "--engine".as_ref(), "bookworm".as_ref(), modern.as_os_str()]);
    none.exits(2).says("is for Docker >=26, and `host1` has 20.10 (bookworm)");
}
