//! A random lab from a seed: a topology as JSON, which is YAML too.

use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::IndexedRandom};
use serde_json::{Map, Value, json};

/// The lab of a seed. Most are valid; the model has the last word. The same seed always gives the same lab.
pub fn lab(seed: u64, engines: &[String]) -> Value {
    Dice(Xoshiro256PlusPlus::seed_from_u64(seed)).lab(seed, engines)
}

/// What is probed in every lab, at first and after each step. The verdicts here are not what the lab is held against.
pub fn checks(lab: &Value) -> Value {
    let has = |section: &str| lab[section].as_object().is_some_and(|m| !m.is_empty());
    let some = |groups: &[&str]| -> Vec<String> {
        groups.iter().filter(|g| has(g)).map(|g| (*g).to_owned()).collect()
    };
    let services = lab["services"].as_object().into_iter().flat_map(Map::keys).cloned();
    let near = some(&["hosts", "containers", "peers"]);
    let listening: Vec<String> = near.iter().cloned().chain(services).collect();
    let outside = near.iter().cloned().chain(["8.8.8.8".to_owned()]).collect::<Vec<_>>();
    json!([
        { "probe": "icmp", "from": near, "to": outside, "verdict": "yes" },
        { "probe": "tcp/80", "from": near, "to": listening, "verdict": "yes" },
        { "probe": "udp/53", "size": 1000, "from": near, "to": listening, "verdict": "yes" },
        { "probe": "tcp/8080", "from": near, "to": some(&["hosts"]), "verdict": "yes" },
    ])
}

struct Dice(Xoshiro256PlusPlus);

