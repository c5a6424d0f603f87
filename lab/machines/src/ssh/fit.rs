//! What of a topology cannot be done on machines that exist, or not without permission.

use labctl_model::{Action, Check, InterfaceKind, Lab, Source, Step, Target};
use labctl_state::Machines;
use labctl_yaml::{Places, Remark};

use crate::Error;

/// The way out for what needs a wire.
const WIRE: &str = "`--runtime vm` and `dind` have a wire";

/// The refusals for this lab, with the lines of its topology.
pub(super) fn remarks(lab: &Lab, machines: &Machines) -> Vec<Remark> {
    let mut found = Found(Vec::new());
    for (name, segment) in &lab.segments {
        let path = ["segments", name.as_str()];
        for (key, is_set, what) in [
            ("port_security", segment.port_security, "port security"),
            ("ra", segment.ra.is_some(), "a router that advertises itself"),
            ("mld", segment.mld, "MLD snooping"),
            ("path_mtu", segment.path_mtu.is_some(), "the MTU of a path behind a gateway"),
        ] {
            if is_set {
                found.wire(&[path[0], path[1], key], format!("{what} on {name}"));
            }
        }
        if segment.outside.iter().any(|net| net.prefix_len() > 0) {
            found.wire(&[path[0], path[1], "outside"], format!("a stand-in for what is outside of {name}"));
        }
        if !segment.block.is_empty() {
            found.impair(machines, &[path[0], path[1], "block"], format!("a block on {name}"));
        }
    }
    for name in lab.peers.keys() {
        found.wire(&["peers", name], format!("peer {name} lives on the wire, and that"));
    }
    for (name, host) in &lab.hosts {
        let path = |key| ["hosts", name.as_str(), key];
        let Some(machine) = machines.hosts.get(name) else {
            let known: Vec<&str> = machines.hosts.keys().map(String::as_str).collect();
            let file = machines.file.display();
            found.add(
                &["hosts", name],
                format!("host {name} is not in {file}"),
                "no machine for it",
                &format!("there are {}", known.join(", ")),
            );
            continue;
        };
        if !host.daemon_json.is_empty() {
            found.theirs(&path("daemon_json"), format!("daemon.json of {name}"));
        }
        for bridge in host.interfaces.iter().filter(|i| i.kind == InterfaceKind::Bridge) {
            found.wire(
                &["hosts", name, "interfaces", &bridge.name],
                format!("a bridge between NICs of {name}"),
            );
        }
        if machine.configure {
            continue;
        }
        let changes = [
            ("interfaces", !host.interfaces.is_empty()),
            ("routes", !host.routes.is_empty()),
            ("sysctls", !host.sysctls.is_empty()),
        ];
        for (key, _) in changes.into_iter().filter(|(_, there)| *there) {
            found.configure(&path(key), name, key);
        }
    }
    for (index, check) in lab.expect.iter().enumerate() {
        found.check(lab, machines, check, &["expect".into(), index.to_string()]);
    }
    for (index, step) in lab.steps.iter().enumerate() {
        let path = ["steps".to_owned(), index.to_string()];
        found.step(machines, step, &[&path[0], &path[1], "do"]);
        for (number, check) in step.expect.iter().enumerate() {
            found.check(
                lab,
                machines,
                check,
                &[path[0].clone(), path[1].clone(), "expect".into(), number.to_string()],
            );
        }
    }
    found.0
}

/// The refusals as an error, with the lines of this text.
pub(super) fn refused(places: &Places, remarks: &[Remark]) -> Error {
    match places.locate(remarks) {
        Some(diagnostics) => Error::Lacks(Box::new(diagnostics)),
        None => {
            let words = |r: &Remark| match &r.hint {
                Some(hint) => format!("{}\nhint: {hint}", r.message),
                None => r.message.clone(),
            };
            Error::Unfit(remarks.iter().map(words).collect::<Vec<_>>().join("\n"))
        }
    }
}

struct Found(Vec<Remark>);

impl Found {
    fn add(&mut self, path: &[&str], message: String, label: &str, hint: &str) {
        self.0.push(Remark {
            path: path.iter().map(ToString::to_string).collect(),
            message,
            label: label.to_owned(),
            hint: Some(hint.to_owned()),
        });
    }

    fn wire(&mut self, path: &[&str], what: String) {
        self.add(
            path,
            format!("{what} needs labctl's own wire, and real machines are on a real network"),
            "needs the wire",
            WIRE,
        );
    }

    fn theirs(&mut self, path: &[&str], what: String) {
        let message = format!("{what}: the dockerd of a real machine is not labctl's to change");
        self.add(
            path,
            message,
            "not on a real machine",
            "`--runtime vm` and `dind` have dockerds of their own",
        );
    }

    fn configure(&mut self, path: &[&str], host: &str, what: &str) {
        let message = format!("{what} of {host} change that machine, which nothing allows");
        self.add(
            path,
            message,
            "would change the machine",
            "`configure: true` for it in machines.yaml; `down` takes it back",
        );
    }

    fn impair(&mut self, machines: &Machines, path: &[&str], what: String) {
        if !machines.allow_impair {
            let message = format!("{what}: without a wire it takes rules of nftables on the machines");
            self.add(
                path,
                message,
                "would filter on the machines",
                "`--allow-impair` allows it; `down` takes them away",
            );
        }
    }

