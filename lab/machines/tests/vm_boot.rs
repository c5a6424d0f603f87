//! Machines boot, run dockerd, reach the wire, and end when they should. Needs QEMU, and the node image, which is made
//! if the cache has none.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use labctl_images::{BuildOptions, NodeImage};
use labctl_machines::qemu::{Accel, Memory, Vm, VmNic, VmSpec};
use labctl_model::Suite;
use labctl_protocol::client::AgentClient;
use labctl_protocol::messages::{HostConfig, NicConfig};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;

const BOOT: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(20);

fn cache() -> PathBuf {
    let own = std::env::var_os("LABCTL_CACHE_DIR").map(PathBuf::from);
    let xdg = std::env::var_os("XDG_CACHE_HOME").map(|p| PathBuf::from(p).join("labctl"));
    own.or(xdg).unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/labctl"))
}

/// Beside this test: `target/TRIPLE/quick/`.
fn agent() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().parent().unwrap().join("labctl-agent");
    assert!(path.exists(), "no {}: run `make build` first", path.display());
    path
}

async fn node_image() -> NodeImage {
    let options = BuildOptions { cache: cache(), suite: Suite::Trixie, rebuild: false };
    labctl_images::build(&options, &|p| println!("{p}")).await.unwrap()
}

fn spec(name: &str, dir: &Path, accel: Accel, image: &NodeImage) -> VmSpec {
    VmSpec {
        name: name.into(),
        dir: dir.to_owned(),
        accel,
        memory_mib: 1024,
        memory: Memory::Anonymous,
        kernel: image.kernel(),
        initrd: image.initrd(&agent()).unwrap(),
        root: image.root(),
        nics: Vec::new(),
        shortcuts: false,
        incoming: false,
    }
}

/// The source address of the first frame that a NIC sends: a big-endian length, the destination, the source, ….
async fn first_sender(listener: UnixListener) -> std::io::Result<[u8; 6]> {
    let (mut wire, _) = listener.accept().await?;
    let length = wire.read_u32().await?;
    assert!((14..=1514).contains(&length), "a frame of {length} octets");
    let mut frame = vec![0; length as usize];
    wire.read_exact(&mut frame).await?;
    Ok(frame[6..12].try_into().unwrap())
}

struct Booted {
    vm: Vm,
    agent: AgentClient,
    agent_after: Duration,
    docker_after: Duration,
}

async fn boot(spec: VmSpec) -> Booted {
    let start = Instant::now();
    let mut vm = Vm::start(spec).await.unwrap();
    let stream = vm.agent().await.unwrap();
    let agent = match AgentClient::connect_within(stream, BOOT).await {
        Ok(agent) => agent,
        Err(e) => panic!("{e}\n{}", vm.post_mortem()),
    };
    let agent_after = start.elapsed();
    if let Err(e) = agent.docker(serde_json::Map::new()).await {
        panic!("{e}\n{}", vm.post_mortem());
    }
    Booted { vm, agent, agent_after, docker_after: start.elapsed() }
}

