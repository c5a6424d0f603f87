//! Services of the swarm.

use indexmap::IndexMap;

use labctl_model::{
    lab::{BUILTIN_IMAGE, Driver, Lab},
    service::{EndpointMode, Placement, PublishMode, Service, ServiceMode, ServicePort},
    traffic::Protocol,
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, Span};

use super::{Names, containers, entries, flag, images, names::one_line, options};
use crate::raw;

/// Most tasks of a service; each is a container.
const MOST_REPLICAS: u32 = 1_000;

pub(super) fn read(t: &raw::Topology, names: &Names, lab: &Lab, cx: &mut Cx) -> IndexMap<String, Service> {
    if let (None, Some((name, _))) = (&t.swarm, entries(&t.services).next()) {
        let d = Diagnostic::new(name.at, "services need a swarm");
        cx.error(d.hint("`swarm: {}` makes one of all hosts; without one, write `containers`"));
    }
    let all: IndexMap<String, Service> =
        entries(&t.services).map(|(name, s)| (name.value.clone(), service(s, names, lab, cx))).collect();
    published_once(t, &all, cx);
    all
}

pub(super) fn service(s: &raw::Service, names: &Names, lab: &Lab, cx: &mut Cx) -> Service {
    s.image.iter().for_each(|i| images::reference(i, cx));
    let command = s.command.as_ref().map(|c| containers::command(c, cx)).unwrap_or_default();
    let deploy = s.deploy.as_ref();
    let endpoint_mode = deploy.and_then(|d| d.endpoint_mode.as_ref());
    let service = Service {
        image: s.image.as_ref().map_or(BUILTIN_IMAGE.into(), |i| i.value.clone()),
        command,
        environment: s.environment.iter().flat_map(|e| e.0.iter().cloned()).collect(),
        networks: networks(s, names, lab, cx),
        ports: s.ports.iter().flatten().filter_map(|p| port(p, cx)).collect(),
        mode: deploy.map_or(ServiceMode::Replicated(1), |d| mode(d, cx)),
        endpoint_mode: match one_of(endpoint_mode, "endpoint mode", ["vip", "dnsrr"], cx) {
            "dnsrr" => EndpointMode::Dnsrr,
            _ => EndpointMode::Vip,
        },
        placement: Placement {
            constraints: deploy
                .and_then(|d| d.placement.as_ref())
                .and_then(|p| p.constraints.as_ref())
                .map(|c| c.iter().map(|c| constraint(c, cx)).collect())
                .unwrap_or_default(),
            hosts: hosts(s, names, lab, cx),
        },
        run: options::run(s.run_keys(), cx),
        rolling: options::rolling(deploy, cx),
        deferred: flag(&s.deferred),
    };
    let ingress = service.ports.iter().any(|p| p.mode == PublishMode::Ingress);
    if let (Some(at), EndpointMode::Dnsrr, true, false) =
        (endpoint_mode, service.endpoint_mode, ingress, service.deferred)
    {
        let d = Diagnostic::new(
            at.at,
            "`dnsrr` has no virtual address for the routing mesh to spread connections by",
        );
        cx.error(d.hint("publish its ports with `mode: host`, or leave `endpoint_mode` out"));
    }
    service
}

fn networks(s: &raw::Service, names: &Names, lab: &Lab, cx: &mut Cx) -> IndexMap<String, Vec<String>> {
    let mut all = IndexMap::new();
    for (name, a) in s.networks.iter().flat_map(|n| &n.0) {
        if !names.network(name, cx) {
            continue;
        }
        if let Some(n) = lab.networks.get(&name.value) {
            if n.ingress {
                let d = Diagnostic::new(name.at, format!("network `{}` is the routing mesh's", name.value));
                cx.error(d.hint("services get on it by the ports that they publish: leave it out"));
            } else if n.driver != Driver::Overlay {
                let d = Diagnostic::new(name.at, format!("network `{}` is no overlay", name.value));
                cx.error(d.hint("services are on networks with `driver: overlay`, which span the swarm"));
            } else if n.deferred && !flag(&s.deferred) {
                let d = Diagnostic::new(name.at, format!("network `{}` is made only by a step", name.value));
                cx.error(d.hint("make the service `deferred: true` as well"));
            }
        }
        let own = a.as_ref().and_then(|a| {
            let address = a.ipv4_address.as_ref().map(|a| (a.at, "ipv4_address"));
            let mac = || a.mac_address.as_ref().map(|m| (m.at, "mac_address"));
            let name = || a.interface_name.as_ref().map(|n| (n.at, "interface_name"));
            let priority = || a.gw_priority.as_ref().map(|p| (p.at, "gw_priority"));
            address.or_else(mac).or_else(name).or_else(priority)
        });
        if let Some((at, key)) = own {
            let d = Diagnostic::new(at, format!("a service has no `{key}`"));
            cx.error(d.hint("its tasks come and go: Docker gives them addresses and interfaces"));
        }
        let aliases = a.as_ref().map(|a| containers::aliases(a, cx)).unwrap_or_default();
        if all.insert(name.value.clone(), aliases).is_some() {
            let d = Diagnostic::new(name.at, format!("it is on `{}` already", name.value));
            cx.error(d.hint("leave one out"));
        }
    }
    all
}

fn mode(d: &raw::Deploy, cx: &mut Cx) -> ServiceMode {
    let global = one_of(d.mode.as_ref(), "mode", ["replicated", "global"], cx) == "global";
    if let (true, Some(r)) = (global, &d.replicas) {
        let d = Diagnostic::new(r.at, "a global service has one task on every node");
        cx.error(d.hint("leave `replicas` out, or `mode: global`"));
    }
    match &d.replicas {
        _ if global => ServiceMode::Global,
        None => ServiceMode::Replicated(1),
        Some(r) => ServiceMode::Replicated(replicas(r, cx)),
    }
}

