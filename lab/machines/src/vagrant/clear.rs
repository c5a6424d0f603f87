//! Removes what a lab left at Vagrant's provider.

use std::{process::Stdio, time::Duration};

use labctl_images::hash::sha256;
use labctl_state::LabDir;
use tokio::{process::Command, time::timeout};

use super::cli::Vagrant;

/// Name of the file in its folder: the note that there may be something.
pub(super) const VAGRANTFILE: &str = "Vagrantfile";
/// Limit for one look at libvirt.
const LOOK: Duration = Duration::from_secs(60);
/// Vagrant's own network, as the box names it.
const NETWORK: &str = "labctl";
/// Prefix of all domains that labctl makes.
const OURS: &str = "labctl-";

/// How the names of a lab's machines and disks begin at the provider. Labs of one name, of other people, have another one.
pub(super) fn prefix(dir: &LabDir) -> String {
    let owner = sha256(dir.path().as_os_str().as_encoded_bytes());
    format!("{OURS}{}-{}-", dir.name(), owner.get(..6).unwrap_or_default())
}

/// Removes the machines that the lab of this folder has left. Returns what could not be removed.
pub async fn sweep(dir: &LabDir) -> Vec<String> {
    let vagrant = Vagrant::in_lab(dir);
    let Ok(text) = std::fs::read_to_string(vagrant.dir.join(VAGRANTFILE)) else { return Vec::new() };
    let mut left: Vec<String> = vagrant.run(&["destroy", "--force"], None).await.err().into_iter().collect();
    if text.contains("config.vm.provider(:libvirt)") {
        left.extend(sweep_libvirt(&prefix(dir)).await.err());
    }
    left
}

/// Vagrant does not know of what it was making when it was killed.
async fn sweep_libvirt(prefix: &str) -> Result<(), String> {
    let names = |listed: String| listed.lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>();
    let domains = async || Ok::<_, String>(names(virsh(&["list", "--all", "--name"]).await?));
    for domain in domains().await?.iter().filter(|name| name.starts_with(prefix)) {
        // It fails for one that does not run.
        let _ = virsh(&["destroy", domain]).await;
        virsh(&["undefine", domain]).await?;
    }
    // There is no pool before the first machine.
    let listed = virsh(&["vol-list", "default"]).await.unwrap_or_default();
    let volumes = listed.lines().filter_map(|line| line.split_whitespace().next());
    for volume in volumes.filter(|name| name.starts_with(prefix)) {
        virsh(&["vol-delete", "--pool", "default", volume]).await?;
    }
    // Vagrant removes it with the last machine, of whatever lab, unless it was killed. Machines of other Vagrantfiles, a
    // seat's among them, may be on it.
    let networks = names(virsh(&["net-list", "--all", "--name"]).await?);
    if networks.iter().any(|name| name == NETWORK)
        && !domains().await?.iter().any(|name| name.starts_with(OURS))
        && !virsh(&["net-dumpxml", NETWORK]).await?.contains(" connections=")
    {
        // It fails for one that is not active.
        let _ = virsh(&["net-destroy", NETWORK]).await;
        virsh(&["net-undefine", NETWORK]).await?;
    }
    Ok(())
}

/// Asks the libvirt that Vagrant uses.
async fn virsh(arguments: &[&str]) -> Result<String, String> {
    let uri = std::env::var("LIBVIRT_DEFAULT_URI").unwrap_or_else(|_| "qemu:///system".to_owned());
    let mut command = Command::new("virsh");
    command.args(["--quiet", "--connect", &uri]).args(arguments).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let failed = |why: &str| format!("virsh {}: {}", arguments.join(" "), why.trim());
    match timeout(LOOK, command.output()).await {
        Err(_) => Err(failed(&format!("no answer within {} s", LOOK.as_secs()))),
        Ok(Err(e)) => Err(failed(&format!("{e}\nhint: apt-get install libvirt-clients"))),
        Ok(Ok(output)) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(Ok(output)) => Err(failed(&String::from_utf8_lossy(&output.stderr))),
    }
}
