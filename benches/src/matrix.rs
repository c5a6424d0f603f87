//! All pairs of many endpoints: all cells at once against one `docker exec … ping` for each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use labctl_tests::{Labctl, cells, write};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::measure::{RUNS, against_aim, seconds, versus};

const ENDPOINTS: usize = 50;
const CELLS: usize = ENDPOINTS * (ENDPOINTS - 1);
/// Pairs that `docker exec … ping` is tried on, of the ones that answer and of the silent ones, each of which takes its
/// whole deadline. All of them would take the better part of an hour.
const ANSWERED: usize = 20;
const SILENT: usize = 5;
/// Of a matrix and of a ping alike, s.
const DEADLINE: f64 = 2.0;
const IMAGE: &str = "labctl-bench/ping:latest";

/// Every container is on two bridges: one where all meet, and one that lets nobody through to another.
fn topology() -> String {
    let mut text = String::from(
        "name: matrix\n\
         segments: { lan: { subnet: 192.168.56.0/24 } }\n\
         hosts: { host1: { lan: 192.168.56.3, memory: 2048 } }\n\
         networks:\n  \
           open: { ipam: { config: [ { subnet: 10.50.0.0/24 } ] } }\n  \
           shut:\n    \
             ipam: { config: [ { subnet: 10.51.0.0/24 } ] }\n    \
             driver_opts: { com.docker.network.bridge.enable_icc: \"false\" }\n\
         containers:\n",
    );
    let mut all = [String::new(), String::new()];
    for i in 0..ENDPOINTS {
        let (open, shut) = (address(50, i), address(51, i));
        text += &format!(
            "  c{i:02}: {{ host: host1, image: \"{IMAGE}\", command: [sleep, \"1000000\"], networks: {{ open: {{ \
             ipv4_address: {open} }}, shut: {{ ipv4_address: {shut} }} }} }}\n"
        );
        for (list, network) in all.iter_mut().zip(["open", "shut"]) {
            list.push_str(&format!("c{i:02}@{network}, "));
        }
    }
    let [open, shut] = all;
    // The step's action is there because a step has one; the time that its checks took is told apart.
    text + &format!(
        "expect:\n  - {{ probe: icmp, from: containers, to: [{open}], verdict: yes, timeout: 20s }}\n\
         steps:\n  - do: [route add host1 10.99.0.0/24 dev lan, route del host1 10.99.0.0/24 dev lan]\n    \
         expect: [ {{ probe: icmp, from: containers, to: [{shut}], verdict: silent, timeout: {DEADLINE}s }} ]\n"
    )
}

fn address(network: u8, endpoint: usize) -> String {
    format!("10.{network}.0.{}", endpoint + 10)
}

/// Prints the figures.
pub fn all_pairs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut labctl = Labctl::new();
    // An image of ours would stay in the user's cache: the node images are borrowed, the rest is thrown away.
    let cache = dir.path().join("cache");
    borrow(&labctl.cache, &cache);
    labctl.cache = cache;
    labctl.run(["image".as_ref(), "add".as_ref(), ping_image(dir.path()).as_os_str()]).exits(0);
    labctl.up(&write(dir.path(), "matrix.yaml", &topology()));

    let (mut ours, mut silent) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(seconds(|| drop(labctl.run(["check", "matrix"]).exits(0))));
        let report = labctl.run(["check", "matrix", "--steps", "--format", "json"]).exits(0).json();
        assert_eq!(cells(&report).len(), 2 * CELLS, "both matrices are whole");
        silent.push(settled(&report));
    }
    let (answered, waited) = (ping_all(&labctl, 50, ANSWERED, 0), ping_all(&labctl, 51, SILENT, 1));
    versus(
        &format!("{CELLS} pings, by labctl check / by docker exec (of {ANSWERED} pairs)"),
        "s",
        &ours,
        &answered,
    );
    versus(
        &format!("{CELLS} silent cells, by labctl / by docker exec (of {SILENT} pairs)"),
        "s",
        &silent,
        &waited,
    );
    against_aim(&format!("{CELLS} silent cells"), "s", &silent, DEADLINE);
    labctl.run(["down", "--all"]).exits(0);
}

