//! A first look at the machines, before anything is made: are they there, and which NIC is which. Leaves nothing there.

use std::collections::BTreeMap;

use futures::future::join_all;
use labctl_model::{Action, Check, Interface, Lab, Parent};
use labctl_state::{Machines, SshMachine};
use labctl_yaml::{Places, Remark};

use super::{
    fit,
    way::{LOOK, Way},
};
use crate::Error;

/// Where dockerd listens there.
const DOCKER: &str = "/var/run/docker.sock";

/// A NIC of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Nic {
    mac: [u8; 6],
    mtu: u16,
}

/// What a machine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    root: bool,
    docker: bool,
    system: String,
    architecture: String,
    name: String,
    /// By interface.
    nics: BTreeMap<String, Nic>,
}

/// Looks at the machines of a lab and returns the lab as it is there: with their NICs' names and MACs.
///
/// # Errors
/// [`Error::Lacks`], with the lines of the topology or of `machines.yaml`: the lab asks for what needs a wire, or for what
/// it may not do there; a machine is missing or cannot be reached, or lacks root, Docker or a NIC.
pub async fn adopt(lab: &Lab, places: &Places, machines: &Machines) -> Result<Lab, Error> {
    let topology = fit::remarks(lab, machines);
    if !topology.is_empty() {
        return Err(fit::refused(places, &topology));
    }
    let used = lab.hosts.keys().filter_map(|host| Some((host, machines.hosts.get(host)?)));
    let looks = join_all(used.map(async |(host, machine)| (host, machine, look(host, machine).await))).await;
    let mut remarks = Vec::new();
    let mut found = BTreeMap::new();
    for (host, machine, look) in looks {
        match look {
            Ok(look) => {
                remarks.extend(missing(lab, host, machine, &look));
                found.insert(host.as_str(), look);
            }
            Err(why) => remarks.push(remark(
                &[host, "ssh"],
                format!("{host} cannot be reached: {why}"),
                "ssh does not get there",
                format!("`ssh -o BatchMode=yes {} true` must work without a question", machine.ssh),
            )),
        }
    }
    if !remarks.is_empty() {
        return Err(fit::refused(&machines.places, &remarks));
    }
    Ok(with_nics(lab, machines, &found))
}

async fn look(host: &str, machine: &SshMachine) -> Result<Look, String> {
    let nics: Vec<&str> = machine.nics.values().map(String::as_str).collect();
    let script = format!(
        "if [ \"$(id -u)\" = 0 ] || sudo -n true 2>/dev/null; then echo root; fi\n\
         if [ -S {DOCKER} ]; then echo docker; fi\n\
         echo system $(uname -s) $(uname -m) $(uname -n)\n\
         for nic in {}; do d=/sys/class/net/$nic\n\
         if [ -e $d/address ]; then echo nic $nic $(cat $d/address) $(cat $d/mtu); fi; done",
        nics.join(" ")
    );
    Ok(read(&Way::new(host, machine).run(&script, None, LOOK).await?))
}

fn read(text: &str) -> Look {
    let mut look = Look::default();
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["root"] => look.root = true,
            ["docker"] => look.docker = true,
            ["system", system, architecture, name] => {
                look.system = (*system).to_owned();
                look.architecture = (*architecture).to_owned();
                look.name = (*name).to_owned();
            }
            ["nic", name, mac, mtu] => {
                if let (Some(mac), Ok(mtu)) = (read_mac(mac), mtu.parse()) {
                    look.nics.insert((*name).to_owned(), Nic { mac, mtu });
                }
            }
            // The login shell's own words.
            _ => {}
        }
    }
    look
}

fn read_mac(text: &str) -> Option<[u8; 6]> {
    let octets: Vec<u8> = text.split(':').map(|o| u8::from_str_radix(o, 16).ok()).collect::<Option<_>>()?;
    octets.try_into().ok()
}

