//! `compose`: puts the topology that a Compose file becomes beside what the topology itself says.

use std::{collections::HashMap, path::Path};

use labctl_compose::{ImportError, ImportOptions, include, variables_in_file};
use labctl_yaml::{At, Cx, Diagnostic, Diagnostics, SourceText, Value, Yaml, value_of};

use crate::{LoadError, raw, read_text, validate::MOST_HOSTS};

/// Includes the Compose file that `compose` names, if there is one. `folder` is the topology's, if it is in a file. Returns
/// what was left out of the Compose file, each with its line.
pub(crate) fn compose(
    root: &mut Yaml,
    source: &mut SourceText,
    folder: Option<&Path>,
) -> Result<Vec<String>, Diagnostics> {
    let Value::Map(top) = &root.value else { return Ok(Vec::new()) };
    let Some((key, node)) = top.iter().find(|(k, _)| k.value == "compose") else { return Ok(Vec::new()) };
    let mut cx = Cx::new(source.clone());
    let written = value_of::<raw::Compose>(node, key.at, &mut cx);
    let options = written.as_ref().and_then(|w| options(&w.0, top, &mut cx));
    cx.found.finish(source.clone())?;
    let (Some(raw::Compose(written)), Some(mut options)) = (written, options) else { return Ok(Vec::new()) };
    let only = |d| Diagnostics::new(source.clone(), vec![d], 0);
    let Some(folder) = folder else {
        let d = Diagnostic::new(key.at, "a topology that is in no file includes none");
        return Err(only(d.hint("`labctl import` makes a topology of a Compose file")));
    };
    let file = folder.join(&written.file.value);
    let unread = |e: LoadError| only(Diagnostic::new(written.file.at, e.to_string()));
    let text = read_text(&file).map_err(unread)?;
    options.variables = variables(&file).map_err(unread)?;
    let project = std::path::absolute(&file).ok();
    let project = project.as_deref().and_then(|f| f.parent()?.file_name()?.to_str()).unwrap_or_default();
    let shown = file.to_string_lossy();
    let by = key.at;
    let included = include(source, by, &text, &shown, project, &options).map_err(|e| match e {
        ImportError::Invalid(mistakes) => mistakes,
        ImportError::Options { service, message, hint } => {
            let mut places = written.place.iter().flat_map(|p| &p.0).map(|(name, _)| name);
            let at = places.find(|name| name.value == service).map_or(by, |name| name.at);
            let d = Diagnostic::new(at, message).hint(hint.replace("`--", "`"));
            Diagnostics::new(source.clone(), vec![d], 0)
        }
    })?;
    let mut tree = included.tree;
    if let (Value::Map(entries), Some(false)) = (&mut tree.value, written.expect.map(|e| e.value)) {
        entries.retain(|(k, _)| k.value != "expect");
    }
    merge(root, tree, true);
    Ok(included.notes.into_iter().map(|n| format!("{shown}:{}: {}", n.line, n.text)).collect())
}

/// The options of an import, without variables.
fn options(written: &raw::ComposeFile, top: &[(At<String>, Yaml)], cx: &mut Cx) -> Option<ImportOptions> {
    if let (Some(hosts), Some(_)) = (&written.hosts, &written.swarm) {
        let d = Diagnostic::new(hosts.at, "`hosts` and `swarm` both say how many hosts there are");
        cx.error(d.hint("`swarm` runs services, as `docker stack deploy` does; leave one of them out"));
    }
    let count = written.swarm.as_ref().or(written.hosts.as_ref());
    if let Some(count) = count.filter(|n| !(1..=MOST_HOSTS).contains(&(n.value as usize))) {
        cx.error(Diagnostic::new(count.at, format!("there are 1 to {MOST_HOSTS} hosts")));
    }
    let name = top.iter().find(|(k, _)| k.value == "name").map(|(_, n)| &n.value);
    let place = written.place.iter().flat_map(|p| &p.0);
    cx.found.is_empty().then(|| ImportOptions {
        // What stands in the topology counts, and is checked with it.
        name: name.map(|_| "lab".to_owned()),
        hosts: count.map_or(1, |n| n.value as usize),
        swarm: written.swarm.is_some(),
        place: place.filter_map(|(s, h)| Some((s.value.clone(), h.as_ref()?.value.clone()))).collect(),
        images: written.images.as_ref().is_some_and(|i| i.value),
        profiles: written.profile.iter().flat_map(|p| &p.0).map(|p| p.value.clone()).collect(),
        variables: HashMap::new(),
    })
}

/// The variables that a Compose file may use: those of `.env` beside it, and of the environment, which come first.
///
/// # Errors
/// If there is a `.env` that cannot be read.
pub fn variables(file: &Path) -> Result<HashMap<String, String>, LoadError> {
    let mut all = match read_text(&file.with_file_name(".env")) {
        Ok(text) => variables_in_file(&text),
        Err(LoadError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
        Err(e) => return Err(e),
    };
    all.extend(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))));
    Ok(all)
}

/// Puts what is included into what is written, which counts where both say something: mappings are merged key by key.
/// Included expectations come first.
fn merge(written: &mut Yaml, included: Yaml, top: bool) {
    match (&mut written.value, included.value) {
        (Value::Map(written), Value::Map(included)) => {
            for (key, node) in included {
                match written.iter_mut().find(|(k, _)| k.value == key.value).map(|(_, n)| n) {
                    None => written.push((key, node)),
                    Some(Yaml { value: Value::List(own), .. }) if top => {
                        let Value::List(mut all) = node.value else { continue };
                        all.append(own);
                        *own = all;
                    }
                    Some(own) => merge(own, node, false),
                }
            }
        }
        (own @ Value::Null, included) => *own = included,
        _ => {}
    }
}
