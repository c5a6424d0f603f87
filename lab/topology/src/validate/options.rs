//! What containers and services have beside image, networks and ports.

use std::net::IpAddr;

use labctl_model::options::{
    Device, FailureAction, Healthcheck, HostAddress, Restart, RestartCondition, Rolling, RunOptions,
    TaskRestart, Ulimit, UpdatePace, Volume, VolumeSource,
};
use labctl_words as words;
use labctl_yaml::{At, Cx, Diagnostic, OneOrMany};

use super::{flag, names};
use crate::raw;

/// Limits that a process has (setrlimit(2)), in Docker's words (docker/go-units, ulimit.go).
const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads the options that containers and services share.
pub(super) fn run(keys: raw::RunKeys<'_>, cx: &mut Cx) -> RunOptions {
    let texts = |list: &OneOrMany<At<String>>| list.0.iter().map(|t| t.value.clone()).collect();
    for domain in keys.dns_search.iter().flat_map(|d| &d.0).filter(|d| d.value != ".") {
        names::dns_name("a domain that is searched", domain, cx);
    }
    for option in keys.dns_opt.iter().copied().flatten() {
        names::one_line("an option of the resolver", option, cx);
    }
    RunOptions {
        dns: keys.dns.map(|list| list.0.iter().filter_map(|a| address(a, cx)).collect()),
        dns_search: keys.dns_search.map(texts),
        dns_opt: keys.dns_opt.map(|list| list.iter().map(|t| t.value.clone()).collect()),
        extra_hosts: keys.extra_hosts.map(|hosts| extra_hosts(hosts, cx)),
        volumes: keys.volumes.map(|list| list.iter().filter_map(|v| volume(v, cx)).collect()),
        healthcheck: keys.healthcheck.and_then(|h| healthcheck(h, cx)),
        ulimits: keys.ulimits.map(|map| {
            map.0
                .iter()
                .filter_map(|(name, limit)| Some((limit_name(name, cx)?, ulimit(limit.as_ref()?, cx)?)))
                .collect()
        }),
        stop_grace_period: keys.stop_grace_period.map(|d| d.value),
    }
}

fn address(text: &At<String>, cx: &mut Cx) -> Option<IpAddr> {
    let address = text.value.parse().ok();
    if address.is_none() {
        let d = Diagnostic::new(text.at, format!("`{}` is no address", text.value));
        cx.error(d.hint("an IP address, as 192.168.56.53"));
    }
    address
}

fn extra_hosts(hosts: &raw::ExtraHosts, cx: &mut Cx) -> Vec<(String, HostAddress)> {
    let mut pairs: Vec<(At<String>, At<String>)> = Vec::new();
    match hosts {
        raw::ExtraHosts::Map(map) => {
            for (name, addresses) in &map.0 {
                let all = addresses.iter().flat_map(|a| &a.0);
                pairs.extend(all.map(|address| (name.clone(), address.clone())));
            }
        }
        raw::ExtraHosts::List(list) => {
            for item in list {
                // An IPv6 address has colons itself.
                let Some(split) = item.value.find('=').or_else(|| item.value.find(':')) else {
                    let d = Diagnostic::new(item.at, format!("`{}` is no name with its address", item.value));
                    cx.error(d.hint("`NAME=ADDRESS`"));
                    continue;
                };
                let part = |range: std::ops::Range<usize>, cx: &Cx| At {
                    value: item.value[range.clone()].to_owned(),
                    at: cx.part(item, range),
                };
                pairs.push((part(0..split, cx), part(split + 1..item.value.len(), cx)));
            }
        }
    }
    let read = |(name, text): (At<String>, At<String>)| {
        names::dns_name("the name of a host", &name, cx);
        let address = match text.value.as_str() {
            "host-gateway" => HostAddress::HostGateway,
            written => {
                // Compose takes `[::1]` too.
                let bare = written.strip_prefix('[').and_then(|w| w.strip_suffix(']')).unwrap_or(written);
                HostAddress::Ip(address(&At { value: bare.to_owned(), at: text.at }, cx)?)
            }
        };
        Some((name.value, address))
    };
    pairs.into_iter().filter_map(read).collect()
}

