//! What a machine has ready for its first containers: shims that were started before there was a container for them, and
//! a small runtime for labctl's own image (docs/adr/0015).
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, time::Duration};

use labctl_tests::{Labctl, eventually, one_host, write};

/// More than there are shims ready.
const CONTAINERS: usize = 6;

struct Host<'a>(&'a Labctl);

impl Host<'_> {
    fn sh(&self, script: &str) -> String {
        self.0.run(["exec", "shims", "host1", "--", "sh", "-c", script]).exits(0).stdout().trim().to_owned()
    }

    fn inspect(&self, container: &str, what: &str) -> String {
        self.sh(&format!("docker inspect -f '{{{{.{what}}}}}' {container}"))
    }

    /// Number and arguments of the process that looks after a container.
    fn shim(&self, container: &str) -> (String, String) {
        let pid = self.inspect(container, "State.Pid");
        let shim = self.sh(&format!("awk '/^PPid/ {{ print $2 }}' /proc/{pid}/status"));
        let arguments = self.sh(&format!("tr '\\0' ' ' < /proc/{shim}/cmdline"));
        (shim, arguments)
    }
}

/// Each container has a shim of its own, be it a spare one or not; with one that was spare, a container lives as with any
/// other: through the end of its program and of containerd.
#[test]
fn a_container_lives_with_a_spare_shim_as_with_any_other() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let mut text = one_host("shims") + "containers:\n";
    for i in 1..=CONTAINERS {
        text += &format!("  c{i}: {{ host: host1 }}\n");
    }
    labctl.up(&write(dir.path(), "shims.yaml", &text));
    let host = Host(&labctl);

    let shims: Vec<_> = (1..=CONTAINERS).map(|i| host.shim(&format!("c{i}"))).collect();
    let processes: BTreeSet<_> = shims.iter().map(|(pid, _)| pid).collect();
    assert_eq!(processes.len(), CONTAINERS, "{shims:?}");
    let spare = |arguments: &str| arguments.contains("-id labctl-spare-");
    let stopped = host.sh("grep -l 'State:.T' /proc/[0-9]*/status || true");
    assert_eq!(stopped, "", "a shim that was taken runs");
    let were_spare = shims.iter().filter(|(_, arguments)| spare(arguments)).count();
    assert!(were_spare > 1 && were_spare < CONTAINERS, "{shims:?}");
    assert!(spare(&shims[0].1), "the first containers get them: {shims:?}");
    assert_eq!(host.sh("ls /run/labctl/shims/free"), "", "all were taken");

    for i in 1..=CONTAINERS {
        assert_eq!(host.inspect(&format!("c{i}"), "HostConfig.Runtime"), "crun");
    }
    // What is not labctl's own gets what Docker gives it.
    host.sh("docker tag labctl/pause mine && docker run -d --name mine mine");
    assert_eq!(host.inspect("mine", "HostConfig.Runtime"), "runc");
    assert!(host.sh("docker exec mine /labctl-agent --version").contains("labctl-agent"));

    // A program that is run in it, its end, and the end of the shim with its socket.
    assert!(host.sh("docker exec c1 /labctl-agent --version").contains("labctl-agent"));
    let socket = host.sh("cat /run/labctl/shims/labctl-spare-0/address");
    let socket = socket.strip_prefix("unix://").unwrap();
    host.sh(&format!("test -S {socket} && docker stop c1"));
    assert_eq!(host.inspect("c1", "State.Status"), "exited");
    let gone = format!("test ! -e /proc/{} && test ! -e {socket}; echo $?", shims[0].0);
    eventually("the shim of a container that has ended is gone", Duration::from_secs(20), || {
        host.sh(&gone) == "0"
    });
    host.sh("docker start c1");
    assert!(!spare(&host.shim("c1").1), "a shim serves once");

    // A program that was killed.
    let pid = host.inspect("c2", "State.Pid");
    host.sh(&format!("kill -9 {pid} && docker wait c2"));
    assert_eq!(host.inspect("c2", "State.ExitCode"), "137");

    // containerd finds the shim of each container again when it was killed, and dockerd starts it anew.
    host.sh("kill -9 $(pidof containerd)");
    eventually("containerd finds a spare shim again", Duration::from_secs(60), || {
        host.sh("docker exec c3 /labctl-agent --version || true").contains("labctl-agent")
    });
    assert_eq!(host.shim("c3"), shims[2]);
    host.sh("docker restart -t 3 c3 && docker rm -f c3");
    assert!(!host.sh("docker ps --format '{{.Names}}'").contains("c3"));
}
