//! `volumes` and `tmpfs` of a service, as a topology writes them.

use labctl_yaml::{At, Span, Value, Yaml};

use crate::{
    flow,
    keys::{Keys, Notes, text, texts},
};

/// Reads `volumes`. Files of this machine are left out: a lab's host has none.
pub(crate) fn read(of: &str, key: Span, node: &Yaml, notes: &mut Notes) -> Vec<String> {
    let Value::List(list) = &node.value else {
        notes.wrong(node, key, "a list of volumes");
        return Vec::new();
    };
    let read = |node: &Yaml| match &node.value {
        Value::Map(_) => long(of, node, notes),
        _ => short(of, &At { value: text(node)?, at: node.at }, notes),
    };
    list.iter().filter_map(read).collect()
}

fn short(of: &str, item: &At<String>, notes: &mut Notes) -> Option<String> {
    let parts: Vec<&str> = item.value.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, mode] => (Some(*source), *target, *mode),
        _ => (Some("."), "", ""),
    };
    if source.is_some_and(|s| s.starts_with(['/', '.', '~'])) {
        file(of, item.at, &item.value, notes);
        return None;
    }
    let read_only = mode.split(',').any(|m| m == "ro");
    let words = [source.unwrap_or_default(), target, if read_only { "ro" } else { "" }];
    let words: Vec<&str> = words.into_iter().filter(|w| !w.is_empty()).collect();
    Some(flow::scalar(&words.join(":")))
}

fn long(of: &str, node: &Yaml, notes: &mut Notes) -> Option<String> {
    let mut keys = Keys::new(node, format!("a volume of {of}"), notes)?;
    let kind = keys.text("type", notes).map_or("volume".to_owned(), |t| t.value);
    let source = keys.text("source", notes);
    let target = keys.text("target", notes)?;
    if kind != "volume" && kind != "tmpfs" {
        keys.take_all(&["bind", "read_only", "consistency", "volume"]);
        keys.finish(notes);
        file(of, node.at, &format!("{kind} at {}", target.value), notes);
        return None;
    }
    let read_only = keys.flag("read_only", notes);
    let mut written = vec![("type".to_owned(), kind.clone())];
    written
        .extend(source.filter(|_| kind == "volume").map(|s| ("source".to_owned(), flow::scalar(&s.value))));
    written.push(("target".to_owned(), flow::scalar(&target.value)));
    if read_only {
        written.push(("read_only".to_owned(), "true".to_owned()));
    }
    if let Some((_, tmpfs)) = keys.take("tmpfs") {
        written.push(("tmpfs".to_owned(), flow::node(tmpfs)));
    }
    // How it is filled and kept in step makes no difference in a new volume.
    keys.take_all(&["volume", "consistency"]);
    keys.finish(notes);
    Some(flow::map(written))
}

fn file(of: &str, at: Span, what: &str, notes: &mut Notes) {
    notes.add(at, format!("volume `{what}` of {of}: left out, a lab's host has no files of yours"));
}

/// Reads `tmpfs`: `PATH[:OPTIONS]`.
pub(crate) fn tmpfs(of: &str, key: Span, node: &Yaml, notes: &mut Notes) -> Vec<String> {
    let mut all = Vec::new();
    for item in texts(node, key, notes) {
        let (path, options) = item.value.split_once(':').unwrap_or((&item.value, ""));
        let mut given = Vec::new();
        for option in options.split(',').filter(|o| !o.is_empty()) {
            match option.split_once('=') {
                Some((key @ ("size" | "mode"), value)) => given.push((key.to_owned(), flow::scalar(value))),
                _ => notes.add(item.at, format!("`{option}` of a tmpfs of {of}: left out")),
            }
        }
        let mut written =
            vec![("type".to_owned(), "tmpfs".to_owned()), ("target".to_owned(), flow::scalar(path))];
        if !given.is_empty() {
            written.push(("tmpfs".to_owned(), flow::map(given)));
        }
        all.push(flow::map(written));
    }
    all
}