fn volume(v: &raw::Volume, cx: &mut Cx) -> Option<Volume> {
    match v {
        raw::Volume::Short(text) => short_volume(text, cx),
        raw::Volume::Long(v) => long_volume(v, cx),
    }
}

/// Reads `[NAME:]PATH[:ro]`.
fn short_volume(text: &At<String>, cx: &mut Cx) -> Option<Volume> {
    let parts: Vec<&str> = text.value.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => (None, *target, None),
        [source, target] => (Some(*source), *target, None),
        [source, target, mode] => (Some(*source), *target, Some(*mode)),
        _ => {
            let d = Diagnostic::new(text.at, format!("`{}` is no volume", text.value));
            cx.error(d.hint("`[NAME:]PATH[:ro]`"));
            return None;
        }
    };
    let read_only = match mode {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(word) => {
            let at = cx.part(text, text.value.len() - word.len()..text.value.len());
            cx.error(Diagnostic::new(at, format!("there is no mode `{word}`")).hint("`ro` or `rw`"));
            return None;
        }
    };
    let at = |value: &str, start: usize| At {
        value: value.to_owned(),
        at: cx.part(text, start..start + value.len()),
    };
    let target = at(target, source.map_or(0, |s| s.len() + 1));
    let source = source.map(|source| at(source, 0));
    let source = match &source {
        Some(name) => Some(volume_name(name, cx)?),
        None => None,
    };
    absolute(&target, cx)?;
    Some(Volume { source: VolumeSource::Named(source), target: target.value, read_only })
}

fn long_volume(v: &raw::LongVolume, cx: &mut Cx) -> Option<Volume> {
    absolute(&v.target, cx)?;
    let kind = v.r#type.as_ref().map_or("volume", |t| t.value.as_str());
    let source = match kind {
        "volume" => {
            if let Some(tmpfs) = &v.tmpfs {
                let d = Diagnostic::new(tmpfs.at, "a volume has no options of a tmpfs");
                cx.error(d.hint("`type: tmpfs`"));
            }
            VolumeSource::Named(match &v.source {
                Some(name) => Some(volume_name(name, cx)?),
                None => None,
            })
        }
        "tmpfs" => {
            if let Some(source) = &v.source {
                cx.error(Diagnostic::new(source.at, "a tmpfs has no source").hint("leave it out"));
            }
            let options = v.tmpfs.as_ref();
            VolumeSource::Tmpfs {
                size: options.and_then(|o| o.size.as_ref()).and_then(|s| size(s, cx)),
                mode: options.and_then(|o| o.mode.as_ref()).and_then(|m| mode(m, cx)),
            }
        }
        other => {
            let at = v.r#type.as_ref().map_or(v.at, |t| t.at);
            let d = Diagnostic::new(at, format!("a lab has no volumes of type `{other}`"));
            cx.error(d.hint(match other {
                "bind" => "a lab's host has no files of yours: a volume, or an image that has them",
                _ => "`volume` or `tmpfs`",
            }));
            return None;
        }
    };
    Some(Volume { source, target: v.target.value.clone(), read_only: flag(&v.read_only) })
}

fn absolute(path: &At<String>, cx: &mut Cx) -> Option<()> {
    if !path.value.starts_with('/') || path.value == "/" {
        let d = Diagnostic::new(path.at, format!("`{}` is no place in a container", path.value));
        cx.error(d.hint("an absolute path, and not `/`"));
        return None;
    }
    Some(())
}

/// A name that Docker gives a volume (moby volume/mounts, daemon/names).
fn volume_name(name: &At<String>, cx: &mut Cx) -> Option<String> {
    let text = &name.value;
    let ok = text.len() >= 2
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !ok {
        let d = Diagnostic::new(name.at, format!("`{text}` cannot be the name of a volume"));
        cx.error(d.hint(if text.starts_with(['/', '.', '~']) {
            "a lab's host has no files of yours: a volume's name, or an image that has them"
        } else {
            "at least two letters, digits, `_`, `.` or `-`"
        }));
        return None;
    }
    Some(text.clone())
}