    fn check(&mut self, lab: &Lab, machines: &Machines, check: &Check, path: &[String]) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match check {
            Check::Matrix(matrix) if !machines.allow_outside => {
                let mut told = Vec::new();
                for cell in &matrix.cells {
                    if let Target::Address(address) = &cell.to
                        && !is_inside(lab, *address)
                        && !told.contains(address)
                    {
                        told.push(*address);
                        let message = format!("{address} is outside of the topology's segments and networks");
                        self.add(
                            &path,
                            message,
                            "probes somebody else's machine",
                            "`--allow-outside` allows it",
                        );
                    }
                }
            }
            Check::Inject(inject) if matches!(inject.from, Source::Wire(_)) => {
                self.wire(&path, format!("a frame from {}", inject.from));
            }
            _ => {}
        }
    }

    fn step(&mut self, machines: &Machines, step: &Step, path: &[&str]) {
        for action in &step.actions {
            match action {
                Action::Cut { host, .. } | Action::Heal { host, .. } => {
                    self.impair(machines, path, format!("a cut of {host}"));
                }
                Action::Block { place, .. } if place.from.is_some() && place.to.is_some() => {
                    self.wire(path, "a block between two hosts".to_owned());
                }
                Action::Block { .. } | Action::Unblock { .. } => {
                    self.impair(machines, path, "a block".to_owned());
                }
                Action::Reset => {
                    let message = "`reset` goes back to a checkpoint, and a real machine has none".to_owned();
                    self.add(path, message, "not on a real machine", "`--runtime vm` has checkpoints");
                }
                Action::Power { host, .. } if machines.hosts.get(host).is_some_and(|m| m.power.is_none()) => {
                    let message = format!("nothing says how {host} is ended and started");
                    let hint = "`power: { kill: COMMAND, start: COMMAND }` for it in machines.yaml";
                    self.add(path, message, "no power over it", hint);
                }
                Action::Docker { host, .. } | Action::ConfigureDocker { host, .. } => {
                    self.theirs(path, format!("dockerd of {host}"));
                }
                Action::PruneNetworks(host) => {
                    let message =
                        format!("`prune networks` would remove networks on {host} that are not the lab's");
                    self.add(
                        path,
                        message,
                        "not on a real machine",
                        "`remove network NETWORK` removes the lab's",
                    );
                }
                Action::RouteAdd { host, .. } | Action::RouteDel { host, .. }
                    if machines.hosts.get(host).is_some_and(|m| !m.configure) =>
                {
                    self.configure(path, host, "routes");
                }
                Action::CreateInterface { host, .. } | Action::RemoveInterface { host, .. }
                    if machines.hosts.get(host).is_some_and(|m| !m.configure) =>
                {
                    self.configure(path, host, "interfaces");
                }
                _ => {}
            }
        }
    }
}

/// Whether an address lies in a segment, in a network's pool, or is an interface's.
fn is_inside(lab: &Lab, address: std::net::IpAddr) -> bool {
    let segments = lab.segments.values().flat_map(|s| s.subnet.iter());
    let pools = lab.networks.values().flat_map(|n| n.ipam.iter().map(|p| p.subnet));
    let interfaces =
        lab.hosts.values().flat_map(|h| h.interfaces.iter().flat_map(|i| i.addresses.iter().copied()));
    address.is_loopback() || segments.chain(pools).chain(interfaces).any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_state::SshMachine;
    use labctl_topology::Topology;

    use super::*;

    fn refusals(text: &str, change: impl FnOnce(&mut Machines)) -> Vec<(u32, String)> {
        let Topology { lab, places, .. } = Topology::parse(text, "lab.yaml", &Default::default()).unwrap();
        let machine = |name: &str| SshMachine {
            ssh: name.to_owned(),
            config: None,
            nics: [("lan".to_owned(), "eth1".to_owned())].into_iter().collect(),
            configure: false,
            power: None,
        };
        let hosts = ["a", "b"].map(|name| (name.to_owned(), machine(name))).into_iter().collect();
        let mut machines = Machines { hosts, ..Machines::default() };
        change(&mut machines);
        let found = places.locate(&remarks(&lab, &machines)).map(|d| d.mistakes()).unwrap_or_default();
        found.into_iter().map(|m| (m.line, m.message)).collect()
    }

    #[test]
    fn what_needs_a_wire_or_permission_is_refused_by_line() {
        let text = "\
name: t
segments:
  lan: { subnet: 10.0.0.0/24, gateway: 10.0.0.254, port_security: true, mld: true }
  wan: { subnet: 10.1.0.0/24, block: [esp] }
hosts:
  a: { lan: 10.0.0.1 }
  b: { lan: 10.0.0.2, sysctls: { net.ipv4.ip_forward: 1 } }
  c: { lan: 10.0.0.3 }
peers:
  p: { lan: 10.0.0.9 }
expect:
  - probe: icmp
    rules: [ { from: a, to: [b, 10.0.0.254, 8.8.8.8], verdict: 'yes' } ]
steps:
  - do: cut a
  - do: kill b
  - do: stop docker a
  - do: prune networks a
";
        let found = refusals(text, |_| {});
        for (line, part) in [
            (3, "port security on lan"),
            (3, "MLD snooping on lan"),
            (4, "a block on wan"),
            (7, "sysctls of b"),
            (8, "host c is not in"),
            (10, "peer p"),
            (12, "8.8.8.8 is outside"),
            (15, "a cut of a"),
            (16, "how b is ended"),
            (17, "dockerd of a"),
            (18, "prune networks"),
        ] {
            assert!(found.iter().any(|(l, m)| *l == line && m.contains(part)), "{line} {part}: {found:#?}");
        }
        assert_eq!(found.len(), 11, "{found:#?}");
        let found = refusals(text, |machines| {
            (machines.allow_impair, machines.allow_outside) = (true, true);
            machines.hosts.values_mut().for_each(|m| m.configure = true);
        });
        assert_eq!(found.len(), 7, "{found:#?}");
    }
}
