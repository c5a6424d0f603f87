//! Labs that are saved, restored and reset, with real machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use labctl_tests::{Labctl, eventually, own_images, write};

/// Two hosts with a container each on a macvlan, a client on the wire, and a gateway.
fn two_hosts(name: &str) -> String {
    format!(
        "name: {name}
segments: {{ lan: {{ subnet: 192.168.56.0/24, gateway: 192.168.56.1 }} }}
hosts: {{ host1: {{ lan: 192.168.56.3 }}, host2: {{ lan: 192.168.56.7 }} }}
peers: {{ client: {{ lan: 192.168.56.20 }} }}
networks: {{ net: {{ driver: macvlan, driver_opts: {{ parent: lan }}, ipam: {{ config: [ {{ subnet: 192.168.56.0/24 }} ] }} }} }}
containers:
  c1: {{ host: host1, networks: {{ net: {{ ipv4_address: 192.168.56.31 }} }} }}
  c2: {{ host: host2, networks: {{ net: {{ ipv4_address: 192.168.56.33 }} }} }}
expect:
  - probe: icmp
    table: |
      from\\to  host1 host2 c1  c2  client
      host1    -     yes   no  yes yes
      host2    yes   -     yes no  yes
      c1       no    yes   -   yes yes
      c2       yes   no    yes -   yes
      client   yes   yes   yes yes -
"
    )
}

/// labctl with checkpoints in a cache of the test's own, which has the node image of the real one.
struct Here {
    labctl: Labctl,
    dir: tempfile::TempDir,
}

impl Here {
    fn new() -> Self {
        let (labctl, dir) = own_cache();
        Self { labctl, dir }
    }

    fn checkpoints(&self) -> PathBuf {
        self.labctl.cache.join("checkpoints")
    }

    fn topology(&self, name: &str) -> PathBuf {
        write(self.dir.path(), &format!("{name}.yaml"), &two_hosts(name))
    }

    fn exec(&self, lab: &str, host: &str, script: &str) -> String {
        self.labctl.run(["exec", lab, host, "--", "sh", "-c", script]).exits(0).stdout().trim().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let all = self.labctl.run(["checkpoint", "ls", "--format", "json"]).exits(0).json();
        all.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// labctl that leaves checkpoints, in a cache of its own in this folder. It has the real one's node image and templates.
pub fn own_cache() -> (Labctl, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    own_images(&cache);
    // Another name of each file.
    link_all(&labctl_tests::cache().join("templates"), &cache.join("templates"));
    let mut labctl = Labctl::new();
    (labctl.cache, labctl.checkpoints) = (cache, true);
    (labctl, dir)
}

fn link_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => link_all(&entry.path(), &to),
            false => fs::hard_link(entry.path(), to).unwrap(),
        }
    }
}

#[test]
fn up_takes_a_lab_from_the_checkpoint_that_it_left_and_reset_goes_back_to_it() {
    let here = Here::new();
    let file = here.topology("again");
    let first = here.labctl.up(&file);
    assert!(!first.stderr().contains("checkpoint"), "{}", first.stderr());
    let identity = "cat /etc/machine-id; docker inspect -f '{{.Id}}' $(docker ps -aq --no-trunc)";
    let was = here.exec("again", "host1", identity);
    here.labctl.run(["down", "again"]).exits(0);

    // Its text has changed, not what it is.
    fs::write(&file, format!("# a remark\n{}", two_hosts("again"))).unwrap();
    here.labctl.up(&file).says("taken from a checkpoint");
    assert_eq!(here.exec("again", "host1", identity), was);
    let skew = here.exec("again", "host2", "date +%s").parse::<i64>().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((skew - now as i64).abs() <= 2, "its clock is of now: {skew} against {now}");
    here.labctl.run(["check", "again"]).exits(0);

    let draws = |_| here.exec("again", "host1", "head -c 16 /dev/urandom | od -An -tx1");
    here.exec("again", "host1", "echo hurt > /root/hurt; docker rm -f c1");
    here.labctl.run(["do", "again", "cut", "host2"]).exits(0);
    here.labctl.run(["do", "again", "kill", "host2"]).exits(0);
    here.labctl.run(["check", "again"]).exits(1);
    let mut drawn = Vec::new();
    for round in 0..3 {
        here.labctl.run(["reset", "again"]).exits(0);
        drawn.push(draws(round));
        here.labctl.run(["check", "again"]).exits(0);
    }
    assert_eq!(here.exec("again", "host1", "ls /root"), "", "what was done is undone");
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 3, "each has random numbers of its own");
    let impaired = here.labctl.run(["ps", "--format", "json"]).exits(0).json();
    assert_eq!(impaired[0]["impaired"].as_array().unwrap().len(), 0);
    here.labctl.run(["do", "again", "reset"]).exits(0);
    here.labctl.run(["check", "again"]).exits(0);

    // Under another name it is of the same kind, beside the first.
    let file_name = file.to_str().unwrap();
    here.labctl.run(["up", file_name, "--name", "seat-2"]).exits(0).says("taken from a checkpoint");
    here.labctl.run(["up", file_name, "--name", "Seat"]).exits(2).says("cannot be the name of a lab");
    here.labctl.run(["up", file_name, "--name", "seat-3", "--no-check"]).exits(0);
    here.labctl.run(["down", "again"]).exits(0);
    here.labctl.run(["down", file_name]).exits(2).says("name those that are meant: seat-2, seat-3");
    here.labctl.run(["down", "seat-2", "seat-3"]).exits(0);

    // What it is has changed.
    fs::write(&file, two_hosts("again").replace("192.168.56.33", "192.168.56.34")).unwrap();
    let other = here.labctl.up(&file);
    assert!(!other.stderr().contains("taken from"), "{}", other.stderr());
}

