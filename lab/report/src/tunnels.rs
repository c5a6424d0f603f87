//! What becomes of VXLAN between hosts: of each probe, and what the differences mean. Serialized as it is, this is the
//! `--format json` of `vxlan`.

use std::net::IpAddr;

use labctl_model::Family;
use serde::{Deserialize, Serialize};

/// The result. Serialized as it is, this is the `--format json` of `vxlan`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VxlanReport {
    /// Lab.
    pub lab: String,
    /// Whether every frame fared as expected.
    pub holds: bool,
    /// Each pair of hosts, both ways: on the segment of their overlays, else on each segment they share.
    pub pairs: Vec<PairReport>,
}

/// The result from one host to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PairReport {
    /// Sender.
    pub from: String,
    /// Receiver.
    pub to: String,
    /// Segment that they share: if both are swarm nodes, the one of their VXLAN.
    pub segment: String,
    /// Address of the sender there.
    pub source: IpAddr,
    /// Address of the receiver there.
    pub destination: IpAddr,
    /// Whether all is as it should be.
    pub holds: bool,
    /// Each probe, at each port.
    pub probes: Vec<ProbeReport>,
    /// What the differences mean, and what to do; empty where there are none.
    pub findings: Vec<String>,
}

/// What became of one frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeReport {
    /// What is special about it.
    pub probe: Kind,
    /// UDP port that it was sent to.
    pub port: u16,
    /// Bytes of its IP packet.
    pub bytes: usize,
    /// What became of it on the wire, in words; absent if it never got there.
    pub wire: Option<String>,
    /// Whether the receiver's NIC got it.
    pub nic: bool,
    /// Whether the receiver's kernel decapsulated it; absent if no VTEP could be made there.
    pub vtep: Option<bool>,
    /// Whether it should be decapsulated.
    pub vtep_expected: bool,
    /// Whether all is as it should be: every frame must arrive at the NIC.
    pub holds: bool,
}

/// How a probe differs from a valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Not at all.
    Valid,
    /// As many bytes, but random ones.
    Random,
    /// No I flag: the VNI does not count (RFC 7348, section 5).
    NoIFlag,
    /// A reserved bit is set; the RFC has receivers ignore it, Linux does not.
    Reserved,
    /// A VNI that the receiver does not have.
    UnknownVni,
    /// The source is an address of the segment that nobody has.
    SpoofedVtep,
    /// No UDP checksum, as the RFC prefers it.
    ZeroChecksum,
    /// A UDP checksum that is wrong.
    WrongChecksum,
    /// The largest packet that the sender's MTU allows, with DF set.
    Largest,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Valid,
        Self::Random,
        Self::NoIFlag,
        Self::Reserved,
        Self::UnknownVni,
        Self::SpoofedVtep,
        Self::ZeroChecksum,
        Self::WrongChecksum,
        Self::Largest,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid header",
            Self::Random => "random bytes",
            Self::NoIFlag => "no I flag",
            Self::Reserved => "reserved bit set",
            Self::UnknownVni => "unknown VNI",
            Self::SpoofedVtep => "spoofed VTEP",
            Self::ZeroChecksum => "no UDP checksum",
            Self::WrongChecksum => "wrong checksum",
            Self::Largest => "largest packet",
        }
    }

    /// Whether Linux decapsulates it (vxlan_rcv of drivers/net/vxlan; udp_queue_rcv_one_skb for the checksum). A VTEP
    /// that learns, or whose peers are only in FDB entries, takes every outer source. Over IPv6 a datagram without
    /// checksum is for those who ask for it (RFC 6935; `udp6zerocsumrx`), which Docker does not.
    pub fn is_let_out(self, outer: Family) -> bool {
        match self {
            Self::Valid | Self::SpoofedVtep | Self::Largest => true,
            Self::ZeroChecksum => outer == Family::V4,
            Self::Random | Self::NoIFlag | Self::Reserved | Self::UnknownVni | Self::WrongChecksum => false,
        }
    }
}

