//! A lesson, read and checked.

use std::path::{Path, PathBuf};

use labctl_model::{Check, EngineChoice, Expected, Lab, Target};
use labctl_topology::{LoadError, Topology, read_action, read_checks, read_text};
use labctl_words as words;
use labctl_yaml::{
    At, Cx, Diagnostic, Diagnostics, FromNode, OneOrMany, Places, SourceText, reject_controls,
};

use crate::{act::Act, hint::Hint, raw, text::Text};

/// Name of a lesson's file in its folder.
pub const FILE: &str = "lesson.yaml";
/// Name of its topology's file, unless it says otherwise.
const TOPOLOGY: &str = "topology.yaml";
/// Longest lesson, in minutes.
const LONGEST: u32 = 120;

/// A lesson.
#[derive(Clone, Debug)]
pub struct Lesson {
    /// Its folder.
    pub folder: PathBuf,
    /// Its name: that of its folder.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// How long it takes.
    pub minutes: u32,
    /// Its topology's file.
    pub topology: PathBuf,
    /// The lab that it is about.
    pub lab: Lab,
    /// Where the lab's parts are in its topology.
    pub places: Places,
    /// Its steps; there is at least one, and the last one has something to repair.
    pub steps: Vec<Step>,
}

/// A step of a lesson.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is about.
    pub title: String,
    /// Its text.
    pub text: Text,
    /// The text's file.
    pub file: PathBuf,
    /// What breaks when it begins.
    pub breaks: Vec<Act>,
    /// What the lab shows then.
    pub broken: Vec<Check>,
    /// What must hold at its end. If there is something, there are `broken`, `hints` and `solve` too.
    pub check: Vec<Check>,
    /// Hints; the last one fits whatever is wrong.
    pub hints: Vec<Hint>,
    /// One way to repair it.
    pub solve: Vec<Act>,
}

impl Lesson {
    /// Reads the lesson in this folder.
    ///
    /// # Errors
    /// Everything that is wrong with its file, or with its topology.
    pub fn load(folder: &Path) -> Result<Self, LoadError> {
        let file = folder.join(FILE);
        let source = SourceText::new(&file.to_string_lossy(), &read_text(&file)?);
        let fail = |d| LoadError::Invalid(Diagnostics::new(source.clone(), vec![d], 0));
        let root = labctl_yaml::parse(&source).map_err(|d| fail(*d))?;
        let mut cx = Cx::new(source.clone());
        cx.owner = root.at;
        reject_controls(&root, &mut cx);
        let written = raw::Lesson::from_node(&root, &mut cx);
        let Some(written) = written.filter(|_| cx.found.is_empty()) else {
            cx.found.finish(source.clone()).map_err(LoadError::Invalid)?;
            return Err(fail(Diagnostic::new(root.at, "this is no lesson")));
        };
        let topology = folder.join(written.topology.as_ref().map_or(TOPOLOGY, |t| &t.value));
        let Topology { lab, places, .. } = Topology::load(&topology, &EngineChoice::default())?;
        let id =
            std::path::absolute(folder).ok().and_then(|f| f.file_name().map(|n| n.to_string_lossy().into()));
        let lesson = Self {
            folder: folder.to_owned(),
            id: id.unwrap_or_default(),
            title: written.title.value.trim().to_owned(),
            minutes: minutes(&written.minutes, &mut cx),
            topology,
            steps: steps(&written, folder, &lab, &mut cx),
            lab,
            places,
        };
        cx.found.finish(source).map_err(LoadError::Invalid)?;
        Ok(lesson)
    }
}

fn minutes(written: &At<u32>, cx: &mut Cx) -> u32 {
    if !(1..=LONGEST).contains(&written.value) {
        let d = Diagnostic::new(written.at, format!("a lesson of {} minutes", written.value));
        cx.error(d.hint(format!("1 to {LONGEST}; better two short lessons than one long one")));
    }
    written.value
}

fn steps(lesson: &raw::Lesson, folder: &Path, lab: &Lab, cx: &mut Cx) -> Vec<Step> {
    match lesson.steps.last() {
        None => {
            cx.error(
                Diagnostic::new(lesson.at, "a lesson without steps")
                    .hint("`steps: [ { title: …, text: 1.md } ]`"),
            );
        }
        Some(last) if last.check.as_ref().is_none_or(Vec::is_empty) => {
            let d = Diagnostic::new(last.at, "the last step has nothing to repair").label("no `check`");
            cx.error(d.hint("a lesson ends with something that the learner repairs"));
        }
        Some(_) => {}
    }
    lesson.steps.iter().filter_map(|step| self::step(step, folder, lab, cx)).collect()
}

