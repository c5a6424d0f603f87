//! Clones of one saved machine: nobody's twins, and made anew when the saved machine is damaged.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use labctl_tests::{Labctl, eventually, one_host, own_images, write};

/// What tells one host from another, each a file or an answer of the host's own, a line each.
const OWN: &str = "head -c 16 /dev/urandom | od -An -tx1; cat /etc/machine-id; hostname
cat /sys/class/net/eth0/address; ip -4 -o address show eth0 | awk '{print $4}'; cat /var/lib/docker/engine-id; echo";

/// Sixteen hosts restored from one template.
#[test]
fn sixteen_clones_are_sixteen_hosts() {
    const HOSTS: usize = 16;
    const SWARMS: usize = 4;
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::from("name: clones\nsegments: { lan: { subnet: 10.9.0.0/24 } }\nhosts:\n");
    for i in 1..=HOSTS {
        text += &format!("  h{i}: {{ lan: 10.9.0.{i} }}\n");
    }
    labctl.up(&write(dir.path(), "clones.yaml", &text));

    let exec = |host: &str, script: &str| {
        labctl.run(["exec", "clones", host, "--", "sh", "-c", script]).exits(0).stdout().trim().to_owned()
    };
    let lab = labctl.run(["ps", "--format", "json"]).exits(0).json()[0].take();
    // Each swarm keeps its processor busy: some of them are enough to see that nodes draw their ids apart.
    let mut nodes = BTreeSet::new();
    let draws: Vec<Vec<String>> = (1..=HOSTS)
        .map(|i| {
            let host = format!("h{i}");
            let own: Vec<String> = exec(&host, OWN).lines().map(|l| l.trim().to_owned()).collect();
            let socket = lab["hosts"][&host]["docker_socket"].as_str().unwrap();
            if i <= SWARMS {
                nodes.insert(node_of_a_swarm(socket));
            }
            own
        })
        .collect();
    assert_eq!(nodes.len(), SWARMS, "swarm node ids: {nodes:?}");
    let what = ["random draw", "machine id", "host name", "MAC", "address", "engine id in its file"];
    for (n, what) in what.into_iter().enumerate() {
        let values: BTreeSet<&String> = draws.iter().map(|d| &d[n]).collect();
        assert_eq!(values.len(), HOSTS, "{what}: {values:?}");
    }

    // A restored dockerd has its template's id until it starts anew.
    let last = format!("h{HOSTS}");
    let engine = || exec(&last, "docker info -f '{{ .ID }}'");
    assert_ne!(engine(), draws[HOSTS - 1][5]);
    labctl.run(["do", "clones", "restart", "docker", &last]).exits(0);
    assert_eq!(engine(), draws[HOSTS - 1][5]);

    // The guest's clock is read between two looks at this machine's.
    for i in 1..=HOSTS {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let before = now();
        let guest = exec(&format!("h{i}"), "date +%s%N");
        let after = now();
        let guest = Duration::from_nanos(guest.parse().unwrap());
        let slack = Duration::from_millis(50);
        assert!(before <= guest + slack && guest <= after + slack, "h{i}: {before:?} {guest:?} {after:?}");
    }
}

/// Makes an engine a swarm of one, and returns the id of its node.
fn node_of_a_swarm(socket: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let docker = bollard::Docker::connect_with_unix(socket, 60, bollard::API_DEFAULT_VERSION).unwrap();
        let alone = bollard::models::SwarmInitRequest {
            listen_addr: Some("eth0:2377".to_owned()),
            advertise_addr: Some("eth0".to_owned()),
            ..Default::default()
        };
        docker.init_swarm(alone).await.unwrap()
    })
}

/// A template whose memory was cut short is noticed and made anew, with a line that says so; and so is an initial RAM
/// disk. What killed processes have left in the cache goes.
#[test]
fn a_torn_template_is_made_anew() {
    let mut labctl = Labctl::new();
    let own = tempfile::tempdir().unwrap();
    let image = own_images(own.path());
    labctl.cache = own.path().to_owned();
    let templates = own.path().join("templates");
    let left = templates.join(".staging-killed");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("ram"), "half").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "torn.yaml", &one_host("torn"));
    labctl.up(&file).says("saving a booted machine");
    labctl.run(["down", "torn"]).exits(0);
    assert!(!left.exists());
    let template = fs::read_dir(&templates)
        .unwrap()
        .flatten()
        .find(|e| e.path().is_dir())
        .expect("a template was kept")
        .path();
    let ram = fs::File::options().write(true).open(template.join("ram")).unwrap();
    let whole = ram.metadata().unwrap().len();
    ram.set_len(whole / 2).unwrap();
    cut_initrds(&image);
    labctl.up(&file).says("its file ram was changed or cut short").says("the initial RAM disk");
    assert_eq!(ram_length(&template), whole);
    labctl.run(["down", "torn"]).exits(0);
    let again = labctl.up(&file);
    assert!(!again.stderr().contains("saving") && !again.stderr().contains("damaged"), "{}", again.stderr());
}

/// Cuts the initial RAM disks of this cache; those of another are put in place by links, which are cut off.
fn cut_initrds(image: &Path) {
    let is_initrd = |e: &fs::DirEntry| e.file_name().to_string_lossy().starts_with("initrd-");
    for entry in fs::read_dir(image).unwrap().flatten().filter(is_initrd) {
        let bytes = fs::read(entry.path()).unwrap();
        fs::remove_file(entry.path()).unwrap();
        fs::write(entry.path(), &bytes[..bytes.len() / 2]).unwrap();
    }
}

fn ram_length(template: &Path) -> u64 {
    fs::metadata(template.join("ram")).unwrap().len()
}

/// A host whose plug was pulled comes back with its name, its addresses and the containers that the topology gives it.
#[test]
fn a_killed_host_comes_back() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let text = "name: reborn
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { host1: { lan: 192.168.56.3 }, host2: { lan: 192.168.56.7 } }
networks: { net: { driver: macvlan, driver_opts: { parent: lan }, ipam: { config: [ { subnet: 192.168.56.0/24 } ] } } }
containers: { c2: { host: host2, networks: { net: { ipv4_address: 192.168.56.40 } } } }
expect: [ { probe: icmp, from: host1, to: [host2, c2], verdict: yes } ]
";
    let file = write(dir.path(), "reborn.yaml", text);
    labctl.up(&file);
    labctl.run(["check", "reborn"]).exits(0);
    labctl.run(["do", "reborn", "start", "host2"]).exits(2).says("runs already");
    labctl.run(["do", "reborn", "kill", "host2"]).exits(0);
    labctl.run(["check", "reborn"]).exits(1);
    labctl.run(["do", "reborn", "kill", "host2"]).exits(2).says("does not run");
    labctl.run(["do", "reborn", "start", "host2"]).exits(0);
    // What was asked for in vain a moment ago is asked for again only in a second (ARP).
    let holds = || labctl.run(["check", "reborn"]).0.status.success();
    eventually("host2 and what is on it are reached again", Duration::from_secs(20), holds);
    labctl.run(["do", "reborn", "stop", "host2"]).exits(0);
    labctl.run(["do", "reborn", "kill", "host9"]).exits(2).says("there is no host `host9`");
}
