//! Topologies named on the command line: files, and folders of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use labctl_model::{EngineChoice, Lab};
use labctl_state::{LabDir, Plan};
use labctl_topology::Topology;
use labctl_yaml::Places;

use crate::{context::Context, engines::Engines, exit::Error};

/// A topology that the command line names, parsed and validated.
#[derive(Clone, Debug)]
pub struct TopologyFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its path as the command line names it.
    pub shown: String,
    /// The lab.
    pub lab: Lab,
    /// Where its parts are in the file.
    pub places: Places,
    /// What was left out or changed of a Compose file that it includes.
    pub notes: Vec<String>,
}

impl TopologyFile {
    /// Gives the lab another name.
    pub fn rename(&mut self, name: String) -> Result<(), Error> {
        check_lab_name(&name)?;
        self.lab.name = name;
        Ok(())
    }
}

/// Fails if this cannot be the name of a lab.
pub fn check_lab_name(name: &str) -> Result<(), Error> {
    match Lab::is_name(name) {
        true => Ok(()),
        false => Err(Error::Usage(format!("`{name}` cannot be the name of a lab\nhint: {}", Lab::NAME))),
    }
}

/// Reads a topology.
pub fn load(path: &Path, context: &Context) -> Result<TopologyFile, Error> {
    load_with(path, &Engines::default().choice(context)?)
}

/// A file of that name with an extension, or in `topologies/`: what was probably meant by a path that is none.
fn near(path: &Path) -> Option<PathBuf> {
    let named = [path.with_extension("yaml"), path.with_extension("yml")];
    let elsewhere = named.iter().map(|file| Path::new("topologies").join(file));
    named.iter().cloned().chain(elsewhere).find(|file| file.is_file())
}

/// Reads a topology and gives its hosts these engines.
///
/// # Errors
/// [`Error::NotFor`] if it is not for them.
pub fn load_with(path: &Path, engines: &EngineChoice) -> Result<TopologyFile, Error> {
    let shown = path.display().to_string();
    let loaded = Topology::load(path, engines).map_err(|e| match near(path).filter(|_| !path.exists()) {
        Some(file) => Error::Usage(format!("{e}\nhint: did you mean {}?", file.display())),
        None => e.into(),
    });
    let Topology { lab, places, notes } = loaded?;
    if let Some((unknown, _)) = engines.hosts.iter().find(|(name, _)| !lab.hosts.contains_key(name)) {
        let known: Vec<_> = lab.hosts.keys().map(String::as_str).collect();
        return Err(Error::Usage(format!(
            "--engine: lab `{}` has no host `{unknown}`\nhint: its hosts are {}",
            lab.name,
            known.join(", ")
        )));
    }
    if let (Some(wanted), Some((host, engine))) = (&lab.engines, lab.unfit()) {
        let why = format!("is for Docker {wanted}, and `{host}` has {} ({engine})", engine.docker());
        return Err(Error::NotFor { topology: shown, lab: lab.name, why });
    }
    let path = std::path::absolute(path).map_err(Error::file("use", &shown))?;
    Ok(TopologyFile { path, shown, lab, places, notes })
}

/// Whether a lab is meant, not a file: one that is up, or what is no file either. No lab has a name with a dot or a slash.
pub fn is_lab(given: &str, context: &Context) -> Result<bool, Error> {
    let is_up = || Ok::<_, Error>(labctl_state::list(&context.dirs)?.iter().any(|dir| dir.name() == given));
    Ok(!given.contains(['/', '.']) && (!Path::new(given).is_file() || is_up()?))
}

/// The topology that a user names: that of a lab that is up, with the engines that it has, or a file, with these.
pub fn named(given: &str, engines: &Engines, context: &Context) -> Result<TopologyFile, Error> {
    if !is_lab(given, context)? {
        return load_with(Path::new(given), &engines.choice(context)?);
    }
    if !engines.is_empty() {
        return Err(Error::Usage(format!(
            "--engine is for files: lab `{given}` is up, with the engines that it has"
        )));
    }
    let (_, plan) = context.lab(given)?;
    let shown = shorten(&plan.topology);
    Ok(TopologyFile {
        shown,
        path: plan.topology,
        lab: plan.lab,
        places: Places::default(),
        notes: Vec::new(),
    })
}

/// The lab that is up of this name, or that came from this file, and its plan.
pub fn running(given: &str, context: &Context) -> Result<(LabDir, Plan), Error> {
    match up_from(given, context)? {
        Some(name) => context.lab(&name),
        None => Err(Error::Usage(format!(
            "the lab of {given} is not up\nhint: `labctl up {given}` brings it up and checks it"
        ))),
    }
}

/// The name of the lab that `given` names, by itself or by its topology; `None` if it is a topology whose lab is not up.
pub fn up_from(given: &str, context: &Context) -> Result<Option<String>, Error> {
    let labs = labctl_state::list(&context.dirs)?;
    if labs.iter().any(|d| d.name() == given) {
        return Ok(Some(given.to_owned()));
    }
    let path = Path::new(given);
    if !path.is_file() {
        labctl_state::find(&context.dirs, given)?;
        return Ok(Some(given.to_owned()));
    }
    // By path first: the file may have been edited or broken since.
    let absolute = std::path::absolute(path).map_err(Error::file("use", given))?;
    let from_it: Vec<_> = labs.iter().filter(|d| d.plan().is_ok_and(|p| p.topology == absolute)).collect();
    if let [dir] = from_it.as_slice() {
        return Ok(Some(dir.name().to_owned()));
    }
    let name = load(path, context)?.lab.name;
    if labs.iter().any(|d| d.name() == name) {
        return Ok(Some(name));
    }
    if from_it.is_empty() {
        return Ok(None);
    }
    let names: Vec<_> = from_it.iter().map(|d| d.name()).collect();
    let message =
        format!("several labs come from {given}\nhint: name those that are meant: {}", names.join(", "));
    Err(Error::Usage(message))
}

/// The files that these paths name: each file itself; of a folder its `*.yaml`, sorted.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).map_err(Error::file("read", path.display()))?;
            let mut inside: Vec<_> = entries
                .filter_map(Result::ok)
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "yaml") && p.is_file())
                .collect();
            if inside.is_empty() {
                return Err(Error::Usage(format!("there are no *.yaml files in {}", path.display())));
            }
            inside.sort();
            found.append(&mut inside);
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// A path for people: relative if it lies below the current folder.
pub fn shorten(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    here.and_then(|h| path.strip_prefix(h).ok()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_stands_for_its_topologies_in_order() {
        let tmp = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yaml", "notes.md"] {
            fs::write(tmp.path().join(name), "").unwrap();
        }
        let found = files(&[tmp.path().into(), "x.yml".into()]).unwrap();
        let names: Vec<_> = found.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.yaml", "b.yaml", "x.yml"]);
        fs::create_dir(tmp.path().join("empty")).unwrap();
        assert_eq!(files(&[tmp.path().join("empty")]).unwrap_err().exit(), crate::exit::Exit::USAGE);
    }
}
