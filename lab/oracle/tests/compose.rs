//! Shapes of Compose files that people have, and what becomes of each: a sound topology whose expectations the oracle
//! shares, and a note for all that is left out.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashMap, fs, path::PathBuf};

use labctl_compose::{ImportError, ImportOptions, Imported, import};
use labctl_model::Lab;

fn options() -> ImportOptions {
    ImportOptions {
        name: None,
        hosts: 1,
        swarm: false,
        place: Vec::new(),
        images: false,
        profiles: Vec::new(),
        variables: HashMap::new(),
    }
}

/// With the file's images, of which one has its tag from a variable.
fn kept() -> ImportOptions {
    let variables = [("GRAFANA_TAG", "11"), ("TAG", "7")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    ImportOptions { images: true, variables: HashMap::from(variables), ..options() }
}

fn shape(name: &str) -> String {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compose-files").join(format!("{name}.yaml"));
    fs::read_to_string(file).unwrap()
}

/// Imports a text; panics if the topology is not sound.
fn imported(text: &str, options: &ImportOptions) -> (Imported, Lab) {
    let made = import(text, "compose.yaml", "My_Project", options).unwrap_or_else(|e| panic!("{e:?}"));
    let lab = labctl_topology::parse(&made.topology, "lab.yaml")
        .unwrap_or_else(|e| panic!("{e}\n{}", made.topology));
    (made, lab)
}

const SHAPES: [&str; 11] =
    ["six", "blog", "tiers", "canonical", "stack", "sidecar", "home", "watch", "ring", "many", "old"];

/// Every shape on one host, on two, and in a swarm: each expectation is what the oracle predicts as well.
#[test]
fn every_shape_becomes_a_topology_that_holds_in_the_oracle() {
    let swarm = ImportOptions { hosts: 3, swarm: true, ..options() };
    let kept = kept();
    for shape_name in SHAPES {
        let text = shape(shape_name);
        for how in [options(), ImportOptions { hosts: 2, ..options() }, swarm.clone(), kept.clone()] {
            let (made, lab) = imported(&text, &how);
            assert!(!lab.expect.is_empty(), "{shape_name} expects nothing");
            let predictions = labctl_oracle::predict(&lab);
            let differs: Vec<_> = predictions
                .scenes
                .iter()
                .flat_map(|s| &s.checks)
                .filter(|c| c.agreements().iter().any(|a| matches!(a, labctl_oracle::Agreement::Differs(_))))
                .collect();
            assert!(predictions.holds, "{shape_name}, {how:?}\n{}\n{differs:#?}", made.topology);
            assert!(predictions.agrees > 0, "{shape_name}");
        }
    }
}

#[test]
fn what_is_written_and_what_is_told() {
    let swarm = ImportOptions { hosts: 3, swarm: true, ..options() };
    let two = ImportOptions { hosts: 2, place: vec![("db".into(), "host2".into())], ..options() };
    let kept = kept();
    for (name, how) in [
        ("tiers", two),
        ("stack", swarm),
        ("home", options()),
        ("six", options()),
        ("canonical", kept.clone()),
        ("watch", kept),
    ] {
        let (made, _) = imported(&shape(name), &how);
        let notes: String = made.notes.iter().map(|n| format!("{}: {}\n", n.line, n.text)).collect();
        insta::assert_snapshot!(name, format!("{}\n---\n{notes}", made.topology));
    }
}

/// The keys of a service in the Compose specification: each leads to something in the topology or to a note.
#[test]
fn no_key_of_a_service_is_lost() {
    let keys = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs \
        container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset \
        credential_spec deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname \
        driver_opts entrypoint env_file environment external_links extra_hosts gpus group_add healthcheck \
        hostname init ipc isolation label_file labels links logging mac_address mem_limit mem_reservation \
        mem_swappiness memswap_limit models oom_kill_disable oom_score_adj pid pids_limit platform post_start pre_stop \
        privileged provider pull_policy read_only restart runtime secrets security_opt shm_size stdin_open \
        stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes \
        volumes_from working_dir no_such_key";
    let value = |key: &str| match key {
        "build" => "{ context: . }",
        "cap_add" => "[NET_ADMIN]",
        "deploy" => "{ resources: { limits: { cpus: '1' } } }",
        "devices" => "[/dev/null]",
        "dns" | "dns_search" => "[10.0.0.1]",
        "dns_opt" => "['ndots:1']",
        "environment" => "{ A: b }",
        "extra_hosts" => "['db:10.0.0.1']",
        "healthcheck" => "{ test: [CMD, 'true'] }",
        "links" => "[other]",
        "privileged" => "true",
        "restart" => "always",
        "stop_grace_period" => "10s",
        "sysctls" => "{ net.core.somaxconn: 10 }",
        "tmpfs" | "volumes" => "[/run]",
        "ulimits" => "{ nofile: 10 }",
        _ => "some",
    };
    let swarm = ImportOptions { hosts: 2, swarm: true, ..options() };
    for how in [options(), ImportOptions { images: true, ..options() }, swarm] {
        let file =
            |more: &str| format!("services:\n  web: {{ image: nginx{more} }}\n  other: {{ image: nginx }}\n");
        let (plain, _) = imported(&file(""), &how);
        for key in keys.split_whitespace() {
            let text = file(&format!(", {key}: {}", value(key)));
            let (made, _) = imported(&text, &how);
            assert!(
                made.topology != plain.topology || made.notes != plain.notes,
                "`{key}` is lost\n{}",
                made.topology
            );
        }
    }
}

fn refused(text: &str, options: &ImportOptions) -> String {
    match import(text, "compose.yaml", "x", options) {
        Err(ImportError::Invalid(d)) => d.to_string(),
        Err(ImportError::Options { message, hint, .. }) => format!("{message}\nhint: {hint}"),
        Ok(made) => panic!("{}", made.topology),
    }
}

#[test]
fn what_cannot_be_read_says_how_to_go_on() {
    for (text, part) in [
        ("web: { image: nginx }\n", "put them below `services:`"),
        ("include: [other.yaml]\nservices: { web: { image: nginx } }\n", "docker compose config"),
        ("services: { web: { extends: { file: base.yaml, service: web } } }\n", "docker compose config"),
        (
            "services: { web: { image: nginx, networks: [frnt] } }\nnetworks: { front: }\n",
            "did you mean `front`?",
        ),
        ("services: { web: { image: 'nginx:${TAG:?say which}' } }\n", "say which"),
        ("services: [web]\n", "expected a mapping of services"),
        ("services: { web: { image: \"a\\u001bb\" } }\n", "control character"),
    ] {
        assert!(refused(text, &options()).contains(part), "{text}\n{}", refused(text, &options()));
    }
    let text = "services: { web: { image: a, links: [db] }, db: { image: b } }\n";
    let place = |list: &[(&str, &str)]| ImportOptions {
        hosts: 2,
        place: list.iter().map(|(s, h)| ((*s).to_owned(), (*h).to_owned())).collect(),
        ..options()
    };
    assert!(refused(text, &place(&[("wbe", "host1")])).contains("did you mean `web`?"));
    assert!(refused(text, &place(&[("web", "host3")])).contains("there is no host `host3`"));
    assert!(
        refused(text, &place(&[("web", "host1"), ("db", "host2")])).contains("cannot be on different hosts")
    );
}

/// What a file has from a stranger stays text: in comments, in quotes, in names.
#[test]
fn hostile_texts_stay_texts() {
    let text = "name: '../../etc'\nservices:\n  'a\" } # x': { image: nginx, hostname: 'h' }\n";
    assert!(refused(text, &options()).contains("cannot be the name of a service"));
    let text = "name: '../../etc'\nservices:\n  web: { image: nginx, hostname: 'h\"}\n# z: {' }\n";
    let made = import(text, "x\n# y: {", "f", &options()).unwrap();
    assert!(made.topology.lines().next().unwrap().starts_with("# From "));
    // The host name is none that Docker takes: the topology says so, and nothing else comes of it.
    let found = labctl_topology::parse(&made.topology, "t").unwrap_err();
    assert!(found.count() == 1 && found.to_string().contains("host name"), "{found}");
}
