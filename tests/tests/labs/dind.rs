//! Hosts as containers of this machine's Docker: what holds there, what is refused and how, and that nothing is left.
//! Needs Docker and the right to use it; a test fails where they are missing.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use labctl_tests::{Labctl, cells, eventually, machine, one_host, topology, write};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// What Docker has of labs: containers, volumes, networks, and images but for the node images.
fn docker_state() -> BTreeMap<&'static str, String> {
    let ask = |args: &[&str]| {
        let out = Command::new("docker").args(args).output().expect("these tests need Docker");
        assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().filter(|l| !l.starts_with("labctl/node:")).collect::<Vec<_>>().join("\n")
    };
    BTreeMap::from([
        ("containers", ask(&["ps", "--all", "--filter", "label=labctl.lab", "--format", "{{.Names}}"])),
        ("volumes", ask(&["volume", "ls", "--quiet"])),
        ("networks", ask(&["network", "ls", "--quiet"])),
        ("images", ask(&["images", "--all", "--format", "{{.Repository}}:{{.Tag}}"])),
    ])
}

/// Nodes of the labs in this state folder.
fn nodes(labctl: &Labctl) -> Vec<String> {
    let out = Command::new("docker")
        .args(["ps", "--all", "--filter", "label=labctl.dir", "--format", "{{.Label \"labctl.dir\"}}"])
        .output()
        .expect("these tests need Docker");
    let state = labctl.state().display().to_string();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter(|dir| dir.starts_with(&state)).map(str::to_owned).collect()
}

fn test_on_dind(files: &[&str]) {
    let labctl = Labctl::new();
    let args =
        [OsStr::new("test"), "--runtime".as_ref(), "dind".as_ref(), "--format".as_ref(), "json".as_ref()];
    let files: Vec<PathBuf> = files.iter().map(|f| topology(f)).collect();
    let ran = labctl.run(args.into_iter().chain(files.iter().map(|f| f.as_os_str()))).exits(0);
    let summary = ran.json();
    assert_eq!(summary["passed"], files.len(), "{summary}");
    for lab in summary["labs"].as_array().unwrap() {
        assert_eq!(lab["report"]["runtime"], "dind", "{lab}");
    }
    assert_eq!(nodes(&labctl), Vec::<String>::new());
}

/// Whether this kernel makes an interface of this kind. Asked of `ip`, in a network namespace of its own.
fn makes(link: &str) -> bool {
    let script = format!("ip link add try0 type veth peer name try1 && ip link add {link}");
    Command::new("unshare").args(["--net", "sh", "-c", &script]).output().unwrap().status.success()
}

/// Whether this kernel has IPVS, as far as it tells of itself.
fn has_ipvs() -> bool {
    let _ = Command::new("modprobe").arg("ip_vs").output();
    Path::new("/proc/net/ip_vs").exists()
}

#[test]
fn topologies_hold_and_the_machine_stays_as_it_was() {
    let before = (machine::network_state(), docker_state());
    let all = kernel_settings();
    test_on_dind(&[
        "bridge-ipv6.yaml",
        "bridge-user-defined.yaml",
        "container-mode.yaml",
        "docker-gwbridge.yaml",
        "failure-vxlan-eaten-port.yaml",
        "macvlan-port-security.yaml",
        "overlay-attachable.yaml",
        "reports/7370-bridged-by-the-host.yaml",
        "vpn-conflict.yaml",
    ]);
    machine::assert_unchanged(&before.0);
    assert_eq!(docker_state(), before.1);
    let changed: Vec<_> =
        kernel_settings().into_iter().filter(|(key, value)| all.get(key) != Some(value)).collect();
    assert_eq!(changed, [], "settings of this machine's kernel");
}

/// Every setting of the kernel that does not change by itself; what cannot be written is statistics.
fn kernel_settings() -> BTreeMap<PathBuf, String> {
    fn read(dir: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let restless = ["random", "ns_last_pid"];
            let is_setting = entry.metadata().is_ok_and(|m| m.permissions().mode() & 0o200 != 0);
            if path.is_dir() {
                read(&path, into);
            } else if is_setting
                && !restless.iter().any(|word| path.to_string_lossy().contains(word))
                && let Ok(value) = fs::read_to_string(&path)
            {
                into.insert(path, value);
            }
        }
    }
    let mut all = BTreeMap::new();
    read(Path::new("/proc/sys"), &mut all);
    assert!(all.len() > 100, "/proc/sys is there");
    all
}

