//! What a learner does: from `start` to `next`.

use std::path::Path;

use labctl_lesson::{Act, LAB, Lesson, Step, choose};
use labctl_render::markdown;
use labctl_report::{Report, text};
use labctl_runtime::{UpOptions, teardown};
use labctl_state::LabDir;
use serde_json::json;

use super::notes::{Ending, LessonNotes, StepNotes};
use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::{Format, style},
    progress::Progress,
    session::{self, Manner},
    stop::Stop,
    sys,
    topology::{TopologyFile, shorten},
};

/// Columns of a terminal whose size is not known.
const COLUMNS: usize = 80;

/// A lesson that is being learnt: the lesson, the lab, and what the learner has done.
struct Desk<'a> {
    context: &'a Context,
    lesson: Lesson,
    notes: LessonNotes,
}

pub async fn start(
    context: &Context,
    folder: &Path,
    name: Option<String>,
    again: bool,
    manner: Manner,
) -> Result<Exit, Error> {
    let lesson = Lesson::load(folder)?;
    let shown = shorten(&lesson.topology);
    let path = std::path::absolute(&lesson.topology).map_err(Error::file("use", &shown))?;
    let (lab, places) = (lesson.lab.clone(), lesson.places.clone());
    let mut topology = TopologyFile { path, shown, lab, places, notes: Vec::new() };
    if let Some(name) = name {
        topology.rename(name)?;
    }
    let lab = &topology.lab.name;
    let before = LessonNotes::find(&context.dirs, Some(lab))?;
    if labctl_state::list(&context.dirs)?.iter().any(|dir| dir.name() == lab && dir.is_alive()) {
        let hint = match &before {
            Some(notes) if notes.lesson == lesson.id && notes.is_finished() => format!(
                "the lesson is done; `labctl down {lab}`, then `labctl lesson start --again` begins it anew"
            ),
            Some(notes) if notes.lesson == lesson.id => {
                format!("`labctl lesson show {lab}` shows the step that you are at")
            }
            _ => format!(
                "`--name NAME` gives the lab another name, `labctl down {lab}` takes the old one down"
            ),
        };
        return Err(Error::Usage(format!("lab `{lab}` is up already\nhint: {hint}")));
    }
    let (mut progress, mut stop) = (Progress::new(&context.printer, lab), Stop::new()?);
    let manner = Manner { checkpoint: manner.checkpoint.or(Some(true)), ..manner };
    let dir = session::bring_up(context, &topology, &manner, &mut progress, &mut stop).await?;
    let resumes = before.filter(|n| n.lesson == lesson.id && !n.is_finished() && !again);
    let mut notes = match resumes {
        Some(notes) => notes,
        None => LessonNotes::new(&lesson, lab)?,
    };
    notes.steps.resize(lesson.steps.len(), StepNotes::default());
    notes.step = notes.step.min(lesson.steps.len() - 1);
    let desk = Desk { context, lesson, notes };
    desk.notes.save(&context.dirs)?;
    replay(&desk.lesson, &dir, desk.notes.step, &mut progress, &mut stop).await?;
    drop(progress);
    desk.show()?;
    Ok(Exit::OK)
}

pub fn show(context: &Context, lab: Option<String>) -> Result<Exit, Error> {
    Desk::find(context, lab)?.show()?;
    Ok(Exit::OK)
}

pub async fn check(context: &Context, lab: Option<String>) -> Result<Exit, Error> {
    let mut desk = Desk::find(context, lab)?;
    if desk.step().check.is_empty() {
        match context.printer.format {
            Format::Json => context.printer.json(&json!({ "holds": true }))?,
            Format::Text => {
                context.printer.say("there is nothing to repair in this step: `labctl lesson next`")
            }
        }
        return Ok(Exit::OK);
    }
    let found = desk.attempt().await?;
    desk.close(&found)
}

