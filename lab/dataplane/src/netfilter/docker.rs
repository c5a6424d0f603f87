//! The rules that dockerd installs in its host, by what it has there. Layouts of Docker 20.10 to 27 (moby
//! libnetwork/drivers/bridge/setup_ip_tables.go, libnetwork/firewall_linux.go, libnetwork/service_linux.go) and of 28
//! (libnetwork/drivers/bridge/internal/iptabler).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use labctl_model::{Family, OfFamily};

use super::{Firewall, Match, Table, Target};
use crate::packet::Proto;

/// How others get at the containers of a bridge (moby libnetwork/drivers/bridge/bridge_linux.go, `gwMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// By published ports of the host.
    #[default]
    Nat,
    /// By these, and by a route to any port.
    NatUnprotected,
    /// By a route to published ports.
    Routed,
    /// Not at all: the bridge has no address.
    Isolated,
}

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
    /// How others get at its containers.
    pub mode: GatewayMode,
    /// Addresses of its containers.
    pub endpoints: Vec<IpAddr>,
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
    /// Port of the host; none where the network is routed.
    pub published: Option<u16>,
    /// The container's address and port; of IPv4 for a container without IPv6, which only docker-proxy leads to.
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

/// What dockerd has on a host, of one address family.
#[derive(Clone, Debug)]
pub struct HostRules {
    /// The family.
    pub family: Family,
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
    /// Whether the layout is that of Docker 28.
    pub is_28: bool,
    /// Whether the rules of an internal network leave alone what stays on its bridge, as neighbour discovery does: those of IPv6
    /// from Docker 24 on (moby#45649).
    pub internal_meets: bool,
}

impl HostRules {
    fn forwarded(&self) -> impl Iterator<Item = &PortRule> {
        self.ports.iter().filter(|p| p.to.ip().family() == self.family)
    }

    /// The rules.
    pub fn firewall(&self) -> Firewall {
        let mut f = Firewall { forward_drops: self.forward_drops, ..Firewall::default() };
        match self.is_28 {
            true => {
                self.raw(&mut f);
                self.filter_28(&mut f);
            }
            false => self.filter(&mut f),
        }
        self.nat(&mut f);
        f
    }

    /// What is sent to a container's own address from elsewhere than its bridge, and to a port of loopback from
    /// elsewhere than loopback, is dropped before its destination is rewritten.
    fn raw(&self, f: &mut Firewall) {
        use Match::{Dst, In, Port};
        let mut add = |matches: Vec<Match>| f.append(Table::Raw, "PREROUTING", matches, Target::Drop);
        for b in self.bridges.iter().filter(|b| b.mode == GatewayMode::Nat && !b.internal) {
            for ip in &b.endpoints {
                add(vec![Dst(false, IpNet::from(*ip)), In(true, b.interface.clone())]);
            }
        }
        for p in self.forwarded() {
            if let (Some(ip), Some(published)) = (p.host_ip.filter(IpAddr::is_loopback), p.published) {
                let to = vec![Port(p.proto, published), Dst(false, IpNet::from(ip))];
                add(to.into_iter().chain([In(true, "lo".to_owned())]).collect());
            }
        }
    }