/// What a machine lacks for its part of the lab.
fn missing(lab: &Lab, host: &str, machine: &SshMachine, look: &Look) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut add = |path: &[&str], message: String, label: &str, hint: &str| {
        remarks.push(remark(path, message, label, hint.to_owned()));
    };
    let ours = std::env::consts::ARCH;
    if look.system != "Linux" || look.architecture != ours {
        let there = format!("{} on {}", look.system, look.architecture);
        let message = format!("{host} runs {there}, and the agent that labctl brings is for Linux on {ours}");
        add(&[host, "ssh"], message, "another kind of machine", "LABCTL_AGENT names another agent's binary");
        return remarks;
    }
    if !look.root {
        let message = format!(
            "no root on {host}: {} is not root, and `sudo -n` does not work. Without root there are no probes from \
             containers (their network namespaces), no watching (packet sockets), no addresses, and no Docker unless the \
             user may use it",
            machine.ssh
        );
        add(
            &[host, "ssh"],
            message,
            "not root",
            "let the user sudo without a password (NOPASSWD), or log in as root",
        );
    }
    if !look.docker {
        let message = format!("{host} has no Docker: there is no socket {DOCKER}");
        add(&[host, "ssh"], message, "no Docker", "apt-get install docker.io, or start it");
    }
    // The managers know nodes by the name of the machine.
    if lab.swarm.as_ref().is_some_and(|s| s.nodes.contains_key(host)) && look.name != host {
        let message =
            format!("{host} is called `{}`, and the nodes of a swarm are known by that name", look.name);
        let hint = format!("call the host `{}` in the topology and here", look.name);
        add(&[host], message, "another name", &hint);
    }
    for nic in lab.hosts.get(host).into_iter().flat_map(|h| &h.nics) {
        let Some(name) = machine.nics.get(&nic.segment) else {
            let message = format!(
                "{host} has a NIC on segment {} in the topology, and none is named here",
                nic.segment
            );
            add(&[host, "nics"], message, "no such NIC", &format!("`nics: {{ {}: eth1 }}`", nic.segment));
            continue;
        };
        let path = [host, "nics", nic.segment.as_str()];
        match look.nics.get(name) {
            None => add(
                &path,
                format!("{host} has no interface {name}"),
                "no such interface",
                "`ip link` there shows them",
            ),
            Some(there) if there.mtu < nic.mtu => add(
                &path,
                format!("{name} of {host} has an MTU of {}, and the topology says {}", there.mtu, nic.mtu),
                "too small",
                "give the segment that `mtu`",
            ),
            Some(_) => {}
        }
    }
    remarks
}

fn remark(path: &[&str], message: String, label: &str, hint: String) -> Remark {
    Remark {
        path: path.iter().map(ToString::to_string).collect(),
        message,
        label: label.to_owned(),
        hint: Some(hint),
    }
}

/// The lab with the machines' own names of NICs, everywhere, and their MACs.
fn with_nics(lab: &Lab, machines: &Machines, looks: &BTreeMap<&str, Look>) -> Lab {
    let mut lab = lab.clone();
    let mut renamed: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (name, host) in &mut lab.hosts {
        let Some(machine) = machines.hosts.get(name) else { continue };
        let names = renamed.entry(name.clone()).or_default();
        for nic in &mut host.nics {
            if let Some(there) = machine.nics.get(&nic.segment) {
                names.insert(std::mem::replace(&mut nic.name, there.clone()), there.clone());
                if let Some(look) = looks.get(name.as_str()).and_then(|l| l.nics.get(there)) {
                    nic.mac = look.mac;
                }
            }
        }
        for Interface { on, .. } in &mut host.interfaces {
            on.iter_mut().for_each(|name| rename(name, names));
        }
        for route in &mut host.routes {
            route.dev.iter_mut().for_each(|dev| rename(dev, names));
        }
    }
    for network in lab.networks.values_mut() {
        // Docker gets one name for all hosts: it must be the same one on all of them.
        if let labctl_model::Driver::Macvlan { parent: Some(Parent::Interface(name)) }
        | labctl_model::Driver::Ipvlan { parent: Some(Parent::Interface(name)) } = &mut network.driver
            && let Some(names) = network.hosts.first().and_then(|h| renamed.get(h))
        {
            rename(name, names);
        }
    }
    let steps = lab.steps.iter_mut();
    for action in steps.flat_map(|s| &mut s.actions) {
        if let Action::RouteAdd { host, route } | Action::RouteDel { host, route } = action
            && let (Some(names), Some(dev)) = (renamed.get(host), &mut route.dev)
        {
            rename(dev, names);
        }
    }
    let checks = lab.expect.iter_mut().chain(lab.steps.iter_mut().flat_map(|s| &mut s.expect));
    for check in checks {
        if let Check::Inject(inject) = check
            && let labctl_model::Source::Endpoint { name, interface: Some(interface) } = &mut inject.from
            && let Some(names) = renamed.get(name)
        {
            rename(interface, names);
        }
    }
    lab
}

