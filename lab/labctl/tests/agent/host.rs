//! What a host is made to be, and what is read of it.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    common,
    net::{Net, pair},
};
use ipnet::IpNet;
use labctl_model::{Interface, InterfaceKind, Route, Tools};
use labctl_protocol::{
    client::{AgentClient, ClientError},
    messages::{Exec, HostConfig, Netns, NicConfig},
};
use serde_json::{Map, json};
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(20);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn facts_of_a_namespace() {
    let (a, _b) = pair();
    let client = common::client().await;
    let facts = client.facts(Netns::Pid(a.pid())).await.unwrap();
    assert_eq!(facts.interfaces, ["eth0", "lo"]);
    let lo = ("lo".to_owned(), net("127.0.0.1/8"));
    let v6_lo = ("lo".to_owned(), net("::1/128"));
    assert_eq!(facts.addresses, [("eth0".to_owned(), net("10.0.0.1/24")), lo, v6_lo]);
    assert!(facts.link_local.iter().all(|(name, _)| name == "eth0"), "{facts:?}");
    let error = client.facts(Netns::Pid(5_000_000)).await.unwrap_err();
    assert!(error.to_string().contains("process 5000000"), "{error}");
}

#[tokio::test]
async fn a_command_runs_in_the_namespace_of_a_container() {
    let (a, _b) = pair();
    let client = common::client().await;
    let argv = ["ip", "-o", "-4", "addr", "show", "eth0"].map(str::to_owned).to_vec();
    let (netns, tools) = (Netns::Pid(a.pid()), Tools::Host);
    let exec = Exec { argv, netns, tools, tty: None, env: BTreeMap::new() };
    let output = client.exec(exec).await.unwrap().output().await.unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("10.0.0.1/24"));
}

/// A program of the container's runs among its files; the host's is run only where it is asked for.
#[tokio::test]
async fn a_program_of_a_container_sees_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let (hosts, resolv) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
    std::fs::write(&hosts, "192.0.2.1 only-here\n").unwrap();
    std::fs::write(&resolv, "").unwrap();
    let net = Net::with_files("n", &hosts, &resolv);
    let client = common::client().await;
    let exec = |argv: [&str; 2], netns: &Netns, tools| Exec {
        argv: argv.map(str::to_owned).to_vec(),
        netns: netns.clone(),
        tools,
        tty: None,
        env: BTreeMap::new(),
    };
    let container = Netns::Pid(net.pid());
    for (netns, tools, own) in
        [(&container, Tools::Own, true), (&container, Tools::Host, false), (&Netns::Host, Tools::Own, false)]
    {
        let output =
            client.exec(exec(["cat", "/etc/hosts"], netns, tools)).await.unwrap().output().await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().contains("only-here"), own);
    }
    let lacking = client.exec(exec(["no-such-program", "-x"], &container, Tools::Own)).await.unwrap_err();
    let said = lacking.to_string();
    assert!(said.contains("no `no-such-program` in the container") && said.contains("host-tools"), "{said}");
}

#[tokio::test]
async fn names_in_the_hosts_file_of_a_container() {
    let dir = tempfile::tempdir().unwrap();
    let (hosts, resolv) = (dir.path().join("hosts"), dir.path().join("resolv.conf"));
    std::fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost ip6-localhost\n172.17.0.2 db # dead\n#x y\n")
        .unwrap();
    std::fs::write(&resolv, "").unwrap();
    let net = Net::with_files("n", &hosts, &resolv);
    let names = common::client().await.hosts_file(net.pid()).await.unwrap();
    assert_eq!(names, ["db", "ip6-localhost", "localhost"]);
}

