//! `labctl lesson list` and `progress`: which lessons there are, and how far learners are.

use std::path::Path;

use labctl_lesson::Lesson;
use labctl_report::table::Table;
use serde_json::json;

use super::notes::{Ending, LessonNotes};
use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::Format,
};

pub fn list(context: &Context, folder: &Path) -> Result<Exit, Error> {
    let folders = labctl_lesson::list(folder);
    if folders.is_empty() {
        let text = format!("there are no lessons in {}\nhint: say where with --lessons", folder.display());
        return Err(Error::Usage(text));
    }
    let (mut lessons, mut worst) = (Vec::new(), Exit::OK);
    for folder in &folders {
        match Lesson::load(folder) {
            Ok(lesson) => lessons.push(lesson),
            Err(e) => {
                let e = Error::Topology(e);
                context.printer.error(&e);
                worst = worst.max(e.exit());
            }
        }
    }
    let all = LessonNotes::all(&context.dirs)?;
    let state = |lesson: &Lesson| {
        let mut of_it: Vec<&LessonNotes> = all.iter().filter(|n| n.lesson == lesson.id).collect();
        of_it.sort_by_key(|n| (n.is_finished(), n.step));
        of_it.last().map(|n| if n.is_finished() { "done".to_owned() } else { at(n) })
    };
    if context.printer.format == Format::Json {
        let list: Vec<_> = lessons
            .iter()
            .map(|l| {
                json!({ "lesson": l.id, "title": l.title, "minutes": l.minutes, "steps": l.steps.len(), "lab": l.lab.name,
                    "hosts": l.lab.hosts.len(), "state": state(l) })
            })
            .collect();
        context.printer.json(&list)?;
        return Ok(worst);
    }
    let mut table = Table::new(["LESSON", "MINUTES", "HOSTS", "TITLE", "STATE"]);
    for l in &lessons {
        let hosts = l.lab.hosts.len().to_string();
        let state = state(l).unwrap_or_default();
        table.plain_row([l.id.clone(), l.minutes.to_string(), hosts, l.title.clone(), state]);
    }
    context.printer.data(&table.render())?;
    Ok(worst)
}

pub fn progress(context: &Context) -> Result<Exit, Error> {
    let all = LessonNotes::all(&context.dirs)?;
    if context.printer.format == Format::Json {
        context.printer.json(&all)?;
        return Ok(Exit::OK);
    }
    if all.is_empty() {
        context.printer.say("no lesson was begun yet: `labctl lesson start 1`");
        return Ok(Exit::OK);
    }
    let mut table = Table::new(["LAB", "LESSON", "STATE", "REPAIRED", "SHOWN", "HINTS"]);
    for notes in &all {
        let ended = |outcome| notes.steps.iter().filter(|s| s.outcome == Some(outcome)).count().to_string();
        let hints: usize = notes.steps.iter().map(|s| s.hints.len()).sum();
        let state = if notes.is_finished() { "done".to_owned() } else { at(notes) };
        let row =
            [notes.lab.clone(), notes.lesson.clone(), state, ended(Ending::Repaired), ended(Ending::Shown)];
        table.plain_row(row.into_iter().chain([hints.to_string()]));
    }
    context.printer.data(&table.render())?;
    Ok(Exit::OK)
}

fn at(notes: &LessonNotes) -> String {
    format!("step {} of {}", notes.step + 1, notes.steps.len())
}
