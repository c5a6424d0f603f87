//! All output of labctl: data to stdout, the rest to stderr, in whole lines.
//!
//! Text from a guest, Docker or a topology cannot control the terminal. Only [`Printer::bytes`] and
//! [`Printer::error_bytes`] write bytes unchanged: a command's own output, a capture, a man page.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use clap::ValueEnum;
use indicatif::{MultiProgress, ProgressDrawTarget};
pub use labctl_report::style;
use labctl_topology::LoadError;
pub use labctl_words::plain;
use labctl_words::{is_hostile, plain_lines, styled_lines};
use labctl_yaml::Diagnostics;
use serde::Serialize;

use crate::exit::Error;

/// Form of the data on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Writes all output.
#[derive(Debug)]
pub struct Printer {
    /// Form of the data.
    pub format: Format,
    /// Whether tables are shown whole, however wide they are.
    pub wide: bool,
    quiet: bool,
    live: MultiProgress,
    closed: AtomicBool,
}

impl Printer {
    /// Makes a printer. `chatty`: log lines also go to stderr, so nothing may redraw there.
    pub fn new(format: Format, wide: bool, quiet: bool, chatty: bool) -> Self {
        let drawn = io::stderr().is_terminal() && !quiet && !chatty;
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            format,
            wide,
            quiet,
            live: MultiProgress::with_draw_target(target),
            closed: AtomicBool::new(false),
        }
    }

    /// Where progress is drawn.
    pub fn live(&self) -> &MultiProgress {
        &self.live
    }

    /// Whether the reader of stdout has gone: verbs that print without end then stop.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Writes styled text to stdout; adds a line feed if there is none.
    pub fn data(&self, text: &str) -> Result<(), Error> {
        self.line(&styled_lines(text))
    }

    fn line(&self, text: &str) -> Result<(), Error> {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        self.stdout(|out| write!(out, "{text}{end}"))
    }

    /// Writes a value to stdout as indented JSON.
    pub fn json<T: Serialize>(&self, value: &T) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::Environment(format!("cannot write JSON: {e}")))?;
        self.line(&escaped(&text))
    }

    /// Writes a value to stdout as JSON on one line.
    pub fn json_line(&self, value: &serde_json::Value) -> Result<(), Error> {
        self.line(&escaped(&value.to_string()))
    }

    /// Writes a text without hostile characters to a file, or to stdout, which `-` means too.
    pub fn document(&self, text: &str, file: Option<&Path>) -> Result<(), Error> {
        match file.filter(|file| *file != "-") {
            Some(file) => std::fs::write(file, text).map_err(Error::file("write", file.display())),
            None => self.line(text),
        }
    }

    /// Writes bytes to stdout as they are.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        self.checked(io::stdout().lock(), |out| out.write_all(bytes))
    }

    /// Writes bytes to stderr as they are: the stderr of a command that runs elsewhere.
    pub fn error_bytes(&self, bytes: &[u8]) {
        self.live.suspend(|| {
            let mut err = io::stderr().lock();
            let _ = err.write_all(bytes).and_then(|()| err.flush());
        });
    }

    fn stdout(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
        self.checked(anstream::stdout().lock(), write)
    }

    fn checked(
        &self,
        mut out: impl Write,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        if self.is_closed() {
            return Ok(());
        }
        match self.live.suspend(|| write(&mut out).and_then(|()| out.flush())) {
            // `labctl check lab | head` still ends with the check's exit status.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            done => done.map_err(Error::file("write", "stdout")),
        }
    }

    /// Writes a line to stderr, unless `-q` is given.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.stderr(&plain_lines(text));
        }
    }

    /// Writes a warning to stderr.
    pub fn warn(&self, text: &str) {
        let s = style::CAUTION;
        self.stderr(&format!("{s}warning:{s:#} {}", hints(&plain_lines(text))));
    }

    /// Writes an error to stderr.
    pub fn error(&self, error: &Error) {
        let s = style::BAD;
        match error {
            // Already a whole diagnostic, with the line and its marks.
            Error::Topology(LoadError::Invalid(mistakes)) => self.stderr(&mistakes.render(true)),
            Error::Runtime(labctl_runtime::Error::Machines(labctl_machines::Error::Lacks(needs))) => {
                self.stderr(&needs.render(true))
            }
            Error::Runtime(labctl_runtime::Error::Machines(labctl_machines::Error::Machines(
                labctl_state::MachinesError::Invalid(mistakes),
            ))) => self.stderr(&mistakes.render(true)),
            e => self.stderr(&format!("{s}error:{s:#} {}", hints(&plain_lines(&e.to_string())))),
        }
    }

    /// Prints warnings, in the form of errors.
    pub fn warnings(&self, warnings: &Diagnostics) {
        self.stderr(&warnings.render(true));
    }

    fn stderr(&self, text: &str) {
        self.live.suspend(|| {
            let mut err = anstream::stderr().lock();
            // If stderr is gone, nobody can be told.
            let _ = writeln!(err, "{}", text.trim_end()).and_then(|()| err.flush());
        });
    }
}

/// The same JSON with every character that controls a terminal written as an escape. Outside of strings, only the line
/// feeds of the indentation are such.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hostile(c) && c != '\n' {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Writes log events to stderr, each on one line.
#[derive(Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    /// Takes a whole event, as `tracing-subscriber` writes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = styled_lines(&String::from_utf8_lossy(event));
        let line = text.trim_end().replace('\n', " ");
        io::stderr().lock().write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Emphasizes the beginnings of hint lines.
fn hints(text: &str) -> String {
    let h = style::HINT;
    text.lines()
        .map(|line| match line.trim_start().strip_prefix("hint:") {
            Some(rest) => format!("  {h}hint:{h:#}{rest}"),
            None => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_stand_out_and_stay_on_their_lines() {
        let text = anstream::adapter::strip_str(&hints("no lab `x`\nhint: see `labctl ps`")).to_string();
        assert_eq!(text, "no lab `x`\n  hint: see `labctl ps`");
    }

    #[test]
    fn json_stays_what_it_is_and_steers_nothing() {
        let value = serde_json::json!({ "name": "a\u{202e}b\u{9b}\u{7f}\u{e0041}\x1b", "n": [1] });
        let text = escaped(&serde_json::to_string_pretty(&value).unwrap_or_default());
        assert!(!text.contains(|c| is_hostile(c) && c != '\n'), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(value));
    }
}
