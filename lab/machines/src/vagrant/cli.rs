//! The command line of Vagrant.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use labctl_state::{LabDir, Process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    time::timeout,
};

use super::INSTALL;
use crate::{Events, spawn};

/// How long Vagrant may take for all machines of a lab: it copies the box, and an emulated machine takes its time to boot.
const LIMIT: Duration = Duration::from_secs(1200);
/// Limit for its version.
const LOOK: Duration = Duration::from_secs(60);
/// Lines of its errors that an error shows.
const LINES: usize = 12;

/// Vagrant, in the folder of a lab's Vagrantfile.
#[derive(Clone, Debug)]
pub(super) struct Vagrant {
    /// The lab's folder.
    lab: LabDir,
    /// The folder.
    pub dir: PathBuf,
}

impl Vagrant {
    /// For the lab of this folder.
    pub fn in_lab(lab: &LabDir) -> Self {
        Self { dir: lab.path().join("vagrant"), lab: lab.clone() }
    }

    /// Its words, for people who ask what went wrong.
    pub fn log(&self) -> PathBuf {
        self.dir.join("vagrant.log")
    }

    /// Runs it with these arguments and returns what it printed. Tells what it does with which machine.
    ///
    /// # Errors
    /// Its last words.
    pub async fn run(&self, arguments: &[&str], events: Option<&Events>) -> Result<String, String> {
        let mut command = Command::new("vagrant");
        command.args(arguments).current_dir(&self.dir);
        // Nothing may ask the internet or the user.
        command.env("VAGRANT_CHECKPOINT_DISABLE", "1").env("VAGRANT_BOX_UPDATE_CHECK_DISABLE", "1");
        command
            .env_remove("VAGRANT_VAGRANTFILE")
            .env_remove("VAGRANT_CWD")
            .env_remove("VAGRANT_DOTFILE_PATH");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn::spawn_as_user(command).await.map_err(|e| missing(&e))?;
        // If we are killed, `down` ends it; what it was making is found by name.
        let process = child.id().and_then(|pid| Process::observe(pid, "vagrant"));
        process.map_or(Ok(()), |p| self.lab.record(&p)).map_err(|e| e.to_string())?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("vagrant has no output".to_owned());
        };
        let (mut said, mut errors) = (Vec::new(), Vec::new());
        let work = async {
            let out = self.lines(stdout, |line| {
                if let (Some(events), Some((host, stage))) = (events, stage(&line)) {
                    events.host(host, stage);
                }
                said.push(line);
            });
            let err = self.lines(stderr, |line| errors.push(line));
            tokio::try_join!(out, err)?;
            child.wait().await
        };
        let command = format!("vagrant {}", arguments.join(" "));
        match timeout(LIMIT, work).await {
            Err(_) => Err(format!("{command}: not done after {} min", LIMIT.as_secs() / 60)),
            Ok(Err(e)) => Err(format!("{command}: {e}")),
            Ok(Ok(status)) if status.success() => Ok(said.join("\n")),
            Ok(Ok(status)) => Err(format!("{command}: {status}\n  {}", last_words(&errors))),
        }
    }

    /// Passes each line to `take`, and to the log. A progress bar overwrites itself: its last state counts.
    async fn lines(&self, from: impl AsyncRead + Unpin, mut take: impl FnMut(String)) -> io::Result<()> {
        let mut log = fs::File::options().append(true).create(true).open(self.log())?;
        let (mut lines, mut line) = (BufReader::new(from), Vec::new());
        while lines.read_until(b'\n', &mut line).await? > 0 {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end().rsplit('\r').next().unwrap_or_default().trim_start_matches("\u{1b}[K");
            writeln!(log, "{text}")?;
            take(text.to_owned());
            line.clear();
        }
        Ok(())
    }
}

/// What people can use of Vagrant's errors: not where in its sources it was.
fn last_words(errors: &[String]) -> String {
    let plain = |line: &&String| !line.trim().is_empty() && !line.contains(".rb:");
    let lines: Vec<&str> = errors.iter().filter(plain).map(String::as_str).collect();
    let text = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    text.chars().filter(|c| *c == '\n' || !labctl_words::is_hostile(*c)).collect()
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
         hint: {INSTALL}"
    )
}

/// Whether there is one.
///
/// # Errors
/// Why not.
pub(super) async fn is_there() -> Result<(), String> {
    let mut command = Command::new("vagrant");
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawn::spawn_as_user(command).await.map_err(|e| missing(&e))?;
    match timeout(LOOK, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("vagrant --version: {status}")),
        Ok(Err(e)) => Err(missing(&e)),
        Err(_) => Err(format!("vagrant --version: no answer within {} s", LOOK.as_secs())),
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