#[test]
fn a_lab_that_does_not_hold_is_kept_as_it_was_then() {
    let here = Here::new();
    let step = "steps:
  - do: cut host2
    expect: [ { probe: icmp, from: host1, to: host2, verdict: yes } ]
  - do: heal host2
    expect: [ { probe: icmp, from: host1, to: host2, verdict: no } ]
";
    let file = write(here.dir.path(), "lost.yaml", &(two_hosts("lost") + step));
    let args = ["test", file.to_str().unwrap(), "--keep-failed", "--format", "json"];
    let report = here.labctl.run(args).exits(1).json()["labs"][0]["report"].take();
    assert_eq!(report["checkpoint"], "lost-failed", "{report}");
    here.labctl.run(["checkpoint", "restore", "lost-failed", "--as", "found"]).exits(0);
    // It is that of the first failure, not of the last, when the cut was healed.
    here.labctl.run(["probe", "found", "host1", "host2"]).exits(1);
    here.labctl.run(["do", "found", "heal", "host2"]).exits(0);
    here.labctl.run(["probe", "found", "host1", "host2"]).exits(0);
    here.labctl.run(["down", "found"]).exits(0);
}

#[test]
fn a_saved_lab_goes_on_and_two_of_it_do_not_meet() {
    let here = Here::new();
    here.labctl.up(&here.topology("saved"));
    here.labctl.run(["do", "saved", "block", "udp/53", "on", "lan"]).exits(0);
    here.labctl.run(["do", "saved", "kill", "host2"]).exits(0);
    here.exec(
        "saved",
        "host1",
        "echo lesson > /root/lesson; (while echo >> /root/ticks; do sleep 0.05; done) & sleep 0.2",
    );
    let saved =
        here.labctl.run(["checkpoint", "save", "saved", "lesson", "--format", "json"]).exits(0).json();
    assert!(saved["pause_us"].as_u64().unwrap() < 1_000_000, "{saved}");
    let ticks = |lab: &str| here.exec(lab, "host1", "wc -l < /root/ticks").parse::<u64>().unwrap();
    let before = ticks("saved");
    eventually("it goes on", Duration::from_secs(10), || ticks("saved") > before);
    for lab in ["one", "two"] {
        here.labctl.run(["checkpoint", "restore", "lesson", "--as", lab]).exits(0);
        assert_eq!(here.exec(lab, "host1", "cat /root/lesson"), "lesson");
        let before = ticks(lab);
        eventually("it goes on", Duration::from_secs(10), || ticks(lab) > before);
    }
    let labs = here.labctl.run(["ps", "--format", "json"]).exits(0).json();
    for lab in labs.as_array().unwrap() {
        assert!(lab["impaired"][0].as_str().unwrap().contains("udp/53"), "{lab}");
        assert_eq!(lab["hosts"]["host2"]["down"], "it was killed", "{lab}");
    }
    here.exec("one", "host1", "rm /root/lesson");
    assert_eq!(here.exec("two", "host1", "cat /root/lesson"), "lesson");
    // Its host was dead when it was saved: it is made anew, and the block is gone with a heal of it.
    here.labctl.run(["do", "one", "start", "host2"]).exits(0);
    here.labctl.run(["check", "one"]).exits(0);

    // One that was restored is saved and restored again; the first ones' end means nothing to it.
    here.labctl.run(["checkpoint", "save", "one", "later"]).exits(0);
    here.labctl.run(["down", "--all"]).exits(0);
    here.labctl.run(["checkpoint", "rm", "lesson"]).exits(0);
    fs::remove_dir_all(here.labctl.cache.join("templates")).unwrap();
    here.labctl.run(["checkpoint", "restore", "later", "--as", "three"]).exits(0);
    here.labctl.run(["check", "three"]).exits(0);
    here.labctl.run(["reset", "three", "later"]).exits(0);
    here.labctl.run(["check", "three"]).exits(0);

    let file = here.dir.path().join("lesson.ckpt");
    here.labctl.run(["checkpoint", "export", "later", file.to_str().unwrap()]).exits(0);
    here.labctl.run(["checkpoint", "import", file.to_str().unwrap(), "later"]).exits(3).says("already");
    here.labctl.run(["checkpoint", "rm", "later"]).exits(0);
    here.labctl.run(["checkpoint", "import", file.to_str().unwrap(), "taken"]).exits(0);
    here.labctl.run(["checkpoint", "restore", "taken", "--as", "four"]).exits(0);
    here.labctl.run(["check", "four"]).exits(0);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    here.labctl.run(["checkpoint", "import", file.to_str().unwrap(), "half"]).exits(3).says("cannot take");
    assert!(!here.names().contains(&"half".to_owned()));
}

