//! Bad input and bad luck: a clear error that names the thing and the way out, the right exit code, nothing left.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use labctl_tests::{Labctl, Ran, capture::echo_requests, eventually, machine, one_host, write};

/// `up` must refuse this file with this status and these words, quickly, and leave nothing.
fn refused(labctl: &Labctl, file: &Path, status: i32, words: &[&str]) {
    let began = Instant::now();
    let ran = labctl.run(["up".as_ref(), file.as_os_str()]).exits(status);
    assert!(began.elapsed() < Duration::from_secs(30), "took {:?}", began.elapsed());
    for word in words {
        assert!(ran.stderr().contains(word), "stderr lacks {word:?}:\n{}", ran.stderr());
    }
    assert!(!ran.stderr().contains("panicked"), "{}", ran.stderr());
    assert_eq!(machine::processes_with(&labctl.state().display().to_string()), Vec::<String>::new());
}

/// No file and no process of the lab; its supervisor may take a moment to end after it has answered.
#[track_caller]
fn nothing_is_left(labctl: &Labctl) {
    let state = labctl.state().display().to_string();
    eventually("the lab is gone", Duration::from_secs(5), || {
        fs::read_dir(labctl.state()).unwrap().next().is_none() && machine::processes_with(&state).is_empty()
    });
}

#[test]
fn topologies_that_are_none() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let case = |name: &str, text: &str| write(dir.path(), name, text);
    refused(&labctl, &dir.path().join("absent.yaml"), 2, &["absent.yaml"]);
    refused(&labctl, dir.path(), 2, &[]);
    refused(&labctl, &case("empty.yaml", ""), 2, &["empty.yaml"]);
    refused(&labctl, &case("broken.yaml", "name: [x\nhosts: }"), 2, &["broken.yaml"]);
    refused(&labctl, &case("binary.yaml", "\u{0}\u{1}\u{2}"), 2, &["binary.yaml"]);
    let typo = one_host("typo").replace("hosts:", "hots:");
    refused(&labctl, &case("typo.yaml", &typo), 2, &["hots", "hosts"]);
    let outside = one_host("outside").replace("192.168.56.3", "192.168.57.3");
    refused(&labctl, &case("outside.yaml", &outside), 2, &["192.168.57.3", "192.168.56.0/24"]);
    let nowhere = one_host("nowhere").replace("host1: { lan", "host1: { lam");
    refused(&labctl, &case("nowhere.yaml", &nowhere), 2, &["lam", "lan"]);
}

#[test]
fn an_alias_bomb_and_a_huge_file_are_refused_at_once() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let last = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", [last.as_str(); 9].join(", "));
    }
    refused(&labctl, &write(dir.path(), "bomb.yaml", &bomb), 2, &["bomb.yaml"]);
    let huge = dir.path().join("huge.yaml");
    let mut file = fs::File::create(&huge).unwrap();
    let line = b"# nothing but comments, and many of them\n".repeat(25_000);
    for _ in 0..100 {
        file.write_all(&line).unwrap();
    }
    refused(&labctl, &huge, 2, &["huge.yaml"]);
}

#[test]
fn an_image_that_nobody_has_names_the_way_out() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text = one_host("noimage") + "containers: { c1: { host: host1, image: 'nobody/has:this' } }\n";
    let file = write(dir.path(), "noimage.yaml", &text);
    let ran = labctl.run(["up".as_ref(), file.as_os_str()]).exits(2);
    for word in ["nobody/has:this", "labctl image add"] {
        assert!(ran.stderr().contains(word), "{}", ran.stderr());
    }
    nothing_is_left(&labctl);
}

#[test]
fn an_image_of_packages_that_there_are_not_is_shown_with_its_line() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let image = |packages: &str| {
        one_host("packages")
            + &format!("images: {{ app: {{ debian: {packages}, cmd: app }} }}\n")
            + "containers: { c1: { image: app } }\n"
    };
    let file = write(dir.path(), "packages.yaml", &image("[no-such-package-at-all]"));
    let ran = labctl.run(["up".as_ref(), file.as_os_str()]).exits(2);
    ran.says("packages.yaml:4: image `app`: Unable to locate package no-such-package-at-all");
    nothing_is_left(&labctl);

    // Nothing to unpack packages with.
    let mut labctl = Labctl::new();
    labctl.cache = dir.path().join("cache");
    fs::create_dir_all(labctl.cache.join("images")).unwrap();
    for entry in fs::read_dir(labctl_tests::cache().join("images")).unwrap().flatten() {
        symlink(entry.path(), labctl.cache.join("images").join(entry.file_name())).unwrap();
    }
    let file = write(dir.path(), "packages.yaml", &image("[redis-tools]"));
    let tools = dir.path().join("bin");
    fs::create_dir(&tools).unwrap();
    for tool in ["apt-get", "apt-config", "unshare"] {
        symlink(Path::new("/usr/bin").join(tool), tools.join(tool)).unwrap();
    }
    let ran = labctl.command(["up".as_ref(), file.as_os_str()]).env("PATH", &tools).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("packages.yaml:4") && stderr.contains("apt-get install mmdebstrap"), "{stderr}");
    nothing_is_left(&labctl);
}

