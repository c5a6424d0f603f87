//! What a learner has done, on disk: a file for each lab of a lesson, in a folder that no lab can have.

use std::{fs, io, path::PathBuf};

use labctl_images::durable;
use labctl_lesson::Lesson;
use labctl_state::Dirs;
use serde::{Deserialize, Serialize};

use crate::exit::Error;

/// The folder, among those of labs: a lab's name has no dot.
const FOLDER: &str = ".lessons";
/// The file with the name of the lab that was used last.
const CURRENT: &str = "current";

/// How far a learner is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LessonNotes {
    /// Lab.
    pub lab: String,
    /// The lesson's name.
    pub lesson: String,
    /// The lesson's folder.
    pub folder: PathBuf,
    /// The index of the current step.
    pub step: usize,
    /// All steps.
    pub steps: Vec<StepNotes>,
}

/// What was done in a step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepNotes {
    /// How it ended, if it did.
    pub outcome: Option<Ending>,
    /// How often the learner had it checked.
    pub checks: u32,
    /// The indices of hints that were given.
    pub hints: Vec<usize>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// There was nothing to repair.
    Read,
    /// The learner repaired it.
    Repaired,
    /// The lesson showed the repair.
    Shown,
}

impl LessonNotes {
    /// Of a lesson that begins.
    pub fn new(lesson: &Lesson, lab: &str) -> Result<Self, Error> {
        let folder = std::path::absolute(&lesson.folder);
        Ok(Self {
            lab: lab.to_owned(),
            lesson: lesson.id.clone(),
            folder: folder.map_err(Error::file("use", lesson.folder.display()))?,
            step: 0,
            steps: vec![StepNotes::default(); lesson.steps.len()],
        })
    }

    /// Whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.steps.iter().all(|s| s.outcome.is_some())
    }

    /// The notes of this lab, or of the one that was used last; `None` if there are none.
    pub fn find(dirs: &Dirs, lab: Option<&str>) -> Result<Option<Self>, Error> {
        let folder = dirs.state.join(FOLDER);
        let name = match lab {
            Some(lab) => lab.to_owned(),
            None => match read(folder.join(CURRENT))? {
                Some(name) => name,
                None => return Ok(None),
            },
        };
        // A name with a slash is none of ours.
        if name.contains(['/', '.']) {
            return Ok(None);
        }
        let path = folder.join(format!("{name}.json"));
        let Some(text) = read(path.clone())? else { return Ok(None) };
        let notes = serde_json::from_str(&text);
        notes.map(Some).map_err(|e| Error::Environment(format!("{} is damaged: {e}", path.display())))
    }

    /// All of them, sorted by lab.
    pub fn all(dirs: &Dirs) -> Result<Vec<Self>, Error> {
        let entries = match fs::read_dir(dirs.state.join(FOLDER)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::file("read", dirs.state.join(FOLDER).display())(e)),
        };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let mut labs: Vec<String> =
            names.filter_map(|n| n.strip_suffix(".json").map(str::to_owned)).collect();
        labs.sort();
        labs.iter().filter_map(|lab| Self::find(dirs, Some(lab)).transpose()).collect()
    }

    /// Writes them, and notes that this lab was used last.
    pub fn save(&self, dirs: &Dirs) -> Result<(), Error> {
        let folder = dirs.state.join(FOLDER);
        fs::create_dir_all(&folder).map_err(Error::file("make the folder", folder.display()))?;
        let path = folder.join(format!("{}.json", self.lab));
        let text = serde_json::to_vec(self).map_err(|e| Error::Environment(e.to_string()))?;
        durable::write(&path, 0o600, &text).map_err(Error::file("write", path.display()))?;
        let current = folder.join(CURRENT);
        durable::write(&current, 0o600, self.lab.as_bytes()).map_err(Error::file("write", current.display()))
    }
}

fn read(path: PathBuf) -> Result<Option<String>, Error> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", path.display())(e)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_lab_has_its_notes_and_the_last_one_used_is_found() {
        let tmp = tempfile::tempdir().unwrap();
        let dirs = Dirs { cache: tmp.path().into(), state: tmp.path().join("state") };
        assert!(
            LessonNotes::find(&dirs, None).unwrap().is_none() && LessonNotes::all(&dirs).unwrap().is_empty()
        );
        let notes = |lab: &str, outcome| LessonNotes {
            lab: lab.into(),
            lesson: "01-x".into(),
            folder: "/x".into(),
            step: 0,
            steps: vec![StepNotes { outcome, checks: 1, hints: vec![2] }],
        };
        notes("b", None).save(&dirs).unwrap();
        notes("a", Some(Ending::Shown)).save(&dirs).unwrap();
        assert_eq!(LessonNotes::find(&dirs, None).unwrap().unwrap().lab, "a");
        assert!(!LessonNotes::find(&dirs, Some("b")).unwrap().unwrap().is_finished());
        assert!(LessonNotes::find(&dirs, Some("../b")).unwrap().is_none());
        let all = LessonNotes::all(&dirs).unwrap();
        assert_eq!(
            all.iter().map(|n| (n.lab.as_str(), n.is_finished())).collect::<Vec<_>>(),
            [("a", true), ("b", false)]
        );
        fs::write(dirs.state.join(FOLDER).join("b.json"), "{").unwrap();
        assert!(LessonNotes::find(&dirs, Some("b")).unwrap_err().to_string().contains("b.json is damaged"));
    }
}