    /// Rules are in chains by what they do, and what nothing accepts for a bridge is dropped, whatever the policy.
    fn filter_28(&self, f: &mut Firewall) {
        use Match::{Established, FromPort, In, Of, Out, Port};
        let jump = |chain: &str| Target::Jump(chain.to_owned());
        let mut add = |chain: &str, matches: Vec<Match>, target: Target| {
            f.append(Table::Filter, chain, matches, target);
        };
        add("FORWARD", vec![], jump("DOCKER-FORWARD"));
        if let Some(mesh) = &self.mesh {
            add("DOCKER-FORWARD", vec![], jump("DOCKER-INGRESS"));
            for (proto, port) in &mesh.ports {
                add("DOCKER-INGRESS", vec![Port(*proto, *port)], Target::Accept);
                add("DOCKER-INGRESS", vec![FromPort(*proto, *port), Established], Target::Accept);
            }
        }
        for chain in ["DOCKER-CT", STAGE_1, "DOCKER-BRIDGE"] {
            add("DOCKER-FORWARD", vec![], jump(chain));
        }
        for b in &self.bridges {
            let name = || b.interface.clone();
            let among = vec![In(false, name()), Out(false, name())];
            if b.internal {
                for matches in self.shut_in(b) {
                    add(STAGE_1, matches, Target::Drop);
                }
                add("DOCKER-FORWARD", among, if b.icc { Target::Accept } else { Target::Drop });
                continue;
            }
            add("DOCKER-CT", vec![Out(false, name()), Established], Target::Accept);
            add(STAGE_1, vec![In(false, name()), Out(true, name())], jump(STAGE_2));
            // Into a routed network published ports decide.
            let kept_apart = if b.mode == GatewayMode::Routed { Target::Return } else { Target::Drop };
            add(STAGE_2, vec![Out(false, name())], kept_apart);
            add("DOCKER-BRIDGE", vec![Out(false, name())], jump("DOCKER"));
            if !b.icc {
                add("DOCKER-FORWARD", among, Target::Drop);
                add("DOCKER-FORWARD", vec![In(false, name()), Out(true, name())], Target::Accept);
            } else {
                add("DOCKER-FORWARD", vec![In(false, name())], Target::Accept);
            }
        }
        self.accept_published(f);
        let mut add =
            |matches: Vec<Match>, target: Target| f.append(Table::Filter, "DOCKER", matches, target);
        for b in self.bridges.iter().filter(|b| !b.internal) {
            let out = || Out(false, b.interface.clone());
            if b.mode == GatewayMode::Routed {
                add(vec![out(), Of(Proto::Icmp)], Target::Accept);
            }
            let rest = if b.mode == GatewayMode::NatUnprotected { Target::Accept } else { Target::Drop };
            add(vec![In(true, b.interface.clone()), out()], rest);
        }
    }

    /// What is dropped at an internal network: what comes from elsewhere, and what goes elsewhere.
    fn shut_in(&self, b: &BridgeRules) -> Vec<Vec<Match>> {
        let name = || b.interface.clone();
        let matches = b.subnets.iter().flat_map(|subnet| {
            let mut into = vec![Match::Src(true, *subnet), Match::Out(false, name())];
            let mut out_of = vec![Match::Dst(true, *subnet), Match::In(false, name())];
            if self.internal_meets {
                into.push(Match::In(true, name()));
                out_of.push(Match::Out(true, name()));
            }
            [into, out_of]
        });
        matches.collect()
    }

    /// What is rewritten to a published port of a container is accepted for its bridge.
    fn accept_published(&self, f: &mut Firewall) {
        use Match::{Dst, In, Out, Port};
        for p in self.forwarded() {
            let matches = vec![
                Dst(false, IpNet::from(p.to.ip())),
                In(true, p.interface.clone()),
                Out(false, p.interface.clone()),
                Port(p.proto, p.to.port()),
            ];
            f.append(Table::Filter, "DOCKER", matches, Target::Accept);
        }
    }

    fn filter(&self, f: &mut Firewall) {
        use Match::{Established, FromPort, In, Out, Port};
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
                for matches in self.shut_in(b) {
                    add(STAGE_1, matches, Target::Drop);
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
        self.accept_published(f);
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
            let loopback =
                IpNet::new_assert(self.family.loopback(), if self.family == Family::V4 { 8 } else { 128 });
            from_host.insert(0, Dst(true, loopback));
        }
        add("OUTPUT", from_host, Target::Jump("DOCKER".into()));
        let masqueraded = |b: &&BridgeRules| b.masquerade && !b.internal && b.mode != GatewayMode::Routed;
        for b in self.bridges.iter().filter(masqueraded) {
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
        for p in self.forwarded() {
            let Some(published) = p.published else { continue };
            let host_ip = p.host_ip.map(|ip| Dst(false, IpNet::from(ip)));
            let mut matches: Vec<Match> = host_ip.into_iter().collect();
            if self.proxy {
                matches.push(In(true, p.interface.clone()));
            }
            matches.push(Port(p.proto, published));
            add("DOCKER", matches, Target::Dnat(p.to));
            let (own, to) = (IpNet::from(p.to.ip()), p.to.port());
            let to_itself = vec![Src(false, own), Dst(false, own), Port(p.proto, to)];
            add("POSTROUTING", to_itself, Target::Masquerade);
        }
    }
}

const STAGE_1: &str = "DOCKER-ISOLATION-STAGE-1";
const STAGE_2: &str = "DOCKER-ISOLATION-STAGE-2";