/// How long the step's matrix took, s.
fn settled(report: &Value) -> f64 {
    report["steps"][0]["settled_ms"].as_f64().expect("the step's checks held") / 1000.0
}

/// What all cells would take by one `docker exec … ping` after the other, s: one figure for each pair that was tried.
fn ping_all(labctl: &Labctl, network: u8, pairs: usize, status: i32) -> Vec<f64> {
    let one = |n: usize| {
        let (from, to) = (n * 7 % ENDPOINTS, address(network, (n * 11 + 1) % ENDPOINTS));
        let from = format!("c{from:02}");
        let (count, wait) = ("1", DEADLINE.to_string());
        let words =
            ["docker", "matrix", "host1", "exec", &from, "ping", "-c", count, "-W", &wait, "-w", &wait, &to];
        seconds(|| drop(labctl.run(words).exits(status))) * CELLS as f64
    };
    (0..pairs).map(one).collect()
}

/// The node images of one cache in another, by links.
fn borrow(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a temporary folder can be written to");
    for entry in fs::read_dir(from).expect("`make image` has filled the cache") {
        let entry = entry.expect("the cache can be read");
        if entry.file_name() != "containers" {
            std::os::unix::fs::symlink(entry.path(), to.join(entry.file_name())).expect("a link can be made");
        }
    }
}

/// An image with a static busybox as its `ping`, as `docker save` writes them (image-spec v1.2 of moby).
fn ping_image(dir: &Path) -> PathBuf {
    let busybox = fs::read(busybox(dir)).expect("the package has a busybox");
    let mut layer = tar::Builder::new(Vec::new());
    file(&mut layer, "bin/busybox", 0o755, &busybox);
    for tool in ["ping", "sleep"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{tool}"), "busybox").expect("memory can be written to");
    }
    let layer = layer.into_inner().expect("memory can be written to");
    let digest = hex(&layer);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    })
    .to_string();
    let (config_name, layer_name) =
        (format!("{}.json", hex(config.as_bytes())), format!("{digest}/layer.tar"));
    let manifest =
        json!([{ "Config": config_name, "RepoTags": [IMAGE], "Layers": [layer_name] }]).to_string();
    let mut image = tar::Builder::new(Vec::new());
    file(&mut image, &config_name, 0o644, config.as_bytes());
    file(&mut image, &layer_name, 0o644, &layer);
    file(&mut image, "manifest.json", 0o644, manifest.as_bytes());
    let path = dir.join("ping.tar");
    fs::write(&path, image.into_inner().expect("memory can be written to")).expect("a temporary folder");
    path
}

fn file(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, name, data).expect("memory can be written to");
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|b| format!("{b:02x}")).collect()
}

/// Debian's static busybox, from its package.
fn busybox(dir: &Path) -> PathBuf {
    let run = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).current_dir(dir).stdout(Stdio::null()).status();
        let fine = status.is_ok_and(|s| s.success());
        assert!(fine, "`{program} {}` failed; it needs apt and a Debian mirror", args.join(" "));
    };
    run("apt-get", &["download", "busybox-static"]);
    let package = fs::read_dir(dir).expect("a temporary folder").filter_map(Result::ok).map(|e| e.path());
    let package = package
        .filter(|p| p.extension().is_some_and(|e| e == "deb"))
        .find_map(|p| Some(p.to_str()?.to_owned()))
        .expect("apt-get has downloaded it");
    run("dpkg-deb", &["--extract", &package, "busybox"]);
    ["usr/bin", "bin"]
        .map(|bin| dir.join("busybox").join(bin).join("busybox"))
        .into_iter()
        .find(|p| p.exists())
        .expect("the package has a busybox")
}
