//! Hosts as containers against machines.

use std::path::Path;

use labctl_tests::{Labctl, topology};

use crate::measure::{RUNS, seconds, versus};

/// Three nodes and a service with a task on each, ready when every task runs.
fn swarm(mesh: bool) -> String {
    let service = match mesh {
        true => "{ ports: [\"8080:80\"], deploy: { mode: global } }",
        false => "{ networks: [front], deploy: { mode: global, endpoint_mode: dnsrr } }",
    };
    format!(
        "name: swarm-3\nsegments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}\n\
         hosts: {{ n1: {{ lan: 192.168.56.3 }}, n2: {{ lan: 192.168.56.4 }}, n3: {{ lan: 192.168.56.5 }} }}\n\
         swarm: {{ managers: [n1], workers: [n2, n3], advertise_addr: lan }}\n\
         networks: {{ front: {{ driver: overlay }} }}\nservices: {{ web: {service} }}\n"
    )
}

/// Two hosts with a macvlan network, and three swarm nodes: `dind` against `vm`, restored.
pub fn dind() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let labctl = Labctl::new();
    side_by_side(&labctl, "up --no-check of macvlan-2host, dind / vm", &topology("macvlan-2host.yaml"));
    // The mesh needs ip_vs, which a machine's own kernel may lack.
    let mesh = has_ip_vs(&labctl);
    let file = labctl_tests::write(dir.path(), "swarm.yaml", &swarm(mesh));
    let what = if mesh { "ingress" } else { "an overlay and dnsrr, no ip_vs here" };
    side_by_side(&labctl, &format!("3-node swarm with {what} ready, dind / vm"), &file);
}

fn side_by_side(labctl: &Labctl, name: &str, file: &Path) {
    // Node image and template are made once, which is no part of a start.
    for runtime in ["dind", "vm"] {
        up(labctl, file, runtime);
    }
    let (mut dind, mut vm) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        dind.push(up(labctl, file, "dind"));
        vm.push(up(labctl, file, "vm"));
    }
    versus(name, "s", &dind, &vm);
}

fn up(labctl: &Labctl, file: &Path, runtime: &str) -> f64 {
    let args =
        ["up".as_ref(), "--no-check".as_ref(), "--runtime".as_ref(), runtime.as_ref(), file.as_os_str()];
    let took = seconds(|| drop(labctl.run(args).exits(0)));
    labctl.run(["down", "--all"]).exits(0);
    took
}

fn has_ip_vs(labctl: &Labctl) -> bool {
    labctl.run(["doctor", "--format", "json"]).json()["features"]["ip_vs"] == true
}
