//! The Vagrantfile of a lab.

use std::{fmt::Write as _, path::Path};

use labctl_images::boxes::BoxProvider;
use labctl_model::{Host, Nic};

/// A NIC's way to the wire: UDP ports of 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    /// Where the wire takes frames.
    pub wire: u16,
    /// Where the machine does.
    pub machine: u16,
}

/// A machine of the file.
pub(super) struct Machine<'a> {
    /// Name of the host.
    pub name: &'a str,
    pub host: &'a Host,
    /// Name of its box, and the file that it is in.
    pub made_of: (String, &'a Path),
    /// One for each NIC.
    pub tunnels: Vec<Tunnel>,
}

/// Writes the file. `prefix` begins the names of the machines at the provider: labs of one name must not meet there. `driver`
/// is libvirt's: `kvm`, or `qemu`, which emulates.
pub(super) fn render(
    lab: &str,
    prefix: &str,
    provider: BoxProvider,
    driver: &str,
    machines: &[Machine<'_>],
) -> String {
    let mut text = format!(
        "# Written by labctl for lab {lab}. It goes with the lab: `labctl down {lab}`.\nVagrant.configure(\"2\") do |config|\n"
    );
    if provider == BoxProvider::Libvirt {
        let _ = writeln!(
            text,
            "  config.vm.provider(:libvirt) {{ |libvirt| libvirt.default_prefix, libvirt.driver = {}, {} }}",
            quoted(prefix),
            quoted(driver)
        );
    }
    for Machine { name, host, made_of: (made_of, file), tunnels } in machines {
        let file = format!("file://{}", file.display());
        let _ = write!(
            text,
            "  config.vm.define {} do |host|\n    host.vm.box = {}\n    host.vm.box_url = {}\n",
            quoted(name),
            quoted(made_of),
            quoted(&file)
        );
        match provider {
            BoxProvider::Libvirt => {
                let _ = writeln!(
                    text,
                    "    host.vm.provider(:libvirt) {{ |libvirt| libvirt.memory = {} }}",
                    host.memory_mib
                );
                for (nic, tunnel) in host.nics.iter().zip(tunnels) {
                    let _ = writeln!(
                        text,
                        "    host.vm.network :private_network, auto_config: false, mac: {}, libvirt__tunnel_type: \"udp\",\n      \
                         libvirt__tunnel_local_ip: \"127.0.0.1\", libvirt__tunnel_local_port: {},\n      \
                         libvirt__tunnel_ip: \"127.0.0.1\", libvirt__tunnel_port: {}",
                        quoted(&mac(nic, ":")),
                        tunnel.machine,
                        tunnel.wire
                    );
                }
            }
            BoxProvider::Virtualbox => {
                let name = format!("{prefix}{name}");
                let _ = write!(
                    text,
                    "    host.vm.provider :virtualbox do |virtualbox|\n      virtualbox.name = {}\n      virtualbox.memory = {}\n",
                    quoted(&name),
                    host.memory_mib
                );
                // The first NIC is Vagrant's.
                for (number, (nic, tunnel)) in (2..).zip(host.nics.iter().zip(tunnels)) {
                    let (own, to) = (tunnel.machine, tunnel.wire);
                    let _ = writeln!(
                        text,
                        "      virtualbox.customize [\"modifyvm\", :id, \"--nic{number}\", \"generic\", \"--nictype{number}\", \"virtio\",\n        \
                         \"--nicgenericdrv{number}\", \"UDPTunnel\", \"--nicproperty{number}\", \"sport={own}\",\n        \
                         \"--nicproperty{number}\", \"dest=127.0.0.1\", \"--nicproperty{number}\", \"dport={to}\",\n        \
                         \"--macaddress{number}\", \"{}\", \"--nicpromisc{number}\", \"allow-all\", \"--cableconnected{number}\", \"on\"]",
                        mac(nic, "")
                    );
                }
                text.push_str("    end\n");
            }
        }
        text.push_str("  end\n");
    }
    text + "end\n"
}

fn mac(nic: &Nic, between: &str) -> String {
    nic.mac.map(|octet| format!("{octet:02x}")).join(between)
}

/// A string of Ruby's in which nothing has a meaning.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use labctl_topology::Topology;

    use super::*;

    #[test]
    fn a_file_for_each_provider() {
        let text = "name: t\nsegments: { lan: { subnet: 10.0.0.0/24 } }\nhosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2, memory: 768 } }\n";
        let lab = Topology::parse(text, "t.yaml", &Default::default()).unwrap().lab;
        let machines: Vec<Machine<'_>> = (1u16..)
            .zip(&lab.hosts)
            .map(|(n, (name, host))| Machine {
                name,
                host,
                made_of: ("labctl/trixie-1".into(), Path::new("/it's/a.box")),
                tunnels: vec![Tunnel { wire: 40000 + n, machine: 50000 + n }],
            })
            .collect();
        for provider in [BoxProvider::Libvirt, BoxProvider::Virtualbox] {
            insta::assert_snapshot!(provider.name(), render("t", "labctl-t-1-", provider, "qemu", &machines));
        }
    }
}
