//! The way to a machine: the user's own ssh(1), with the user's configuration, keys, agent and jump hosts.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use labctl_state::SshMachine;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// Options of every call. It must never ask, and nothing of the user's sessions may get into it.
const OPTIONS: [&str; 9] = [
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "RemoteCommand=none",
    "RequestTTY=no",
];

/// Limit for a command that only looks.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// The way to one machine.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// The host that it is in the lab.
    pub host: String,
    machine: SshMachine,
    /// The socket of the connection that all calls share, once it is open.
    control: Option<PathBuf>,
}

impl Way {
    /// A way with a connection for each call.
    pub fn new(host: &str, machine: &SshMachine) -> Self {
        Self { host: host.to_owned(), machine: machine.clone(), control: None }
    }

    /// The same way with one connection for all calls, whose socket is here.
    pub fn sharing(mut self, control: &Path) -> Self {
        self.control = Some(control.to_owned());
        self
    }

    /// ssh with these further options, and no command yet.
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-T");
        if let Some(config) = &self.machine.config {
            command.arg("-F").arg(config);
        }
        for option in OPTIONS.iter().chain(options) {
            command.args(["-o", option]);
        }
        match &self.control {
            // `%` has a meaning there (ssh_config(5), "TOKENS").
            Some(path) => {
                let path = path.display().to_string().replace('%', "%%");
                command.arg("-o").arg(format!("ControlPath={path}"))
            }
            None => command.args(["-o", "ControlPath=none"]),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }

    /// ssh with a script for the machine's sh.
    pub fn script(&self, script: &str) -> Command {
        let mut command = self.ssh(&["ControlMaster=no"]);
        command.arg("--").arg(&self.machine.ssh).arg(sh(script));
        command
    }

    /// ssh without a command.
    pub fn bare(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.ssh(options);
        command.args(arguments).arg("--").arg(&self.machine.ssh);
        command
    }

    /// Runs a script there and returns its stdout.
    ///
    /// # Errors
    /// What ssh, or the script, has to say.
    pub async fn run(&self, script: &str, input: Option<Vec<u8>>, limit: Duration) -> Result<String, String> {
        let mut command = self.script(script);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| no_ssh(&e))?;
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // One that stops reading says why by its status.
                let _ = stdin.write_all(&input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let ended = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = match timeout(limit, ended).await {
            Err(_) => return Err(format!("no answer within {} s", limit.as_secs())),
            Ok(output) => output.map_err(|e| e.to_string())?,
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(said(&String::from_utf8_lossy(&output.stderr), &output.status.to_string()))
    }
}

/// A script as one word for whatever shell the user has there.
fn sh(script: &str) -> String {
    format!("exec sh -c '{}'", script.replace('\'', r"'\''"))
}

/// The words of ssh in one line; `otherwise` if it has none.
pub(super) fn said(stderr: &str, otherwise: &str) -> String {
    let clean = |line: &str| line.chars().filter(|c| !labctl_words::is_hostile(*c)).collect::<String>();
    let lines: Vec<String> = stderr.lines().map(|l| clean(l.trim())).filter(|l| !l.is_empty()).collect();
    match lines.len() {
        0 => otherwise.to_owned(),
        n => lines[n.saturating_sub(3)..].join("; "),
    }
}

/// There is no ssh.
pub(super) fn no_ssh(error: &std::io::Error) -> String {
    format!("cannot run ssh: {error}\nhint: apt-get install openssh-client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_one_word_in_any_shell() {
        assert_eq!(sh("echo 'a b'"), r"exec sh -c 'echo '\''a b'\'''");
    }

    #[test]
    fn the_last_words_of_ssh_are_told_without_control_characters() {
        assert_eq!(said("", "exit status: 255"), "exit status: 255");
        assert_eq!(said("a\nb\n\nc\u{1b}[0m\r\nd\n", ""), "b; c[0m; d");
    }
}