pub async fn hint(context: &Context, lab: Option<String>) -> Result<Exit, Error> {
    let mut desk = Desk::find(context, lab)?;
    let chosen = match desk.step().check.is_empty() {
        true => None,
        false => {
            let found = desk.verify().await?;
            choose(&desk.step().hints, &found.checks, &desk.notes.steps[desk.notes.step].hints)
        }
    };
    let Some(chosen) = chosen else {
        match context.printer.format {
            Format::Json => context.printer.json(&json!({ "hint": null }))?,
            Format::Text => {
                context.printer.say("nothing is wrong here: `labctl lesson check`, then `labctl lesson next`")
            }
        }
        return Ok(Exit::OK);
    };
    let old = desk.notes.steps[desk.notes.step].hints.contains(&chosen);
    if !old {
        desk.noted().hints.push(chosen);
        desk.notes.save(&context.dirs)?;
    }
    let say = desk.filled(&desk.step().hints[chosen].say);
    match context.printer.format {
        Format::Json => context.printer.json(&json!({ "hint": say }))?,
        Format::Text => context.printer.data(&rendered(&say))?,
    }
    if old {
        context
            .printer
            .say("there is no further hint for what the lab shows; `labctl lesson solve` shows a repair");
    }
    Ok(Exit::OK)
}

pub async fn solve(context: &Context, lab: Option<String>) -> Result<Exit, Error> {
    let mut desk = Desk::find(context, lab)?;
    if desk.step().check.is_empty() {
        return Err(Error::Usage(
            "there is nothing to repair in this step\nhint: `labctl lesson next`".to_owned(),
        ));
    }
    let dir = desk.dir()?;
    let (mut progress, mut stop) = (Progress::new(&context.printer, &desk.notes.lab), Stop::new()?);
    rewind(context, &desk.lesson, &dir, desk.notes.step, &mut progress, &mut stop).await?;
    let commands: Vec<String> = desk.step().solve.iter().map(|act| act.command(&desk.notes.lab)).collect();
    run(&desk.step().solve, &dir, &mut progress, &mut stop).await?;
    let found = session::verify(&dir, desk.step().check.clone(), &mut progress, &mut stop).await?;
    drop(progress);
    desk.ended(&found, Ending::Shown);
    desk.notes.save(&context.dirs)?;
    if context.printer.format == Format::Json {
        context.printer.json(&json!({ "commands": commands, "report": found }))?;
        return Ok(Exit::holds(found.holds));
    }
    let s = style::HINT.bold();
    let shown: String = commands.iter().map(|command| format!("    {s}$ {command}{s:#}\n")).collect();
    context
        .printer
        .data(&format!("One way to repair it, done from the beginning of the step:\n\n{shown}\n"))?;
    desk.tell(&found)?;
    Ok(Exit::holds(found.holds))
}

pub async fn reset(context: &Context, lab: Option<String>) -> Result<Exit, Error> {
    let desk = Desk::find(context, lab)?;
    let dir = desk.dir()?;
    let (mut progress, mut stop) = (Progress::new(&context.printer, &desk.notes.lab), Stop::new()?);
    rewind(context, &desk.lesson, &dir, desk.notes.step, &mut progress, &mut stop).await?;
    drop(progress);
    desk.notes.save(&context.dirs)?;
    let (lab, step) = (&desk.notes.lab, desk.notes.step + 1);
    match context.printer.format {
        Format::Json => context.printer.json(&json!({ "lab": lab, "step": step }))?,
        Format::Text => context.printer.say(&format!("lab {lab} is at the beginning of step {step}")),
    }
    Ok(Exit::OK)
}