/// What Docker refuses while a lab comes up is shown in its own words, beside the line that asks for it.
#[test]
fn a_refusal_of_docker_stands_beside_its_line() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text = one_host("refused")
        + "networks: { odd: { hosts: [host1], driver_opts: { com.docker.network.bridge.name: \"no/name\" } } }\n";
    let file = write(dir.path(), "refused.yaml", &text);
    let ran = labctl.run(["up".as_ref(), file.as_os_str()]).exits(2);
    ran.says("refused.yaml:4: host `host1`: create network odd: Docker says: ");
    nothing_is_left(&labctl);

    // Kept for a look, there is a host to look at.
    labctl.run(["up".as_ref(), "--keep".as_ref(), file.as_os_str()]).exits(2).says("left as it is");
    labctl.run(["exec", "refused", "host1", "--", "docker", "info"]).exits(0);
    labctl.run(["check", "refused"]).exits(2);
    labctl.run(["down", "refused"]).exits(0);
    nothing_is_left(&labctl);
}

const TWO_NODES: &str = "swarm: { managers: [host1], workers: [host2] }\n";

/// A manager that the others have no way to: Docker's own message, and the line of the swarm. The token by which the
/// other was to join is nowhere, however much is logged.
#[test]
fn a_manager_that_nobody_reaches_is_said_to_be_so() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text = "name: apart\nsegments: { a: { subnet: 10.1.0.0/24 }, b: { subnet: 10.2.0.0/24 } }\n\
                hosts: { host1: { a: 10.1.0.1 }, host2: { b: 10.2.0.2 } }\n"
        .to_owned()
        + TWO_NODES;
    let file = write(dir.path(), "apart.yaml", &text);
    let mut up = labctl.command(["up".as_ref(), "--keep".as_ref(), file.as_os_str()]);
    let ran = Ran(up.env("RUST_LOG", "trace").output().unwrap()).exits(2);
    let ran = ran.says("apart.yaml:4: host `host2`: join swarm: Docker says: ").says("10.1.0.1:2377");
    let log = fs::read_to_string(labctl.state().join("apart/supervisor.log")).unwrap();
    assert!(log.contains("TRACE") && log.contains("DEBUG"), "everything is logged:\n{log}");
    let mut folders = vec![labctl.state().to_owned()];
    let mut said = vec![(PathBuf::from("stderr"), ran.0.stderr), (PathBuf::from("stdout"), ran.0.stdout)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                said.push((entry.path(), fs::read(entry.path()).unwrap()));
            }
        }
    }
    for (place, bytes) in said {
        assert!(!bytes.windows(8).any(|w| w == b"SWMTKN-1"), "{} holds a join token", place.display());
    }
    labctl.run(["down", "apart"]).exits(0);
    nothing_is_left(&labctl);
}