/// Reads bytes, as `64m` or `1gb` (docker/go-units, `RAMInBytes`).
fn size(text: &At<String>, cx: &mut Cx) -> Option<u64> {
    let lower = text.value.to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        _ => None,
    };
    let bytes = factor.and_then(|f: u64| digits.parse::<u64>().ok()?.checked_mul(f));
    if bytes.is_none() {
        let d = Diagnostic::new(text.at, format!("`{}` is no size", text.value));
        cx.error(d.hint("bytes, or with a unit: `64m`"));
    }
    bytes
}

fn mode(text: &At<String>, cx: &mut Cx) -> Option<u32> {
    let digits = text.value.strip_prefix("0o").unwrap_or(&text.value);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|m| *m <= 0o7777);
    if mode.is_none() {
        let d = Diagnostic::new(text.at, format!("`{}` is no mode", text.value));
        cx.error(d.hint("in octal, as `1777`"));
    }
    mode
}

fn healthcheck(h: &raw::Healthcheck, cx: &mut Cx) -> Option<Healthcheck> {
    let test = match (&h.test, flag(&h.disable)) {
        (_, true) => vec!["NONE".to_owned()],
        (None, false) => Vec::new(),
        (Some(raw::CommandLine::Text(text)), false) if text.value == "NONE" => vec!["NONE".to_owned()],
        (Some(raw::CommandLine::Text(text)), false) => vec!["CMD-SHELL".to_owned(), text.value.clone()],
        (Some(raw::CommandLine::Words(words)), false) => {
            let first = words.first().map(|w| w.value.as_str());
            if !matches!((first, words.len()), (Some("NONE"), 1) | (Some("CMD" | "CMD-SHELL"), 2..)) {
                let d = Diagnostic::new(words.first().map_or(h.at, |w| w.at), "this is no health check");
                cx.error(d.hint("a list begins with `CMD` and has the command's words, or with `CMD-SHELL`"));
                return None;
            }
            words.iter().map(|w| w.value.clone()).collect()
        }
    };
    // Docker refuses less than a millisecond, and takes 0 for its default.
    Some(Healthcheck {
        test,
        interval: h.interval.as_ref().map(|d| d.value),
        timeout: h.timeout.as_ref().map(|d| d.value),
        retries: h.retries.as_ref().map(|n| n.value),
        start_period: h.start_period.as_ref().map(|d| d.value),
        start_interval: h.start_interval.as_ref().map(|d| d.value),
    })
}

fn limit_name(name: &At<String>, cx: &mut Cx) -> Option<String> {
    if !LIMITS.contains(&name.value.as_str()) {
        let d = Diagnostic::new(name.at, format!("there is no limit `{}`", name.value));
        cx.error(d.hint(words::known("limit", &name.value, LIMITS)));
        return None;
    }
    Some(name.value.clone())
}

fn ulimit(limit: &raw::Ulimit, cx: &mut Cx) -> Option<Ulimit> {
    let mut number = |text: &At<String>| {
        let number = text.value.parse::<i64>().ok().filter(|n| *n >= -1);
        if number.is_none() {
            let d = Diagnostic::new(text.at, format!("`{}` is no limit", text.value));
            cx.error(d.hint("a whole number; -1 is no limit"));
        }
        number
    };
    let (soft, hard, at) = match limit {
        raw::Ulimit::Both(text) => {
            let both = number(text)?;
            (both, both, text.at)
        }
        raw::Ulimit::Each(each) => (number(&each.soft)?, number(&each.hard)?, each.soft.at),
    };
    if hard != -1 && (soft > hard || soft == -1) {
        let d = Diagnostic::new(at, "the soft limit is above the hard one");
        cx.error(d.hint("a process can raise its soft limit as far as the hard one"));
    }
    Some(Ulimit { soft, hard })
}

/// Reads when Docker starts a container again.
pub(super) fn restart(word: &At<String>, cx: &mut Cx) -> Option<Restart> {
    let (name, times) = word.value.split_once(':').map_or((word.value.as_str(), None), |(n, t)| (n, Some(t)));
    match (name, times, times.map(str::parse::<u32>)) {
        ("no", None, _) => Some(Restart::No),
        ("always", None, _) => Some(Restart::Always),
        ("unless-stopped", None, _) => Some(Restart::UnlessStopped),
        ("on-failure", None, _) => Some(Restart::OnFailure(None)),
        ("on-failure", _, Some(Ok(times))) => Some(Restart::OnFailure(Some(times))),
        _ => {
            let d = Diagnostic::new(word.at, format!("there is no restart policy `{}`", word.value));
            let all = ["no", "always", "unless-stopped", "on-failure", "on-failure:TIMES"];
            cx.error(d.hint(match words::nearest(&word.value, all) {
                Some(near) => format!("did you mean `{near}`?"),
                None => words::list(all),
            }));
            None
        }
    }
}

