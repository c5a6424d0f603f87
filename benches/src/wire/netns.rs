//! Network namespaces that go with their handle.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::AsRawFd,
    process::Command,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace that nobody else knows; gone with its last process and this.
pub struct Namespace(File);

impl Namespace {
    /// An empty one.
    pub fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map_err(|_| nix::errno::Errno::EIO)
        });
        match made.join().expect("the thread ends") {
            Ok(file) => Self(file),
            Err(error) => {
                eprintln!("no network namespace can be made: {error}; hint: this needs root");
                std::process::exit(3);
            }
        }
    }

    /// Does something in there. Processes that it starts live there, too.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the namespace is ours");
                work()
            });
            inside.join().expect("the work is done")
        })
    }

    /// A path that names it for as long as this process lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Gives an interface in there its address and sets it up. IPv6 would only send frames that nobody asked for.
    pub fn plug(&self, interface: &str, address: Ipv4Addr) {
        self.inside(|| {
            fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1")
                .expect("own namespace");
            ip(&format!("address add {address}/24 dev {interface}"));
            ip(&format!("link set dev {interface} up"));
        });
    }
}

/// Runs `ip` in this thread's namespace.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status().expect("ip runs");
    assert!(status.success(), "ip {words}");
}
