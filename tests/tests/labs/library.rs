//! `lab` as a library: from a file and from a builder, in this process, and what it leaves behind.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lab::{
    Lab, Probe, Runtime, Verdict,
    builder::{Container, Expect, Host, Network, Step},
};
use labctl_tests::{Labctl, cells, eventually, machine, topology};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn state() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("lab").tempdir().unwrap()
}

/// A program of the test's own, which goes with it.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn nothing_is_left(state: &Path) {
    let files: Vec<_> = fs::read_dir(state).unwrap().flatten().map(|e| e.path()).collect();
    assert!(files.is_empty(), "left behind: {files:?}");
    assert_eq!(machine::processes_with(&state.display().to_string()), Vec::<String>::new());
}

/// The flagship, on the runtime with one thread that `#[tokio::test]` gives: every way into it, and down on drop.
#[tokio::test]
async fn a_lab_from_a_file() -> Result<(), lab::Error> {
    let (before, labctl) = (machine::network_state(), Labctl::new());
    let lab = Lab::from_file(topology("ipvlan-2host.yaml"))?
        .runtime(Runtime::Vm)
        .state_dir(labctl.state())
        .up()
        .await?;

    let report = lab.check().await?;
    assert!(report.holds && report.cells().count() == 30, "{report}");

    let answer = lab.probe("c1-1", "c2-1", Probe::Icmp).await?;
    assert!(answer.verdict == Verdict::Yes && answer.rtt.is_some(), "{answer}");
    let answers = lab.probe_all([("host1", "c1-1"), ("c1-1", "8.8.8.8")], Probe::Icmp).await?;
    assert_eq!(answers[0].verdict, Verdict::No(lab::No::Arp), "{}", answers[0]);
    assert!(answers[1].is_yes(), "{}", answers[1]);
    let unknown = lab.probe("c1-1", "c9", Probe::Icmp).await.unwrap_err();
    assert!(unknown.to_string().contains("has no host, container or service `c9`"), "{unknown}");

    let mut frames = lab.capture("lan").await?;
    let ping = lab.exec_with_host_tools("c1-1", ["ping", "-c", "1", "192.168.56.34"]).await?;
    assert_eq!(ping.status, 0, "{}", String::from_utf8_lossy(&ping.stdout));
    let echo = async {
        // EtherType IPv4, protocol ICMP.
        while let Some(frame) = frames.next().await {
            if frame.data.get(12..14) == Some(&[8, 0]) && frame.data.get(23) == Some(&1) {
                return frame.port.to_string();
            }
        }
        String::new()
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), echo).await.unwrap(), "host1/eth0");
    drop(frames);

    let docker = lab.docker("host2")?;
    let all = docker.list_containers(None::<lab::bollard::query_parameters::ListContainersOptions>).await?;
    assert_eq!(all.len(), 2);

    // Programs that block this thread get their answers all the same.
    let ps = Command::new("docker")
        .args(["ps", "--format", "{{.Names}}"])
        .env("DOCKER_HOST", lab.docker_host("host1")?)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let names: BTreeSet<_> = String::from_utf8(ps.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(names, ["c1-1", "c1-2"].map(str::to_owned).into());
    let name = lab.dir().file_name().unwrap().to_str().unwrap();
    let labs = labctl.run(["ps", "--format", "json"]).exits(0).json();
    assert_eq!((labs[0]["lab"].as_str(), labs[0]["stage"].as_str()), (Some(name), Some("up")), "{labs}");
    assert_eq!(labctl.run(["exec", name, "host1", "--", "hostname"]).exits(0).stdout(), "host1\n");

    // Any action of a step, and what is no action, or fails.
    lab.act("cut host2 on lan").await?;
    assert!(!lab.probe("c1-1", "c2-1", Probe::Icmp).await?.is_yes());
    // Each time alike: that it does not hold is no flip. From here and from outside it is one lab.
    let repeated = labctl.run(["check", name, "--repeat", "2", "--format", "json"]).exits(1).json();
    assert_eq!(repeated["runs"], 2, "{repeated}");
    assert_eq!((&repeated["held"], &repeated["flips"]), (&0.into(), &serde_json::json!([])), "{repeated}");
    lab.act("heal host2").await?;
    // What was asked for in vain a moment ago is asked for again only in a second (ARP).
    let end = Instant::now() + Duration::from_secs(20);
    while !lab.probe("c1-1", "c2-1", Probe::Icmp).await?.is_yes() {
        assert!(Instant::now() < end, "c2-1 is not reached again");
    }
    lab.act("exec host1 -- test -e /etc/hostname").await?;
    let failed = lab.act("exec host1 -- test -e /no/such").await.unwrap_err().to_string();
    assert!(failed.contains("exit status 1"), "{failed}");
    let unknown = lab.act("stop c9-9").await.unwrap_err();
    assert!(matches!(&unknown, lab::Error::Topology(_)), "{unknown}");
    assert!(unknown.to_string().contains("c9-9"), "{unknown}");

    let repeated = labctl.run(["check", name, "--repeat", "3", "--format", "json"]).exits(0).json();
    assert_eq!((&repeated["runs"], &repeated["held"]), (&3.into(), &3.into()), "{repeated}");
    assert_eq!(
        (&repeated["holds"], &repeated["flips"]),
        (&true.into(), &serde_json::json!([])),
        "{repeated}"
    );
    assert_eq!(cells(&repeated["report"]).len(), 30, "{repeated}");
    let said = labctl.run(["check", name, "--repeat", "2"]).exits(0).stdout();
    assert!(said.contains("2 of 2 runs as expected, all alike"), "{said}");

    drop(lab);
    nothing_is_left(labctl.state());
    machine::assert_unchanged(&before);
    Ok(())
}

