//! What random labs have shown (labctl-fuzz), each as a small lab.

use crate::{ask, word};

#[test]
fn who_was_known_before_a_cut_is_known_for_some_time_yet() {
    let lab = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { a: { lan: 192.168.56.3 }, b: { lan: 192.168.56.4 } }
peers: { p: { lan: 192.168.56.20 } }
steps: [ { do: cut b, expect: [] } ]
";
    assert_eq!(word(lab, "a > b"), "arp|silent", "b may have been heard before");
    assert_eq!(word(lab, "a > p"), "yes");
    assert_eq!(word(lab, "a > 192.168.56.99"), "arp", "nobody ever had it");
    assert_eq!(
        word(&lab.replace("cut b", "cut b inbound"), "b > p"),
        "arp|asymmetric",
        "its request gets through"
    );
}

#[test]
fn without_rules_and_proxy_a_port_is_only_kept() {
    let lab = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { h: { lan: 192.168.56.3, daemon_json: { iptables: false, userland-proxy: false } } }
peers: { p: { lan: 192.168.56.20 } }
networks: { net: {} }
containers: { web: { host: h, networks: [net], ports: [ '8080:80' ] } }
";
    // The connection is made, and leads nowhere.
    assert_eq!(word(lab, "p > h tcp/8080"), "stalled");
}

#[test]
fn a_port_published_on_a_host_is_that_of_all_who_share_its_namespace() {
    let lab = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { h: { lan: 192.168.56.3 } }
peers: { p: { lan: 192.168.56.20 } }
containers: { web: { host: h, ports: [ '80:8080' ] }, same: { host: h, network_mode: host } }
";
    for to in ["h", "same"] {
        let found = ask(lab, &format!("p > {to} tcp/80"));
        assert_eq!((found.predicted.as_str(), found.walks[0].answered_by.as_deref()), ("yes", Some("web")));
        assert_eq!(word(lab, &format!("p > {to} tcp/8080")), "yes", "nobody publishes that");
    }
}

#[test]
fn a_container_that_drops_what_comes_from_its_own_address_has_got_it() {
    let lab = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { a: { lan: 192.168.56.3 }, b: { lan: 192.168.56.4 } }
networks:
  by: { ipam: { config: [ { subnet: 172.30.0.0/16 } ] } }
  net: { driver_opts: { com.docker.network.bridge.enable_ip_masquerade: 'false' } }
containers: { ca: { host: a, networks: [net] }, cb: { host: b, networks: [by, net], ports: [ '80:80' ] } }
";
    // Both have one address.
    let found = ask(lab, "ca > b tcp/80");
    assert_eq!(found.predicted, "asymmetric");
    assert!(found.walks[0].why.contains("martian"), "{}", found.walks[0].why);
}

#[test]
fn by_an_address_of_its_own_a_host_takes_everything_for_near() {
    let lab = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { a: { lan: 192.168.56.3 } }
steps: [ { do: route add a 172.16.0.0/12 via 192.168.56.3, expect: [] } ]
";
    assert_eq!(word(lab, "a > 172.30.0.2"), "arp");
}

#[test]
fn docker_proxy_asks_nobody_before_its_client_is_connected() {
    let lab = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts:
  h: { lan: 192.168.56.3, daemon_json: { iptables: false }, routes: [ { to: 172.30.0.0/16, via: 192.168.56.4 } ] }
  a: { lan: 192.168.56.4, daemon_json: { iptables: false } }
networks: { net: { ipam: { config: [ { subnet: 172.30.0.0/16 } ] } } }
containers: { web: { host: h, ports: [ '8080:80' ] }, cb: { host: a, networks: [net] } }
";
    let away = lab.replace(", routes: [ { to: 172.30.0.0/16, via: 192.168.56.4 } ]", "");
    // Not `asymmetric`, since `web` never hears of it.
    assert_eq!(
        (word(lab, "cb > h tcp/8080"), word(&away, "cb > h tcp/8080")),
        ("yes".into(), "silent".into())
    );
}

#[test]
fn a_dnsrr_service_without_networks_is_where_its_tasks_are() {
    let lab = "
segments: { lan: { subnet: 192.168.56.0/24 } }
hosts: { a: { lan: 192.168.56.3 }, b: { lan: 192.168.56.4 } }
swarm: { managers: [a] }
services: { web: { deploy: { endpoint_mode: dnsrr, placement: { constraints: [ node.hostname==a ] } } } }
";
    assert_eq!(word(lab, "a > web tcp/80"), "yes");
}