impl Dice {
    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_ratio(percent, 100)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all.choose(&mut self.0).cloned().unwrap_or_else(|| unreachable!("nothing to choose from"))
    }

    fn lab(&mut self, seed: u64, engines: &[String]) -> Value {
        let hosts = 1 + usize::from(self.chance(80)) + usize::from(self.chance(15));
        let two = self.chance(40);
        let swarm = hosts > 1 && self.chance(35);
        let networks = self.networks(two, swarm);
        let containers = self.containers(hosts, &networks);
        let mut lab = json!({
            "name": format!("fuzz-{seed}"),
            "segments": self.segments(two),
            "hosts": self.hosts(hosts, two, swarm, engines),
            "networks": networks,
            "containers": containers,
        });
        if self.chance(50) {
            lab["peers"] = json!({ "p0": { "lan": "192.168.56.99" } });
            if self.chance(50) {
                lab["peers"]["p0"]["gateway"] = json!("192.168.56.3");
            }
        }
        if swarm {
            lab["swarm"] = json!({ "managers": ["h0"] });
            if self.chance(60) {
                lab["services"] = json!({ "s0": self.service(&lab["networks"]) });
            }
        }
        let steps = self.steps(&lab, hosts);
        if !steps.is_empty() {
            lab["steps"] = json!(steps.iter().map(|s| json!({ "do": s })).collect::<Vec<_>>());
        }
        // A network that nobody uses would be made nowhere, which is a mistake in a topology.
        let used = [&lab["containers"], &lab["services"]].map(Value::to_string).join(" ");
        if let Some(networks) = lab["networks"].as_object_mut() {
            networks.retain(|name, _| used.contains(&format!("\"{name}\"")));
        }
        lab
    }

    fn segments(&mut self, two: bool) -> Value {
        let mut lan = json!({ "subnet": "192.168.56.0/24" });
        if self.chance(50) {
            lan["gateway"] = json!("192.168.56.1");
        }
        if self.chance(25) {
            lan["port_security"] = json!(true);
        }
        if self.chance(15) {
            lan["mtu"] = json!(self.one_of(&[1200, 1400, 9000]));
        }
        if self.chance(10) {
            lan["block"] = json!([self.one_of(&["udp/4789", "esp", "icmp", "tcp/80", "vxlan"])]);
        }
        let mut all = json!({ "lan": lan });
        if two {
            all["back"] = json!({ "subnet": "192.168.57.0/24" });
        }
        all
    }

    fn hosts(&mut self, count: usize, two: bool, swarm: bool, engines: &[String]) -> Value {
        let mut all = Map::new();
        // Nodes of one swarm have one engine here: mixed swarms have a topology of their own.
        let engine = self.one_of(engines);
        for i in 0..count {
            let mut host = json!({ "lan": format!("192.168.56.{}", 3 + i) });
            if two {
                host["back"] = json!(format!("192.168.57.{}", 3 + i));
            }
            host["engine"] = json!(if swarm { engine.clone() } else { self.one_of(engines) });
            let mut daemon = Map::new();
            for (percent, key, value) in [
                (20, "userland-proxy", json!(false)),
                (8, "iptables", json!(false)),
                (8, "ip-forward", json!(false)),
                (8, "icc", json!(false)),
                (8, "bip", json!("10.200.0.1/16")),
                (8, "mtu", json!(1300)),
                (8, "ip", json!("127.0.0.1")),
            ] {
                if self.chance(percent) {
                    daemon.insert(key.to_owned(), value);
                }
            }
            if !daemon.is_empty() {
                host["daemon_json"] = Value::Object(daemon);
            }
            if self.chance(15) {
                host["sysctls"] = json!({ "net.ipv4.ip_forward": self.one_of(&[0, 1]) });
            }
            if count > 1 && self.chance(25) {
                let via = format!("192.168.56.{}", 3 + (i + 1) % count);
                host["routes"] = json!([{ "to": self.one_of(&["172.30.0.0/15", "172.16.0.0/12", "172.17.0.0/16"]), "via": via }]);
            }
            all.insert(format!("h{i}"), host);
        }
        Value::Object(all)
    }

    fn networks(&mut self, two: bool, swarm: bool) -> Map<String, Value> {
        let mut all = Map::new();
        for i in 0..self.0.random_range(1..4) {
            let drivers: &[&str] = if swarm {
                &["bridge", "macvlan", "ipvlan", "overlay", "overlay"]
            } else {
                &["bridge", "bridge", "macvlan", "ipvlan"]
            };
            let driver = self.one_of(drivers);
            let mut options = Map::new();
            let mut network = json!({ "driver": driver });
            let subnet = match driver {
                "bridge" => {
                    for (percent, key, value) in [
                        (15, "com.docker.network.bridge.enable_icc", "false"),
                        (15, "com.docker.network.bridge.enable_ip_masquerade", "false"),
                        (10, "com.docker.network.driver.mtu", "900"),
                        (10, "com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
                    ] {
                        if self.chance(percent) {
                            options.insert(key.to_owned(), json!(value));
                        }
                    }
                    self.chance(60).then(|| format!("172.{}.0.0/16", 30 + i))
                }
                "overlay" => {
                    network["attachable"] = json!(true);
                    if self.chance(25) {
                        options.insert("encrypted".to_owned(), json!(""));
                    }
                    self.chance(40).then(|| format!("10.{}.0.0/24", 100 + i))
                }
                _ => {
                    // macvlan and ipvlan cannot share a parent, so each has its own NIC where there are two.
                    let nic = if two && driver == "ipvlan" { "back" } else { "lan" };
                    let vlan = if self.chance(20) { format!(".{}", 10 + i) } else { String::new() };
                    options.insert("parent".to_owned(), json!(format!("{nic}{vlan}")));
                    let (key, modes): (_, &[&str]) = match driver {
                        "macvlan" => ("macvlan_mode", &["bridge", "bridge", "private", "vepa"]),
                        _ => ("ipvlan_mode", &["l2", "l2", "l3", "l3s"]),
                    };
                    options.insert(key.to_owned(), json!(self.one_of(modes)));
                    let third = if nic == "back" { 57 } else { 56 };
                    Some(if self.chance(60) {
                        format!("192.168.{third}.0/24")
                    } else {
                        format!("172.{}.0.0/16", 30 + i)
                    })
                }
            };
            if self.chance(12) {
                network["internal"] = json!(true);
            }
            if !options.is_empty() {
                network["driver_opts"] = Value::Object(options);
            }
            if let Some(subnet) = subnet {
                network["ipam"] = json!({ "config": [{ "subnet": subnet }] });
                if subnet.starts_with("192.168.") {
                    network["ipam"]["config"][0]["gateway"] = json!(subnet.replace("0/24", "1"));
                }
            }
            all.insert(format!("n{i}"), network);
        }
        all
    }

    fn containers(&mut self, hosts: usize, networks: &Map<String, Value>) -> Value {
        let mut all = Map::new();
        for i in 0..self.0.random_range(2..6_usize) {
            let mut container = json!({ "host": format!("h{}", self.0.random_range(0..hosts)) });
            let mode = self.one_of(&[
                "networks", "networks", "networks", "networks", "bridge", "bridge", "host", "none",
            ]);
            match mode {
                "networks" => {
                    let names: Vec<&String> = networks.keys().collect();
                    let mut on = Map::new();
                    for _ in 0..1 + usize::from(self.chance(25)) {
                        let name = self.one_of(&names);
                        let subnet = networks[name]["ipam"]["config"][0]["subnet"].as_str();
                        // Hosts that share a segment give out the same addresses unless these are fixed.
                        let fixed = subnet.map(|s| match s.strip_suffix(".0.0/16") {
                            Some(net) => format!("{net}.0.{}", 40 + i),
                            None => s.replace("0/24", &(40 + i).to_string()),
                        });
                        let is_shared = networks[name]["driver"] != "bridge";
                        let keep = is_shared || self.chance(30);
                        on.insert(
                            name.clone(),
                            fixed.filter(|_| keep).map_or(json!({}), |a| json!({ "ipv4_address": a })),
                        );
                    }
                    container["networks"] = Value::Object(on);
                }
                "bridge" => {}
                mode => container["network_mode"] = json!(mode),
            }
            if mode != "none" && mode != "host" && self.chance(30) {
                let port = self.one_of(&[
                    "8080:80",
                    "80:80",
                    "127.0.0.1:8080:80",
                    "8080:81",
                    "192.168.56.3:8080:80",
                    "53:53/udp",
                ]);
                container["ports"] = json!([port]);
            }
            all.insert(format!("c{i}"), container);
        }
        Value::Object(all)
    }

    fn service(&mut self, networks: &Value) -> Value {
        let overlays: Vec<&String> = networks
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, n)| n["driver"] == "overlay")
            .map(|(k, _)| k)
            .collect();
        let mut service = json!({ "deploy": { "replicas": self.0.random_range(1..3) } });
        if !overlays.is_empty() && self.chance(70) {
            service["networks"] = json!([self.one_of(&overlays)]);
        }
        if self.chance(60) {
            let port = json!({ "published": 8080, "target": 80, "mode": self.one_of(&["ingress", "ingress", "host"]) });
            service["ports"] = json!([port]);
        }
        if self.chance(20) {
            service["deploy"]["endpoint_mode"] = json!("dnsrr");
            // Docker refuses a port of the mesh for these.
            if service["ports"][0]["mode"] == "ingress" {
                service["ports"][0]["mode"] = json!("host");
            }
        }
        if self.chance(25) {
            service["deploy"]["mode"] = json!("global");
            service["deploy"].as_object_mut().map(|d| d.remove("replicas"));
        }
        service
    }

    fn steps(&mut self, lab: &Value, hosts: usize) -> Vec<String> {
        let host = |dice: &mut Self| format!("h{}", dice.0.next_u32() as usize % hosts);
        let names: Vec<&String> = lab["containers"].as_object().into_iter().flat_map(Map::keys).collect();
        let networks: Vec<&String> = lab["networks"].as_object().into_iter().flat_map(Map::keys).collect();
        let mut steps = Vec::new();
        while steps.len() < 2 && self.chance(35) {
            let container = self.one_of(&names).clone();
            let network = self.one_of(&networks).clone();
            let at = host(self);
            steps.push(match self.0.random_range(0..8) {
                0 => format!("stop {container}"),
                1 => format!("restart {container}"),
                2 => format!("connect {container} {network}"),
                3 => format!("disconnect {container} {network}"),
                4 => format!("cut {at} on lan"),
                5 => {
                    format!("block {} from {at}", self.one_of(&["icmp", "tcp/80", "udp/4789", "esp", "udp"]))
                }
                6 => format!("restart docker {at}"),
                _ => format!("route add {at} 172.16.0.0/12 via 192.168.56.{}", self.one_of(&[3, 4, 77])),
            });
        }
        steps
    }
}