/// A machine that ends while it joins is no riddle of a broken connection.
#[test]
fn a_node_that_dies_while_joining_is_said_to_be_dead() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text = "name: dies\nsegments: { lan: { subnet: 10.1.0.0/24 } }\n\
                hosts: { host1: { lan: 10.1.0.1 }, host2: { lan: 10.1.0.2 } }\n"
        .to_owned()
        + TWO_NODES;
    let file = write(dir.path(), "dies.yaml", &text);
    let mut up = labctl.command(["up".as_ref(), file.as_os_str()]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said: Vec<String> = lines.by_ref().take_while(|l| !l.contains("swarm initialized")).collect();
    let noted = fs::read_to_string(labctl.state().join("dies/processes.json")).unwrap();
    let mut noted = noted.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let machine = noted.find(|p| p["what"].as_str().unwrap().contains("host2")).unwrap();
    let pid = i32::try_from(machine["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    said.extend(lines);
    let said = said.join("\n");
    assert_eq!(up.wait().unwrap().code(), Some(3), "{said}");
    for words in ["host `host2`: the machine has ended", "dies.yaml:4", "join swarm"] {
        assert!(said.contains(words), "{said}");
    }
    nothing_is_left(&labctl);
}

#[test]
fn environments_that_will_not_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "env.yaml", &one_host("env"));

    // No QEMU anywhere in PATH.
    let labctl = Labctl::new();
    let ran = labctl.command(["up".as_ref(), file.as_os_str()]).env("PATH", dir.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("qemu-system-x86"), "{stderr}");
    nothing_is_left(&labctl);

    // A state folder whose sockets would have too long a path.
    let long = labctl.state().join("x".repeat(90));
    let ran =
        labctl.command(["up".as_ref(), file.as_os_str()]).env("LABCTL_STATE_DIR", &long).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("LABCTL_STATE_DIR") && stderr.contains("107"), "{stderr}");

    // A state folder that is a file.
    let ran =
        labctl.command(["up".as_ref(), file.as_os_str()]).env("LABCTL_STATE_DIR", &file).output().unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("env.yaml"), "{stderr}");

    // Something else lies where the control socket belongs.
    fs::create_dir_all(labctl.state().join("env/control.sock")).unwrap();
    let ran = labctl.run(["up".as_ref(), file.as_os_str()]).exits(3);
    assert!(ran.stderr().contains("control.sock"), "{}", ran.stderr());
}

/// A state folder without room is named, and nothing is left running.
#[test]
fn a_full_disk_is_named() {
    let mut labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "full.yaml", &one_host("full"));
    let state = labctl.state().display().to_string();
    // Only for the command and what it starts.
    let script = "mount -t tmpfs -o size=8k,mode=700 none \"$0\" && exec \"$@\"";
    labctl.prefix = ["unshare", "--mount", "sh", "-c", script, state.as_str()].map(str::to_owned).to_vec();
    let ran = labctl.run(["up".as_ref(), file.as_os_str()]).exits(3);
    ran.says(&format!("no space left in {state}"));
    eventually("nothing runs", Duration::from_secs(5), || machine::processes_with(&state).is_empty());
}

/// A mismatch is 1, and the report says which cell and where it stands in the file.
#[test]
fn a_matrix_that_does_not_hold_exits_with_1() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text =
        one_host("wrong") + "expect: [ { probe: icmp, from: host1, to: 192.168.56.1, verdict: no } ]\n";
    let file = write(dir.path(), "wrong.yaml", &text);
    let captures = format!("--captures={}", dir.path().join("kept").display());
    let ran =
        labctl.run(["test".as_ref(), "--retries=1".as_ref(), captures.as_ref(), file.as_os_str()]).exits(1);
    let all = ran.stdout() + &ran.stderr();
    assert_eq!(all.matches("wrong.yaml:4").count(), 2, "each try is told: {all}");
    assert!(all.contains("wrong: try 2 of 2") && all.contains("0 passed, 1 failed"), "{all}");
    let kept = dir.path().join("kept/wrong.check1.lan.pcapng");
    assert!(all.contains(&format!("what the wire carried: {}", kept.display())), "{all}");
    assert_eq!(echo_requests(&kept, [192, 168, 56, 1]), ["host1/eth0"], "the one of the last try");
    nothing_is_left(&labctl);
}

/// The kernel drops what it has no neighbour for, and sockets hear nothing of it: not the network is silent.
#[test]
fn a_full_neighbour_table_is_said_to_be_so() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let limits = "sysctls: { net.ipv4.neigh.default.gc_thresh2: 8, net.ipv4.neigh.default.gc_thresh3: 16 }";
    let mut text = one_host("full").replace("192.168.56.3 }", &format!("192.168.56.3, {limits} }}"));
    assert!(text.contains(limits), "{text}");
    text += "containers:\n";
    for n in 1..=8 {
        text += &format!("  c{n}: {{ host: host1 }}\n");
    }
    text += "expect:\n";
    for probe in ["icmp", "tcp/80"] {
        text += &format!("  - {{ probe: {probe}, from: containers, to: containers, verdict: yes }}\n");
    }
    let ran = labctl.run(["test".as_ref(), write(dir.path(), "full.yaml", &text).as_os_str()]).exits(1);
    let said = ran.stdout();
    assert!(said.contains("observed error") && said.contains("no room for another neighbour"), "{said}");
    assert!(!said.contains("silent"), "{said}");
}
