//! The flagship, as a user has it: brought up once, then looked at from every side.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use labctl_tests::{Labctl, capture::echo_requests, cells, eventually, machine, topology};
use serde_json::Value;

/// The design's table: host to own containers and back no, every other pair yes.
fn expected(from: &str, to: &str) -> bool {
    let own = |host: &str, c: &str| host.starts_with("host") && c.starts_with(&host.replace("host", "c"));
    !(own(from, to) || own(to, from))
}

#[test]
fn thirty_of_thirty_and_every_verb() {
    let before = machine::network_state();
    let labctl = Labctl::new();
    let flagship = topology("ipvlan-2host.yaml");
    let up = labctl.run(["up".as_ref(), flagship.as_os_str()]).exits(0);
    assert!(up.stdout().contains("30 of 30"), "{}", up.stdout());
    machine::assert_unchanged(&before);

    check_reports_every_cell(&labctl);
    ps_knows_the_lab(&labctl);
    exec_runs_in_hosts_and_containers(&labctl);
    docker_answers_by_its_socket(&labctl);
    a_capture_is_pcapng(&labctl);
    the_outside_is_the_stand_in(&labctl);

    let second = labctl.run(["up".as_ref(), flagship.as_os_str()]).exits(2);
    assert!(second.stderr().contains("already up"), "{}", second.stderr());

    labctl.run(["down", "--all"]).exits(0);
    let left: Vec<_> = std::fs::read_dir(labctl.state()).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let state = labctl.state().display().to_string();
    eventually("its processes are gone", Duration::from_secs(5), || {
        machine::processes_with(&state).is_empty()
    });
    machine::assert_unchanged(&before);
}

fn check_reports_every_cell(labctl: &Labctl) {
    let report = labctl.run(["check", "ipvlan-2host", "--format", "json"]).exits(0).json();
    assert_eq!(report["lab"], "ipvlan-2host");
    assert_eq!(report["runtime"], "vm");
    assert_eq!(report["holds"], true);
    assert_eq!(report["checks"][0]["found"]["probe"], "icmp");
    let cells = cells(&report);
    assert_eq!(cells.len(), 30);
    for cell in cells {
        let text = |key: &str| cell[key].as_str().unwrap_or_else(|| panic!("{key} in {cell}")).to_owned();
        let yes = expected(&text("from"), &text("to"));
        assert_eq!(text("observed") == "yes", yes, "{cell}");
        assert_eq!(cell["rtt_us"].is_u64(), yes, "{cell}");
        assert!(yes || !text("detail").is_empty(), "a `no` says how it came about: {cell}");
    }
}

fn ps_knows_the_lab(labctl: &Labctl) {
    let labs = labctl.run(["ps", "--format", "json"]).exits(0).json();
    let lab = &labs.as_array().unwrap()[0];
    assert_eq!(lab["lab"], "ipvlan-2host");
    assert_eq!(lab["stage"], "up");
    let socket = PathBuf::from(lab["hosts"]["host1"]["docker_socket"].as_str().unwrap());
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let control = labctl.state().join("ipvlan-2host/control.sock");
    assert_eq!(std::fs::metadata(control).unwrap().permissions().mode() & 0o777, 0o600);
}

fn exec_runs_in_hosts_and_containers(labctl: &Labctl) {
    let host = labctl.run(["exec", "ipvlan-2host", "host1", "--", "ip", "-4", "-o", "address"]).exits(0);
    assert!(host.stdout().contains("192.168.56.3/24"), "{}", host.stdout());
    let of_container = ["ipvlan-2host", "host1/c1-1", "--", "ip", "-4", "-o", "address"];
    let container = labctl.run(["exec", "--host-tools"].iter().chain(&of_container)).exits(0);
    assert!(container.stdout().contains("192.168.56.31/24"), "{}", container.stdout());
    assert!(!container.stdout().contains("192.168.56.3/24"), "{}", container.stdout());
    // Its image has no programs, and whoever does not ask for the host's is not given them.
    labctl.run(["exec"].iter().chain(&of_container)).exits(2).says("--host-tools");
    labctl.run(["exec", "ipvlan-2host", "host1", "--", "sh", "-c", "exit 7"]).exits(7);
    labctl.run(["exec", "ipvlan-2host", "host9", "--", "true"]).exits(2).says("host1");
    // What somebody has made by hand.
    let docker = |words: &str| {
        labctl.run(["docker", "ipvlan-2host", "host1", "--"].into_iter().chain(words.split(' '))).exits(0);
    };
    docker("run --detach --name by-hand --network none labctl/pause");
    labctl.run(["exec", "--host-tools", "ipvlan-2host", "host1/by-hand", "--", "true"]).exits(0);
    docker("rm --force by-hand");
}

fn docker_answers_by_its_socket(labctl: &Labctl) {
    let ps = labctl.run(["docker", "ipvlan-2host", "host1", "--", "ps", "--format", "{{.Names}}"]).exits(0);
    let mut names: Vec<_> = ps.stdout().lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["c1-1", "c1-2"]);
    let env = labctl.run(["env", "ipvlan-2host", "host2"]).exits(0).stdout();
    let socket = env.split("unix://").nth(1).unwrap().trim().trim_end_matches(['"', '\'']).to_owned();
    let containers =
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let docker =
                bollard::Docker::connect_with_unix(&socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
            let docker = docker.negotiate_version().await.unwrap();
            docker.list_containers(None::<bollard::query_parameters::ListContainersOptions>).await.unwrap()
        });
    let mut names: Vec<_> = containers.into_iter().flat_map(|c| c.names.unwrap_or_default()).collect();
    names.sort();
    assert_eq!(names, ["/c2-1", "/c2-2"]);
}

fn a_capture_is_pcapng(labctl: &Labctl) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lan.pcapng");
    let mut capture = labctl.command(["capture", "ipvlan-2host", "lan", "--duration", "8s", "-w"]);
    let mut capture = capture.arg(&file).spawn().unwrap();
    eventually("the capture runs", Duration::from_secs(20), || file.exists());
    let ping = ["exec", "--host-tools", "ipvlan-2host", "host1/c1-1", "--", "ping", "-c", "2", "-i", "0.2"];
    labctl.run(ping.iter().chain(&["192.168.56.34"])).exits(0);
    assert!(capture.wait().unwrap().success());
    let requests: Vec<_> = echo_requests(&file, [192, 168, 56, 34]);
    assert_eq!(requests, ["host1/eth0", "host1/eth0"]);
}

/// 8.8.8.8 answers, and it is not the one that the world knows: this machine sees no such packet.
fn the_outside_is_the_stand_in(labctl: &Labctl) {
    let ping =
        labctl.run(["exec", "ipvlan-2host", "host1", "--", "ping", "-c", "1", "-W", "3", "8.8.8.8"]).exits(0);
    assert!(ping.stdout().contains("1 received"), "{}", ping.stdout());
    let routes = labctl.run(["exec", "ipvlan-2host", "host1", "--", "ip", "route"]).exits(0).stdout();
    assert!(routes.contains("default via 192.168.56.1"), "{routes}");
    let _: Value = labctl.run(["ps", "--format", "json"]).json();
}
