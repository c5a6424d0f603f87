//! Looks at a machine before a lab makes anything there, and says what is wrong.

use std::path::Path;

use labctl_docker::HostDocker;
use labctl_model::{Driver, Host, Lab, OfFamily};
use labctl_protocol::{
    client::AgentClient,
    kernel::{Feature, Findings},
    messages::{Netns, NetnsFacts},
};
use labctl_state::SshMachine;
use labctl_yaml::Remark;

use super::connection::Connection;
use crate::{
    Error, Events,
    dind::{Need, What, needs_of},
    forward::{Forward, GUEST_DOCKER_SOCKET},
};

/// The first version of Docker that labs run on.
const OLDEST: (u32, u32) = (20, 10);

/// One host of a lab and its machine.
pub(super) struct Subject<'a> {
    pub lab: &'a Lab,
    pub name: &'a str,
    pub host: &'a Host,
    pub machine: &'a SshMachine,
    /// Whose lab it is.
    pub owner: &'a str,
    /// The host's folder on this machine.
    pub dir: &'a Path,
}

/// dockerd there, by a socket here. The socket goes with it.
pub(super) struct Dockerd {
    pub docker: HostDocker,
    _forward: Forward,
}

impl Dockerd {
    /// Connects.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn of(host: &str, agent: &AgentClient, dir: &Path) -> Result<Self, Error> {
        let api = agent.docker(serde_json::Map::new()).await.map_err(Error::agent(host))?;
        let socket = dir.join("docker.sock");
        let _ = std::fs::remove_file(&socket);
        let forward = Forward::start(socket.clone(), agent.clone(), GUEST_DOCKER_SOCKET)?;
        Ok(Self { docker: HostDocker::connect(host, &socket, &api, false)?, _forward: forward })
    }
}

/// Begins the lab's notes there and looks at everything; returns what is wrong, by the topology's lines.
///
/// # Errors
/// It cannot be looked at; a lab of this name is there.
pub(super) async fn examine(
    subject: &Subject<'_>,
    connection: &Connection,
    events: &Events,
) -> Result<Vec<Remark>, Error> {
    let Subject { name, .. } = subject;
    let refused = |why: String| Error::Machine { host: (*name).to_owned(), why };
    let agent = AgentClient::dial(connection.dial()).await.map_err(Error::agent(name))?;
    agent.begin_notes(subject.owner).await.map_err(Error::agent(name))?;
    let notes = agent.notes().await.map_err(Error::agent(name))?.unwrap_or_default();
    if !notes.made.is_empty() {
        let left: Vec<String> = notes.made.iter().map(ToString::to_string).collect();
        return Err(refused(format!(
            "an earlier lab `{}` has left {} there",
            subject.lab.name,
            left.join(", ")
        )));
    }
    let kernel = connection.kernel().await.map_err(refused)?;
    let findings = serde_json::from_str(&kernel).map_err(|e| refused(format!("labctl-agent kernel: {e}")))?;
    let dockerd = Dockerd::of(name, &agent, subject.dir).await?;
    let facts = agent.facts(Netns::Host).await.map_err(Error::agent(name))?;
    let mut remarks = features(subject, &findings);
    remarks.extend(nics(subject, &facts));
    let version = engine(subject, &dockerd.docker, &mut remarks).await?;
    let nics: Vec<String> =
        subject.host.nics.iter().map(|nic| format!("{} {}", nic.name, nic.addresses)).collect();
    let kernel = &agent.hello().kernel;
    events.host(name, format!("reached: kernel {kernel}, Docker {version}, {}", nics.join(", ")));
    Ok(remarks)
}

/// What the kernel there lacks.
fn features(subject: &Subject<'_>, findings: &Findings) -> Vec<Remark> {
    let lacks = |need: Need| match &need.what {
        // Its NICs are there already, and its kernel is its own.
        What::Feature(Feature::Tun) | What::OwnKernel(_) => None,
        What::Feature(feature) => {
            let why = findings.get(feature).cloned().unwrap_or(Some("not tried".into()))?;
            Some(Remark {
                message: format!(
                    "{} needs {feature}, which the kernel of {} has not ({why})",
                    need.by, subject.name
                ),
                path: need.path,
                label: format!("needs {feature}"),
                hint: Some("`--runtime vm` gives each host a kernel that has it".to_owned()),
            })
        }
    };
    needs_of(subject.lab).into_iter().filter_map(lacks).collect()
}

