//! What a lab needs of a shared kernel, and which part of its topology needs it.

use labctl_model::{
    Action, Driver, EndpointMode, Family, Host, Interface, InterfaceKind, Lab, Network, OfFamily, Parent,
    PublishMode, Service,
};

use super::container::WITHHELD;
use crate::kernel::{Feature, is_own_sysctl};

/// What is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A kernel feature.
    Feature(Feature),
    /// A kernel of its own, since the need affects the whole kernel.
    OwnKernel(String),
}

/// A need, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What is needed.
    pub what: What,
    /// What needs it: `network blue`.
    pub by: String,
    /// Keys of the topology that lead to it.
    pub path: Vec<String>,
}

fn need(what: What, by: impl Into<String>, path: &[&str]) -> Need {
    Need { what, by: by.into(), path: path.iter().map(ToString::to_string).collect() }
}

fn feature(feature: Feature, by: impl Into<String>, path: &[&str]) -> Need {
    need(What::Feature(feature), by, path)
}

/// Everything that the lab needs, in the topology's order.
pub fn of(lab: &Lab) -> Vec<Need> {
    let mut needs = Vec::new();
    for (name, host) in &lab.hosts {
        needs.extend(of_host(name, host));
    }
    if lab.swarm.is_some() {
        // Its ingress network uses VXLAN.
        needs.push(feature(Feature::Vxlan, "the swarm", &["swarm"]));
    }
    for (key, network) in &lab.networks {
        needs.extend(of_network(lab, key, network));
    }
    for (name, container) in &lab.containers {
        let withheld = container.cap_add.iter().find(|cap| {
            let cap = cap.to_uppercase();
            WITHHELD.contains(&cap.trim_start_matches("CAP_"))
        });
        if let Some(cap) = withheld {
            needs.push(need(
                What::OwnKernel(format!("capability {cap}")),
                format!("container {name}"),
                &["containers", name, "cap_add"],
            ));
        }
    }
    for (name, service) in &lab.services {
        needs.extend(of_service(name, service));
    }
    for action in lab.steps.iter().flat_map(|s| &s.actions) {
        if let Action::Update { service, change, .. } = action
            && change.ports.iter().flatten().any(|p| p.mode == PublishMode::Ingress)
        {
            let by = format!("the routing mesh of service {service}, once a step updates it,");
            needs.push(feature(Feature::IpVs, by, &["steps"]));
        }
    }
    needs
}

fn of_host(name: &str, host: &Host) -> Vec<Need> {
    let mut needs: Vec<Need> = [Feature::Tun, Feature::Bridge, Feature::Veth]
        .map(|what| feature(what, format!("host {name}"), &["hosts", name]))
        .into();
    let nic = host.nics.iter().find(|nic| nic.addresses.has(Family::V6)).map(|nic| nic.segment.as_str());
    let docker0 = host.daemon_json.get("ipv6").is_some_and(|v| *v == true).then_some("daemon_json");
    let on_top = host.interfaces.iter().find(|i| i.addresses.iter().any(|net| net.family() == Family::V6));
    let on_top = on_top.map(|i| vec!["hosts", name, "interfaces", &i.name]);
    if let Some(path) = nic.or(docker0).map(|key| vec!["hosts", name, key]).or(on_top) {
        needs.push(feature(Feature::Ipv6, format!("host {name}"), &path));
    }
    for Interface { name: interface, kind, .. } in &host.interfaces {
        let what = match kind {
            InterfaceKind::Macvlan => Feature::Macvlan,
            InterfaceKind::Ipvlan => Feature::Ipvlan,
            InterfaceKind::Vlan(_) => Feature::Vlan,
            InterfaceKind::Bridge => Feature::Bridge,
        };
        let path = ["hosts", name, "interfaces", interface];
        needs.push(feature(what, format!("interface {interface} of {name}"), &path));
    }
    for key in host.sysctls.keys().filter(|key| !is_own_sysctl(key)) {
        let what = What::OwnKernel(format!("sysctl {key}"));
        needs.push(need(what, format!("host {name}"), &["hosts", name, "sysctls", key]));
    }
    needs
}

fn of_network(lab: &Lab, key: &str, network: &Network) -> Vec<Need> {
    let by = format!("network {key}");
    let at = |last| ["networks", key, last];
    let v6 = network.enable_ipv6 == Some(true);
    let v6 = v6.then(|| feature(Feature::Ipv6, &by, &at("enable_ipv6")));
    let mut needs: Vec<Need> = v6.into_iter().collect();
    needs.extend(of_driver(lab, key, network));
    needs
}

fn of_driver(lab: &Lab, key: &str, network: &Network) -> Vec<Need> {
    let by = format!("network {key}");
    let at = |last| ["networks", key, last];
    match &network.driver {
        Driver::Bridge => {
            // iptables keeps containers of one bridge apart only if it sees what crosses the bridge.
            let apart =
                network.options.get("com.docker.network.bridge.enable_icc").is_some_and(|v| v == "false");
            let filter = apart.then(|| feature(Feature::BridgeNetfilter, &by, &at("driver_opts")));
            filter.into_iter().collect()
        }
        Driver::Macvlan { parent } => [feature(Feature::Macvlan, &by, &at("driver"))]
            .into_iter()
            .chain(of_parent(parent, key))
            .collect(),
        Driver::Ipvlan { parent } => {
            [feature(Feature::Ipvlan, &by, &at("driver"))].into_iter().chain(of_parent(parent, key)).collect()
        }
        Driver::Overlay => {
            let mut needs = vec![feature(Feature::Vxlan, &by, &at("driver"))];
            if network.options.contains_key("encrypted") {
                needs.push(feature(Feature::Esp, &by, &at("driver_opts")));
                let nodes =
                    lab.hosts.iter().filter(|(h, _)| network.hosts.is_empty() || network.hosts.contains(h));
                // Docker 20.10 tells encrypted networks apart by u32, later ones by BPF.
                let modern: Vec<bool> = nodes.map(|(_, h)| h.engine.is_at_least(24)).collect();
                for (is_modern, what) in [(true, Feature::BpfMatch), (false, Feature::U32Match)] {
                    if modern.contains(&is_modern) {
                        needs.push(feature(what, &by, &at("driver_opts")));
                    }
                }
            }
            needs
        }
    }
}