/// Explains what is wrong between two hosts, and what to do about it.
pub fn findings(from: &str, to: &str, probes: &[ProbeReport], refusals: &[String]) -> Vec<String> {
    let mut findings = refusals.to_vec();
    let mut ports: Vec<u16> = probes.iter().map(|p| p.port).collect();
    ports.dedup();
    let at = |port: u16, kind: Kind| probes.iter().find(|p| p.port == port && p.probe == kind);
    let arrives = |port: u16, kind: Kind| at(port, kind).is_some_and(|p| p.nic);
    let anything = |port: u16| probes.iter().any(|p| p.port == port && p.nic);
    if !ports.iter().any(|port| anything(*port)) {
        findings.push(format!(
            "no UDP at all gets from {from} to {to}, at any of the ports: it is no matter of VXLAN{}",
            wire(probes.first())
        ));
        return findings;
    }
    for port in ports.iter().copied() {
        let valid = at(port, Kind::Valid);
        if !anything(port) {
            findings.push(format!(
                "nothing gets to UDP port {port} of {to}, while another port is reached: a firewall on the way blocks \
                 it{}; open it, or give the swarm another port by `data_path_port`",
                wire(valid)
            ));
        } else if !arrives(port, Kind::Valid) && arrives(port, Kind::Random) {
            findings.push(format!(
                "at port {port} valid VXLAN is lost on the way from {from} to {to} while random bytes of the same size \
                 pass: an SDN in between (NSX, for one) takes VXLAN at that port for its own{}; give the swarm another \
                 port by `data_path_port`",
                wire(valid)
            ));
        } else if let Some(valid) = valid.filter(|p| p.nic && p.vtep == Some(false)) {
            // The others fail to be decapsulated for the same reason.
            findings.extend(one(valid, to));
        } else {
            findings.extend(probes.iter().filter(|p| p.port == port && !p.holds).filter_map(|p| one(p, to)));
        }
    }
    findings
}

/// A frame's drop on the wire, if it was dropped there.
fn wire(probe: Option<&ProbeReport>) -> String {
    let fate = probe.and_then(|p| p.wire.as_deref()).filter(|fate| fate.starts_with("dropped"));
    fate.map(|fate| format!(" (on the wire it is {fate})")).unwrap_or_default()
}

/// What it means that one probe fails although the valid one does not.
fn one(probe: &ProbeReport, to: &str) -> Option<String> {
    let ProbeReport { probe: kind, port, .. } = probe;
    if !probe.nic {
        // The size that does pass is searched for and reported separately.
        return (*kind != Kind::Largest).then(|| {
            format!(
                "at port {port} `{}` does not get to {to}'s NIC{}",
                kind.name(),
                match kind {
                    Kind::SpoofedVtep => ": the way drops frames from addresses that are not the sender's",
                    Kind::ZeroChecksum => ": something in between drops what has no UDP checksum",
                    Kind::WrongChecksum => ": something in between checks UDP checksums, or puts them right",
                    _ => ": something in between reads VXLAN headers",
                }
            ) + &wire(Some(probe))
        });
    }
    let let_out = probe.vtep?;
    let what = match (kind, let_out) {
        (Kind::Valid, false) => {
            "gets to the NIC and no VTEP lets it out: a rule of the host's own (INPUT, raw, an encrypted overlay) drops it"
        }
        (Kind::SpoofedVtep, false) => {
            "gets to the NIC and is dropped there: the host filters sources (rp_filter, or a rule)"
        }
        (Kind::ZeroChecksum, false) => "is dropped by the host: it insists on UDP checksums",
        (Kind::Largest, false) => {
            "gets to the NIC and no VTEP lets it out: an MTU within the host is too small"
        }
        (Kind::Random, true) => "is let out of a tunnel that it is not in",
        (Kind::NoIFlag, true) => "is let out, though its VNI does not count: this VTEP is laxer than Linux",
        (Kind::Reserved, true) => {
            "is let out: this VTEP ignores reserved bits, as the RFC says and Linux does not"
        }
        (Kind::ZeroChecksum, true) => {
            "is let out: this VTEP takes datagrams without a checksum over IPv6 (`udp6zerocsumrx`)"
        }
        (Kind::UnknownVni, true) => "is let out, though nobody has that VNI",
        (Kind::WrongChecksum, true) => {
            "is let out: the NIC says that wrong checksums are right; switch its receive offload off (ethtool -K … rx off)"
        }
        _ => return None,
    };
    Some(format!("at port {port} `{}` {what}", kind.name()))
}

/// The port at which the largest packet is lost but the smaller valid one is not.
pub fn too_large_for(probes: &[ProbeReport]) -> Option<u16> {
    let lost = probes.iter().find(|p| p.probe == Kind::Largest && !p.nic)?;
    let small = |p: &&ProbeReport| p.probe == Kind::Valid && p.port == lost.port && p.nic;
    probes.iter().find(small).map(|p| p.port)
}