#[test]
fn what_the_kernel_lacks_is_refused_by_line_and_what_it_has_works() {
    let cases = [
        (makes("link try1 name try2 type ipvlan mode l2"), "ipvlan-2host.yaml", "ipvlan", "driver: ipvlan"),
        (has_ipvs(), "ingress.yaml", "ip_vs", "ports:"),
    ];
    for (there, file, feature, line) in cases {
        if there {
            test_on_dind(&[file]);
            continue;
        }
        let labctl = Labctl::new();
        let path = topology(file);
        let before = docker_state();
        let ran =
            labctl.run(["up".as_ref(), "--runtime".as_ref(), "dind".as_ref(), path.as_os_str()]).exits(3);
        let text = fs::read_to_string(&path).unwrap();
        let number = text.lines().position(|l| l.contains(line)).unwrap() + 1;
        let place = format!("{file}:{number}:");
        for words in [feature, "--runtime vm", &place] {
            assert!(ran.stderr().contains(words), "stderr lacks {words:?}:\n{}", ran.stderr());
        }
        assert!(fs::read_dir(labctl.state()).map_or(true, |mut d| d.next().is_none()), "nothing was made");
        assert_eq!(docker_state(), before);
    }
}

#[test]
fn a_setting_of_the_whole_kernel_is_refused_by_line() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text =
        one_host("own").replace("192.168.56.3 }", "192.168.56.3, sysctls: { vm.max_map_count: 262144 } }");
    let file = write(dir.path(), "own.yaml", &text);
    let ran = labctl.run(["up".as_ref(), "--runtime".as_ref(), "dind".as_ref(), file.as_os_str()]).exits(3);
    for words in ["vm.max_map_count", "own.yaml:3:", "--runtime vm"] {
        assert!(ran.stderr().contains(words), "stderr lacks {words:?}:\n{}", ran.stderr());
    }
}

#[test]
fn a_daemon_elsewhere_or_none_is_refused_with_the_reason() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "far.yaml", &one_host("far"));
    let refused = |host: &str, words: &str| {
        let mut command =
            labctl.command(["up".as_ref(), "--runtime".as_ref(), "dind".as_ref(), file.as_os_str()]);
        let ran = labctl_tests::Ran(command.env("DOCKER_HOST", host).output().unwrap()).exits(3);
        for words in [words, "hint:"] {
            assert!(ran.stderr().contains(words), "stderr lacks {words:?}:\n{}", ran.stderr());
        }
    };
    refused("tcp://192.0.2.1:2375", "another machine");
    refused("ssh://somebody@192.0.2.1", "another machine");
    refused("unix:///no/such/docker.sock", "no Docker daemon");
    // One that answers, and says that it runs elsewhere.
    let socket = dir.path().join("d.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    drop(listener);
    refused(&format!("unix://{}", socket.display()), "no Docker daemon answers");
}

#[test]
fn auto_says_what_it_chose_and_why() {
    let labctl = Labctl::new();
    let mut command =
        labctl.command(["up".as_ref(), "--no-check".as_ref(), topology("ipvlan-2host.yaml").as_os_str()]);
    let ran = labctl_tests::Ran(command.env("LABCTL_RUNTIME", "auto").output().unwrap()).exits(0);
    assert!(ran.stderr().contains("runtime vm") || ran.stderr().contains("runtime dind"), "{}", ran.stderr());
    // It says the same of KVM when it chooses and when it starts.
    let (said, not) = ("there is KVM", "no KVM here: machines are emulated");
    assert!(!(ran.stderr().contains(said) && ran.stderr().contains(not)), "{}", ran.stderr());
    if !makes("link try1 name try2 type ipvlan mode l2") && ran.stderr().contains(not) {
        assert!(ran.stderr().contains("runtime vm, not dind: this kernel lacks ipvlan"), "{}", ran.stderr());
    }
}

