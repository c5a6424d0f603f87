//! Checks what containers attach to: it must be on the right host and exist already.

use super::{entries, words};
use crate::raw;
use labctl_model::{
    family::{Family, OfFamily},
    lab::{Attach, Driver, Lab, Network},
};
use labctl_yaml::{At, Cx, Diagnostic};

pub(super) fn check(t: &raw::Topology, lab: &Lab, cx: &mut Cx) {
    for (name, c) in entries(&t.containers) {
        let Some(container) = lab.containers.get(&name.value) else { continue };
        if let (Attach::Networks(_), Some(networks)) = (&container.attach, &c.networks) {
            for (network, a) in &networks.0 {
                let Some(n) = lab.networks.get(&network.value) else { continue };
                if n.driver == Driver::Overlay {
                    overlay(network, n, &container.host, container.deferred, cx);
                } else if !n.hosts.contains(&container.host) {
                    let d = Diagnostic::new(
                        network.at,
                        format!("network `{}` is not on `{}`", network.value, container.host),
                    );
                    let hosts = words::list(n.hosts.iter().map(String::as_str));
                    cx.error(d.hint(format!("it is on {hosts}: add `{}` to its `hosts`", container.host)));
                }
                if n.deferred && !container.deferred {
                    let d = Diagnostic::new(
                        network.at,
                        format!("network `{}` is made only by a step", network.value),
                    );
                    cx.error(d.label("not there when this container is made").hint(
                        "make the container `deferred: true` as well, or connect it in a step: \
                         `do: connect CONTAINER NETWORK`",
                    ));
                }
                for address in a.iter().flat_map(super::addresses::of_attachment) {
                    let family = address.value.family();
                    let pools = || n.ipam.iter().map(|p| p.subnet).filter(move |s| s.family() == family);
                    if family == Family::V6 && n.enable_ipv6 != Some(true) {
                        let d = Diagnostic::new(
                            address.at,
                            format!("{} is IPv6, and network `{}` has none", address.value, network.value),
                        );
                        cx.error(d.hint(
                            "`enable_ipv6: true` in the network, and an IPv6 subnet in its `ipam.config`",
                        ));
                    } else if (family == Family::V6 || !n.ipam.is_empty())
                        && !pools().any(|s| s.contains(&address.value))
                    {
                        let message = format!("{} lies outside network `{}`", address.value, network.value);
                        let subnets: Vec<String> = pools().map(|s| s.to_string()).collect();
                        cx.error(Diagnostic::new(address.at, message).hint(match pools().next() {
                            Some(only) if subnets.len() == 1 => {
                                format!("its subnet is {only}: {}", super::segments::range(only))
                            }
                            Some(_) => format!("its subnets are {}", subnets.join(", ")),
                            None => format!("it has no {family} subnet: give it one in `ipam.config`"),
                        }));
                    }
                }
            }
        }
        let others =
            c.links.iter().flatten().map(|l| (l, "link", l.value.split(':').next().unwrap_or_default()));
        let joined =
            c.network_mode.iter().filter_map(|m| Some((m, "join", m.value.strip_prefix("container:")?)));
        for (at, verb, target) in others.chain(joined) {
            let Some(other) = lab.containers.get(target) else { continue };
            if other.host != container.host {
                let message =
                    format!("`{}` cannot {verb} `{target}`, which runs on another host", name.value);
                let hint =
                    format!("`{}` is on `{}`, `{target}` on `{}`", name.value, container.host, other.host);
                cx.error(Diagnostic::new(at.at, message).hint(hint));
            } else if other.deferred && !container.deferred {
                let message =
                    format!("`{}` cannot {verb} `{target}`, which is made only by a step", name.value);
                cx.error(Diagnostic::new(at.at, message).hint("make this one `deferred: true` as well"));
            }
        }
    }
}

/// Notes what Docker would refuse. A deferred container may do it, to show the refusal.
fn overlay(name: &At<String>, n: &Network, host: &str, deferred: bool, cx: &mut Cx) {
    if deferred {
        return;
    }
    if !n.hosts.iter().any(|h| h == host) {
        let d = Diagnostic::new(name.at, format!("overlay `{}` is not on `{host}`", name.value));
        cx.error(
            d.label("not a node of the swarm").hint("name the host in `swarm`, or leave its `workers` out"),
        );
    }
    if n.ingress {
        let d = Diagnostic::new(name.at, format!("network `{}` is the routing mesh's", name.value));
        cx.error(d.hint("no container joins it: leave it out"));
    } else if !n.attachable {
        let d = Diagnostic::new(name.at, format!("overlay `{}` takes services alone", name.value));
        cx.error(d.label("not `attachable`").hint(
            "`attachable: true` in the network lets plain containers join; or make the container `deferred: true`, to \
             let a step show how Docker refuses it",
        ));
    }
}
