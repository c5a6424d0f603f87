//! Labs on machines that Vagrant makes, and the Vagrantfiles of the repository. `make vagrant` runs these beside a libvirtd
//! of their own (scripts/in-libvirt), with the boxes already made.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use labctl_tests::{Labctl, cache, capture::echo_requests, cells, eventually, machine, root, topology};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Machines, disks and networks that libvirt has. Boxes stay: they are a cache.
#[track_caller]
fn libvirt() -> String {
    let lists =
        [&["list", "--all", "--name"][..], &["net-list", "--all", "--name"], &["vol-list", "default"]];
    let ask = |args: &[&str]| {
        let out = Command::new("virsh").args(["--quiet", "--connect", "qemu:///system"]).args(args).output();
        let out = out.expect("libvirt-clients is installed: `make vagrant` sees to it");
        String::from_utf8(out.stdout).unwrap()
    };
    let running = Command::new("virsh").args(["--connect", "qemu:///system", "version"]).output().unwrap();
    assert!(running.status.success(), "no libvirtd runs: these tests are run by `make vagrant`");
    let listed = lists.into_iter().map(ask).collect::<String>();
    listed.lines().filter(|l| !l.contains("_vagrant_box_image_") && !l.trim().is_empty()).collect()
}

#[track_caller]
fn check(labctl: &Labctl, status: i32) -> Vec<(String, String, String)> {
    let report = labctl.run(["check", "ipvlan-2host", "--format", "json"]).exits(status).json();
    assert_eq!(report["runtime"], "vagrant");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    cells(&report).into_iter().map(|c| (text(&c["from"]), text(&c["to"]), text(&c["observed"]))).collect()
}