async fn stdout(agent: &AgentClient, argv: &[&str]) -> String {
    let output = agent.run(argv, COMMAND).await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_boot_at_once() {
    let image = node_image().await;
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let accel = Accel::detect(dir.path(), &image, &agent()).await;
    println!("{} found after {:.1} s", accel.name(), start.elapsed().as_secs_f64());
    let start = Instant::now();
    assert_eq!(Accel::detect(dir.path(), &image, &agent()).await, accel);
    assert!(start.elapsed() < Duration::from_secs(1), "the answer was not kept: {:?}", start.elapsed());
    let mut specs = Vec::new();
    let mut wires = Vec::new();
    for n in 1..=2_u8 {
        let folder = dir.path().join(format!("host{n}"));
        std::fs::create_dir(&folder).unwrap();
        let socket = folder.join("eth0.sock");
        wires.push(tokio::spawn(first_sender(UnixListener::bind(&socket).unwrap())));
        let mut spec = spec(&format!("host{n}"), &folder, accel, &image);
        spec.nics.push(VmNic { mac: [2, 0, 0, 0, 0, n], socket: Some(socket) });
        specs.push(spec);
    }
    let second = specs.pop().unwrap();
    let (mut one, mut two) = tokio::join!(boot(specs.pop().unwrap()), boot(second));
    for b in [&one, &two] {
        println!(
            "{} by {}: agent after {:.1} s, dockerd after {:.1} s",
            b.vm.spec().name,
            accel.name(),
            b.agent_after.as_secs_f64(),
            b.docker_after.as_secs_f64()
        );
    }
    guest_is_as_promised(&one.agent).await;
    nics_reach_the_wire(&one.agent, wires.remove(0)).await;
    agent_comes_back(&one.vm, one.agent).await;

    // Both ways of ending: from inside, and by force.
    let pid = one.vm.process().unwrap().clone();
    assert!(pid.is_alive());
    let agent = AgentClient::connect_within(one.vm.agent().await.unwrap(), COMMAND).await.unwrap();
    // The connection may end before the answer does.
    let _ = agent.power_off().await;
    tokio::time::timeout(COMMAND, one.vm.wait()).await.expect("a machine that powers off ends");
    assert!(!pid.is_alive());
    two.vm.kill().await.unwrap();
    two.vm.kill().await.expect("killing twice is no error");
    assert!(!two.vm.process().unwrap().is_alive());
}

/// What init promises of every guest.
async fn guest_is_as_promised(agent: &AgentClient) {
    let mounts = stdout(agent, &["cat", "/proc/mounts"]).await;
    for wanted in
        ["overlay / overlay", "tmpfs /var/lib/docker tmpfs", "cgroup2 /sys/fs/cgroup", "/run/labctl/agent"]
    {
        assert!(mounts.contains(wanted), "no `{wanted}` in\n{mounts}");
    }
    let modules = stdout(agent, &["cat", "/proc/modules"]).await;
    for wanted in ["ipvlan", "macvlan", "vxlan", "ip_vs_rr", "esp4", "8021q", "br_netfilter", "sch_netem"] {
        assert!(modules.lines().any(|l| l.starts_with(&format!("{wanted} "))), "{wanted} is not loaded");
    }
    let start = Instant::now();
    assert_eq!(stdout(agent, &["getent", "hosts", "registry.invalid"]).await, "");
    // One that waits for a server takes 25 s.
    assert!(start.elapsed() < Duration::from_secs(10), "a look-up took {:?}", start.elapsed());
    let driver = stdout(agent, &["docker", "info", "--format", "{{.Driver}}"]).await;
    assert_eq!(driver.trim(), "overlay2");
}

async fn nics_reach_the_wire(agent: &AgentClient, wire: tokio::task::JoinHandle<std::io::Result<[u8; 6]>>) {
    let mac = [2, 0, 0, 0, 0, 1];
    let nic = NicConfig {
        mac,
        name: "lan0".into(),
        addresses: "10.1.2.3/24".parse::<ipnet::IpNet>().unwrap().into(),
        peer: Default::default(),
        mtu: 1500,
    };
    let config = HostConfig {
        hostname: "host1".into(),
        clock_ns: u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap(),
        entropy: "00".repeat(32),
        machine_id: "0123456789abcdef".repeat(2),
        engine_id: "3c0e8fe1-77aa-4d7c-9b1f-c5d3a1b2e4f6".into(),
        nics: vec![nic],
        interfaces: Vec::new(),
        gateway: Default::default(),
        routes: Vec::new(),
        sysctls: Default::default(),
        hosts: Default::default(),
    };
    agent.configure(config).await.unwrap();
    let _ = agent.run(&["ping", "-c", "1", "-W", "1", "10.1.2.4"], COMMAND).await.unwrap();
    assert_eq!(tokio::time::timeout(COMMAND, wire).await.unwrap().unwrap().unwrap(), mac);
}

/// Init starts the agent again when it dies, and a new session finds the machine as it was.
async fn agent_comes_back(vm: &Vm, agent: AgentClient) {
    let before = stdout(&agent, &["pgrep", "-x", "agent"]).await;
    // The command's answer dies with the agent, so this takes as long as it is given; less, and the command itself would
    // be ended before it has done anything on a slow machine.
    let _ = agent.run(&["pkill", "-KILL", "-x", "agent"], Duration::from_secs(3)).await;
    drop(agent);
    let again = AgentClient::connect_within(vm.agent().await.unwrap(), COMMAND).await.unwrap();
    assert_eq!(again.hello().hostname, "host1");
    let after = stdout(&again, &["pgrep", "-x", "agent"]).await;
    assert!(!before.is_empty() && !after.is_empty() && before != after, "agents {before} and {after}");
}

#[tokio::test]
async fn a_machine_that_cannot_start_says_why() {
    let image = node_image().await;
    let dir = tempfile::tempdir().unwrap();
    let good = spec("bad", dir.path(), Accel::Tcg, &image);

    let no_kernel = VmSpec { kernel: "/nonexistent/vmlinux".into(), ..good.clone() };
    let error = Vm::start(no_kernel).await.unwrap_err().to_string();
    assert!(error.contains("/nonexistent/vmlinux") && error.contains("hint:"), "{error}");

    let no_memory = VmSpec { memory_mib: 1 << 30, ..good.clone() };
    let error = Vm::start(no_memory).await.unwrap_err().to_string();
    assert!(error.contains("memory") && error.contains("hint: give the hosts less"), "{error}");

    let no_wire = VmNic { mac: [2, 0, 0, 0, 0, 1], socket: Some(dir.path().join("none.sock")) };
    let error = Vm::start(VmSpec { nics: vec![no_wire], ..good }).await.unwrap_err();
    assert!(
        matches!(&error, labctl_machines::qemu::Error::Io { path, .. } if path.ends_with("none.sock")),
        "{error}"
    );
}

/// A user who owns nothing but a folder boots a machine, is then killed, and the machine dies too.
#[test]
fn an_ordinary_user_boots_a_machine_that_dies_with_its_supervisor() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let image = runtime.block_on(node_image());
    // Outside of root's home, where nobody else can look.
    let dir = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let folder = dir.path().join("host");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let exe = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    for (name, from) in
        [("kernel", image.kernel()), ("initrd", image.initrd(&agent()).unwrap()), ("root", image.root())]
    {
        let to = dir.path().join(name);
        std::fs::hard_link(&from, &to).or_else(|_| std::fs::copy(&from, &to).map(drop)).unwrap();
    }
    let mut command = if nix::unistd::Uid::effective().is_root() {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all",
        ]);
        command.arg(&exe);
        command
    } else {
        Command::new(&exe)
    };
    let mut supervisor = command
        .args(["--exact", "supervise", "--ignored", "--nocapture"])
        .env("VM_BOOT_DIR", dir.path())
        .env("TMPDIR", &folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(supervisor.stdout.take().unwrap()).lines().map_while(Result::ok);
    let found =
        lines.inspect(|l| println!("{l}")).find_map(|l| l.strip_prefix("machine ").map(str::to_owned));
    let Some(found) = found else { panic!("no machine: {}", supervisor.wait().unwrap()) };
    let machine = labctl_state::Process::observe(found.trim().parse().unwrap(), "machine").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid)).unwrap();
    let uid = status
        .lines()
        .find_map(|l| l.strip_prefix("Uid:"))
        .unwrap()
        .split_ascii_whitespace()
        .next()
        .unwrap()
        .to_owned();
    assert_ne!(uid, "0", "QEMU runs as root");

    // setpriv has become the test itself, so this is the supervisor's process.
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while machine.is_alive() {
        assert!(Instant::now() < deadline, "the machine outlives its supervisor");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Not a test: what the one above runs as another user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by an_ordinary_user_boots_a_machine_that_dies_with_its_supervisor"]
async fn supervise() {
    let dir = PathBuf::from(std::env::var_os("VM_BOOT_DIR").expect("run by the test above"));
    let spec = VmSpec {
        name: "host".into(),
        dir: dir.join("host"),
        accel: Accel::Tcg,
        memory_mib: 768,
        memory: Memory::Anonymous,
        kernel: dir.join("kernel"),
        initrd: dir.join("initrd"),
        root: dir.join("root"),
        nics: Vec::new(),
        shortcuts: false,
        incoming: false,
    };
    let booted = boot(spec).await;
    println!("dockerd after {:.1} s, as an ordinary user", booted.docker_after.as_secs_f64());
    let version = stdout(&booted.agent, &["docker", "version", "--format", "{{.Server.Version}}"]).await;
    assert!(version.starts_with("26."), "{version}");
    println!("machine {}", booted.vm.process().unwrap().pid);
    tokio::time::sleep(Duration::from_secs(60)).await;
}
