//! The parts of a machine, and QEMU's arguments for it.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use labctl_protocol::messages::{SHORTCUTS, VIRTIO_PORT};

use super::Accel;

/// The kernel's command line.
///
/// Mitigations protect secrets from other programs in the guest, of which a lab has none, and cost most without KVM.
/// There `jent_mod_init` and the self-tests of ciphers take a second. `rcu_expedited` speeds up making and removing
/// namespaces. The only security module is capabilities: nothing in the guest has a profile for another.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check random.trust_cpu=on \
    cryptomgr.notests initcall_blacklist=jent_mod_init audit=0 lsm=capability rcupdate.rcu_expedited=1 8250.nr_uarts=1";

/// The level x86-64-v2 plus instructions for ciphers and random numbers. Without KVM wider vectors are slower than none,
/// and Go's runtime uses whatever it finds.
const TCG_CPU: &str =
    "qemu64,+cx16,+lahf_lm,+popcnt,+ssse3,+sse4.1,+sse4.2,+aes,+pclmulqdq,+rdrand,+rdseed,+x2apic,-svm";

/// Size of the buffer for translated code, in MiB. dockerd, containerd and the kernel fill about 100; with less they are
/// translated over and over.
const TCG_BUFFER_MIB: u32 = 256;

/// System calls that QEMU must not use (seccomp): no new programs, no other user, nothing outdated.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// A machine.
#[derive(Clone, Debug)]
pub struct VmSpec {
    /// Name, for QEMU's own messages and the process list.
    pub name: String,
    /// The machine's folder, which exists: holds console, log and the agent's socket.
    pub dir: PathBuf,
    /// How its processor is provided.
    pub accel: Accel,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Where the memory is kept.
    pub memory: Memory,
    /// ELF kernel with a PVH entry.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: PathBuf,
    /// Root image, shared read-only by all machines.
    pub root: PathBuf,
    /// NICs, in the order the guest sees them.
    pub nics: Vec<VmNic>,
    /// Whether its agent stands before the engine's programs (docs/vanilla.md).
    pub shortcuts: bool,
    /// Start stopped, to be filled by [`super::devices::load`], instead of booting.
    pub incoming: bool,
}

/// A NIC.
#[derive(Clone, Debug)]
pub struct VmNic {
    /// MAC address.
    pub mac: [u8; 6],
    /// The socket where the wire listens for it. A NIC without a wire has its cable unplugged.
    pub socket: Option<PathBuf>,
}

/// Where a machine's memory is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// Anonymous.
    #[default]
    Anonymous,
    /// In this file, which the machine changes: a template.
    Shared(PathBuf),
    /// Read from this file, with changes kept apart (copy on write): a clone.
    Private(PathBuf),
}

/// Descriptors that QEMU inherits.
pub(super) struct Inherited {
    /// Connected: the monitor.
    pub qmp: RawFd,
    /// Listening: the agent's port.
    pub agent: RawFd,
    /// Connected: the console.
    pub console: RawFd,
    /// Connected to the wire, one for each NIC that has one.
    pub nics: Vec<Option<RawFd>>,
}

impl VmSpec {
    /// The file with the guest's console output.
    pub fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    /// The file with QEMU's own output.
    pub fn log(&self) -> PathBuf {
        self.dir.join("qemu.log")
    }

    /// The socket where the agent's port listens.
    pub fn agent_socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// The files that QEMU opens itself.
    pub(super) fn files(&self) -> Vec<&Path> {
        let ram = match &self.memory {
            Memory::Anonymous => None,
            Memory::Shared(path) | Memory::Private(path) => Some(path),
        };
        [&self.kernel, &self.initrd, &self.root].into_iter().chain(ram).map(PathBuf::as_path).collect()
    }

    /// What must be equal in a restored machine: the arguments, without descriptor numbers.
    pub(crate) fn fingerprint(&self) -> String {
        let fds = Inherited { qmp: 0, agent: 0, console: 0, nics: vec![Some(0); self.nics.len()] };
        self.arguments(&fds).join(&OsString::from(" ")).to_string_lossy().into_owned()
    }

