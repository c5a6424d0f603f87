//! Nothing that is read may take long, much, or the process with it.

use std::{fmt::Write as _, fs, io::Write as _, time::Instant};

use labctl_topology::LoadError;

fn refused(text: &str) -> String {
    let begun = Instant::now();
    let found = labctl_topology::parse(text, "lab.yaml").unwrap_err().render(false);
    assert!(begun.elapsed().as_secs() < 10, "it took {:?}", begun.elapsed());
    found
}

#[test]
fn too_many_hosts_and_containers() {
    let mut text = String::from("name: lab\nhosts:\n");
    (0..65).for_each(|i| writeln!(text, "  host{i}: {{}}").unwrap());
    assert!(refused(&text).contains("65 hosts are more than a lab can have (64)"));

    let mut text = String::from("name: lab\nhosts: { host1: {} }\ncontainers:\n");
    (0..4001).for_each(|i| writeln!(text, "  cc{i}: {{}}").unwrap());
    assert!(refused(&text).contains("4001 containers are more than a lab can have (4000)"));
}

#[test]
fn four_thousand_containers_are_fine() {
    let mut text = String::from("name: lab\nhosts: { host1: {} }\nnetworks: { net1: {} }\ncontainers:\n");
    (0..4000).for_each(|i| writeln!(text, "  cc{i}: {{ networks: [net1] }}").unwrap());
    text.push_str("expect: [ { from: host1, to: containers, verdict: yes } ]\n");
    let begun = Instant::now();
    let lab = labctl_topology::parse(&text, "lab.yaml").unwrap();
    assert_eq!(lab.containers.len(), 4000);
    assert_eq!(lab.start_order("host1").len(), 4000);
    assert!(begun.elapsed().as_secs() < 10, "it took {:?}", begun.elapsed());
}

#[test]
fn a_chain_of_four_thousand_links_is_ordered() {
    let mut text = String::from("name: lab\nhosts: { host1: {} }\ncontainers:\n");
    (0..3999).for_each(|i| writeln!(text, "  cc{i}: {{ links: [cc{}] }}", i + 1).unwrap());
    text.push_str("  cc3999: {}\n");
    let lab = labctl_topology::parse(&text, "lab.yaml").unwrap();
    let order = lab.start_order("host1");
    assert_eq!((order.len(), order[0], order[3999]), (4000, "cc3999", "cc0"));
}

#[test]
fn too_many_cells() {
    let mut text = String::from("name: lab\nhosts: { host1: {} }\ncontainers:\n");
    (0..501).for_each(|i| writeln!(text, "  cc{i}: {{}}").unwrap());
    let one = format!("{text}expect: [ {{ from: all, to: all, verdict: yes }} ]\n");
    assert!(refused(&one).contains("252004 cells are more than a matrix can have (250000)"));

    // Each is small enough; together they are not, and no more than the limit is ever made.
    let mut many = format!("{text}expect:\n");
    (0..10_000).for_each(|_| many.push_str("  - { from: all, to: [cc1, cc2, cc3], verdict: yes }\n"));
    assert!(refused(&many).contains("pass 1000000 cells"));
    let mut rules = format!("{text}expect:\n  - rules:\n");
    (0..10_000).for_each(|_| rules.push_str("    - { from: all, to: [cc1, cc2, cc3], verdict: yes }\n"));
    assert!(refused(&rules).contains("pass 1000000 cells"));
}

#[test]
fn a_table_of_wrong_words_is_told_of_quickly() {
    let mut text = String::from("name: lab\nhosts: { host1: {} }\ncontainers:\n");
    (0..400).for_each(|i| writeln!(text, "  c{i:03}: {{}}").unwrap());
    let names: Vec<String> = (0..400).map(|i| format!("c{i:03}")).collect();
    text.push_str("expect:\n  - table: |\n");
    writeln!(text, "      x {}", names.join(" ")).unwrap();
    names.iter().for_each(|n| writeln!(text, "      {n}{}", " on".repeat(400)).unwrap());
    assert!(refused(&text).contains("160000 errors"));
}

#[test]
fn large_texts_are_refused_unread() {
    let text = "#".repeat((1 << 20) + 1);
    assert!(refused(&text).contains("a topology has at most 1048576 bytes"));
}

