//! Labs on machines that exist. The machines are hosts of a lab of our own, bare but for an sshd that ssh starts for each
//! connection, so no port is opened; the lab on them is another one. They are containers: this needs Docker, as the tests of
//! `dind` do.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use labctl_tests::{Labctl, cells, topology, write};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The machines: a NIC with the addresses of topologies here, another with some that the labs on them do not know.
const METAL: &str = "
name: metal
segments:
  lan: { subnet: 192.168.56.0/24, gateway: 192.168.56.1 }
  wan: { subnet: 10.77.0.0/24 }
hosts:
  host1: { lan: 192.168.56.3, wan: 10.77.0.3 }
  host2: { lan: 192.168.56.7, wan: 10.77.0.7 }
images:
  sshd: { debian: [openssh-server, sudo], cmd: sshd }
containers:
  tools1: { host: host1, image: sshd, network_mode: none, deferred: true }
  tools2: { host: host2, image: sshd, network_mode: none, deferred: true }
";

/// Adds to a machine what it lacks of the image: sshd, sudo, and a user who may use it.
const FURNISH: &str = "
set -e
docker create --name tools sshd x >/dev/null
docker export tools | tar -x -C / --skip-old-files
docker rm tools >/dev/null
docker rmi sshd >/dev/null
ldconfig
mkdir -p /run/sshd /etc/ssh/lab /home/lab /etc/sudoers.d
echo 'sshd:x:4000:65534::/run/sshd:/bin/false' >> /etc/passwd
echo 'lab:x:4001:4001::/home/lab:/bin/sh' >> /etc/passwd
echo 'lab:x:4001:' >> /etc/group
echo 'lab:*:20000:0:99999:7:::' >> /etc/shadow
chown 4001:4001 /home/lab
echo 'lab ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/lab
chmod 440 /etc/sudoers.d/lab
";

/// All that a lab could leave on a machine.
const STATE: &str = "
echo '# links'; ip -o link show | sed 's/@.*//; s/^[0-9]*: //; s/:.*//' | sort
echo '# addresses'; ip -o -4 address show | awk '{print $2, $4}' | sort
echo '# routes'; ip route show table all | sort
echo '# rules'; ip rule show; nft list tables; iptables-save | grep -v '^[#:]' | sed 's/ \\[.*//'
echo '# settings'; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/eth0/proxy_arp
echo '# docker'; docker ps -a --format '{{.Names}}'; docker network ls --format '{{.Name}} {{.Driver}}' | sort
docker images --format '{{.Repository}}'; docker info --format '{{.Swarm.LocalNodeState}}'
echo '# files'; find /root /home /tmp /etc /var/tmp | sort
echo '# processes'; ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c 'agent-' || true
";

const HOSTS: [&str; 2] = ["host1", "host2"];

/// Machines that exist, with sshd, and the files that say how to reach them.
struct Metal {
    labctl: Labctl,
    dir: tempfile::TempDir,
}

impl Metal {
    /// On one of them ssh logs in as root, on the other one as a user with sudo.
    fn new() -> Self {
        let (labctl, dir) = (Labctl::new(), tempfile::tempdir().unwrap());
        let file = write(dir.path(), "metal.yaml", METAL);
        labctl.run(["up", "--runtime", "dind", "--no-check", file.to_str().unwrap()]).exits(0);
        for key in ["user", "machine"] {
            let path = dir.path().join(key);
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
            assert!(made.expect("these tests need openssh-client").success());
        }
        let metal = Self { labctl, dir };
        let read = |name: &str| fs::read(metal.dir.path().join(name)).unwrap();
        for host in HOSTS {
            metal.inside(host, FURNISH, b"");
            metal.inside(host, "cat > /etc/ssh/lab/users", &read("user.pub"));
            metal.inside(host, "umask 077; cat > /etc/ssh/lab/key", &read("machine"));
        }
        let path = |name: &str| metal.dir.path().join(name).display().to_string();
        let labctl = metal.labctl.command(["exec"]);
        let program = labctl.get_program().to_string_lossy().into_owned();
        // The user's own ssh configuration has no part in it.
        let config = format!(
            "Host *\n IdentityFile {}\n IdentitiesOnly yes\n StrictHostKeyChecking accept-new\n \
             UserKnownHostsFile {}\n ProxyCommand env LABCTL_STATE_DIR={} {program} exec metal %h -- /usr/sbin/sshd -i \
             -f /dev/null -h /etc/ssh/lab/key -o AuthorizedKeysFile=/etc/ssh/lab/users -o UsePAM=no\n",
            path("user"),
            path("known"),
            metal.labctl.state().display()
        );
        write(metal.dir.path(), "ssh_config", &config);
        write(
            metal.dir.path(),
            "machines.yaml",
            "host1: { ssh: lab@host1, config: ssh_config, nics: { lan: eth0 } }\n\
             host2: { ssh: root@host2, config: ssh_config, nics: { lan: eth0 } }\n",
        );
        metal
    }

