//! Ports that two publish on one host: containers, tasks, the routing mesh.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use labctl_model::{Protocol, PublishMode};

use super::Linter;
use crate::state::Status;

pub(super) const TWICE: &str = "port-published-twice";

/// Who publishes a port: its kind, its name, and the address of the host that it is bound to.
type Publisher = (&'static str, String, Option<IpAddr>);

impl Linter<'_> {
    pub(super) fn ports(&mut self) {
        let mut on: HashMap<(String, u16, Protocol), Vec<Publisher>> = HashMap::new();
        let mut twice = Vec::new();
        let mut add = |host: &str, port: u16, protocol: Protocol, by: Publisher| {
            let others = on.entry((host.to_owned(), port, protocol)).or_default();
            let all = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
            let clash = others
                .iter()
                .find(|o| (o.0, &o.1) != (by.0, &by.1) && (all(o.2) || all(by.2) || o.2 == by.2));
            if let Some(other) = clash {
                twice.push((host.to_owned(), port, other.clone(), by.clone()));
            }
            others.push(by);
        };
        for (name, c) in &self.lab.containers {
            let runs = self.state.containers.get(name.as_str()).is_some_and(|c| c.status == Status::Running);
            for p in c.ports.iter().filter(|_| runs) {
                if let Some(port) = p.published {
                    add(&c.host, port, p.protocol, ("containers", name.clone(), p.host_ip));
                }
            }
        }
        for (name, s) in &self.state.services {
            let tasks: Vec<&str> = s.tasks.iter().map(|t| t.host.as_str()).collect();
            for p in &s.spec.ports {
                let Some(port) = p.published else { continue };
                let nodes = self.state.nodes.keys().map(String::as_str);
                let hosts: Vec<&str> = match p.mode {
                    PublishMode::Ingress => nodes.collect(),
                    PublishMode::Host => tasks.clone(),
                };
                for host in hosts {
                    add(host, port, p.protocol, ("services", name.clone(), None));
                }
            }
        }
        // A port of the mesh is every node's.
        let mut seen = HashSet::new();
        twice.retain(|(_, port, a, b)| seen.insert((*port, a.clone(), b.clone())));
        for (host, port, first, second) in twice {
            self.warn(
                TWICE,
                &[second.0, &second.1, "ports"],
                format!("port {port} of `{host}` is published twice: by `{}` and by `{}`", first.1, second.1),
                "one of them gets the packets, or Docker refuses",
                "choose another port of the host".to_owned(),
            );
            self.beside(&[first.0, &first.1, "ports"], "here too");
        }
    }
}
