//! The rules that dockerd installs in its host, by what it has there. Layout of Docker 20.10 to 27 (moby
//! libnetwork/drivers/bridge/setup_ip_tables.go, libnetwork/firewall_linux.go, libnetwork/service_linux.go).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Firewall, Match, Table, Target};
use crate::packet::Proto;

/// A bridge network, as dockerd's rules see it.
#[derive(Clone, Debug)]
pub struct BridgeRules {
    /// Its interface.
    pub interface: String,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether its containers may talk to each other.
    pub icc: bool,
    /// Whether what leaves is masqueraded.
    pub masquerade: bool,
}

/// A published port.
#[derive(Clone, Debug)]
pub struct PortRule {
    /// Interface of the bridge that its container is on.
    pub interface: String,
    /// Address of the host; all if absent.
    pub host_ip: Option<IpAddr>,
    /// Transport.
    pub proto: Proto,
    /// Port of the host.
    pub published: u16,
    /// The container's address and port.
    pub to: SocketAddr,
}

/// The routing mesh of a node.
#[derive(Clone, Debug)]
pub struct MeshRules {
    /// Interface of docker_gwbridge.
    pub interface: String,
    /// Address of its sandbox on docker_gwbridge.
    pub sandbox: IpAddr,
    /// Published ports.
    pub ports: Vec<(Proto, u16)>,
}

/// What dockerd has on a host.
#[derive(Clone, Debug, Default)]
pub struct HostRules {
    /// Bridges.
    pub bridges: Vec<BridgeRules>,
    /// Ports.
    pub ports: Vec<PortRule>,
    /// The mesh, on a node of a swarm.
    pub mesh: Option<MeshRules>,
    /// Whether docker-proxy serves what rules do not.
    pub proxy: bool,
    /// Whether dockerd turned on forwarding itself, and so set the policy.
    pub forward_drops: bool,
}

impl HostRules {
    /// The rules.
    pub fn firewall(&self) -> Firewall {
        let mut f = Firewall { forward_drops: self.forward_drops, ..Firewall::default() };
        self.filter(&mut f);
        self.nat(&mut f);
        f
    }

    fn filter(&self, f: &mut Firewall) {
        use Match::{Dst, Established, FromPort, In, Out, Port, Src};
        let jump = |chain: &str| Target::Jump(chain.to_owned());
        let mut add = |chain: &str, matches: Vec<Match>, target: Target| {
            f.append(Table::Filter, chain, matches, target);
        };
        if let Some(mesh) = &self.mesh {
            add("FORWARD", vec![], jump("DOCKER-INGRESS"));
            for (proto, port) in &mesh.ports {
                add("DOCKER-INGRESS", vec![Port(*proto, *port)], Target::Accept);
                // Its answers too, before bridges are kept apart.
                add("DOCKER-INGRESS", vec![FromPort(*proto, *port), Established], Target::Accept);
            }
        }
        add("FORWARD", vec![], jump("DOCKER-ISOLATION-STAGE-1"));
        for b in &self.bridges {
            let name = || b.interface.clone();
            if b.internal {
                for subnet in &b.subnets {
                    let stage = "DOCKER-ISOLATION-STAGE-1";
                    add(stage, vec![Src(true, *subnet), Out(false, name())], Target::Drop);
                    add(stage, vec![Dst(true, *subnet), In(false, name())], Target::Drop);
                }
            } else {
                let leaves = vec![In(false, name()), Out(true, name())];
                add("DOCKER-ISOLATION-STAGE-1", leaves, jump("DOCKER-ISOLATION-STAGE-2"));
                add("DOCKER-ISOLATION-STAGE-2", vec![Out(false, name())], Target::Drop);
                add("FORWARD", vec![Out(false, name()), Established], Target::Accept);
                add("FORWARD", vec![Out(false, name())], jump("DOCKER"));
                add("FORWARD", vec![In(false, name()), Out(true, name())], Target::Accept);
            }
            let among = vec![In(false, name()), Out(false, name())];
            add("FORWARD", among, if b.icc { Target::Accept } else { Target::Drop });
        }
        for p in &self.ports {
            let matches = vec![
                Dst(false, IpNet::from(p.to.ip())),
                In(true, p.interface.clone()),
                Out(false, p.interface.clone()),
                Port(p.proto, p.to.port()),
            ];
            add("DOCKER", matches, Target::Accept);
        }
    }

    fn nat(&self, f: &mut Firewall) {
        use Match::{Dst, FromLocal, In, Out, Port, Src, ToLocal};
        let mut add = |chain: &str, matches: Vec<Match>, target: Target| {
            f.append(Table::Nat, chain, matches, target);
        };
        if let Some(mesh) = &self.mesh {
            for chain in ["PREROUTING", "OUTPUT"] {
                add(chain, vec![ToLocal], Target::Jump("DOCKER-INGRESS".into()));
            }
            for (proto, port) in &mesh.ports {
                let to = SocketAddr::new(mesh.sandbox, *port);
                add("DOCKER-INGRESS", vec![Port(*proto, *port)], Target::Dnat(to));
            }
            add("POSTROUTING", vec![Out(false, mesh.interface.clone()), FromLocal], Target::Masquerade);
        }
        add("PREROUTING", vec![ToLocal], Target::Jump("DOCKER".into()));
        let mut from_host = vec![ToLocal];
        if self.proxy {
            from_host.insert(0, Dst(true, LOOPBACK));
        }
        add("OUTPUT", from_host, Target::Jump("DOCKER".into()));
        for b in self.bridges.iter().filter(|b| b.masquerade && !b.internal) {
            for subnet in &b.subnets {
                let leaves = vec![Src(false, *subnet), Out(true, b.interface.clone())];
                add("POSTROUTING", leaves, Target::Masquerade);
            }
            match self.proxy {
                true => add("DOCKER", vec![In(false, b.interface.clone())], Target::Return),
                // The host's own 127.0.0.1 as a source would find no way back.
                false => {
                    add("POSTROUTING", vec![Out(false, b.interface.clone()), FromLocal], Target::Masquerade)
                }
            }
        }
        for p in &self.ports {
            let host_ip = p.host_ip.map(|ip| Dst(false, IpNet::from(ip)));
            let mut matches: Vec<Match> = host_ip.into_iter().collect();
            if self.proxy {
                matches.push(In(true, p.interface.clone()));
            }
            matches.push(Port(p.proto, p.published));
            add("DOCKER", matches, Target::Dnat(p.to));
            let (own, to) = (IpNet::from(p.to.ip()), p.to.port());
            let to_itself = vec![Src(false, own), Dst(false, own), Port(p.proto, to)];
            add("POSTROUTING", to_itself, Target::Masquerade);
        }
    }
}

/// 127.0.0.0/8.
const LOOPBACK: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8));
