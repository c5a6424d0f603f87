//! `images`, and who uses them.

use indexmap::IndexMap;

use labctl_model::{engine::Suite, image::DebianImage, lab::Lab};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic};

use super::{containers, entries};
use crate::raw;

/// The tag that Docker adds to a name without one.
const LATEST: &str = ":latest";

pub(super) fn read(t: &raw::Topology, cx: &mut Cx) -> IndexMap<String, DebianImage> {
    let mut images: IndexMap<String, DebianImage> = IndexMap::new();
    for (name, i) in entries(&t.images) {
        own_name(name, cx);
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

fn suite(word: &At<String>, cx: &mut Cx) -> Suite {
    Suite::named(&word.value).unwrap_or_else(|| {
        let hint = words::known("suite", &word.value, Suite::ALL.map(Suite::name));
        cx.error(Diagnostic::new(word.at, format!("there is no suite `{}`", word.value)).hint(hint));
        Suite::default()
    })
}

/// Notes a name that an image made by labctl cannot have: it comes from no registry, so it has no registry's port and no
/// digest.
fn own_name(name: &At<String>, cx: &mut Cx) {
    let (path, tag) = name.value.split_once(':').unwrap_or((&name.value, "latest"));
    if path.len() > 200 || tag.contains('/') || name.value.contains('@') || !is_reference(&name.value) {
        let d = Diagnostic::new(name.at, format!("`{}` cannot be the name of an image", name.value));
        cx.error(d.hint("small letters, digits, `.`, `_`, `-` and `/`, and `:TAG` if any"));
    }
}

/// Notes what Docker does not accept as an image.
pub(super) fn reference(image: &At<String>, cx: &mut Cx) {
    if !is_reference(&image.value) {
        let d = Diagnostic::new(image.at, format!("`{}` is no name of an image", image.value));
        cx.error(d.hint("`[REGISTRY/]NAME[:TAG][@DIGEST]`, NAME in small letters: `nginx:1.27`"));
    }
}

/// `[DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]`, as distribution/reference has it (regexp.go, normalize.go).
fn is_reference(text: &str) -> bool {
    let (text, digest) = text.split_once('@').map_or((text, None), |(text, digest)| (text, Some(digest)));
    // A colon before the last slash belongs to a port.
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match text[last..].split_once(':') {
        Some((part, tag)) => (&text[..last + part.len()], Some(tag)),
        None => (text, None),
    };
    let is_domain = |part: &str| {
        part == "localhost" || part.contains(|c: char| ".:".contains(c) || c.is_ascii_uppercase())
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => (Some(first), path),
        _ => (None, name),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let tag_ok = |tag: &str| {
        (1..=128).contains(&tag.len())
            && tag.starts_with(word)
            && tag.chars().all(|c| word(c) || ".-".contains(c))
    };
    let digest_ok = |digest: &str| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
                && algorithm.chars().all(|c| word(c) || "+.-".contains(c))
                && hex.len() >= 32
                && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    let domain_ok = |domain: &str| {
        let (host, port) = domain.split_once(':').unwrap_or((domain, "0"));
        labctl_model::check::is_dns_name(host) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
    };
    name.len() <= 255
        && domain.is_none_or(domain_ok)
        && path.split('/').all(is_path_component)
        && tag.is_none_or(tag_ok)
        && digest.is_none_or(digest_ok)
}

/// Small letters and digits, single runs of separators between them: `.`, `_`, `__`, or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |run: &str| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    part.starts_with(edge) && part.ends_with(edge) && part.split(edge).all(separator)
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

/// Notes containers and services without a command whose image has none either.
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
