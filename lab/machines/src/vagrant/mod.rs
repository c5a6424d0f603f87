//! The `vagrant` runtime: every host of a lab is a machine that Vagrant makes, of labctl's own box.
//!
//! Vagrant's own NIC leads to this machine alone, and carries ssh. A lab's NICs are tunnels over loopback to the wire: one
//! frame a datagram, which both libvirt and VirtualBox have (docs/adr/0024). So what happens on the wire is as ever.

mod clear;
mod cli;
mod file;
mod provider;

pub use clear::sweep;
pub use provider::{VagrantProvider, boxes};

/// How Debian and Ubuntu get what this runtime needs with libvirt.
pub const INSTALL: &str = "apt-get install vagrant vagrant-libvirt ruby-libvirt libvirt-daemon-system libvirt-clients \
     dnsmasq-base qemu-utils openssh-client";
