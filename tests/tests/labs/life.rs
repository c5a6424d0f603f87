//! Labs that die, are interrupted, or meet each other; and an ordinary user.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use labctl_tests::{Labctl, binaries, cache, cells, eventually, facts, machine, one_host, topology, write};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn files_of(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// The flagship as a user without privileges: no root, no Docker daemon, no access to /dev/kvm.
#[test]
fn an_ordinary_user_runs_the_flagship() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user, which takes root");
    const USER: u32 = 65_534;
    let home = tempfile::Builder::new().prefix("user").tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        let done = Command::new("cp").args(["-r", "--reflink=auto"]).arg(from).arg(to).status().unwrap();
        assert!(done.success(), "cp {} {}", from.display(), to.display());
    };
    // Not its templates, which are good for this user's own alone.
    let own_cache = home.path().join("cache");
    fs::create_dir(&own_cache).unwrap();
    copy(&cache().join("images"), &own_cache);
    for name in ["labctl", "labctl-agent"] {
        copy(&binaries().join(name), &home.path().join(name));
    }
    let chowned = Command::new("chown").args(["-R", &USER.to_string()]).arg(home.path()).status().unwrap();
    assert!(chowned.success());
    let mut labctl = Labctl::with_binary(home.path().join("labctl"));
    chown(labctl.state(), Some(USER), Some(USER)).unwrap();
    labctl.cache = own_cache;
    labctl.prefix =
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"]
            .map(str::to_owned)
            .to_vec();
    let file = home.path().join("ipvlan-2host.yaml");
    fs::copy(topology("ipvlan-2host.yaml"), &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let args = ["test", "--repeat=2", "--format=json"].map(OsStr::new).into_iter().chain([file.as_os_str()]);
    let found = labctl.run(args).exits(0).json();
    let report = &found["labs"][0]["report"];
    assert_eq!((&report["holds"], cells(report).len()), (&true.into(), 30), "{found}");
    assert_eq!(report["checks"][0]["looks"], 2, "{found}");
    // Its machines are this user's own, so it may copy their memory.
    labctl.checkpoints = true;
    labctl.up(&file);
    labctl.run(["reset", "ipvlan-2host"]).exits(0);
    labctl.run(["check", "ipvlan-2host"]).exits(0);
    labctl.run(["down", "ipvlan-2host"]).exits(0);
    assert_eq!(files_of(labctl.state()), Vec::<String>::new());
}

/// Equal names of hosts, equal subnets, equal addresses: each lab answers for itself.
#[test]
fn two_labs_do_not_meet() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    for (name, shown) in [("left", "yes"), ("right", "no")] {
        // In `right` nobody has .9; if the labs met, `left`'s host2 would answer.
        let second =
            if name == "left" { "host2: { lan: 192.168.56.9 }" } else { "host2: { lan: 192.168.56.8 }" };
        let text = format!(
            "name: {name}\nsegments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}\n\
             hosts: {{ host1: {{ lan: 192.168.56.3 }}, {second} }}\n\
             expect: [ {{ probe: icmp, from: host1, to: 192.168.56.9, verdict: {shown} }} ]\n"
        );
        let file = write(dir.path(), &format!("{name}.yaml"), &text);
        labctl.up(&file);
    }
    labctl.run(["check", "left"]).exits(0);
    labctl.run(["check", "right"]).exits(0);
    labctl.run(["down", "left"]).exits(0);
    labctl.run(["check", "right"]).exits(0);
}

#[test]
fn a_killed_supervisor_takes_its_machines_along_and_down_clears_the_rest() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "crash.yaml", &one_host("crash"));
    labctl.up(&file);
    let status = labctl.run(["ps", "--format", "json"]).exits(0).json();
    let pid = i32::try_from(status[0]["supervisor"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let state = labctl.state().display().to_string();
    eventually("machines die with their supervisor", Duration::from_secs(5), || {
        machine::processes_with(&state).is_empty()
    });
    let status = labctl.run(["ps", "--format", "json"]).exits(0).json();
    assert_eq!(status[0]["stage"], "dead", "{status}");
    labctl.run(["check", "crash"]).exits(3).says("labctl down crash");
    labctl.run(["down", "crash"]).exits(0);
    assert_eq!(files_of(labctl.state()), Vec::<String>::new());
    labctl.run(["down", "crash"]).exits(0).says("is not up");
}

#[test]
fn an_interrupted_up_leaves_nothing() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "interrupted.yaml", &one_host("interrupted"));
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut up = labctl.command(["up".as_ref(), file.as_os_str()]).stderr(Stdio::null()).spawn().unwrap();
        let state = labctl.state().display().to_string();
        eventually("a machine starts", Duration::from_secs(20), || {
            machine::processes_with(&state).iter().any(|p| p.contains("qemu"))
        });
        kill(Pid::from_raw(i32::try_from(up.id()).unwrap()), signal).unwrap();
        let status = up.wait().unwrap();
        assert!(!status.success());
        eventually("the lab is gone", Duration::from_secs(10), || {
            files_of(labctl.state()).is_empty() && machine::processes_with(&state).is_empty()
        });
    }
}