pub async fn next(context: &Context, lab: Option<String>) -> Result<Exit, Error> {
    let mut desk = Desk::find(context, lab)?;
    let dir = desk.dir()?;
    if desk.notes.steps[desk.notes.step].outcome.is_none() {
        if desk.step().check.is_empty() {
            desk.noted().outcome = Some(Ending::Read);
        } else {
            let found = desk.attempt().await?;
            if !found.holds {
                return desk.close(&found);
            }
        }
    }
    if desk.notes.step + 1 == desk.lesson.steps.len() {
        desk.notes.save(&context.dirs)?;
        match context.printer.format {
            Format::Json => context.printer.json(&json!({ "finished": true }))?,
            Format::Text => context.printer.say(&format!(
                "lesson {} is done\nhint: `labctl down {}` takes its lab down, `labctl lesson list` shows what there is",
                desk.lesson.id, desk.notes.lab
            )),
        }
        return Ok(Exit::OK);
    }
    let (mut progress, mut stop) = (Progress::new(&context.printer, &desk.notes.lab), Stop::new()?);
    desk.notes.step += 1;
    if let Err(error) = run(&desk.step().breaks, &dir, &mut progress, &mut stop).await {
        if matches!(error, Error::Interrupted) || session::is_taken_down(&error) {
            return Err(error);
        }
        // The learner's own repair is another than the lesson's, and the next step builds on that.
        progress.phase("making the lab what this step needs");
        rewind(context, &desk.lesson, &dir, desk.notes.step, &mut progress, &mut stop).await?;
    }
    drop(progress);
    desk.notes.save(&context.dirs)?;
    desk.show()?;
    Ok(Exit::OK)
}

impl<'a> Desk<'a> {
    /// The lesson of this lab, or of the one that was used last.
    fn find(context: &'a Context, lab: Option<String>) -> Result<Self, Error> {
        let Some(mut notes) = LessonNotes::find(&context.dirs, lab.as_deref())? else {
            let message = match lab {
                Some(lab) => {
                    format!("lab `{lab}` is no lab of a lesson\nhint: `labctl lesson progress` lists them")
                }
                None => "no lesson was begun yet\nhint: `labctl lesson start 1`".to_owned(),
            };
            return Err(Error::Usage(message));
        };
        let lesson = Lesson::load(&notes.folder)?;
        // It may have been edited.
        notes.steps.resize(lesson.steps.len(), StepNotes::default());
        notes.step = notes.step.min(lesson.steps.len() - 1);
        Ok(Self { context, lesson, notes })
    }

    fn step(&self) -> &Step {
        &self.lesson.steps[self.notes.step]
    }

    fn noted(&mut self) -> &mut StepNotes {
        &mut self.notes.steps[self.notes.step]
    }

    /// The folder of the lab, which must be up.
    fn dir(&self) -> Result<LabDir, Error> {
        let lab = &self.notes.lab;
        match self.context.lab(lab) {
            Ok((dir, _)) => Ok(dir),
            Err(Error::Runtime(labctl_runtime::Error::State(labctl_state::Error::NoSuchLab { .. }))) => {
                let start = format!("labctl lesson start {} --name {lab}", self.notes.lesson);
                Err(Error::Usage(format!(
                    "lab `{lab}` is not up\nhint: `{start}` goes on with the step that you were at"
                )))
            }
            Err(e) => Err(e),
        }
    }

    /// Runs the step's checks.
    async fn verify(&self) -> Result<Report, Error> {
        let dir = self.dir()?;
        let (mut progress, mut stop) = (Progress::new(&self.context.printer, &self.notes.lab), Stop::new()?);
        session::verify(&dir, self.step().check.clone(), &mut progress, &mut stop).await
    }

    /// Checks the step, and notes that it was.
    async fn attempt(&mut self) -> Result<Report, Error> {
        let found = self.verify().await?;
        self.noted().checks += 1;
        self.ended(&found, Ending::Repaired);
        Ok(found)
    }

    /// Saves the notes, and tells what was found.
    fn close(&self, found: &Report) -> Result<Exit, Error> {
        self.notes.save(&self.context.dirs)?;
        self.tell(found)?;
        Ok(Exit::holds(found.holds))
    }

