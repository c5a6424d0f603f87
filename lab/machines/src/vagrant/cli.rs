//! The command line of Vagrant.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::{Events, spawn, tail::tail};

/// How long Vagrant may take for all machines of a lab: it copies the box, and an emulated machine takes its time to boot.
const LIMIT: Duration = Duration::from_secs(1200);

/// Vagrant, in the folder of a lab's Vagrantfile.
#[derive(Clone, Debug)]
pub(super) struct Vagrant {
    /// The folder.
    pub dir: PathBuf,
}

impl Vagrant {
    /// Its words, for people who ask what went wrong.
    pub fn log(&self) -> PathBuf {
        self.dir.join("vagrant.log")
    }

    /// Runs it with these arguments and returns what it printed. Tells what it does with which machine.
    ///
    /// # Errors
    /// Its last words.
    pub async fn run(&self, arguments: &[&str], events: Option<&Events>) -> Result<String, String> {
        let open = || fs::File::options().append(true).create(true).open(self.log());
        let (mut log, errors) = (open().map_err(|e| e.to_string())?, open().map_err(|e| e.to_string())?);
        let mut command = Command::new("vagrant");
        command.args(arguments).current_dir(&self.dir);
        // Nothing may ask the internet or the user.
        command.env("VAGRANT_CHECKPOINT_DISABLE", "1").env("VAGRANT_BOX_UPDATE_CHECK_DISABLE", "1");
        command
            .env_remove("VAGRANT_VAGRANTFILE")
            .env_remove("VAGRANT_CWD")
            .env_remove("VAGRANT_DOTFILE_PATH");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = spawn::spawn_as_user(command).await.map_err(|e| missing(&e))?;
        let Some(stdout) = child.stdout.take() else { return Err("vagrant has no output".to_owned()) };
        let mut said = String::new();
        let work = async {
            let mut lines = BufReader::new(stdout);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).await.map_err(|e| e.to_string())? > 0 {
                let text = String::from_utf8_lossy(&line).into_owned();
                // A progress bar overwrites itself: its last state counts.
                let text = text.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
                if let (Some(events), Some((host, stage))) = (events, stage(&text)) {
                    events.host(host, stage);
                }
                // Where its errors go too, so that their order is kept.
                writeln!(log, "{text}").map_err(|e| e.to_string())?;
                said += &text;
                said.push('\n');
                line.clear();
            }
            child.wait().await.map_err(|e| e.to_string())
        };
        let status = timeout(LIMIT, work).await;
        match status {
            Err(_) => {
                Err(format!("vagrant {}: not done after {} min", arguments.join(" "), LIMIT.as_secs() / 60))
            }
            Ok(Err(why)) => Err(why),
            Ok(Ok(status)) if status.success() => Ok(said),
            Ok(Ok(_)) => Err(format!("vagrant {} failed:\n  {}", arguments.join(" "), tail(&self.log()))),
        }
    }
}

/// What Vagrant says of a machine: `==> host1: Booting...`.
fn stage(line: &str) -> Option<(&str, String)> {
    let (host, stage) = line.strip_prefix("==> ")?.split_once(": ")?;
    let stage = stage.trim_end_matches('.');
    // Settings and remarks begin with a dash or a space.
    let plain = stage.starts_with(|c: char| c.is_ascii_uppercase()) && !stage.contains("\u{1b}");
    plain.then(|| (host, format!("vagrant: {}", stage.to_lowercase())))
}

/// There is no Vagrant.
pub(super) fn missing(error: &std::io::Error) -> String {
    format!(
        "cannot run vagrant: {error}\n\
         hint: apt-get install vagrant vagrant-libvirt libvirt-daemon-system dnsmasq-base qemu-utils openssh-client"
    )
}

/// Whether there is one; its version.
///
/// # Errors
/// Why not.
pub(super) async fn version(dir: &Path) -> Result<String, String> {
    let mut command = Command::new("vagrant");
    command
        .arg("--version")
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = spawn::spawn_as_user(command).await.map_err(|e| missing(&e))?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).await.map_err(|e| e.to_string())?;
    }
    match child.wait().await {
        Ok(status) if status.success() => Ok(said.trim().to_owned()),
        Ok(status) => Err(format!("vagrant --version: {status}")),
        Err(e) => Err(missing(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vagrant_does_with_a_machine_is_a_stage() {
        assert_eq!(stage("==> host1: Starting domain."), Some(("host1", "vagrant: starting domain".into())));
        assert_eq!(stage("==> host1:  -- Memory: 512M"), None);
        assert_eq!(stage("    host1: SSH username: vagrant"), None);
    }
}
