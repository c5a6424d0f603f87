//! Labs that are stopped, raced, starved and attacked: what holds, and what is said where it cannot.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use labctl_tests::{Labctl, Ran, cache, eventually, machine, one_host, write};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[track_caller]
fn nothing_is_left(labctl: &Labctl) {
    let state = labctl.state().display().to_string();
    eventually("the lab is gone", Duration::from_secs(5), || {
        fs::read_dir(labctl.state()).unwrap().next().is_none() && machine::processes_with(&state).is_empty()
    });
}

/// Number of the process that the lab has noted as this.
fn process(labctl: &Labctl, lab: &str, what: &str) -> i32 {
    let noted = fs::read_to_string(labctl.state().join(lab).join("processes.json")).unwrap();
    let mut noted = noted.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let process = noted.find(|p| p["what"].as_str().unwrap().starts_with(what)).unwrap();
    process["pid"].as_i64().unwrap().try_into().unwrap()
}

/// Every socket below a folder is this user's alone. How many there are.
fn private_sockets(dir: &Path) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            found += private_sockets(&entry.path());
        } else if about.file_type().is_socket() {
            let mode = about.permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{} is open to others", entry.path().display());
            found += 1;
        }
    }
    found
}

/// Begun with next to no files allowed, a lab's machine has no privilege, what its guest writes without end is bounded,
/// and it goes at once although its supervisor is stopped.
#[test]
fn a_machine_is_confined_and_its_console_bounded_and_down_waits_for_nobody() {
    let mut labctl = Labctl::new();
    // The soft limit is raised to what a lab takes.
    labctl.prefix = ["sh", "-c", "ulimit -S -n 40 && exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let dir = tempfile::tempdir().unwrap();
    labctl.up(&write(dir.path(), "hurt.yaml", &one_host("hurt")));

    let status = fs::read_to_string(format!("/proc/{}/status", process(&labctl, "hurt", "machine"))).unwrap();
    for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}:\n{status}");
    }
    assert!(private_sockets(labctl.state()) >= 4);

    let endless =
        "yes 0123456789012345678901234567890 | head -c 1200000 >/dev/console; echo LAST-WORDS >/dev/console";
    labctl.run(["exec", "hurt", "host1", "--", "sh", "-c", endless]).exits(0);
    let logs = || labctl.run(["logs", "hurt", "host1"]).exits(0).stdout();
    eventually("the console was written down", Duration::from_secs(30), || logs().contains("LAST-WORDS"));
    assert!(logs().len() > 400_000, "the lines before are there too");
    let host = labctl.state().join("hurt/hosts/host1");
    let size: u64 =
        ["console.log", "console.log.1"].map(|f| fs::metadata(host.join(f)).unwrap().len()).iter().sum();
    assert!(size < 1_100_000, "{size} bytes are kept");

    kill(Pid::from_raw(process(&labctl, "hurt", "supervisor")), Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    let ran = labctl.run(["down", "hurt"]).exits(0).says("was stopped");
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    assert!(ran.stderr().contains("lab hurt is down"), "{}", ran.stderr());
    nothing_is_left(&labctl);
}

/// `down` at every moment of an `up`: one of them wins whole, and the other says so.
#[test]
fn up_and_down_of_one_name_do_not_break_each_other() {
    let labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "raced.yaml", &one_host("raced"));
    let start = |args: &[&str]| -> Child {
        let mut command = labctl.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut taken_down = 0;
    for delay_ms in [0, 10, 20, 40, 80, 160, 320, 640] {
        let up = start(&["up", "--no-check", file.to_str().unwrap()]);
        // What is raced is the beginning of the lab, however long this machine takes to get there.
        eventually("the lab begins", Duration::from_secs(20), || labctl.state().join("raced").exists());
        std::thread::sleep(Duration::from_millis(delay_ms));
        let down = start(&["down", "raced"]);
        // And another one, which comes while the first is being cleared.
        let again = start(&["up", "--no-check", file.to_str().unwrap()]);
        let [up, down, again] = [up, down, again].map(|child| Ran(child.wait_with_output().unwrap()));
        for (what, ran) in [("up", &up), ("down", &down), ("up again", &again)] {
            let said = ran.stderr();
            let code = ran.0.status.code().unwrap();
            let fair = match (what, code) {
                (_, 0) => true,
                ("down", _) => false,
                (_, 2) => said.contains("already up"),
                (_, 130) => said.contains("was taken down meanwhile, by"),
                _ => false,
            };
            assert!(
                fair && !said.contains("warning"),
                "{what} after {delay_ms} ms ended with {code}:\n{said}"
            );
        }
        if up.0.status.code() == Some(130) {
            taken_down += 1;
        }
        labctl.run(["down", "--all"]).exits(0);
        nothing_is_left(&labctl);
    }
    assert!(taken_down >= 3, "{taken_down} times `down` came while the lab came up");
}

/// A cache without room for a saved machine is named before one is booted.
#[test]
fn a_full_cache_is_named() {
    let mut labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "full.yaml", &one_host("full"));
    let own = dir.path().join("cache");
    fs::create_dir(&own).unwrap();
    labctl.cache = own.clone();
    // Only for the command and what it starts.
    let script = "mount -t tmpfs -o size=32m,mode=700 none \"$0\" && ln -s \"$1\" \"$0/images\" && shift && exec \"$@\"";
    let images = cache().join("images");
    labctl.prefix =
        ["unshare", "--mount", "sh", "-c", script, own.to_str().unwrap(), images.to_str().unwrap()]
            .map(str::to_owned)
            .to_vec();
    let ran = labctl.run(["up".as_ref(), file.as_os_str()]).exits(3);
    ran.says(&format!("no space left in {}", own.display())).says("--cold");
    nothing_is_left(&labctl);
}

/// A kernel that is garbage of the right length is found before anything boots, and is to be made anew. Here there is
/// nothing to make it with, which takes less time.
#[test]
fn a_damaged_node_image_is_made_anew() {
    let mut labctl = Labctl::new();
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "damaged.yaml", &one_host("damaged"));
    labctl.cache = dir.path().join("cache");
    let image = labctl_tests::own_images(&labctl.cache);
    let kernel = image.join("vmlinux");
    let length = fs::metadata(&kernel).unwrap().len();
    fs::remove_file(&kernel).unwrap();
    fs::write(&kernel, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
    let tools = dir.path().join("bin");
    fs::create_dir(&tools).unwrap();
    for tool in ["apt-get", "apt-config", "unshare"] {
        symlink(Path::new("/usr/bin").join(tool), tools.join(tool)).unwrap();
    }
    let ran = labctl.command(["up".as_ref(), file.as_os_str()]).env("PATH", &tools).output().unwrap();
    Ran(ran)
        .exits(3)
        .says("node image trixie is damaged (vmlinux is not as it was made) and is made anew")
        .says("apt-get install mmdebstrap");
    nothing_is_left(&labctl);
}