/// Described in Rust; with steps, a host that is killed, and taken down by hand.
#[tokio::test]
async fn a_lab_from_a_builder() -> Result<(), lab::Error> {
    let state = state();
    let built = Lab::builder("built")
        .segment("lan", "192.168.56.0/24")
        .host("host1", Host::on("lan", "192.168.56.3"))
        .host("host2", Host::on("lan", "192.168.56.7"))
        .network("net", Network::macvlan("lan").subnet("192.168.56.0/24"))
        .container("c1", Container::on("host1").address("net", "192.168.56.31"))
        .container("c2", Container::on("host2").address("net", "192.168.56.32"))
        .expect(Expect::table(
            Probe::Icmp,
            "from\\to  c1   c2   host1
             c1       -    yes  no
             c2       yes  -    yes",
        ))
        .step(Step::new("stop c2").expect(Expect::cells(
            Probe::Icmp,
            ["c1"],
            ["192.168.56.32"],
            lab::Expected::No,
        )));
    let lab = built.build()?.runtime(Runtime::Vm).state_dir(state.path()).up().await?;
    let report = lab.check_with_steps().await?;
    assert!(report.holds && report.steps.len() == 1, "{report}");

    assert!(lab.probe("host1", "host2", Probe::Icmp).await?.is_yes());
    lab.kill_host("host2").await?;
    assert!(lab.docker("host2").unwrap_err().to_string().contains("does not run"));
    assert!(!lab.probe("host1", "192.168.56.7", Probe::Icmp).await?.is_yes());

    lab.down().await?;
    nothing_is_left(state.path());
    Ok(())
}

/// What is no lab is refused as a file would be; what does not come up, or is given up half-way, leaves nothing.
#[tokio::test]
async fn a_lab_that_does_not_come_up_leaves_nothing() {
    let state = state();
    let one = || Lab::builder("one").segment("lan", "10.0.0.0/24").host("host1", Host::on("lan", "10.0.0.1"));
    let lost = one().container("c1", Container::on("host2")).build().unwrap_err().to_string();
    assert!(lost.contains("there is no host `host2`") && lost.contains("did you mean `host1`?"), "{lost}");

    let no_image = one().container("c1", Container::on("host1").image("nobody/has:this")).build().unwrap();
    let refused = no_image.runtime(Runtime::Vm).state_dir(state.path()).up().await.unwrap_err().to_string();
    assert!(refused.contains("nobody/has:this"), "{refused}");
    nothing_is_left(state.path());

    let agent =
        one().build().unwrap().agent("/no/such/agent").state_dir(state.path()).up().await.unwrap_err();
    assert!(agent.to_string().contains("make build"), "{agent}");

    let (starts, mut started) = tokio::sync::mpsc::unbounded_channel();
    let lab = one().build().unwrap().runtime(Runtime::Vm).state_dir(state.path()).on_event(move |event| {
        let _ = starts.send(event);
    });
    let up = lab.up();
    tokio::select! {
        _ = up => panic!("it came up before it was given up"),
        () = async { while !matches!(started.recv().await, Some(lab::Event::Host { .. })) {} } => {}
    }
    nothing_is_left(state.path());
}

/// Equal names, equal addresses, one process: each has its own folder and wire. A program that is killed leaves a
/// folder, and the next lab of that name clears it.
#[test]
fn labs_of_one_name_do_not_meet_and_a_killed_program_leaves_no_trouble() {
    const CHILD: &str = "LAB_TEST_CHILD";
    let lab = |state: &Path| {
        let built =
            Lab::builder("twin").segment("lan", "10.0.0.0/24").host("host1", Host::on("lan", "10.0.0.1"));
        built.build().unwrap().runtime(Runtime::Vm).state_dir(state)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Some(state) = std::env::var_os(CHILD) {
        let lab = runtime.block_on(lab(Path::new(&state)).up()).unwrap();
        fs::write(Path::new(&state).join("up"), lab.runtime().to_string()).unwrap();
        loop {
            std::thread::park();
        }
    }
    let state = state();
    let name = "library::labs_of_one_name_do_not_meet_and_a_killed_program_leaves_no_trouble";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, state.path())
        .stdout(Stdio::null())
        .spawn();
    let mut child = Program(child.unwrap());
    let up = state.path().join("up");
    eventually("the lab of the other program is up", Duration::from_secs(60), || {
        assert_eq!(child.0.try_wait().unwrap(), None, "the other program ended");
        up.exists()
    });
    runtime.block_on(async {
        let (one, two) = tokio::join!(lab(state.path()).up(), lab(state.path()).up());
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_ne!(one.dir(), two.dir());
        let folders = || fs::read_dir(state.path()).unwrap().flatten().filter(|e| e.path().is_dir()).count();
        assert_eq!(folders(), 3, "two here, one of the other program");
        for lab in [&one, &two] {
            let file =
                lab.exec("host1", ["sh", "-c", "ls /root/mine 2>/dev/null; touch /root/mine"]).await.unwrap();
            assert!(file.stdout.is_empty(), "the other lab's file");
        }
        drop(one);
        assert!(two.probe("host1", "10.0.0.1", Probe::Icmp).await.is_ok(), "the other one goes on");

        kill(Pid::from_raw(i32::try_from(child.0.id()).unwrap()), Signal::SIGKILL).unwrap();
        child.0.wait().unwrap();
        assert_eq!(folders(), 2, "the killed one's is still there");
        drop(two);
        lab(state.path()).up().await.unwrap().down().await.unwrap();
        assert_eq!(folders(), 0, "and is cleared");
    });
    fs::remove_file(up).unwrap();
    nothing_is_left(state.path());
}