#[tokio::test]
async fn routes_and_interfaces_come_and_go() {
    let (a, _b) = pair();
    let client = common::client_in(a.namespace()).await;
    let route = Route { to: net("10.5.0.0/16"), via: Some(ip("10.0.0.2")), dev: None, metric: None };
    for _ in 0..2 {
        client.route(true, route.clone()).await.unwrap();
    }
    assert!(a.ip("route show 10.5.0.0/16").contains("via 10.0.0.2 dev eth0"));
    for _ in 0..2 {
        client.route(false, route.clone()).await.unwrap();
    }
    assert_eq!(a.ip("route show 10.5.0.0/16"), "");
    // Of two routes to one destination each has its own metric, and goes by it.
    let spare = Route { via: None, dev: Some("eth0".into()), metric: Some(200), ..route.clone() };
    client.route(true, route.clone()).await.unwrap();
    client.route(true, spare.clone()).await.unwrap();
    let both = a.ip("route show 10.5.0.0/16");
    assert!(both.contains("via 10.0.0.2 dev eth0") && both.contains("scope link metric 200"), "{both}");
    client.route(false, route).await.unwrap();
    assert!(a.ip("route show 10.5.0.0/16").contains("metric 200"));
    client.route(false, Route { dev: None, ..spare.clone() }).await.unwrap();
    // One that goes by a next hop goes without it being named.
    client.route(true, Route { via: Some(ip("10.0.0.2")), ..spare.clone() }).await.unwrap();
    client.route(false, Route { dev: None, ..spare }).await.unwrap();
    assert_eq!(a.ip("route show 10.5.0.0/16"), "");
    let stray = Route { to: net("10.6.0.0/16"), via: Some(ip("10.99.0.1")), dev: None, metric: None };
    let error = client.route(true, stray).await.unwrap_err();
    assert!(error.to_string().contains("10.6.0.0/16 via 10.99.0.1"), "{error}");

    let shim = Interface {
        name: "shim0".into(),
        kind: InterfaceKind::Macvlan,
        on: vec!["eth0".into()],
        addresses: vec![net("10.7.0.1/24")],
        deferred: false,
    };
    client.interface(true, shim.clone()).await.unwrap();
    let index = a.ip("-o link show dev shim0");
    let moved = Interface { addresses: vec![net("10.7.0.2/24")], ..shim.clone() };
    client.interface(true, moved).await.unwrap();
    assert_eq!(
        a.ip("-o link show dev shim0").split(':').next(),
        index.split(':').next(),
        "it stays the same one"
    );
    let shown = a.ip("-d -4 addr show dev shim0");
    assert!(shown.contains("10.7.0.2/24") && !shown.contains("10.7.0.1/24"), "{shown}");
    assert!(shown.contains("macvlan mode bridge") && shown.contains("UP"), "{shown}");
    for _ in 0..2 {
        client.interface(false, shim.clone()).await.unwrap();
    }
    assert!(!a.ip("link").contains("shim0"));
    let orphan = Interface { on: vec!["eth9".into()], ..shim };
    let error = client.interface(true, orphan).await.unwrap_err();
    assert!(error.to_string().contains("eth9"), "{error}");
}

/// An agent in namespaces of its own: its hostname, its /etc, its network, and later its dockerd, are not the
/// machine's. With it the way to its files.
struct Sandbox {
    client: AgentClient,
    // Dropped last: PID 1 of the sandbox takes all else along.
    _child: Child,
}

impl Sandbox {
    async fn new(prepare: &str) -> Self {
        common::need_root();
        let script = format!(
            "mount --make-rprivate / && mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /run \
             && mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /var/log && {prepare} \
             && exec \"$0\" serve --stdio"
        );
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--uts",
            "--net",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]);
        command.args(["sh", "-c", &script]).arg(common::agent()).stderr(Stdio::inherit());
        let (child, stdio) = common::spawn(&mut command);
        Self { client: AgentClient::connect(stdio).await.unwrap(), _child: child }
    }

    async fn sh(&self, script: &str) -> String {
        let output = self.client.run(&["sh", "-c", script], SOON).await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status, 0, "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn config() -> HostConfig {
    let nic = |last: u8, name: &str, addresses: &[&str]| NicConfig {
        mac: [2, 0, 0, 0, 0, last],
        name: name.into(),
        addresses: addresses.iter().map(|text| net(text)).collect(),
        peer: Default::default(),
        mtu: 1500,
    };
    HostConfig {
        hostname: "host1".into(),
        clock_ns: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        entropy: "ab".repeat(32),
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        engine_id: "3c0e8fe1-77aa-4d7c-9b1f-c5d3a1b2e4f6".into(),
        nics: vec![nic(1, "eth0", &["192.168.56.3/24", "fd00:56::3/64"]), nic(2, "eth1", &["10.9.0.3/16"])],
        interfaces: vec![],
        gateway: [ip("192.168.56.1"), ip("fd00:56::1")].into_iter().collect(),
        routes: vec![Route { to: net("10.5.0.0/16"), via: Some(ip("10.9.0.1")), dev: None, metric: Some(7) }],
        sysctls: BTreeMap::from([("net.ipv4.ip_forward".into(), "1".into())]),
        hosts: BTreeMap::from([
            ("host1".into(), [192, 168, 56, 3].into()),
            ("host2".into(), [192, 168, 56, 7].into()),
        ]),
    }
}