/// Notes a number of tasks for a global service.
pub(super) fn scalable(service: &str, at: Span, lab: &Lab, cx: &mut Cx) -> bool {
    let global = lab.services.get(service).is_some_and(|s| s.mode == ServiceMode::Global);
    if global {
        let d = Diagnostic::new(at, format!("`{service}` is global: it has one task on every node"));
        cx.error(d.hint("only a replicated service is scaled"));
    }
    !global
}

/// Reads a number of tasks; notes too many.
pub(super) fn replicas(r: &At<u32>, cx: &mut Cx) -> u32 {
    if r.value > MOST_REPLICAS {
        let d = Diagnostic::new(r.at, format!("{} tasks are more than a service can have", r.value));
        cx.error(d.hint(format!("at most {MOST_REPLICAS}")));
    }
    r.value.min(MOST_REPLICAS)
}

fn constraint(c: &At<String>, cx: &mut Cx) -> String {
    if !c.value.contains("==") && !c.value.contains("!=") {
        let d = Diagnostic::new(c.at, format!("`{}` is no constraint", c.value));
        cx.error(d.hint("as `node.role==worker`, `node.hostname!=host1` or `node.labels.disk==ssd`"));
    }
    one_line("a constraint", c, cx);
    c.value.clone()
}

fn hosts(s: &raw::Service, names: &Names, lab: &Lab, cx: &mut Cx) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for host in s.hosts.iter().flatten().filter(|h| names.host(h, cx)).collect::<Vec<_>>() {
        let Some(swarm) = &lab.swarm else { continue };
        if !swarm.nodes.contains_key(&host.value) {
            let d = Diagnostic::new(host.at, format!("`{}` is not in the swarm", host.value));
            cx.error(
                d.hint(format!("its nodes are {}", words::list(swarm.nodes.keys().map(String::as_str)))),
            );
        } else if !hosts.contains(&host.value) {
            hosts.push(host.value.clone());
        }
    }
    if let Some(list) = s.hosts.as_ref().filter(|l| l.is_empty()) {
        let _ = list;
        cx.error(
            Diagnostic::new(s.at, "this service may run nowhere")
                .hint("without `hosts` it runs on every node"),
        );
    }
    hosts
}

fn port(p: &raw::ServicePort, cx: &mut Cx) -> Option<ServicePort> {
    match p {
        raw::ServicePort::Short(text) => {
            let p = containers::port(text, cx)?;
            if p.host_ip.is_some() {
                let d = Diagnostic::new(text.at, "a service's port is published on all addresses of a node");
                cx.error(d.hint("`PUBLISHED:TARGET`, without an address"));
            }
            let (published, target, protocol) = (p.published, p.target, p.protocol);
            Some(ServicePort { published, target, protocol, mode: PublishMode::Ingress })
        }
        raw::ServicePort::Long(p) => {
            let protocol = match one_of(p.protocol.as_ref(), "protocol", ["tcp", "udp"], cx) {
                "udp" => Protocol::Udp,
                _ => Protocol::Tcp,
            };
            let mode = match one_of(p.mode.as_ref(), "mode", ["ingress", "host"], cx) {
                "host" => PublishMode::Host,
                _ => PublishMode::Ingress,
            };
            let published = match &p.published {
                Some(port) => Some(number(port, cx)?),
                None => None,
            };
            Some(ServicePort { published, target: number(&p.target, cx)?, protocol, mode })
        }
    }
}

fn number(port: &At<u32>, cx: &mut Cx) -> Option<u16> {
    let number = u16::try_from(port.value).ok().filter(|p| *p > 0);
    if number.is_none() {
        cx.error(Diagnostic::new(port.at, format!("`{}` is no port", port.value)).hint("1 to 65535"));
    }
    number
}

/// Reads one of two words; the first is the default.
fn one_of(word: Option<&At<String>>, what: &str, known: [&'static str; 2], cx: &mut Cx) -> &'static str {
    let [default, other] = known;
    match word {
        None => default,
        Some(w) if w.value == default => default,
        Some(w) if w.value == other => other,
        Some(w) => {
            let hint = words::known(what, &w.value, known);
            cx.error(Diagnostic::new(w.at, format!("there is no {what} `{}`", w.value)).hint(hint));
            default
        }
    }
}

/// Notes a port that the routing mesh publishes twice.
fn published_once(t: &raw::Topology, all: &IndexMap<String, Service>, cx: &mut Cx) {
    let mut taken: IndexMap<(u16, bool), (&str, Span)> = IndexMap::new();
    for (name, s) in entries(&t.services) {
        let Some(service) = all.get(&name.value).filter(|s| !s.deferred) else { continue };
        let written = s.ports.iter().flatten().map(|p| match p {
            raw::ServicePort::Short(text) => text.at,
            raw::ServicePort::Long(p) => p.published.as_ref().map_or(p.target.at, |p| p.at),
        });
        for (port, at) in service.ports.iter().zip(written) {
            let Some(published) = port.published.filter(|_| port.mode == PublishMode::Ingress) else {
                continue;
            };
            if let Some((by, first)) =
                taken.insert((published, port.protocol == Protocol::Udp), (&name.value, at))
            {
                let d = Diagnostic::new(at, format!("port {published} of the swarm is published twice"));
                cx.error(d.other(first, format!("by `{by}` first")).hint("choose another port"));
            }
        }
    }
}
