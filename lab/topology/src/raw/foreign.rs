//! Keys that others know and labctl does not: told as such, not as typos.

/// Compose's keys of services, of networks and of what they hold that no mapping of a topology has.
const COMPOSE: &str = "\
    annotations blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name \
    cpu_count cpu_percent cpu_period cpu_quota cpu_shares cpus cpuset credential_spec depends_on deploy \
    develop device_cgroup_rules devices dns dns_opt dns_search domainname driver_opts endpoint_mode \
    entrypoint env_file environment expose extends external external_links extra_hosts gpus group_add \
    gw_priority healthcheck host_ip hostname include init interface_name ipc isolation label_file labels \
    links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models network_mode \
    oom_kill_disable oom_score_adj pid pids_limit platform post_start pre_stop priority privileged profiles \
    pull_policy read_only resources restart restart_policy rollback_config runtime scale secrets \
    security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits \
    update_config use_api_socket user userns_mode uts volumes volumes_from working_dir";

/// What is written in compose's words.
#[rustfmt::skip]
const IN_COMPOSES_WORDS: [&str; 10] = [
    "a topology", "a container", "a service", "a network", "an attachment", "deploy", "placement", "ipam",
    "an entry of ipam.config", "a published port",
];

/// Keys of IPv6 as one would guess them, or as dockerd has them elsewhere.
const IPV6: &str = "\
    address6 cidr_v6 enable_ipv6 fixed_cidr_v6 gateway6 gateway_v6 ip6 ipv6 ipv6_address ipv6_gateway \
    ipv6_subnet subnet6 subnet_v6";

/// What to say of `key` in `what`, and how to go on; `None` if nobody knows such a key.
pub(crate) fn key(what: &str, key: &str) -> Option<(String, String)> {
    if IPV6.split(' ').any(|known| known == key) {
        let hint = match what {
            "a container" => "`networks: { NAME: { ipv6_address: ADDRESS } }`",
            "a network" | "ipam" | "an entry of ipam.config" => {
                "`enable_ipv6: true`, and an entry of `ipam.config` with an IPv6 subnet"
            }
            "a host" => {
                "the address of a NIC may be a list, `lan: [192.168.56.3, fd00:56::3]`; dockerd's own settings are in `daemon_json`"
            }
            _ => {
                "an address or subnet may be a list, with one of each family: `[192.168.56.0/24, fd00:56::/64]`"
            }
        };
        return Some((format!("{what} has no `{key}`"), hint.into()));
    }
    if key == "version" && what == "a topology" {
        return Some(("a topology has no `version`".into(), "leave it out".into()));
    }
    if what == "a service" && ["mode", "placement", "replicas"].contains(&key) {
        return Some((
            format!("`{key}` of a service belongs to `deploy`"),
            format!("`deploy: {{ {key}: … }}`"),
        ));
    }
    if !IN_COMPOSES_WORDS.contains(&what) || !COMPOSE.split(' ').any(|known| known == key) {
        return None;
    }
    let service = what == "a service" || what == "deploy";
    let hint = match key {
        "container_name" => "the key of a container is its name",
        "depends_on" => "what a container links to or joins is made first; `within` waits for what must hold",
        "build" => {
            "`images` makes one of Debian packages; `labctl image add` takes one from this machine's Docker"
        }
        "entrypoint" => "`command` has the whole command; an image of the topology's has an `entrypoint`",
        "restart" if service => "`deploy: { restart_policy: { condition: any } }`",
        "restart_policy" => "`restart: on-failure`",
        "tmpfs" => "`volumes: [{ type: tmpfs, target: /PATH }]`",
        "volumes" if what == "a topology" => "leave it out: Docker makes the volumes that containers name",
        "expose" => "leave it out: containers of a network reach each other's ports",
        "scale" => "`deploy: { replicas: N }`",
        "env_file" => "`environment` has the variables themselves",
        "external" => "leave it out: a lab makes its own networks",
        _ => "leave it out",
    };
    Some((format!("labctl does not have Compose's `{key}` in {what} yet"), hint.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_know_is_told_as_theirs() {
        assert!(
            key("a service", "restart")
                .is_some_and(|(m, h)| m.contains("Compose's") && h.contains("restart_policy"))
        );
        assert!(key("a container", "ipv6_address").is_some_and(|(_, hint)| hint.contains("ipv6_address: ")));
        assert_eq!(key("a container", "pids_limt"), None);
        assert_eq!(key("a segment", "pids_limit"), None);
    }
}