/// Reads `PATH[:PATH[:rwm]]`.
pub(super) fn device(text: &At<String>, cx: &mut Cx) -> Option<Device> {
    let parts: Vec<&str> = text.value.split(':').collect();
    let is_mode =
        |m: &str| !m.is_empty() && m.chars().all(|c| "rwm".contains(c) && m.matches(c).count() == 1);
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
        _ => ("", "", ""),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        let d = Diagnostic::new(text.at, format!("`{}` is no device", text.value));
        cx.error(d.hint("`/dev/NAME`, or `/dev/NAME:/dev/NAME_INSIDE:rwm`"));
        return None;
    }
    Some(Device { host: host.into(), container: container.into(), permissions: permissions.into() })
}

/// Reads how the swarm replaces a service's tasks.
pub(super) fn rolling(deploy: Option<&raw::Deploy>, cx: &mut Cx) -> Rolling {
    let Some(deploy) = deploy else { return Rolling::default() };
    Rolling {
        update: deploy.update_config.as_ref().map(|p| pace(p, true, cx)),
        rollback: deploy.rollback_config.as_ref().map(|p| pace(p, false, cx)),
        restart: deploy.restart_policy.as_ref().map(|p| task_restart(p, cx)),
    }
}

/// Reads a word; notes one that is not among these.
fn word<T: Copy>(word: Option<&At<String>>, what: &str, all: &[(&str, T)], cx: &mut Cx) -> Option<T> {
    let word = word?;
    let found = all.iter().find(|(name, _)| *name == word.value).map(|(_, meaning)| *meaning);
    if found.is_none() {
        let hint = words::known(what, &word.value, all.iter().map(|(name, _)| *name));
        cx.error(Diagnostic::new(word.at, format!("there is no {what} `{}`", word.value)).hint(hint));
    }
    found
}

fn pace(p: &raw::UpdatePace, update: bool, cx: &mut Cx) -> UpdatePace {
    let actions: &[_] = &[
        ("pause", FailureAction::Pause),
        ("continue", FailureAction::Continue),
        ("rollback", FailureAction::Rollback),
    ];
    // What goes back cannot go back again.
    let actions = if update { actions } else { &actions[..2] };
    let ratio = |text: &At<String>, cx: &mut Cx| {
        let ratio = text.value.parse::<f64>().ok().filter(|r| (0.0..=1.0).contains(r));
        if ratio.is_none() {
            let d = Diagnostic::new(text.at, format!("`{}` is no share", text.value));
            cx.error(d.hint("0 to 1, as `0.25`"));
        }
        ratio
    };
    UpdatePace {
        parallelism: p.parallelism.as_ref().map(|n| n.value),
        delay: p.delay.as_ref().map(|d| d.value),
        failure_action: word(p.failure_action.as_ref(), "failure action", actions, cx),
        monitor: p.monitor.as_ref().map(|d| d.value),
        max_failure_ratio: p.max_failure_ratio.as_ref().and_then(|r| ratio(r, cx)),
        start_first: word(p.order.as_ref(), "order", &[("stop-first", false), ("start-first", true)], cx),
    }
}

fn task_restart(p: &raw::RestartPolicy, cx: &mut Cx) -> TaskRestart {
    let conditions = [
        ("any", RestartCondition::Any),
        ("on-failure", RestartCondition::OnFailure),
        ("none", RestartCondition::None),
    ];
    TaskRestart {
        condition: word(p.condition.as_ref(), "condition", &conditions, cx),
        delay: p.delay.as_ref().map(|d| d.value),
        max_attempts: p.max_attempts.as_ref().map(|n| n.value),
        window: p.window.as_ref().map(|d| d.value),
    }
}
