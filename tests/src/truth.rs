//! What a host is, in lines that are equal for two hosts that are the same: random names, ids and the moment left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Labctl;

/// What is asked of a host. Each part begins with a line `== NAME`.
const SCRIPT: &str = r#"
# Two hosts that lack a program would be equal in what it tells.
for program in nft iptables-nft-save iptables-legacy-save ip6tables-nft-save ip6tables-legacy-save ip sysctl ss docker; do
  command -v $program > /dev/null || { echo "there is no $program" >&2; exit 9; }
done
# A link-local address has its routes once the kernel has made sure that nobody else has it.
for i in $(seq 50); do [ -z "$(ip -6 -oneline address show tentative)" ] && break; sleep 0.2; done
for table in iptables ip6tables; do for kind in nft legacy; do
  echo "== $table-$kind"; $table-$kind-save 2>&1
done; done
echo "== nft"; nft --stateless list ruleset
echo "== addresses"; ip -oneline address
echo "== links"; ip -oneline -details link
echo "== routes"; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule
echo "== interfaces"; sysctl --all --pattern '^net\.ipv4\.(ip_forward|conf\.)' 2>/dev/null
echo "== sysctls"; sysctl --all --pattern '^net\.' 2>/dev/null | grep -v '^net\.ipv4\.conf\.'
echo "== listeners"; ss -Hlntu | awk '{ print $1, $5 }'
echo "== modules"; cut -d ' ' -f 1 /proc/modules
echo "== info"; docker info --format '{{ json . }}'
echo "== networks"; docker network inspect $(docker network ls --quiet)
"#;

/// What differs from one moment, or from one boot, to the next, and says nothing of what the host is.
const RESTLESS: [(&str, &str); 16] = [
    // Secrets of the kernel.
    ("sysctls", "net.core.netdev_rss_key"),
    ("sysctls", "net.ipv4.tcp_fastopen_key"),
    ("sysctls", "stable_secret"),
    // What is in use now, and what follows from how much memory was free while the kernel booted.
    ("sysctls", "net.netfilter.nf_conntrack_count"),
    ("sysctls", "net.ipv4.tcp_mem"),
    ("sysctls", "net.ipv4.udp_mem"),
    ("sysctls", "net.mptcp.pm"),
    // The time, and what dockerd is busy with.
    ("info", "/SystemTime "),
    ("info", "/NGoroutines "),
    ("info", "/NFd "),
    ("info", "/NEventsListener "),
    ("info", "/Swarm/Cluster/"),
    ("networks", "/Created "),
    // swarmkit gives out the tasks of a service in no particular order.
    ("networks", ".ID.ID/IPv4Address "),
    ("networks", ".ID.ID/MacAddress "),
    // An overlay's endpoint of its own on each node takes the next free address, in the order in which nodes come.
    ("networks", "/Containers/lb-"),
];

/// Words of a link whose values depend on what the kernel did before, and which decide nothing.
const VOLATILE: [&str; 3] = [
    // Numbers are given in the order of asking.
    "link-netnsid",
    // A NIC gets its MAC when it is plugged in. A restored machine was saved with another, which the kernel remembers.
    "permaddr",
    // The largest TCP segment that a bridge takes stays what a port has raised it to.
    "tso_max_size",
];

/// The parts of which the order means something.
const ORDERED: [&str; 5] = ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy", "nft"];

/// What there is of a host, by part.
pub type Host = BTreeMap<String, Vec<String>>;

/// Looks at every host of a lab that is up.
pub fn look(labctl: &Labctl, lab: &str) -> BTreeMap<String, Host> {
    let listed = labctl.run(["ps", "--format", "json"]).exits(0).json();
    let labs = listed.as_array().into_iter().flatten();
    let hosts = labs.filter(|l| l["lab"] == lab).filter_map(|l| l["hosts"].as_object()).flatten();
    let look = |host: &String| {
        let text = labctl.run(["exec", lab, host, "--", "sh", "-c", SCRIPT]).exits(0).stdout();
        (host.clone(), read(&text))
    };
    hosts.map(|(name, _)| look(name)).collect()
}

fn read(text: &str) -> Host {
    let parts = text.split("== ").filter_map(|part| part.split_once('\n'));
    let part = |(name, text): (&str, &str)| {
        let lines: Vec<String> = match name {
            "info" | "networks" => {
                let mut lines = Vec::new();
                flatten("", &serde_json::from_str(text).expect("docker answers in JSON"), &mut lines);
                lines
            }
            _ => text.lines().map(str::to_owned).collect(),
        };
        let restless =
            |line: &String| RESTLESS.iter().any(|(part, what)| *part == name && line.contains(what));
        let mut lines: Vec<String> = lines.iter().map(|line| plain(name, line)).collect();
        lines.retain(|line| !line.is_empty() && !restless(line));
        if !ORDERED.contains(&name) {
            lines.sort();
        }
        (name.to_owned(), lines)
    };
    parts.map(part).collect()
}

/// A line for each value: the way to it, and it.
fn flatten(way: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                // Containers and networks are listed by id; their names follow.
                let key = value["Name"].as_str().filter(|_| is_id(key)).unwrap_or(key);
                flatten(&format!("{way}/{key}"), value, lines);
            }
        }
        Value::Array(list) => {
            for value in list {
                let name = value["Name"].as_str().unwrap_or_default();
                flatten(&format!("{way}[{name}]"), value, lines);
            }
        }
        value => lines.push(format!("{way} {value}")),
    }
}

