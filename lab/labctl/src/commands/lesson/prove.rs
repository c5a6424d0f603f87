//! `labctl lesson test`: proves lessons.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use labctl_lesson::{LAB, Lesson, Step, Typed, choose, fits};
use labctl_report::{Report, VERSION, count, duration, text};
use labctl_state::LabDir;
use serde::Serialize;

use super::learn;
use crate::{
    context::{Context, own_exe},
    exit::{Error, Exit},
    printer::{Format, style},
    progress::Progress,
    session::{self, Manner},
    stop::Stop,
    topology::{TopologyFile, shorten},
};

/// What to prove, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Lessons, or folders of them
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    #[command(flatten)]
    manner: Manner,
    /// Write what commands print into the texts, where these say something else
    #[arg(long)]
    update: bool,
    /// Take a lesson's lab down that is not through after so long, like `90s` or `20min`
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// What came of one lesson.
#[derive(Debug, Serialize)]
struct Proof {
    lesson: String,
    holds: bool,
    took_ms: u128,
    /// What is wrong, in words; empty if it holds.
    wrong: Vec<String>,
    #[serde(skip)]
    steps: usize,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Serialize)]
struct Summary {
    version: u32,
    holds: bool,
    passed: usize,
    failed: usize,
    lessons: Vec<Proof>,
}

pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let mut lessons = Vec::new();
    for folder in &args.folders {
        let inside = labctl_lesson::list(folder);
        let folders = if inside.is_empty() { vec![folder.clone()] } else { inside };
        // All of them are read before the first lab is made.
        for folder in folders {
            lessons.push(Lesson::load(&folder)?);
        }
    }
    let width = lessons.iter().map(|l| l.id.len()).max().unwrap_or(0);
    let mut proofs = Vec::new();
    for lesson in lessons {
        let proof = prove(context, &lesson, &args).await?;
        tell(context, &proof, width)?;
        proofs.push(proof);
    }
    let passed = proofs.iter().filter(|p| p.holds).count();
    let (failed, worst) = (proofs.len() - passed, proofs.iter().map(|p| p.exit).max().unwrap_or(Exit::OK));
    match context.printer.format {
        Format::Json => {
            let summary = Summary { version: VERSION, holds: failed == 0, passed, failed, lessons: proofs };
            context.printer.json(&summary)?;
        }
        Format::Text => {
            let s = if failed == 0 { style::GOOD } else { style::BAD };
            context.printer.data(&format!("\n{s}{passed} passed, {failed} failed{s:#}"))?;
        }
    }
    Ok(worst)
}

fn tell(context: &Context, proof: &Proof, width: usize) -> Result<(), Error> {
    if context.printer.format == Format::Json {
        return Ok(());
    }
    let (s, word) = if proof.holds { (style::GOOD, "ok   ") } else { (style::BAD, "wrong") };
    let took = duration(Duration::from_millis(u64::try_from(proof.took_ms).unwrap_or(u64::MAX)));
    let steps = count(proof.steps, "step");
    let wrong: String = proof.wrong.iter().flat_map(|w| w.lines()).map(|l| format!("       {l}\n")).collect();
    context.printer.data(&format!("{s}{word}{s:#}  {:width$}  {steps}  ({took})\n{wrong}", proof.lesson))
}

/// Brings the lab of a lesson up, goes through all steps, and takes it down.
async fn prove(context: &Context, lesson: &Lesson, args: &Args) -> Result<Proof, Error> {
    let began = Instant::now();
    let shown = shorten(&lesson.topology);
    let path = std::path::absolute(&lesson.topology).map_err(Error::file("use", &shown))?;
    let (lab, places) = (lesson.lab.clone(), lesson.places.clone());
    let topology = TopologyFile { path, shown, lab, places, notes: Vec::new() };
    let manner = Manner { checkpoint: args.manner.checkpoint.or(Some(true)), ..args.manner.clone() };
    let (mut progress, mut stop) = (Progress::new(&context.printer, &topology.lab.name), Stop::new()?);
    let mut wrong = Vec::new();
    let through = tokio::time::timeout(args.timeout, async {
        let dir = session::bring_up(context, &topology, &manner, &mut progress, &mut stop).await?;
        let trial = Trial { context, lesson, dir: &dir, update: args.update };
        let ended = trial.run(&mut wrong, &mut progress, &mut stop).await;
        Ok::<_, Error>((dir, ended))
    });
    let (dir, ended) = match through.await {
        // A lab that did not come up is down already.
        Ok(Err(e)) => (None, Err(e)),
        Ok(Ok((dir, ended))) => (Some(dir), ended),
        Err(_) => {
            let late = Error::Environment(format!("it is not through after {}", duration(args.timeout)));
            (Some(LabDir::of(&context.dirs, &topology.lab.name)), Err(late))
        }
    };
    if let Some(dir) = dir.filter(|_| !manner.keep && !ended.as_ref().is_err_and(session::is_taken_down)) {
        session::clear(context, &dir, &mut progress, &mut stop).await;
    }
    drop(progress);
    let exit = match ended {
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(e) => {
            wrong.push(e.to_string());
            e.exit()
        }
        Ok(()) => Exit::holds(wrong.is_empty()),
    };
    let (took_ms, steps) = (began.elapsed().as_millis(), lesson.steps.len());
    Ok(Proof { lesson: lesson.id.clone(), holds: wrong.is_empty(), took_ms, wrong, steps, exit })
}