#[test]
fn what_is_damaged_or_half_made_is_never_used() {
    let here = Here::new();
    let file = here.topology("hurt");
    here.labctl.up(&file);
    here.labctl.run(["checkpoint", "save", "hurt", "fine"]).exits(0);
    here.labctl.run(["checkpoint", "save", "hurt", "no name"]).exits(2).says("a name is");
    here.labctl.run(["checkpoint", "restore", "none"]).exits(2).says("there are: fine");
    here.labctl.run(["reset", "hurt", "none"]).exits(2).says("there is no checkpoint");
    here.labctl.run(["checkpoint", "restore", "fine"]).exits(2).says("already up");

    // Killed in the middle of saves, at moments that differ.
    for pause in [0, 30, 60, 120, 250] {
        let supervisor = supervisor(&here, "hurt");
        let save = here.labctl.command(["checkpoint", "save", "hurt", "torn"]).stderr(Stdio::null()).spawn();
        std::thread::sleep(Duration::from_millis(pause));
        nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
        save.unwrap().wait().unwrap();
        if here.names().contains(&"torn".to_owned()) {
            here.labctl.run(["checkpoint", "restore", "torn", "--as", "whole"]).exits(0);
            here.labctl.run(["check", "whole"]).exits(0);
            here.labctl.run(["down", "whole"]).exits(0);
            here.labctl.run(["checkpoint", "rm", "torn"]).exits(0);
        }
        here.labctl.run(["down", "hurt"]).exits(0);
        here.labctl.up(&file).says("taken from a checkpoint");
    }
    here.labctl.run(["check", "hurt"]).exits(0);
    here.labctl.run(["checkpoint", "save", "hurt", "fine"]).exits(0);
    let staging = fs::read_dir(here.checkpoints()).unwrap().flatten();
    let left = staging.filter(|e| e.file_name().to_string_lossy().starts_with(".staging")).count();
    assert_eq!(left, 0, "what was half-made is swept");

    // Cut short and altered files are named; the lab that is up stays as it is.
    let pages = here.checkpoints().join("fine/host1.pages");
    let whole = fs::read(&pages).unwrap();
    for damaged in [&whole[..whole.len() / 2], &[whole.clone(), vec![0; 4096]].concat()] {
        fs::write(&pages, damaged).unwrap();
        here.labctl.run(["reset", "hurt", "fine"]).exits(3).says("host1.pages was changed or cut short");
    }
    here.labctl.run(["check", "hurt"]).exits(0);
    here.labctl.run(["down", "hurt"]).exits(0);
    here.labctl.run(["checkpoint", "restore", "fine"]).exits(3).says("host1.pages");
    // That of `up` is made anew.
    let by_up = here.names().into_iter().find(|n| n.contains('.')).unwrap();
    fs::write(here.checkpoints().join(&by_up).join("host2.state"), "altered").unwrap();
    here.labctl.up(&file).says("host2.state was changed or cut short").says("made anew");
    here.labctl.run(["down", "hurt"]).exits(0);
    here.labctl.up(&file).says("taken from a checkpoint");
    here.labctl.run(["down", "hurt"]).exits(0);
    here.labctl.run(["up", "--no-check", "--fresh", file.to_str().unwrap()]).exits(0);
    // It waits until what `up` leaves is on disk.
    here.labctl.run(["reset", "hurt"]).exits(0);
    here.labctl.run(["checkpoint", "prune", "--keep", "0"]).exits(0);
    assert_eq!(here.names(), ["fine"]);
    here.labctl.run(["reset", "hurt"]).exits(2).says("there is no checkpoint");
}

fn supervisor(here: &Here, lab: &str) -> nix::unistd::Pid {
    let labs = here.labctl.run(["ps", "--format", "json"]).exits(0).json();
    let lab = labs.as_array().unwrap().iter().find(|l| l["lab"] == lab).unwrap();
    nix::unistd::Pid::from_raw(lab["supervisor"].as_i64().unwrap() as i32)
}