#[test]
fn only_regular_files_of_sensible_size_are_read() {
    let dir = std::env::temp_dir().join(format!("labctl-topology-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();

    assert!(matches!(labctl_topology::load(&dir), Err(LoadError::NotAFile { .. })));
    assert!(matches!(labctl_topology::load("/dev/zero"), Err(LoadError::NotAFile { .. })));
    assert!(matches!(labctl_topology::load(dir.join("absent.yaml")), Err(LoadError::Io { .. })));

    // A FIFO that nobody writes to must not be waited for.
    let fifo = dir.join("fifo.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(matches!(labctl_topology::load(&fifo), Err(LoadError::NotAFile { .. })));

    // 100 MB that are not there, and are not read.
    let large = dir.join("large.yaml");
    fs::File::create(&large).unwrap().set_len(100_000_000).unwrap();
    assert!(matches!(labctl_topology::load(&large), Err(LoadError::TooLarge { size: 100_000_000, .. })));

    let binary = dir.join("binary.yaml");
    fs::File::create(&binary).unwrap().write_all(b"name: \xff\n").unwrap();
    assert!(matches!(labctl_topology::load(&binary), Err(LoadError::NotText { offset: 6, .. })));

    let good = dir.join("good.yaml");
    fs::write(&good, "name: lab\nhosts: { host1: {} }\n").unwrap();
    assert_eq!(labctl_topology::load(&good).unwrap().name, "lab");
    let invalid = dir.join("invalid.yaml");
    fs::write(&invalid, "name: lab\n").unwrap();
    assert!(labctl_topology::load(&invalid).unwrap_err().to_string().contains("a topology needs `hosts`"));

    fs::remove_dir_all(&dir).unwrap();
}

/// Small enough to be read, and neither slow nor large in memory.
fn bounded(text: &str) -> String {
    assert!(text.len() <= 1 << 20, "{} bytes", text.len());
    let found = refused(text);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 1 << 20, "{kib} KiB");
    found
}

/// Each of these once cost minutes or gigabytes, or would without a bound.
#[test]
fn small_texts_cannot_ask_for_much() {
    let mut containers = String::from("name: lab\nhosts: { host1: {} }\ncontainers:\n");
    (0..3000).for_each(|i| writeln!(containers, "  container{i}: {{}}").unwrap());

    // Names that do not exist, each compared with thousands that do.
    let columns: String = (0..100_000).map(|i| format!(" nn{i}")).collect();
    bounded(&format!("{containers}expect:\n  - table: |\n      x{columns}\n      host1\n"));
    // The same where the place of a word cannot be told.
    bounded(&format!("{containers}expect:\n  - table: \"x{columns}\\nhost1\\n\"\n"));

    // A few bytes for many endpoints.
    let all = "all, ".repeat(70_000);
    let found =
        bounded(&format!("{containers}expect: [ {{ from: [{all}all], to: [{all}all], verdict: yes }} ]\n"));
    assert!(found.contains("more than a matrix can have"), "{found}");

    // One action of many words; many keys of one host; many interfaces.
    bounded(&format!("{containers}steps: [ {{ do: \"stop{}\" }} ]\n", " container1".repeat(60_000)));
    let keys: String = (0..25_000).map(|i| format!("    kk{i}: 10.0.0.1\n")).collect();
    bounded(&format!(
        "name: lab\nsegments:\n{}hosts:\n  host1:\n{keys}",
        keys.replace("kk", "ss").replace("10.0.0.1", "")
    ));
    let interfaces: String =
        (0..15_000).map(|i| format!("      i{i}: {{ type: macvlan, parent: i{i} }}\n")).collect();
    bounded(&format!("name: lab\nhosts:\n  host1:\n    interfaces:\n{interfaces}"));

    // Long names, repeated by aliases.
    let long = "k".repeat(400_000);
    let tens = (0..4).fold(String::new(), |text, i| {
        let before = if i == 0 { "long".to_owned() } else { format!("a{}", i - 1) };
        format!("{text}x-{i}: &a{i} [{}]\n", vec![format!("*{before}"); 10].join(", "))
    });
    for anchor in
        [format!("&long \"{long}\""), format!("&long {{ {long}: 1 }}"), format!("&long \"\\x41{long}\"")]
    {
        bounded(&format!(
            "name: lab\nx-long: {anchor}\n{tens}x-5: {{ more: [{}] }}\n",
            ["*a3"; 5].join(", ")
        ));
    }
}