    /// LessonNotes how the step ended, if it holds and did not end before.
    fn ended(&mut self, found: &Report, outcome: Ending) {
        if found.holds {
            self.noted().outcome.get_or_insert(outcome);
        }
    }

    /// A text with the lab's name.
    fn filled(&self, text: &str) -> String {
        text.replace(LAB, &self.notes.lab)
    }

    /// Prints the text of the step.
    fn show(&self) -> Result<(), Error> {
        let (step, of) = (self.notes.step + 1, self.lesson.steps.len());
        let text = self.filled(self.step().text.before());
        let printer = &self.context.printer;
        if printer.format == Format::Json {
            return printer
                .json(&json!({ "lesson": self.lesson.id, "title": self.lesson.title, "lab": self.notes.lab,
                "step": step, "of": of, "step_title": self.step().title, "text": text }));
        }
        let (dim, head) = (style::DIM, style::HEAD);
        let title = format!(
            "{dim}{}  step {step} of {of}{dim:#}  {head}{}{head:#}",
            self.lesson.title,
            self.step().title
        );
        let what = match self.step().check.is_empty() {
            true => "Go on with `labctl lesson next`.",
            false => "`labctl lesson check` says whether it is repaired, `labctl lesson hint` helps.",
        };
        printer.data(&format!("{title}\n\n{}\n{dim}{what}{dim:#}\n", rendered(&text)))
    }

    /// Prints what was found and, if it holds, the second part of the text.
    fn tell(&self, found: &Report) -> Result<(), Error> {
        let printer = &self.context.printer;
        if printer.format == Format::Json {
            return printer.json(found);
        }
        let file = shorten(&self.lesson.folder.join(labctl_lesson::FILE));
        printer.data(&text::text(found, &file, printer.wide))?;
        if !found.holds {
            printer.say("not yet; `labctl lesson hint` helps");
            return Ok(());
        }
        let after = self.filled(self.step().text.after());
        if !after.is_empty() {
            printer.data(&format!("\n{}", rendered(&after)))?;
        }
        printer.say("done: go on with `labctl lesson next`");
        Ok(())
    }
}

/// Does these actions in a lab.
pub async fn run(
    acts: &[Act],
    dir: &LabDir,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<(), Error> {
    for act in acts {
        session::act(dir, act.action.clone(), progress, stop).await?;
    }
    Ok(())
}

/// Does in a lab that has just come up what makes it that of the beginning of a step.
async fn replay(
    lesson: &Lesson,
    dir: &LabDir,
    step: usize,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<(), Error> {
    for (index, s) in lesson.steps.iter().take(step + 1).enumerate() {
        run(&s.breaks, dir, progress, stop).await?;
        if index < step {
            run(&s.solve, dir, progress, stop).await?;
        }
    }
    Ok(())
}

/// Makes a lab what it is at the beginning of a step, with the steps before it solved as the lesson solves them: from the
/// checkpoint of the end of `up`, or, if there is none, anew.
pub async fn rewind(
    context: &Context,
    lesson: &Lesson,
    dir: &LabDir,
    step: usize,
    progress: &mut Progress<'_>,
    stop: &mut Stop,
) -> Result<(), Error> {
    match session::reset(dir, None, stop).await {
        Ok(()) => {}
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            tracing::info!("made anew, since it could not be reset: {error}");
            let plan = dir.plan()?;
            let options = UpOptions {
                lab: plan.lab,
                topology: plan.topology,
                runtime: plan.runtime,
                cold: plan.cold,
                keep: false,
                origin: plan.origin,
                machines: plan.machines,
                agent: plan.agent,
            };
            teardown::down(&context.dirs, dir.name()).await?;
            session::begin(context, options, progress, stop).await?;
        }
    }
    replay(lesson, dir, step, progress, stop).await
}

/// Markdown as the terminal shows it.
fn rendered(markdown: &str) -> String {
    let columns = sys::terminal_size().map_or(COLUMNS, |(_, columns)| usize::from(columns));
    markdown::render(markdown, columns)
}
