//! Progress of one lab: one spinner per host on a terminal, else plain lines.

use std::{collections::HashMap, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use labctl_machines::{Event, Events};

use crate::printer::{Printer, plain};

/// Shows the events of one lab until it is dropped.
pub struct Progress<'a> {
    printer: &'a Printer,
    lab: String,
    head: ProgressBar,
    hosts: HashMap<String, ProgressBar>,
}

impl<'a> Progress<'a> {
    /// Begins to show a lab.
    pub fn new(printer: &'a Printer, lab: &str) -> Self {
        let head = bar(printer, lab);
        Self { printer, lab: lab.to_owned(), head, hosts: HashMap::new() }
    }

    /// Shows one event.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Phase(text) => self.phase(text),
            Event::Host { host, stage } => self.host(host, stage),
            Event::Step { .. } => self.phase(&event.to_string()),
            Event::Note(_) => self.printer.say(&format!("{}: {}", self.lab, plain(&event.to_string()))),
        }
    }

    /// Does something long in this process and shows its events as they happen.
    pub async fn showing<T>(&mut self, work: impl AsyncFnOnce(&Events) -> T) -> T {
        Events::told(work, |event| self.event(&event)).await
    }

    /// Shows that a phase began.
    pub fn phase(&mut self, text: &str) {
        let text = plain(text);
        if self.is_drawn() {
            self.head.set_message(text);
        } else {
            self.printer.say(&format!("{}: {text}", self.lab));
        }
    }

    fn host(&mut self, host: &str, stage: &str) {
        let stage = plain(stage);
        if !self.is_drawn() {
            return self.printer.say(&format!("{}: {host}: {stage}", self.lab));
        }
        let printer = self.printer;
        self.hosts
            .entry(host.to_owned())
            .or_insert_with(|| bar(printer, &format!("  {host}")))
            .set_message(stage);
    }

    fn is_drawn(&self) -> bool {
        !self.printer.live().is_hidden()
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        for bar in self.hosts.values().chain([&self.head]) {
            bar.finish_and_clear();
            self.printer.live().remove(bar);
        }
    }
}

fn bar(printer: &Printer, prefix: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix}  {wide_msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = printer.live().add(ProgressBar::new_spinner().with_style(style).with_prefix(prefix.to_owned()));
    if !printer.live().is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    bar
}