fn of_parent(parent: &Option<Parent>, key: &str) -> Option<Need> {
    let by = format!("network {key}");
    let path = ["networks", key, "driver_opts", "parent"];
    match parent {
        // Docker makes a dummy for it.
        None => Some(feature(Feature::Dummy, by, &["networks", key, "driver"])),
        Some(Parent::Segment { vlan: Some(_), .. }) => Some(feature(Feature::Vlan, by, &path)),
        // `eth0.10`, which Docker makes if it does not exist.
        Some(Parent::Interface(name)) if name.contains('.') => Some(feature(Feature::Vlan, by, &path)),
        Some(_) => None,
    }
}

fn of_service(name: &str, service: &Service) -> Vec<Need> {
    let mut needs = Vec::new();
    if service.ports.iter().any(|p| p.mode == PublishMode::Ingress) {
        let by = format!("the routing mesh of service {name}");
        needs.push(feature(Feature::IpVs, by, &["services", name, "ports"]));
    }
    if service.endpoint_mode == EndpointMode::Vip && !service.networks.is_empty() {
        let by = format!("the virtual address of service {name}");
        needs.push(feature(Feature::IpVs, by, &["services", name, "deploy", "endpoint_mode"]));
    }
    needs
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn features(text: &str) -> Vec<(String, String)> {
        let lab = labctl_topology::parse(text, "x.yaml").unwrap();
        let of_hosts = |n: &Need| n.path.first().is_some_and(|p| p == "hosts") && n.path.len() == 2;
        let word = |n: Need| match n.what {
            What::Feature(f) => (f.name().to_owned(), n.path.join("/")),
            What::OwnKernel(what) => (what, n.path.join("/")),
        };
        of(&lab).into_iter().filter(|n| !of_hosts(n)).map(word).collect()
    }

    #[test]
    fn each_part_of_a_topology_needs_its_own() {
        let text = "\
name: x
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts:
  h1: { lan: 192.168.56.3, sysctls: { vm.max_map_count: 262144, net.ipv4.ip_forward: 1 } }
networks:
  a: { driver: ipvlan, driver_opts: { parent: lan } }
  b: { driver: macvlan, driver_opts: { parent: lan.7 }, enable_ipv6: true, ipam: { config: [ { subnet: 'fd00:b::/64' } ] } }
containers:
  c1: { networks: [a] }
  c2: { networks: [b], cap_add: [CAP_SYS_TIME] }
";
        let wanted = [
            ("sysctl vm.max_map_count", "hosts/h1/sysctls/vm.max_map_count"),
            ("ipvlan", "networks/a/driver"),
            ("ipv6", "networks/b/enable_ipv6"),
            ("macvlan", "networks/b/driver"),
            ("8021q", "networks/b/driver_opts/parent"),
            ("capability CAP_SYS_TIME", "containers/c2/cap_add"),
        ];
        assert_eq!(features(text), wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[test]
    fn an_address_of_an_interface_needs_its_family() {
        let text = |address: &str| {
            format!(
                "name: x\nsegments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}\n\
                 hosts: {{ h1: {{ lan: 192.168.56.3, interfaces: {{ shim: {{ type: macvlan, parent: lan, addresses: ['{address}'] }} }} }} }}\n"
            )
        };
        let at = |feature: &str| (feature.to_owned(), "hosts/h1/interfaces/shim".to_owned());
        assert_eq!(features(&text("10.7.0.1/24")), [at("macvlan")]);
        assert_eq!(features(&text("fd00:7::1/64")), [at("ipv6"), at("macvlan")]);
    }

    #[test]
    fn a_swarm_needs_ipvs_only_for_virtual_addresses_and_the_mesh() {
        let text = |rest: &str| {
            format!(
                "name: x\nsegments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}\nhosts: {{ m1: {{ lan: 192.168.56.3 }} }}\n\
                 swarm: {{ managers: [m1] }}\nnetworks: {{ ov: {{ driver: overlay }} }}\n\
                 services: {{ web: {{ networks: [ov], {rest} }} }}\n"
            )
        };
        let ipvs = |rest: &str| features(&text(rest)).into_iter().filter(|(f, _)| f == "ip_vs").count();
        assert_eq!(ipvs("deploy: { endpoint_mode: dnsrr }"), 0);
        assert_eq!(ipvs("deploy: { endpoint_mode: vip }"), 1);
        assert_eq!(ipvs("ports: [\"8080:80\"]"), 2);
    }

    #[test]
    fn a_step_that_publishes_on_the_mesh_needs_ipvs() {
        let ipvs = |mode: &str| {
            let text = format!(
                "name: x\nsegments: {{ lan: {{ subnet: 192.168.56.0/24 }} }}\nhosts: {{ m1: {{ lan: 192.168.56.3 }} }}\n\
                 swarm: {{}}\nservices: {{ web: {{}} }}\nsteps:\n  - do: 'update web {{ ports: [ {{ target: 80, \
                 published: 8080, mode: {mode} }} ] }}'\n"
            );
            features(&text).into_iter().filter(|(f, _)| f == "ip_vs").count()
        };
        assert_eq!((ipvs("host"), ipvs("ingress")), (0, 1));
    }
}