    /// Runs a script on a machine, past ssh.
    fn inside(&self, host: &str, script: &str, input: &[u8]) -> String {
        let mut command = self.labctl.command(["exec", "metal", host, "--", "sh", "-c", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{host}: {script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn state(&self) -> BTreeMap<&'static str, String> {
        HOSTS.map(|host| (host, self.inside(host, STATE, b""))).into()
    }

    #[track_caller]
    fn assert_unchanged(&self, before: &BTreeMap<&'static str, String>) {
        for (host, is) in self.state() {
            assert_eq!(before[host], is, "what is on {host}");
        }
    }

    fn machines(&self) -> PathBuf {
        self.dir.path().join("machines.yaml")
    }
}

/// `labctl VERB --runtime ssh --machines FILE …`, with a state folder of its own.
fn on_ssh<'a>(verb: &'a str, machines: &'a Path, rest: &'a [&'a str]) -> Vec<&'a OsStr> {
    let words = [verb, "--runtime", "ssh", "--machines"].map(OsStr::new).into_iter();
    words.chain([machines.as_os_str()]).chain(rest.iter().map(OsStr::new)).collect()
}

#[test]
fn a_lab_on_machines_that_exist_holds_and_leaves_them_as_they_were() {
    let metal = Metal::new();
    let before = metal.state();
    let (labctl, machines) = (Labctl::new(), metal.machines());

    // Addresses that are there. What is outside answers, because the machines have a stand-in for it.
    let file = topology("macvlan-2host.yaml");
    let file = file.to_str().unwrap();
    labctl.run(on_ssh("test", &machines, &[file])).exits(3).says("8.8.8.8 is outside");
    let words = ["--allow-outside", "--format", "json", file];
    let ran = labctl.run(on_ssh("test", &machines, &words)).exits(0);
    let report = &ran.json()["labs"][0]["report"];
    assert_eq!((report["runtime"].as_str(), cells(report).len()), (Some("ssh"), 25), "{report}");
    metal.assert_unchanged(&before);

    // A swarm, on addresses that are added; with routes, settings, cuts. Then everything of labctl's is killed.
    let text = "
name: there
segments: { far: { subnet: 10.9.0.0/24 } }
hosts:
  host1: { far: 10.9.0.3, sysctls: { net.ipv4.conf.eth0.proxy_arp: 1 }, routes: [ { to: 10.10.0.0/16, dev: far } ] }
  host2: { far: 10.9.0.7 }
swarm: {}
networks: { net: { driver: overlay, attachable: true } }
containers:
  c1: { host: host1, networks: [net] }
  c2: { host: host2, networks: [net] }
services:
  web: { deploy: { replicas: 2, endpoint_mode: dnsrr }, networks: [net] }
expect:
  - { probe: icmp, rules: [ { from: containers, to: containers, verdict: yes }, { from: hosts, to: hosts, verdict: yes } ] }
steps:
  - do: cut host2 inbound
    expect: [ { rules: [ { from: host1, to: host2, verdict: no } ] } ]
  - do: heal host2
    expect: [ { rules: [ { from: hosts, to: hosts, verdict: yes } ], within: 20s } ]
";
    let file = write(metal.dir.path(), "there.yaml", text);
    let file = file.to_str().unwrap();
    write(
        metal.dir.path(),
        "machines.yaml",
        "host1: { ssh: lab@host1, config: ssh_config, nics: { far: eth1 }, configure: true }\n\
         host2: { ssh: root@host2, config: ssh_config, nics: { far: eth1 }, configure: true }\n",
    );
    labctl.run(on_ssh("up", &machines, &["--no-check", file])).exits(3).says("--allow-impair");
    labctl.run(on_ssh("up", &machines, &["--allow-impair", "--no-check", file])).exits(0);
    labctl.run(["check", "there", "--steps"]).exits(0);
    let said = labctl.run([
        "exec",
        "there",
        "host1",
        "--",
        "sh",
        "-c",
        "id -u; cat /proc/sys/net/ipv4/conf/eth0/proxy_arp",
    ]);
    assert_eq!(said.exits(0).stdout(), "0\n1\n");
    let listed = labctl.run([
        "docker",
        "there",
        "host2",
        "--",
        "ps",
        "--filter",
        "label=labctl.lab=there",
        "--format",
        "{{.Names}}",
    ]);
    assert_eq!(listed.exits(0).stdout(), "c2\n");
    // Somebody else's lab of this name does not get in.
    let other = Labctl::new();
    let refused = other.run(on_ssh("up", &machines, &["--allow-impair", "--no-check", file])).exits(3);
    refused.says("lab `there` is here already");
    let supervisor = labctl.run(["ps", "--format", "json"]).json()[0]["supervisor"].as_i64().unwrap();
    kill(Pid::from_raw(i32::try_from(supervisor).unwrap()), Signal::SIGKILL).unwrap();

    // From elsewhere: all that is known there is the name and the machines.
    other
        .run(["down", "there", "--machines", machines.to_str().unwrap()])
        .exits(0)
        .says("nothing of lab there is left");
    metal.assert_unchanged(&before);
    // The folder of the killed one has nothing to remove any more.
    labctl.run(["down", "there"]).exits(0);
    metal.assert_unchanged(&before);
}