#[test]
fn a_lab_whose_supervisor_was_killed_is_taken_away_whole() {
    let before = docker_state();
    let labctl = Labctl::new();
    let file = topology("macvlan-2host.yaml");
    let up = |labctl: &Labctl| {
        labctl.run([
            "up".as_ref(),
            "--no-check".as_ref(),
            "--runtime".as_ref(),
            "dind".as_ref(),
            file.as_os_str(),
        ])
    };
    up(&labctl).exits(0);
    assert_eq!(nodes(&labctl).len(), 2);
    // As docs/runtimes/dind.md says: dockerd changes no setting of the machine by accident, and root could on purpose.
    let script = "test ! -w /proc/sys/vm/swappiness && mkdir /tmp/p && mount -t proc proc /tmp/p \
                  && test -w /tmp/p/sys/vm/swappiness && umount /tmp/p";
    labctl.run(["exec", "macvlan-2host", "host1", "--", "sh", "-c", script]).exits(0);
    let status = labctl.run(["ps", "--format", "json"]).exits(0).json().to_string();
    assert!(status.contains("dind"), "{status}");
    let processes = fs::read_to_string(labctl.state().join("macvlan-2host/processes.json")).unwrap();
    let supervisor: serde_json::Value = serde_json::from_str(processes.lines().next().unwrap()).unwrap();
    let pid = i32::try_from(supervisor["pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    // The nodes end by themselves, since nobody has their NICs any more.
    eventually("the nodes end", Duration::from_secs(60), || {
        let out = Command::new("docker")
            .args(["ps", "--filter", "label=labctl.dir", "--format", "{{.Label \"labctl.dir\"}}"])
            .output()
            .unwrap();
        !String::from_utf8_lossy(&out.stdout).contains(&labctl.state().display().to_string())
    });
    // What was noted of them may be lost: they say by their labels whose they are.
    let notes: Vec<_> = fs::read_dir(labctl.state().join("macvlan-2host/hosts"))
        .unwrap()
        .flatten()
        .map(|host| host.path().join("container.json"))
        .collect();
    fs::write(&notes[0], "").unwrap();
    let cut = fs::read_to_string(&notes[1]).unwrap();
    fs::write(&notes[1], &cut[..cut.len() / 2]).unwrap();
    labctl.run(["down", "--all"]).exits(0);
    assert_eq!(docker_state(), before);
    assert!(fs::read_dir(labctl.state()).unwrap().next().is_none());
    // And again over what a second crash leaves: `up` clears it by itself.
    up(&labctl).exits(0);
    labctl.run(["down", "--all"]).exits(0);
    assert_eq!(docker_state(), before);
}

/// A node whose container is killed is down at once, and the other is as it was; an agent that dies is started again.
#[test]
fn a_node_that_dies_hides_nothing_of_the_others() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text = one_host("mortal").replace("56.3 } }", "56.3 }, host2: { lan: 192.168.56.7 } }")
        + "expect: [ { probe: icmp, from: host2, to: [host1, 192.168.56.1], verdict: yes } ]\n";
    let file = write(dir.path(), "mortal.yaml", &text);
    let up = ["up", "--no-check", "--runtime", "dind"].map(OsStr::new);
    labctl.run(up.into_iter().chain([file.as_os_str()])).exits(0);
    let exec = |script: &str| labctl.run(["exec", "mortal", "host1", "--", "sh", "-c", script]);
    assert!(!exec("kill -KILL $PPID").0.status.success(), "the agent is what runs it");
    eventually("the agent is used again", Duration::from_secs(10), || exec("true").0.status.success());
    labctl.run(["check", "mortal"]).exits(0);

    let note = fs::read(labctl.state().join("mortal/hosts/host1/container.json")).unwrap();
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
    let killed = Command::new("docker").args(["kill", note["container"].as_str().unwrap()]).output().unwrap();
    assert!(killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
    eventually("it is shown down", Duration::from_secs(1), || {
        let status = labctl.run(["ps", "--format", "json"]).exits(0).json();
        status[0]["hosts"]["host1"]["down"] == "its container ended"
    });
    let report = labctl.run(["check", "mortal", "--format", "json"]).exits(1).json();
    let observed: Vec<_> = cells(&report).iter().take(2).map(|c| &c["observed"]).collect();
    assert_eq!(observed, ["down", "yes"], "{report}");
    labctl.run(["do", "mortal", "start", "host1"]).exits(0);
    labctl.run(["check", "mortal"]).exits(0);
}