/// The flagship: its matrix, what the wire does for it, and nothing left although its supervisor was killed.
#[test]
fn the_flagship_on_vagrant_machines() {
    let (before, had) = (machine::network_state(), libvirt());
    let labctl = Labctl::new();
    let flagship = topology("ipvlan-2host.yaml");
    let up = labctl.run(["up".as_ref(), "--runtime".as_ref(), "vagrant".as_ref(), flagship.as_os_str()]);
    assert!(up.exits(0).stdout().contains("30 of 30"));

    // Vagrant's own NIC is for ssh alone, and the agent has left it as it was.
    let inside = |script: &str| {
        labctl.run(["exec", "ipvlan-2host", "host1", "--", "sh", "-c", script]).exits(0).stdout()
    };
    let routes = inside("ip -4 route show default; ip -4 -o address show scope global; hostname");
    assert!(routes.starts_with("default via 192.168.56.1 dev eth0"), "{routes}");
    assert!(
        routes.contains(" 100.127.251.")
            && routes.contains("192.168.56.3/24 ")
            && routes.ends_with("host1\n"),
        "{routes}"
    );
    assert_eq!(routes.matches("default").count(), 1, "{routes}");

    // Frames pass the wire: it sees them, and it can cut a host off.
    let file = labctl.state().join("lan.pcapng");
    let capture = labctl
        .command(["capture", "ipvlan-2host", "lan", "icmp", "--write", file.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the capture began", Duration::from_secs(10), || file.exists());
    assert_eq!(check(&labctl, 0).len(), 30);
    kill(Pid::from_raw(capture.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert!(capture.wait_with_output().unwrap().status.success());
    // Its neighbour c2-1 reaches it without the wire.
    let requests = echo_requests(&file, [192, 168, 56, 34]);
    assert!(!requests.is_empty() && requests.iter().all(|port| port == "host1/eth0"), "{requests:?}");
    fs::remove_file(&file).unwrap();
    labctl.run(["do", "ipvlan-2host", "cut host2"]).exits(0);
    let silent = check(&labctl, 1).into_iter().filter(|(_, _, observed)| observed == "silent").count();
    assert_eq!(silent, 18);
    labctl.run(["do", "ipvlan-2host", "heal host2"]).exits(0);
    assert!(check(&labctl, 0).iter().all(|(_, _, observed)| observed != "silent"));

    labctl.run(["do", "ipvlan-2host", "kill host2"]).exits(0);
    let noted = fs::read_to_string(labctl.state().join("ipvlan-2host/processes.json")).unwrap();
    let supervisor: serde_json::Value = serde_json::from_str(noted.lines().next().unwrap()).unwrap();
    kill(Pid::from_raw(supervisor["pid"].as_i64().unwrap().try_into().unwrap()), Signal::SIGKILL).unwrap();
    assert_ne!(libvirt(), had, "its machine runs on");
    labctl.run(["down", "ipvlan-2host"]).exits(0);
    assert_eq!(libvirt(), had);
    assert!(fs::read_dir(labctl.state()).unwrap().next().is_none());
    machine::assert_unchanged(&before);
}

/// A Vagrantfile of the repository in a folder of its own, beside its box. Destroyed when dropped.
struct Folder(tempfile::TempDir);

impl Folder {
    #[track_caller]
    fn new(vagrantfile: &str, name: &str, made: &Path) -> Self {
        assert!(made.exists(), "there is no {}: `make vagrant` makes it", made.display());
        let dir = tempfile::tempdir().unwrap();
        fs::copy(root().join("vagrant").join(vagrantfile), dir.path().join("Vagrantfile")).unwrap();
        symlink(made, dir.path().join(name)).unwrap();
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut vagrant = Command::new("vagrant");
        vagrant.args(args).current_dir(self.0.path()).env("VAGRANT_CHECKPOINT_DISABLE", "1");
        vagrant.output().expect("vagrant is installed: `make vagrant` sees to it")
    }

    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "vagrant {args:?}\n{said}\n{}", String::from_utf8_lossy(&out.stderr));
        said
    }

    #[track_caller]
    fn ssh(&self, machine: &str, script: &str) -> String {
        self.done(&["ssh", machine, "-c", script])
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.run(&["destroy", "--force"]);
    }
}

/// The file of a box that `labctl image box` has made.
#[track_caller]
fn made(begins: &str) -> PathBuf {
    let boxes = fs::read_dir(cache().join("boxes")).expect("`make vagrant` makes the boxes").flatten();
    let of = |name: &str| name.starts_with(begins) && name.ends_with(".libvirt");
    let mut found: Vec<_> =
        boxes.filter(|e| of(&e.file_name().to_string_lossy())).map(|e| e.path()).collect();
    found.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    found.pop().expect("`make vagrant` makes the boxes").join("package.box")
}

/// One machine of a workshop: labs run inside, without a network.
#[test]
fn a_seat_has_all_that_a_lesson_needs() {
    let (before, had) = (machine::network_state(), libvirt());
    let seat = Folder::new("Vagrantfile", "seat.box", &made("seat"));
    seat.done(&["up"]);
    let lessons = seat.ssh("default", "labctl lesson list");
    let numbered =
        lessons.lines().filter(|l| l.trim_start().starts_with(|c: char| c.is_ascii_digit())).count();
    assert_eq!(numbered, fs::read_dir(root().join("vagrant/lessons")).unwrap().count(), "{lessons}");
    seat.ssh("default", ". /usr/share/bash-completion/completions/labctl && complete -p labctl");
    let up = seat.ssh("default", "labctl up /usr/share/labctl/topologies/ipvlan-2host.yaml && labctl ps");
    assert!(up.contains("30 of 30") && up.contains("dind"), "{up}");
    seat.ssh("default", "labctl down --all");
    // The first lesson, from nothing to its end: one step repaired by hand, one shown.
    let learned = seat.ssh(
        "default",
        "set -e; exec 2>&1; l() { labctl lesson \"$@\"; }; d() { labctl docker bridges host1 -- network \"$@\"; }
         l start 1; l next; if l check; then exit 9; fi; l hint; d create shop; d connect shop web; d connect shop client; l check
         l next; l solve; l next; l progress; labctl down --all",
    );
    for told in ["docker network create", "One way to repair it", "lesson 01-bridges-and-names is done"] {
        assert!(learned.contains(told), "{told}\n{learned}");
    }
    drop(seat);
    assert_eq!(libvirt(), had);
    machine::assert_unchanged(&before);
}

/// The flagship by hand: two machines with Docker, no labctl.
#[test]
fn two_hosts_without_labctl() {
    let had = libvirt();
    let hosts = Folder::new("hosts/Vagrantfile", "host.box", &made("trixie"));
    hosts.done(&["up"]);
    for (host, script) in [
        ("host1", "sudo ping -c 1 -W 5 192.168.56.7"),
        ("host1", "sudo ping -c 1 -W 5 192.168.56.33"),
        ("host1", "! sudo ping -c 1 -W 2 192.168.56.31"),
        ("host1", "sudo docker exec c1-1 ping -c 1 -W 5 192.168.56.32"),
        ("host2", "sudo docker exec c2-1 ping -c 1 -W 5 192.168.56.32"),
        ("host2", "! sudo docker exec c2-1 ping -c 1 -W 2 192.168.56.7"),
    ] {
        hosts.ssh(host, script);
    }
    drop(hosts);
    assert_eq!(libvirt(), had);
}

/// What labctl writes for each provider, as Vagrant reads it: the golden files, with whatever provider is not there.
#[test]
fn vagrant_takes_the_golden_files() {
    let dir = root().join("lab/machines/src/vagrant/snapshots");
    let files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let golden: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "snap"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(golden.len(), 2);
    for text in golden {
        // Behind insta's own header.
        let text = text.splitn(3, "---\n").nth(2).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let validate = |text: &str| {
            fs::write(folder.path().join("Vagrantfile"), text).unwrap();
            let mut vagrant = Command::new("vagrant");
            vagrant.args(["validate", "--ignore-provider"]).current_dir(folder.path());
            vagrant.output().expect("vagrant is installed: `make vagrant` sees to it")
        };
        let taken = validate(text);
        assert!(taken.status.success(), "{text}\n{}", String::from_utf8_lossy(&taken.stderr));
        assert!(!validate(&text.replace("host.vm.box ", "host.vm.bax ")).status.success());
    }
}