/// Gives an interface, or a VLAN on top of it (`eth0.10`), its name there.
fn rename(interface: &mut String, names: &BTreeMap<String, String>) {
    let (base, rest) = match interface.split_once('.') {
        Some((base, id)) => (base, format!(".{id}")),
        None => (interface.as_str(), String::new()),
    };
    if let Some(name) = names.get(base) {
        *interface = format!("{name}{rest}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LAB: &str = "
name: t
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts:
  a: { lan: 10.0.0.1, interfaces: { shim: { type: macvlan, parent: lan } }, routes: [ { to: 10.9.0.0/16, dev: lan } ] }
networks: { m: { driver: macvlan, driver_opts: { parent: lan.7 } }, n: { driver: macvlan, driver_opts: { parent: eth0.9 } } }
containers: { c1: { networks: [m, n] } }
steps: [ { do: route add a 10.8.0.0/16 dev lan } ]
";

    fn machines(lines: &str) -> Machines {
        let tmp = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(tmp.path(), lines).unwrap();
        Machines::load(tmp.path()).unwrap()
    }

    #[test]
    fn what_a_machine_says_is_read_whatever_its_login_shell_adds() {
        let look =
            read("Welcome!\nroot\nsystem Linux x86_64 web1\nnic eth1 52:54:00:00:00:01 1450\nnic eth2\n");
        assert!(look.root && !look.docker);
        assert_eq!((look.system.as_str(), look.name.as_str()), ("Linux", "web1"));
        assert_eq!(look.nics["eth1"], Nic { mac: [0x52, 0x54, 0, 0, 0, 1], mtu: 1450 });
    }

    #[test]
    fn every_name_of_a_nic_becomes_that_of_the_machine() {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let machines = machines("a: { ssh: a, nics: { lan: ens5 } }\n");
        let nic = Nic { mac: [2; 6], mtu: 1500 };
        let look = Look { nics: [("ens5".to_owned(), nic)].into(), ..Look::default() };
        let there = with_nics(&lab, &machines, &[("a", look)].into());
        let host = &there.hosts["a"];
        assert_eq!((host.nics[0].name.as_str(), host.nics[0].mac), ("ens5", [2; 6]));
        assert_eq!((host.interfaces[0].parent(), host.routes[0].dev.as_deref()), ("ens5", Some("ens5")));
        assert_eq!(there.networks["m"].parent_interface(&there, "a").as_deref(), Some("ens5.7"));
        assert_eq!(there.networks["n"].parent_interface(&there, "a").as_deref(), Some("ens5.9"));
        let Action::RouteAdd { route, .. } = &there.steps[0].actions[0] else { panic!() };
        assert_eq!(route.dev.as_deref(), Some("ens5"));
    }

    #[test]
    fn what_is_missing_is_told_with_its_line() {
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let machines = machines("a:\n  ssh: a\n  nics:\n    lan: ens5\n");
        let told = |look: &Look| {
            let remarks = missing(&lab, "a", &machines.hosts["a"], look);
            let found = machines.places.locate(&remarks).map(|d| d.mistakes()).unwrap_or_default();
            found.into_iter().map(|m| (m.line, m.message)).collect::<Vec<_>>()
        };
        let text =
            format!("docker\nsystem Linux {} a\nnic ens5 52:54:00:00:00:01 1400\n", std::env::consts::ARCH);
        let found = told(&read(&text));
        assert!(found[0].0 == 2 && found[0].1.contains("no root on a"), "{found:?}");
        assert!(found[1].0 == 4 && found[1].1.contains("MTU of 1400"), "{found:?}");
        let found = told(&read("root\ndocker\nsystem Linux riscv64 a\n"));
        assert!(found.len() == 1 && found[0].1.contains("Linux on riscv64"), "{found:?}");
    }
}