/// A lesson whose lab is up, while it is proved.
struct Trial<'a> {
    context: &'a Context,
    lesson: &'a Lesson,
    dir: &'a LabDir,
    update: bool,
}

impl Trial<'_> {
    /// Goes through all steps and notes what is wrong. A step that cannot be solved ends it.
    async fn run(
        &self,
        wrong: &mut Vec<String>,
        progress: &mut Progress<'_>,
        stop: &mut Stop,
    ) -> Result<(), Error> {
        for (index, step) in self.lesson.steps.iter().enumerate() {
            progress.phase(&format!("step {}: {}", index + 1, step.title));
            let mut note = |what: String| wrong.push(format!("step {}, {what}", index + 1));
            learn::run(&step.breaks, self.dir, progress, stop).await?;
            self.broken(step, &mut note, progress, stop).await?;
            let (before, after) = step.text.typed();
            let mut edits = self.type_all(step, &before, &mut note, stop).await?;
            if !step.check.is_empty() {
                learn::run(&step.solve, self.dir, progress, stop).await?;
                let found = session::verify(self.dir, step.check.clone(), progress, stop).await?;
                if !found.holds {
                    note(format!("it is solved, and does not hold:\n{}", self.mistakes(&found)));
                    return Ok(());
                }
            }
            edits.extend(self.type_all(step, &after, &mut note, stop).await?);
            if self.update && !edits.is_empty() {
                write(&step.file, edits)?;
            }
        }
        let last = self.lesson.steps.len() - 1;
        progress.phase("back to the beginning of the last step");
        learn::rewind(self.context, self.lesson, self.dir, last, progress, stop).await?;
        let mut note = |what: String| wrong.push(format!("step {}, reset, {what}", last + 1));
        self.broken(&self.lesson.steps[last], &mut note, progress, stop).await
    }

    /// Checks that what is broken fails as the lesson says, and that there is a hint for that.
    async fn broken(
        &self,
        step: &Step,
        note: &mut impl FnMut(String),
        progress: &mut Progress<'_>,
        stop: &mut Stop,
    ) -> Result<(), Error> {
        if step.check.is_empty() {
            return Ok(());
        }
        let found = session::verify(self.dir, step.broken.clone(), progress, stop).await?;
        if !found.holds {
            note(format!("it is broken, but not as `broken` says:\n{}", self.mistakes(&found)));
        }
        // What is broken stays so, however long one waits.
        let at_once: Vec<_> = step.check.iter().cloned().map(labctl_model::Check::at_once).collect();
        let found = session::verify(self.dir, at_once, progress, stop).await?;
        if found.holds {
            note("`check` holds before anything is repaired".to_owned());
        } else if step.hints.len() > 1 {
            let chosen = choose(&step.hints, &found.checks, &[]);
            if chosen.is_none_or(|n| step.hints[n].is_general()) {
                note("no hint fits what is broken, but the last one, which always does".to_owned());
            }
        }
        Ok(())
    }

    fn mistakes(&self, found: &Report) -> String {
        text::mistakes(found, &shorten(&self.lesson.folder.join(labctl_lesson::FILE)))
    }

    /// Types commands of a text and compares what they print. Returns what they print where the text says something else.
    async fn type_all(
        &self,
        step: &Step,
        typed: &[Typed],
        note: &mut impl FnMut(String),
        stop: &mut Stop,
    ) -> Result<Vec<(Range<usize>, String)>, Error> {
        let mut edits = Vec::new();
        for one in typed {
            let printed = tokio::select! {
                printed = self.shell(&one.command) => printed?,
                () = stop.wait() => return Err(Error::Interrupted),
            };
            if fits(&one.printed, &printed) {
                continue;
            }
            edits.push((one.range.clone(), printed.clone()));
            if !self.update {
                let place = format!("{}:{}", shorten(&step.file), one.line);
                let indented: String = printed.lines().map(|l| format!("  {l}\n")).collect();
                note(format!("{place}: `{}` prints something else:\n{indented}", one.command));
            }
        }
        Ok(edits)
    }

    /// Runs a command line with this labctl, its folders, and no terminal. Returns all that it prints.
    async fn shell(&self, command: &str) -> Result<String, Error> {
        let exe = own_exe()?;
        let mut path = exe.parent().map(Path::to_owned).unwrap_or_default().into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let script = format!("exec 2>&1\n{}", command.replace(LAB, self.dir.name()));
        let run = tokio::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(&self.lesson.folder)
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .env("LABCTL_STATE_DIR", &self.context.dirs.state)
            .env("LABCTL_CACHE_DIR", &self.context.dirs.cache)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = run.await.map_err(Error::file("run", "sh"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Replaces parts of a text, given in order.
fn write(file: &Path, edits: Vec<(Range<usize>, String)>) -> Result<(), Error> {
    let mut text = fs::read_to_string(file).map_err(Error::file("read", file.display()))?;
    for (range, printed) in edits.into_iter().rev() {
        let end = if printed.is_empty() || printed.ends_with('\n') { "" } else { "\n" };
        text.replace_range(range, &format!("{printed}{end}"));
    }
    fs::write(file, text).map_err(Error::file("write", file.display()))
}