fn step(written: &raw::Step, folder: &Path, lab: &Lab, cx: &mut Cx) -> Option<Step> {
    let check = read_checks(written.check.as_deref().unwrap_or_default(), lab, cx);
    let broken = read_checks(written.broken.as_deref().unwrap_or_default(), lab, cx);
    let hints = hints(written.hints.as_deref().unwrap_or_default(), &check, cx);
    complete(written, cx);
    Some(Step {
        title: written.title.value.trim().to_owned(),
        file: folder.join(&written.text.value),
        breaks: acts(written.r#break.as_ref(), lab, cx),
        broken,
        check,
        hints,
        solve: acts(written.solve.as_ref(), lab, cx),
        text: text(&written.text, folder, cx)?,
    })
}

/// Notes what a step with `check` lacks, and what one without has too much.
fn complete(step: &raw::Step, cx: &mut Cx) {
    let parts = [
        ("broken", step.broken.as_ref().is_some_and(|b| !b.is_empty())),
        ("hints", step.hints.as_ref().is_some_and(|h| !h.is_empty())),
        ("solve", step.solve.as_ref().is_some_and(|s| !s.0.is_empty())),
    ];
    let with_check = step.check.as_ref().is_some_and(|c| !c.is_empty());
    let odd: Vec<_> = parts.iter().filter(|(_, there)| *there != with_check).map(|(name, _)| *name).collect();
    if odd.is_empty() {
        return;
    }
    let names = words::list(odd);
    let d = match with_check {
        true => Diagnostic::new(step.at, format!("this step has a `check`, but no {names}"))
            .hint("`broken` is what the lab shows before it is repaired, `solve` one way to repair it"),
        false => Diagnostic::new(step.at, format!("this step has {names}, but no `check`"))
            .hint("`check` says what must hold once it is repaired"),
    };
    cx.error(d);
}

fn text(name: &At<String>, folder: &Path, cx: &mut Cx) -> Option<Text> {
    let path = folder.join(&name.value);
    let read = read_text(&path).map_err(|e| e.to_string());
    let read = read.and_then(|source| {
        Text::read(&source).map_err(|(line, what)| format!("{}:{line}: {what}", path.display()))
    });
    match read {
        Ok(text) => Some(text),
        Err(message) => {
            cx.error(Diagnostic::new(name.at, message));
            None
        }
    }
}

fn acts(written: Option<&OneOrMany<At<String>>>, lab: &Lab, cx: &mut Cx) -> Vec<Act> {
    let all = written.map_or(&[][..], |list| &list.0);
    let act = |words: &At<String>| {
        Some(Act { action: read_action(words, lab, cx)?, words: words.value.trim().to_owned() })
    };
    all.iter().filter_map(act).collect()
}

fn hints(written: &[raw::Hint], checks: &[Check], cx: &mut Cx) -> Vec<Hint> {
    let all: Vec<Hint> = written.iter().filter_map(|hint| self::hint(hint, checks, cx)).collect();
    if let (Some(last), Some(written)) = (all.last(), written.last())
        && !last.is_general()
    {
        let d = Diagnostic::new(written.at, "there is no hint for what else may be wrong");
        cx.error(d.hint("the last hint has only `say`"));
    }
    all
}

fn hint(written: &raw::Hint, checks: &[Check], cx: &mut Cx) -> Option<Hint> {
    let check = match &written.check {
        None => None,
        Some(number) => {
            let index = usize::try_from(number.value).ok().and_then(|n| n.checked_sub(1));
            if index.is_none_or(|index| index >= checks.len()) {
                let d = Diagnostic::new(number.at, format!("this step has no check {}", number.value));
                cx.error(d.hint(format!("they are counted from 1, and there are {}", checks.len())));
                return None;
            }
            index
        }
    };
    let cells = || {
        let all = checks.iter().enumerate().filter(|(n, _)| check.is_none_or(|check| check == *n));
        all.filter_map(|(_, c)| if let Check::Matrix(m) = c { Some(&m.cells) } else { None }).flatten()
    };
    let mut sound = true;
    let mut known = |name: &Option<At<String>>, all: Vec<String>| {
        if let Some(name) = name.as_ref().filter(|name| !all.contains(&name.value)) {
            let d =
                Diagnostic::new(name.at, format!("no cell of the step's checks has `{}` there", name.value));
            let hint = words::nearest(&name.value, all.iter().map(String::as_str));
            cx.error(d.maybe_hint(hint.map(|near| format!("did you mean `{near}`?"))));
            sound = false;
        }
    };
    known(&written.from, cells().map(|c| c.from.clone()).collect());
    known(&written.to, cells().map(|c| Target::to_string(&c.to)).collect());
    let verdict = match &written.verdict {
        None => None,
        Some(word) => {
            let verdict = Expected::from_word(&word.value);
            if verdict.is_none() {
                let d = Diagnostic::new(word.at, format!("`{}` is no verdict", word.value));
                cx.error(d.hint(format!("the words are {}", words::list(Expected::words()))));
                return None;
            }
            verdict
        }
    };
    let text = |name: &Option<At<String>>| name.as_ref().map(|name| name.value.clone());
    sound.then(|| Hint {
        check,
        from: text(&written.from),
        to: text(&written.to),
        verdict,
        say: written.say.value.trim().to_owned(),
    })
}
