//! Throwaway network namespaces: each is kept by one sleeping process and gone with it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Child, Command},
    time::{Duration, Instant},
};

use labctl_agent::netns::Namespace;
use labctl_protocol::messages::{Endpoint, Netns};
use nix::sched::{CloneFlags, setns, unshare};

/// A namespace with a process in it.
pub struct Net {
    pub name: String,
    keeper: Child,
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl Net {
    /// A namespace of its own, whose `lo` is up.
    pub fn new(name: &str) -> Self {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        Self::keep(name, sleep)
    }

    /// The same, whose process sees these as its /etc/hosts and /etc/resolv.conf.
    pub fn with_files(name: &str, hosts: &Path, resolv_conf: &Path) -> Self {
        let script = "mount --make-rprivate / && mount --bind \"$0\" /etc/hosts \
                      && mount --bind \"$1\" /etc/resolv.conf && exec sleep 1000";
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", script]).arg(hosts).arg(resolv_conf);
        Self::keep(name, shell)
    }

    fn keep(name: &str, mut command: Command) -> Self {
        crate::common::need_root();
        // A child inherits the namespace of the thread that forks it.
        let keeper = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            command.spawn().unwrap()
        });
        let net = Self { name: name.into(), keeper: keeper.join().unwrap() };
        let end = Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(format!("/proc/{}/comm", net.pid())).unwrap() != "sleep\n" {
            assert!(Instant::now() < end, "the keeper of {name} does not get to sleep");
            std::thread::sleep(Duration::from_millis(5));
        }
        net.ip("link set lo up");
        net
    }

    pub fn pid(&self) -> u32 {
        self.keeper.id()
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::of_pid(self.pid()).unwrap()
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint { name: self.name.clone(), netns: Netns::Pid(self.pid()), pid: Some(self.pid()) }
    }

    /// Runs something on a thread in the namespace.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let thread = std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// `ip ARGUMENTS` in the namespace.
    pub fn ip(&self, arguments: &str) -> String {
        self.run(&format!("ip {arguments}"))
    }

    /// A command in the namespace, which must succeed.
    pub fn run(&self, command: &str) -> String {
        let (name, command) = (self.name.clone(), command.to_owned());
        self.within(move || {
            let words: Vec<&str> = command.split_whitespace().collect();
            let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name}: {command}: {text}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    /// A sysctl of the namespace.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = value.to_owned();
        self.within(move || std::fs::write(&path, value).unwrap());
    }

    /// Gives a device an IPv6 address, without a search for others that have it.
    pub fn add_v6(&self, address: &str, device: &str) {
        self.ip(&format!("addr add {address} dev {device} nodad"));
        // The kernel joins the group in which neighbours are asked for it (RFC 4291, section 2.7.1) a moment later.
        let ip: Ipv6Addr = address.split('/').next().unwrap().parse().unwrap();
        let [.., x, y, z] = ip.octets();
        let group = format!("ff0200000000000000000001ff{x:02x}{y:02x}{z:02x}");
        let joined = || self.within(|| std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap());
        let end = Instant::now() + Duration::from_secs(10);
        while !joined().contains(&group) {
            assert!(Instant::now() < end, "{address} of {} is not there", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A veth pair to another namespace, both ends up, with an address each.
    pub fn link(&self, device: &str, address: &str, other: &Net, device_there: &str, address_there: &str) {
        self.ip(&format!(
            "link add {device} type veth peer name {device_there} netns /proc/{}/ns/net",
            other.pid()
        ));
        for (net, device, address) in [(self, device, address), (other, device_there, address_there)] {
            net.ip(&format!("addr add {address} dev {device}"));
            net.ip(&format!("link set {device} up"));
        }
        // Until the kernel has noticed that both ends are up, it drops what is sent.
        let end = Instant::now() + Duration::from_secs(10);
        for (net, device) in [(self, device), (other, device_there)] {
            while !net.ip(&format!("-o link show dev {device}")).contains("state UP") {
                assert!(Instant::now() < end, "{device} of {} does not come up", net.name);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Two hosts on one link: `a` is 10.0.0.1, `b` is 10.0.0.2.
pub fn pair() -> (Net, Net) {
    let (a, b) = (Net::new("a"), Net::new("b"));
    a.link("eth0", "10.0.0.1/24", &b, "eth0", "10.0.0.2/24");
    (a, b)
}

pub const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