/// Which addresses are not as the topology has them.
fn nics(subject: &Subject<'_>, facts: &NetnsFacts) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let wanted = subject.host.nics.iter().flat_map(|nic| nic.addresses.iter().map(move |net| (nic, net)));
    for (nic, wanted) in wanted {
        let address = wanted.addr();
        let has = |name: &str| {
            facts.addresses.iter().filter(|(of, _)| of == name).map(|(_, a)| *a).collect::<Vec<_>>()
        };
        let there = has(&nic.name);
        let elsewhere = facts.addresses.iter().find(|(of, a)| *of != nic.name && a.addr() == address);
        let right =
            |a: &ipnet::IpNet| a.addr() == address && (*a == wanted || nic.peer.has(address.family()));
        let (message, hint) = if there.iter().any(right) {
            continue;
        } else if let Some((other, _)) = elsewhere {
            (
                format!("{other} of {} has the address {address}", subject.name),
                "name that NIC in machines.yaml",
            )
        } else if there.iter().any(|a| a.addr() == address) {
            let message =
                format!("{} of {} has {address} with another prefix length", nic.name, subject.name);
            (message, "give the segment that subnet")
        } else if subject.machine.configure {
            continue;
        } else {
            let list: Vec<String> = there.iter().map(ToString::to_string).collect();
            let has = if list.is_empty() { "no address".to_owned() } else { list.join(", ") };
            let message =
                format!("{} of {} has {has}, and the topology says {wanted}", nic.name, subject.name);
            (message, "`configure: true` for it in machines.yaml adds the address, and `down` takes it away")
        };
        remarks.push(Remark {
            path: ["hosts", subject.name, nic.segment.as_str()].map(str::to_owned).to_vec(),
            message,
            label: "not the address there".to_owned(),
            hint: Some(hint.to_owned()),
        });
    }
    remarks
}

/// Looks at dockerd there and returns its version.
async fn engine(
    subject: &Subject<'_>,
    docker: &HostDocker,
    remarks: &mut Vec<Remark>,
) -> Result<String, Error> {
    let (lab, name) = (subject.lab, subject.name);
    let mut add = |path: &[&str], message: String, label: &str, hint: &str| {
        remarks.push(Remark {
            path: path.iter().map(ToString::to_string).collect(),
            message,
            label: label.to_owned(),
            hint: Some(hint.to_owned()),
        });
    };
    let info = docker.api.info().await.map_err(docker.failed("info"))?;
    let version = info.server_version.unwrap_or_default();
    if is_older(&version) {
        let message =
            format!("{name} has Docker {version}, and labs need {}.{} or later", OLDEST.0, OLDEST.1);
        add(&["hosts", name], message, "too old", "its distribution's docker.io, or docker-ce");
    }
    let state = docker.swarm_state().await?;
    if lab.swarm.is_some() && !state.starts_with("inactive") {
        let message =
            format!("{name} is in a swarm already ({state}), and labctl never makes a machine leave its own");
        add(&["swarm"], message, "it would have to leave another", "use a machine that is in none");
    }
    let taken = docker.container_names().await?;
    for container in lab.containers_on(name).map(|(container, _)| container) {
        if let Some((_, label)) = taken.iter().find(|(there, _)| there == container) {
            let whose = label.as_ref().map(|lab| format!(", of lab {lab}")).unwrap_or_default();
            let message = format!("{name} has a container `{container}` already{whose}");
            add(&["containers", container], message, "the name is taken", "give it another name");
        }
    }
    let there = docker.network_names().await?;
    let here = |n: &labctl_model::Network| match n.driver {
        Driver::Overlay => lab.swarm.as_ref().is_some_and(|s| s.nodes.contains_key(name)),
        _ => n.hosts.iter().any(|h| h == name),
    };
    for (key, network) in lab.networks.iter().filter(|(_, n)| here(n)) {
        if there.contains(&network.docker_name) {
            let message = format!("{name} has a network `{}` already", network.docker_name);
            add(&["networks", key], message, "the name is taken", "give it another `name:`");
        }
    }
    Ok(version)
}

fn is_older(version: &str) -> bool {
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST,
        // A version of somebody's own.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_older("19.03.15") && is_older("20.9.1"));
        assert!(!is_older("20.10.24+dfsg1") && !is_older("26.1.5") && !is_older("dev"));
    }

    #[test]
    fn an_address_is_right_addable_or_wrong() {
        let text = "name: t\nsegments: { lan: { subnet: 10.0.0.0/24 } }\nhosts:\n  a: { lan: 10.0.0.1 }\n";
        let lab = labctl_topology::parse(text, "t.yaml").unwrap();
        let told = |addresses: &[(&str, &str)], configure| {
            let machine = SshMachine {
                ssh: "a".into(),
                config: None,
                nics: Default::default(),
                configure,
                power: None,
            };
            let subject = Subject {
                lab: &lab,
                name: "a",
                host: &lab.hosts["a"],
                machine: &machine,
                owner: "me",
                dir: Path::new("/"),
            };
            let addresses = addresses.iter().map(|(n, a)| ((*n).to_owned(), a.parse().unwrap())).collect();
            let found = nics(&subject, &NetnsFacts { addresses, ..NetnsFacts::default() });
            found.into_iter().map(|r| r.message).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(told(&[("eth0", "10.0.0.1/24"), ("eth0", "10.9.9.9/8")], false), "");
        assert!(
            told(&[("eth0", "10.0.0.9/24")], false)
                .contains("has 10.0.0.9/24, and the topology says 10.0.0.1/24")
        );
        assert_eq!(told(&[("eth0", "10.0.0.9/24")], true), "");
        assert!(told(&[("eth1", "10.0.0.1/24")], true).contains("eth1 of a has the address"));
        assert!(told(&[("eth0", "10.0.0.1/16")], true).contains("another prefix length"));
    }
}
