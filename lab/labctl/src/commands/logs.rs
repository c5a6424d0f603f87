//! `labctl logs`

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use anstream::adapter::StripBytes;
use labctl_machines::console;
use labctl_state::Runtime;
use labctl_words::plain_lines;

use crate::{
    context::{Context, require_host},
    exit::{Error, Exit},
};

const EXAMPLES: &str = "\
Examples:
  labctl logs ipvlan-2host            what the lab's supervisor did
  labctl logs ipvlan-2host host1      what the host's kernel said; of a machine that exists, what ssh said
  labctl logs ipvlan-2host -f";

/// How often a followed file is read. Two other processes write it, and not every file system reports that.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Show the log of a lab, or the console of a host
///
/// On a terminal without escape sequences and other characters that could steer it; into a pipe or file byte by byte.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Lab, as `labctl ps` names it
    #[arg(value_name = "LAB")]
    lab: String,
    /// Host whose console is meant
    #[arg(value_name = "HOST")]
    host: Option<String>,
    /// Go on until the lab is gone
    #[arg(short, long)]
    follow: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let (dir, plan) = context.lab(&args.lab)?;
    let path = match &args.host {
        None => dir.log(),
        Some(host) => {
            require_host(&plan, host)?;
            // A machine that exists keeps its console to itself.
            if matches!(plan.runtime, Runtime::Ssh | Runtime::Vagrant) {
                dir.ssh_log(host)
            } else {
                dir.console(host)
            }
        }
    };
    let open = || File::open(&path).map_err(Error::file("read", path.display()));
    let mut file = open()?;
    // A long console log is split into two files.
    let mut next = match File::open(console::earlier(&path)) {
        Ok(earlier) => Some(std::mem::replace(&mut file, earlier)),
        Err(_) => None,
    };
    let mut terminal = io::stdout().is_terminal().then(Harmless::default);
    let mut chunk = vec![0; 64 << 10];
    loop {
        // Checked before reading, so that the last words are still read.
        let alive = args.follow && dir.is_alive();
        loop {
            let n = file.read(&mut chunk).map_err(Error::file("read", path.display()))?;
            if n == 0 || context.printer.is_closed() {
                break;
            }
            match &mut terminal {
                Some(harmless) => context.printer.bytes(harmless.show(&chunk[..n]).as_bytes())?,
                None => context.printer.bytes(&chunk[..n])?,
            }
        }
        if let Some(next) = next.take() {
            file = next;
            continue;
        }
        if !alive || context.printer.is_closed() {
            return Ok(Exit::OK);
        }
        if was_put_aside(&file, &path) {
            next = Some(open()?);
            continue;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the log continues in another file.
fn was_put_aside(file: &File, path: &Path) -> bool {
    let id = |m: io::Result<fs::Metadata>| m.map(|m| (m.dev(), m.ino())).ok();
    let there = id(fs::metadata(path));
    there.is_some() && there != id(file.metadata())
}

/// Makes a log safe for a terminal: a guest must not control it.
#[derive(Default)]
struct Harmless {
    strip: StripBytes,
    /// The first bytes of an incomplete character.
    cut: Vec<u8>,
}

impl Harmless {
    fn show(&mut self, bytes: &[u8]) -> String {
        self.cut.extend(self.strip.strip_next(bytes).flatten());
        let whole = match std::str::from_utf8(&self.cut) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => self.cut.len(),
        };
        let text: Vec<u8> = self.cut.drain(..whole).collect();
        plain_lines(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use labctl_words::is_hostile;

    use super::*;

    #[test]
    fn a_console_cannot_steer_the_terminal() {
        let mut harmless = Harmless::default();
        let text = harmless.show(b"\x1b[2Ja\n\tb\x07\x9b31m\xc2\x9b\xe2\x80\xaec");
        assert!(!text.contains(|c| is_hostile(c) && c != '\n'), "{text:?}");
        assert!(text.starts_with("a\n") && text.ends_with('c'), "{text:?}");
        // A character of two bytes that is read in two.
        assert_eq!(harmless.show(b"d\xc3") + &harmless.show(b"\xa9"), "d\u{e9}");
    }
}