/// The line without what is random.
fn plain(part: &str, line: &str) -> String {
    let line = match part {
        // When it was written, and how many packets there were.
        "iptables-nft" | "iptables-legacy" | "ip6tables-nft" | "ip6tables-legacy" => {
            if line.starts_with('#') && line.contains("ted ") {
                return String::new();
            }
            line.split(" [").next().unwrap_or(line)
        }
        // Indexes.
        "addresses" | "links" => line.split_once(": ").map_or(line, |(_, rest)| rest),
        _ => line,
    };
    let mut volatile = false;
    let still = line.split_whitespace().filter(|word| {
        let restless = volatile || *word == "tentative";
        volatile = word.ends_with("_timer") || VOLATILE.contains(word);
        !restless && !volatile
    });
    let line = &still.collect::<Vec<_>>().join(" ");
    let own = ["docker", "br-", "veth", "dummy"].iter().any(|name| line.starts_with(name));
    let words = line.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != ':' && c != '_');
    let words = words.map(|word| {
        let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != ':' && c != '_');
        let between = &word[end.len()..];
        let is_mac =
            end.split(':').count() == 6 && end.split(':').all(|octet| (1..=2).contains(&octet.len()));
        let random = match end {
            _ if end.starts_with("veth") && end.len() > 6 => "veth",
            // A veth's peer, by index.
            _ if end.starts_with("if") && end[2..].trim_end_matches(':').parse::<u32>().is_ok() => "if",
            _ if end.starts_with("fe80::") && end.len() > 6 => "fe80::",
            _ if own && is_mac => "MAC",
            _ if end.strip_prefix("gateway_").is_some_and(is_id) => "gateway_ID",
            _ if is_id(end.trim_end_matches(':')) => "ID",
            _ => end,
        };
        format!("{random}{between}")
    });
    words.collect::<String>().trim_end().to_owned()
}

/// Docker's ids, whole and short, and those of swarms.
fn is_id(word: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let small = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase();
    matches!(word.len(), 12 | 64) && word.chars().all(hex) || word.len() == 25 && word.chars().all(small)
}

/// What one host has and the other has not, as lines of a report. `allowed` gives differences that are as they should
/// be: part, and what the line contains.
pub fn differences(booted: &Host, other: &Host, allowed: &[(&str, &str)]) -> Vec<String> {
    let names: BTreeSet<&String> = booted.keys().chain(other.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let of = |host: &Host| -> Vec<String> {
            let lines = host.get(name).into_iter().flatten();
            lines.filter(|l| !allowed.iter().any(|(p, w)| p == name && l.contains(w))).cloned().collect()
        };
        let (booted, other) = (of(booted), of(other));
        let surplus = |one: &[String], of: &[String]| -> Vec<String> {
            let mut left = of.to_vec();
            let is_new = |line: &&String| match left.iter().position(|l| l == *line) {
                Some(at) => {
                    left.swap_remove(at);
                    false
                }
                None => true,
            };
            one.iter().filter(is_new).cloned().collect()
        };
        let (missing, more) = (surplus(&booted, &other), surplus(&other, &booted));
        if missing.is_empty() && more.is_empty() && booted != other {
            found.push(format!("{name}: the same lines in another order:\n{booted:#?}\n{other:#?}"));
        }
        found.extend(missing.into_iter().map(|line| format!("{name}: only booted: {line}")));
        found.extend(more.into_iter().map(|line| format!("{name}: not booted: {line}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_random_is_left_out_and_the_rest_is_not() {
        let same = [
            (
                "addresses",
                "7: veth1a2b3c4@if6    inet6 fe80::1/64",
                "9: veth9f8e7d6@if12    inet6 fe80::2/64",
            ),
            (
                "links",
                "3: docker0: <UP> link/ether 02:42:01:02:03:04",
                "4: docker0: <UP> link/ether 02:42:aa:bb:cc:dd",
            ),
            ("iptables-nft", ":FORWARD DROP [0:0]", ":FORWARD DROP [12:720]"),
            (
                "iptables-nft",
                "-A DOCKER -i br-0123456789ab -j RETURN",
                "-A DOCKER -i br-ba9876543210 -j RETURN",
            ),
        ];
        for (part, one, other) in same {
            assert_eq!(plain(part, one), plain(part, other), "{part}");
        }
        let different = [
            ("iptables-nft", ":FORWARD DROP [0:0]", ":FORWARD ACCEPT [0:0]"),
            ("addresses", "2: eth0 inet 10.0.0.1/24", "2: eth0 inet 10.0.0.2/24"),
            ("links", "2: eth0: link/ether 02:42:01:02:03:04", "2: eth0: link/ether 02:42:01:02:03:05"),
            ("sysctls", "net.ipv4.ip_forward = 0", "net.ipv4.ip_forward = 1"),
        ];
        for (part, one, other) in different {
            assert_ne!(plain(part, one), plain(part, other), "{part}");
        }
    }

    #[test]
    fn a_rule_too_many_and_another_order_are_differences() {
        let host = |lines: &[&str]| {
            Host::from([("nft".to_owned(), lines.iter().map(|l| (*l).to_owned()).collect())])
        };
        assert_eq!(differences(&host(&["a", "b"]), &host(&["a", "b"]), &[]), Vec::<String>::new());
        assert_eq!(differences(&host(&["a"]), &host(&["a", "b"]), &[]), ["nft: not booted: b"]);
        assert_eq!(differences(&host(&["a"]), &host(&["a", "b"]), &[("nft", "b")]), Vec::<String>::new());
        assert_eq!(differences(&host(&["a", "b"]), &host(&["b", "a"]), &[]).len(), 1);
        assert_eq!(differences(&host(&["a"]), &host(&["a", "a"]), &[]).len(), 1);
    }
}
