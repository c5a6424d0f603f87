//! `images`, and who uses them.

use indexmap::IndexMap;

use super::{containers, entries, hosts};
use crate::{
    diagnostic::Diagnostic,
    image::DebianImage,
    input::{cx::Cx, decode::At, words},
    lab::{Engine, Lab},
    raw,
};

/// The tag that Docker adds to a name without one.
const LATEST: &str = ":latest";

pub(super) fn read(t: &raw::Topology, cx: &mut Cx) -> IndexMap<String, DebianImage> {
    let mut images: IndexMap<String, DebianImage> = IndexMap::new();
    for (name, i) in entries(&t.images) {
        reference(name, cx);
        let image = image(name, i, cx);
        let key = name.value.strip_suffix(LATEST).unwrap_or(&name.value);
        if images.insert(key.to_owned(), image).is_some() {
            let d = Diagnostic::new(name.at, format!("image `{key}` is there twice"));
            cx.error(d.hint("a name without a tag means `:latest`"));
        }
    }
    images
}

fn image(name: &At<String>, i: &raw::Image, cx: &mut Cx) -> DebianImage {
    if i.debian.0.is_empty() {
        let d = Diagnostic::new(name.at, format!("image `{}` is made of nothing", name.value));
        cx.error(d.hint("`debian: [redis-server]`, for one"));
    }
    for package in &i.debian.0 {
        debian_package(package, cx);
    }
    let mut packages: Vec<String> = i.debian.0.iter().map(|p| p.value.clone()).collect();
    packages.sort();
    packages.dedup();
    DebianImage {
        packages,
        suite: i.suite.as_ref().map(|s| suite(s, cx)).unwrap_or_default(),
        entrypoint: i.entrypoint.as_ref().map(|c| containers::command(c, cx)).unwrap_or_default(),
        cmd: i.cmd.as_ref().map(|c| containers::command(c, cx)).unwrap_or_default(),
        line: cx.line(name.at),
    }
}

fn suite(word: &At<String>, cx: &mut Cx) -> Engine {
    hosts::suite(&word.value).unwrap_or_else(|| {
        let hint = words::known("suite", &word.value, hosts::SUITES);
        cx.error(Diagnostic::new(word.at, format!("there is no suite `{}`", word.value)).hint(hint));
        Engine::default()
    })
}

/// A name that Docker takes for an image, and that no registry is asked for (distribution/reference).
fn reference(name: &At<String>, cx: &mut Cx) {
    let (path, tag) = name.value.split_once(':').unwrap_or((&name.value, "latest"));
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part =
        |p: &str| p.starts_with(edge) && p.ends_with(edge) && p.chars().all(|c| edge(c) || "._-".contains(c));
    let tag_ok = (1..=128).contains(&tag.len())
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !(path.len() <= 200 && path.split('/').all(part) && tag_ok) {
        let d = Diagnostic::new(name.at, format!("`{}` cannot be the name of an image", name.value));
        cx.error(d.hint("small letters, digits, `.`, `_`, `-` and `/`, and `:TAG` if any"));
    }
}

/// A name of a package (Debian policy 5.6.1).
fn debian_package(package: &At<String>, cx: &mut Cx) {
    let text = &package.value;
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let ok = text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.chars().all(fine);
    if !ok {
        let d = Diagnostic::new(package.at, format!("`{text}` is no name of a Debian package"));
        cx.error(d.hint("`apt-cache search WORD` finds them; small letters, digits, `+`, `-` and `.`"));
    }
}

/// Notes containers and services of an image that says nothing to run, and say nothing either.
pub(super) fn check(t: &raw::Topology, lab: &Lab, cx: &mut Cx) {
    let containers = entries(&t.containers).map(|(name, c)| (name, &c.image, c.command.is_some()));
    let services = entries(&t.services).map(|(name, s)| (name, &s.image, s.command.is_some()));
    for (name, image, command) in containers.chain(services) {
        let Some(image) = image else { continue };
        let Some(debian) = lab.image(&image.value) else { continue };
        if !command && debian.entrypoint.is_empty() && debian.cmd.is_empty() {
            let d = Diagnostic::new(image.at, format!("nothing says what `{}` is to run", name.value));
            cx.error(d.hint("give it a `command`, or the image a `cmd`"));
        }
    }
}