    /// QEMU's arguments. A template and its clones have the same devices, as a restore requires.
    pub(super) fn arguments(&self, fds: &Inherited) -> Vec<OsString> {
        let mut args = Arguments::default();
        args.add("-name", format!("labctl-{}", escape(&self.name)));
        args.flags(&["-nodefaults", "-no-user-config", "-no-reboot"]);
        args.add("-sandbox", SANDBOX);
        args.add("-display", "none");
        match self.accel {
            Accel::Kvm => {
                args.add("-accel", "kvm");
                args.add("-cpu", "host");
            }
            Accel::Tcg => {
                args.add("-accel", format!("tcg,thread=multi,tb-size={TCG_BUFFER_MIB}"));
                args.add("-cpu", TCG_CPU);
            }
        }
        args.add("-smp", "1");
        self.memory(&mut args);
        args.add("-kernel", &self.kernel);
        args.add("-initrd", &self.initrd);
        let shortcuts = if self.shortcuts { format!(" {SHORTCUTS}") } else { String::new() };
        args.add("-append", format!("{COMMAND_LINE}{shortcuts}"));
        args.add(
            "-blockdev",
            with_path("driver=raw,node-name=root,read-only=on,file.driver=file,file.filename=", &self.root),
        );
        args.add("-device", "virtio-blk-pci,drive=root");
        args.add("-device", "virtio-rng-pci");
        args.add("-chardev", format!("socket,id=console,fd={}", fds.console));
        args.add("-serial", "chardev:console");
        args.add("-chardev", format!("socket,id=qmp,fd={}", fds.qmp));
        args.add("-mon", "chardev=qmp,mode=control");
        args.add("-device", "virtio-serial-pci,max_ports=2");
        args.add("-chardev", format!("socket,id=agent,fd={},server=on,wait=off", fds.agent));
        args.add("-device", format!("virtserialport,chardev=agent,nr=1,name={}", VIRTIO_PORT));
        for (index, (nic, fd)) in self.nics.iter().zip(&fds.nics).enumerate() {
            nic.arguments(index, *fd, &mut args);
        }
        if self.incoming {
            // The state is of devices alone, without a migration's sections around it (see `devices`).
            args.add("-global", "migration.send-configuration=off");
            args.add("-machine", "suppress-vmdesc=on");
            args.add("-incoming", "defer");
            // All machines of a lab go on at once.
            args.flags(&["-S"]);
        }
        args.0
    }

    fn memory(&self, args: &mut Arguments) {
        args.add("-m", format!("{}M", self.memory_mib));
        let machine = "pc,usb=off,vmport=off,hpet=off";
        let (path, share) = match &self.memory {
            Memory::Anonymous => {
                args.add("-machine", machine);
                return;
            }
            Memory::Shared(path) => (path, "on"),
            Memory::Private(path) => (path, "off"),
        };
        let object = format!("memory-backend-file,id=ram,size={}M,share={share},mem-path=", self.memory_mib);
        args.add("-object", with_path(&object, path));
        args.add("-machine", format!("{machine},memory-backend=ram"));
    }
}

impl VmNic {
    fn arguments(&self, index: usize, fd: Option<RawFd>, args: &mut Arguments) {
        let [a, b, c, d, e, f] = self.mac;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        // No ROM, which is for network boot. Rings large enough for a burst of probes.
        let device = format!("virtio-net-pci,mac={mac},romfile=,rx_queue_size=1024,tx_queue_size=256");
        match fd {
            Some(fd) => {
                args.add("-netdev", format!("stream,id=nic{index},server=off,addr.type=fd,addr.str={fd}"));
                args.add("-device", format!("{device},netdev=nic{index}"));
            }
            None => args.add("-device", device),
        }
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.extend([option.into(), value.into()]);
    }

    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(Into::into));
    }
}

/// A comma ends a value in QEMU's options; a doubled one stands for itself.
fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

fn with_path(options: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = options.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec() -> VmSpec {
        VmSpec {
            name: "a,b".into(),
            dir: "/d".into(),
            accel: Accel::Tcg,
            memory_mib: 512,
            memory: Memory::Anonymous,
            kernel: "/k".into(),
            initrd: "/i".into(),
            root: "/r,oot".into(),
            nics: vec![
                VmNic { mac: [2, 0, 0, 0, 0, 10], socket: Some("/w".into()) },
                VmNic { mac: [2, 0, 0, 0, 0, 11], socket: None },
            ],
            shortcuts: false,
            incoming: false,
        }
    }

    fn text(spec: &VmSpec) -> String {
        let args = spec.arguments(&Inherited { qmp: 7, agent: 8, console: 10, nics: vec![Some(9), None] });
        args.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn commas_in_names_do_not_end_options() {
        let text = text(&spec());
        assert!(text.contains("-name labctl-a,,b ") && text.contains("file.filename=/r,,oot "), "{text}");
    }

    #[test]
    fn nics_are_in_order_and_one_may_be_unplugged() {
        let text = text(&spec());
        let first = text.find("mac=02:00:00:00:00:0a").unwrap();
        let second = text.find("mac=02:00:00:00:00:0b").unwrap();
        assert!(first < second);
        assert!(text.contains("addr.type=fd,addr.str=9 "));
        assert!(!text[second..].contains("netdev="));
    }

    #[test]
    fn shortcuts_are_a_word_for_init() {
        assert!(!text(&spec()).contains(SHORTCUTS));
        assert!(
            text(&VmSpec { shortcuts: true, ..spec() }).contains("nr_uarts=1 labctl.shortcuts -blockdev")
        );
    }

    #[test]
    fn a_clone_differs_from_its_template_in_memory_alone() {
        let template = VmSpec { memory: Memory::Shared("/ram".into()), ..spec() };
        let clone = VmSpec { memory: Memory::Private("/ram".into()), ..spec() };
        assert_eq!(text(&template).replace("share=on", "share=off"), text(&clone));
        assert!(text(&VmSpec { incoming: true, ..clone }).ends_with("-incoming defer -S"));
    }
}