const TWO_HOSTS: &str = "name: mortal
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { host1: { lan: 192.168.56.3 }, host2: { lan: 192.168.56.7 } }
peers: { client: { lan: 192.168.56.20 } }
containers: { c1: { host: host1, ports: ['8081:80'] }, c2: { host: host2, ports: ['8082:80'] } }
expect:
  - { probe: tcp/8082, from: client, to: host2, verdict: yes }
  - { probe: tcp/8081, from: [client, c2], to: host1, verdict: yes }
  - { probe: icmp, from: host1, to: client, verdict: yes }
  - { interfaces: c2, contains: [eth0] }
";

/// What dies on one host is told of that host, and hides nothing of the other, whatever the verb; what is back is used.
#[test]
fn a_host_that_dies_hides_nothing_of_the_others() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    labctl.up(&write(dir.path(), "mortal.yaml", TWO_HOSTS));
    let exec = |place: &str, script: &str| labctl.run(["exec", "mortal", place, "--", "sh", "-c", script]);
    // The first cell and the last fact are host2's alone.
    let others_hold = || {
        let report = labctl.run(["check", "mortal", "--format", "json"]).exits(1).json();
        assert_eq!(cells(&report)[0]["observed"], "yes", "{report}");
        assert_eq!(facts(&report)[0]["holds"], true, "{report}");
        exec("host2", "true").exits(0);
        let frame = "eth/ip(dst=${ip:host2})/icmp";
        labctl.run(["send", "mortal", "wire:lan", frame, "--expect-at", "host2"]).exits(0);
        let seen = |cell: usize| {
            let cell = cells(&report)[cell];
            format!("{}: {}", cell["observed"].as_str().unwrap(), cell["detail"].as_str().unwrap())
        };
        [1, 2, 3].map(seen)
    };
    let holds = || labctl.run(["check", "mortal"]).0.status.success();
    let host = |name: &str| labctl.run(["ps", "--format", "json"]).exits(0).json()[0]["hosts"][name].clone();

    // Its init starts the agent again.
    assert!(!exec("host1", "kill -KILL $PPID").0.status.success(), "the agent is what runs it");
    eventually("the agent is used again", Duration::from_secs(10), || {
        exec("host1", "true").0.status.success()
    });
    eventually("all holds again", Duration::from_secs(20), holds);

    // Its containers live on without their dockerd, and are known from before; what only it can do is refused by its name.
    labctl.run(["do", "mortal", "kill docker host1"]).exits(0);
    labctl.run(["check", "mortal"]).exits(0);
    exec("host1", "true").exits(0);
    labctl.run(["exec", "--host-tools", "mortal", "c1", "--", "true"]).exits(0);
    labctl.run(["do", "mortal", "restart c1"]).exits(2).says("dockerd of host1 does not answer");

    let pid = i32::try_from(host("host1")["pid"].as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("it is shown down", Duration::from_secs(1), || host("host1")["down"] == "its machine ended");
    assert!(labctl.run(["ps"]).exits(0).stdout().contains("2, 1 down"));
    assert_eq!(others_hold().map(|cell| cell.starts_with("down: ")), [true; 3]);
    exec("host1", "true").exits(2).says("labctl do mortal start host1");
    labctl.run(["do", "mortal", "start", "host1"]).exits(0);
    eventually("all holds with the new machine", Duration::from_secs(20), holds);

    // A guest that panics does not come back by itself either.
    exec("host1", "echo c > /proc/sysrq-trigger");
    eventually("it is shown down", Duration::from_secs(10), || {
        host("host1")["down"].as_str().is_some_and(|why| why.contains("panicked"))
    });
    assert_eq!(others_hold().map(|cell| cell.starts_with("down: ")), [true; 3]);
    labctl.run(["do", "mortal", "start", "host1"]).exits(0);
    eventually("all holds once more", Duration::from_secs(20), holds);
}

const A_TASK: &str = "name: tasked
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { host1: { lan: 192.168.56.3 } }
swarm: {}
services: { web: {} }
expect:
  - { tasks: web, equals: [web.1] }
";

/// A dockerd that is away tells of no tasks either, and they run on.
#[test]
fn a_task_is_entered_while_its_dockerd_is_away() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    labctl.up(&write(dir.path(), "tasked.yaml", A_TASK));
    let exec = |place: &str| {
        labctl.run(["exec", "--host-tools", "tasked", place, "--", "hostname", "-I"]).exits(0).stdout()
    };
    labctl.run(["check", "tasked"]).exits(0);
    let before = exec("web.1");
    labctl.run(["do", "tasked", "kill docker host1"]).exits(0);
    assert_eq!((exec("web.1"), exec("host1/web.1")), (before.clone(), before.clone()));
    // It is the container's: not the host's, which is seen by other addresses.
    assert_ne!(before, exec("host1"));
}