/// What it means that the way has a smaller MTU than the sender.
pub fn mtu(port: u16, bytes: usize, sender: u16, outer: Family) -> String {
    let (option, of_vxlan) = match outer {
        Family::V4 => (bytes, "the 50 of VXLAN off by itself"),
        Family::V6 => (bytes.saturating_sub(20), "50 off by itself: VXLAN over IPv6 takes 70"),
    };
    format!(
        "at port {port} IP packets of more than {bytes} bytes are lost, while the sender's NIC lets {sender} go: the way has \
         a smaller MTU; give overlay networks `com.docker.network.driver.mtu: {option}`, of which Docker takes {of_vxlan}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All as it should be, but for what `change` does to it.
    fn probes(change: impl Fn(&mut ProbeReport)) -> Vec<ProbeReport> {
        let probe = |port, kind: Kind| {
            let let_out = kind.is_let_out(Family::V4);
            let mut probe = ProbeReport {
                probe: kind,
                port,
                bytes: 98,
                wire: Some("to b/eth0".into()),
                nic: true,
                vtep: Some(let_out),
                vtep_expected: let_out,
                holds: true,
            };
            change(&mut probe);
            probe.holds = probe.nic && probe.vtep == Some(probe.vtep_expected);
            probe
        };
        [4789, 14789].into_iter().flat_map(|port| Kind::ALL.map(|kind| probe(port, kind))).collect()
    }

    fn lost(probe: &mut ProbeReport) {
        (probe.nic, probe.vtep) = (false, Some(false));
        probe.wire = Some("dropped at b/eth0: blocked".into());
    }

    fn said(change: impl Fn(&mut ProbeReport)) -> Vec<String> {
        findings("a", "b", &probes(change), &[])
    }

    #[test]
    fn where_nothing_differs_nothing_is_said() {
        assert!(said(|_| {}).is_empty());
        assert_eq!(too_large_for(&probes(|_| {})), None);
    }

    #[test]
    fn an_sdn_is_told_from_a_firewall_and_from_a_dead_path() {
        let sdn = said(|p| {
            if p.port == 4789 && p.probe != Kind::Random {
                lost(p);
            }
        });
        assert_eq!(sdn.len(), 1, "{sdn:?}");
        assert!(sdn[0].contains("random bytes of the same size pass") && sdn[0].contains("data_path_port"));
        assert!(sdn[0].contains("dropped at b/eth0: blocked"));
        let firewall = said(|p| {
            if p.port == 4789 {
                lost(p);
            }
        });
        assert!(firewall.len() == 1 && firewall[0].contains("a firewall on the way"), "{firewall:?}");
        let dead = said(lost);
        assert!(dead.len() == 1 && dead[0].contains("no UDP at all"), "{dead:?}");
    }

    #[test]
    fn the_host_is_told_from_the_way() {
        let own = said(|p| {
            if p.port == 4789 {
                p.vtep = Some(false);
            }
        });
        assert!(own.len() == 1 && own[0].contains("a rule of the host's own"), "{own:?}");
        assert!(own[0].contains("4789"));
    }

    #[test]
    fn every_single_difference_has_words() {
        for kind in Kind::ALL {
            let turned = said(|p| {
                if p.probe == kind {
                    p.vtep = Some(!p.vtep_expected);
                }
            });
            assert_eq!(turned.len(), 2, "{kind:?}: {turned:?}");
            let gone = said(|p| {
                if p.probe == kind && kind != Kind::Valid {
                    lost(p);
                }
            });
            let none = [Kind::Valid, Kind::Largest].contains(&kind);
            assert_eq!(gone.is_empty(), none, "{kind:?}: {gone:?}");
        }
        // Over IPv6 it is the other way round.
        let lax = said(|p| {
            if p.probe == Kind::ZeroChecksum {
                p.vtep_expected = Kind::ZeroChecksum.is_let_out(Family::V6);
            }
        });
        assert!(lax.len() == 2 && lax[0].contains("udp6zerocsumrx"), "{lax:?}");
        let large = probes(|p| {
            if p.probe == Kind::Largest {
                lost(p);
            }
        });
        assert_eq!(too_large_for(&large), Some(4789));
        assert!(mtu(4789, 1450, 1500, Family::V4).contains("driver.mtu: 1450`"));
        assert!(mtu(4789, 1450, 1500, Family::V6).contains("driver.mtu: 1430`"));
    }
}