#[tokio::test]
async fn a_machine_becomes_a_host_and_another_one() {
    // The NICs have each other's names, and a bridge on one of them has its MAC.
    let prepare = "ip link add eth1 address 02:00:00:00:00:01 type veth peer name far1 \
                   && ip link add eth0 address 02:00:00:00:00:02 type veth peer name far2 \
                   && ip link set far1 up && ip link set far2 up \
                   && ip link add br0 address 02:00:00:00:00:01 type bridge";
    let sandbox = Sandbox::new(prepare).await;
    let mut wanted = config();
    for _ in 0..2 {
        sandbox.client.configure(wanted.clone()).await.unwrap();
    }
    assert_eq!(sandbox.sh("hostname; cat /etc/hostname").await, "host1\nhost1\n");
    assert_eq!(sandbox.sh("cat /etc/machine-id").await.trim(), wanted.machine_id);
    assert!(sandbox.sh("cat /etc/hosts").await.contains("192.168.56.7 host2\n"));
    assert_eq!(sandbox.sh("cat /proc/sys/net/ipv4/ip_forward").await, "1\n");
    assert!(sandbox.sh("ip link show br0").await.contains("02:00:00:00:00:01"), "the bridge keeps its name");
    let eth0 = sandbox.sh("ip addr show dev eth0").await;
    assert!(eth0.contains("02:00:00:00:00:01") && eth0.contains("192.168.56.3/24"), "{eth0}");
    let routes = sandbox.sh("ip route").await;
    assert!(routes.contains("default via 192.168.56.1 dev eth0"), "{routes}");
    assert!(routes.contains("10.5.0.0/16 via 10.9.0.1 dev eth1 proto static metric 7"), "{routes}");
    // Checked for duplicates by the time that it answers.
    let v6 = sandbox.sh("ip -6 addr show dev eth0").await;
    assert!(
        v6.contains("fd00:56::3/64") && v6.contains("fe80::ff:fe00:1/64") && !v6.contains("tentative"),
        "{v6}"
    );
    let routes = sandbox.sh("ip -6 route").await;
    assert!(routes.contains("default via fd00:56::1 dev eth0"), "{routes}");

    // Another configuration replaces it: point-to-point, smaller, and without what is no longer wanted.
    wanted.nics[0].addresses = net("192.168.56.3/24").into();
    wanted.nics[1].addresses = net("10.8.0.1/32").into();
    wanted.nics[1].peer = ip("10.8.0.2").into();
    wanted.nics[1].mtu = 1400;
    wanted.gateway = Default::default();
    wanted.routes.clear();
    wanted.hostname = "other".into();
    sandbox.client.configure(wanted.clone()).await.unwrap();
    let eth1 = sandbox.sh("ip addr show dev eth1").await;
    assert!(eth1.contains("mtu 1400") && eth1.contains("inet 10.8.0.1 peer 10.8.0.2/32"), "{eth1}");
    assert!(!eth1.contains("10.9.0.3"), "{eth1}");
    let routes = sandbox.sh("ip route").await;
    assert!(!routes.contains("default") && !routes.contains("10.5.0.0"), "{routes}");
    let v6 = sandbox.sh("ip -6 addr show dev eth0; ip -6 route").await;
    assert!(!v6.contains("fd00:56::"), "{v6}");
    assert!(sandbox.sh("cat /etc/hosts").await.contains("127.0.1.1 other\n"));

    wanted.sysctls = BTreeMap::from([("net.ipv4.no_such_thing".into(), "1".into())]);
    let error = sandbox.client.configure(wanted.clone()).await.unwrap_err();
    assert!(error.to_string().contains("net.ipv4.no_such_thing"), "{error}");
    wanted.nics[0].mac = [2, 0, 0, 0, 0, 9];
    let error = sandbox.client.configure(wanted).await.unwrap_err();
    assert!(error.to_string().contains("02:00:00:00:00:09"), "{error}");
}

fn map(value: serde_json::Value) -> Map<String, serde_json::Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn dockerd_is_started_left_alone_and_started_again() {
    // Its own cgroup tree is not needed until a container runs, and no container runs here.
    let sandbox = Sandbox::new("mkdir -p /etc/docker && ip link set lo up").await;
    let base = json!({ "iptables": false, "bridge": "none", "storage-driver": "vfs" });
    let pid = async || sandbox.sh("cat /var/run/docker.pid").await;

    let api = sandbox.client.docker(map(base.clone())).await.unwrap();
    assert!(api.starts_with("1."), "{api}");
    let first = pid().await;
    sandbox.client.docker(map(base.clone())).await.unwrap();
    assert_eq!(pid().await, first, "the same daemon.json leaves it alone");

    let mut other = map(base.clone());
    other.insert("labels".into(), json!(["shown=1"]));
    sandbox.client.docker(other).await.unwrap();
    assert_ne!(pid().await, first);
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = sandbox.client.dial_unix("/var/run/docker.sock").await.unwrap();
    socket.write_all(b"GET /info HTTP/1.0\r\nHost: x\r\n\r\n").await.unwrap();
    let mut info = String::new();
    socket.read_to_string(&mut info).await.unwrap();
    assert!(info.contains("shown=1"), "{info}");

    let error = sandbox.client.docker(map(json!({ "no-such-option": true }))).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused { op: "docker", .. }), "{error}");
    assert!(error.to_string().contains("no-such-option"), "the log tells: {error}");
    sandbox.client.docker(map(base)).await.unwrap();
}
