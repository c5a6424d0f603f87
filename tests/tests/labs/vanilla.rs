//! What stands inside a host's engine: labctl's shortcuts in an emulated machine, and nothing where a lab is vanilla
//! (docs/vanilla.md).

use std::{path::Path, time::Duration};

use labctl_tests::{Labctl, eventually, one_host, topology, write};

/// The folder of the agent's names that stand before the engine's programs, and its part of PATH.
const DIR: &str = "/run/labctl/bin";

struct Host<'a>(&'a Labctl, &'a str);

impl Host<'_> {
    fn sh(&self, script: &str) -> String {
        self.0.run(["exec", self.1, "host1", "--", "sh", "-c", script]).exits(0).stdout().trim().to_owned()
    }

    fn inspect(&self, container: &str, what: &str) -> String {
        self.sh(&format!("docker inspect -f '{{{{.{what}}}}}' {container}"))
    }

    /// The command line of the process with this name.
    fn arguments(&self, name: &str) -> String {
        self.sh(&format!("tr '\\0' ' ' < /proc/$(pidof {name})/cmdline"))
    }

    /// PATH and timer slack of dockerd.
    fn of_dockerd(&self) -> (String, String) {
        let path = self.sh("tr '\\0' '\\n' < /proc/$(pidof dockerd)/environ | sed -n 's/^PATH=//p'");
        (path, self.sh("cat /proc/$(pidof dockerd)/timerslack_ns"))
    }
}

/// One host, with a container of labctl's own image and one of another image.
fn up<'a>(labctl: &'a Labctl, name: &'a str, dir: &Path, vanilla: &str) -> Host<'a> {
    let text = format!("{vanilla}{}containers: {{ c1: {{ host: host1 }} }}\n", one_host(name));
    labctl.up(&write(dir, &format!("{name}.yaml"), &text));
    let host = Host(labctl, name);
    host.sh("docker tag labctl/pause mine && docker run -d --name mine mine");
    host
}

/// A container runs, runs a program, is killed and started again, and is found again by a containerd that was killed.
fn lives(host: &Host, container: &str) {
    let answers = format!("docker exec {container} /labctl-agent --version || true");
    assert!(host.sh(&answers).contains("labctl-agent"));
    let pid = host.inspect(container, "State.Pid");
    host.sh(&format!("kill -9 {pid} && docker wait {container}"));
    assert_eq!(host.inspect(container, "State.ExitCode"), "137");
    host.sh(&format!("docker start {container} && kill -9 $(pidof containerd)"));
    eventually("containerd finds the container again", Duration::from_secs(60), || {
        host.sh(&answers).contains("labctl-agent")
    });
}

#[test]
fn an_emulated_machine_has_shortcuts_and_another_has_none() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let host = up(&labctl, "shortcuts", dir.path(), "");
    let emulated = host.sh("grep -c 'QEMU Virtual CPU' /proc/cpuinfo || true") != "0";
    let runtime = if emulated { "crun" } else { "runc" };
    assert_eq!(host.inspect("c1", "HostConfig.Runtime"), runtime);
    // What is not labctl's own gets what Docker gives it.
    assert_eq!(host.inspect("mine", "HostConfig.Runtime"), "runc");
    let (path, slack) = host.of_dockerd();
    assert_eq!((path.starts_with(DIR), slack != "50000"), (emulated, emulated), "{path} {slack}");
    // Programs in containers have the kernel's own timers.
    for container in ["c1", "mine"] {
        let pid = host.inspect(container, "State.Pid");
        assert_eq!(host.sh(&format!("cat /proc/{pid}/timerslack_ns")), "50000", "{container}");
    }
    lives(&host, "c1");
}

#[test]
fn a_vanilla_lab_has_dockers_own_engine() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let host = up(&labctl, "stock", dir.path(), "vanilla: true\n");
    assert_eq!(host.sh(&format!("ls -d {DIR} 2>&1 | grep -vc 'No such' || true")), "0");
    assert_eq!(host.arguments("dockerd"), "dockerd --host unix:///var/run/docker.sock");
    let (path, slack) = host.of_dockerd();
    assert!(!path.contains("labctl"), "{path}");
    assert_eq!(slack, "50000");
    assert!(!host.sh("docker info -f '{{ json .Runtimes }}'").contains("crun"));
    for container in ["c1", "mine"] {
        assert_eq!(host.inspect(container, "HostConfig.Runtime"), "runc");
        // dockerd's own hook is called as dockerd wrote it.
        let id = host.inspect(container, "Id");
        let bundle =
            format!("/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{id}/config.json");
        let hooks = host.sh(&format!("grep -o '\"path\":\"/proc/[0-9]*/exe\"' {bundle}"));
        assert!(!hooks.is_empty(), "{container}");
    }
    lives(&host, "c1");
}

/// What holds with shortcuts holds without.
#[test]
fn labs_hold_on_dockers_own_engine() {
    let labctl = Labctl::new();
    for name in ["ipvlan-2host.yaml", "docker-gwbridge.yaml"] {
        let file = topology(name);
        labctl.run(["test", "--runtime", "vm", "--vanilla", file.to_str().unwrap()]).exits(0);
    }
}
