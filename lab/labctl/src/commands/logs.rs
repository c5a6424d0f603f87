//! `labctl logs`

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    time::Duration,
};

use anstream::adapter::StripBytes;

use crate::{
    context::{Context, require_host},
    exit::{Error, Exit},
};

const EXAMPLES: &str = "\
Examples:
  labctl logs ipvlan-2host            what the lab's supervisor did
  labctl logs ipvlan-2host host1      what the host's kernel said
  labctl logs ipvlan-2host -f";

/// How often a followed file is looked at. It has two writers elsewhere, and no event says so on every file system.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Show the log of a lab, or the console of a host
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
            dir.console(host)
        }
    };
    let mut file = File::open(&path).map_err(|source| Error::File {
        what: "read",
        path: path.display().to_string(),
        source,
    })?;
    let mut strip = io::stdout().is_terminal().then(StripBytes::new);
    let mut chunk = vec![0; 64 << 10];
    loop {
        // Asked before the reading, so that the last words are still read.
        let alive = args.follow && dir.is_alive();
        loop {
            let n = file.read(&mut chunk).map_err(Error::file("read", path.display()))?;
            if n == 0 || context.printer.is_closed() {
                break;
            }
            context.printer.bytes(&harmless(&mut strip, &chunk[..n]))?;
        }
        if !alive || context.printer.is_closed() {
            return Ok(Exit::OK);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a terminal may see of it: a guest must not steer it.
fn harmless(strip: &mut Option<StripBytes>, bytes: &[u8]) -> Vec<u8> {
    let Some(strip) = strip else { return bytes.to_vec() };
    strip.strip_next(bytes).flatten().copied().filter(|b| *b >= b' ' || matches!(b, b'\n' | b'\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_cannot_steer_the_terminal() {
        let mut strip = Some(StripBytes::new());
        assert_eq!(harmless(&mut strip, b"\x1b[2Ja\r\n\tb\x07"), b"a\n\tb");
        assert_eq!(harmless(&mut None, b"\x1b[2J"), b"\x1b[2J");
    }
}
