//! Selects the modules to load ahead from a kernel's modules.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write};
use std::path::Path;

use crate::{Error, cpio::Archive, kernel};

/// What the kernel's build appends to a signed module (kernel, include/linux/module_signature.h), after a structure of
/// 12 bytes whose last four are the length of the signature before it.
const SIGNED: &[u8] = b"~Module signature appended~\n";

/// Writes the modules in `wanted` (one name per line, `#` comments) and all they need to a cpio archive at `to`, with
/// their load order. `tar` holds one directory named like the kernel's version. Returns that version.
pub async fn pack(tar: &Path, wanted: &str, to: &Path) -> Result<String, Error> {
    let read = |path: &Path| std::fs::File::open(path).map_err(Error::io("read", path));
    let (version, listing) = dependencies(read(tar)?, tar)?;
    let order = order(&listing, wanted);
    let mut files = contents(read(tar)?, tar, &version, &order)?;

    let out = std::fs::File::create(to).map_err(Error::io("write", to))?;
    let mut archive = Archive::new(std::io::BufWriter::new(out));
    let mut names = String::new();
    let write = Error::io("write", to);
    let mut entries = Vec::new();
    for path in order {
        let Some(packed) = files.remove(path) else { continue };
        let file_name = path.rsplit('/').next().unwrap_or(path);
        let (stem, compression) = file_name.split_once(".ko").unwrap_or((file_name, ""));
        let mut module = match compression {
            ".xz" => kernel::decompress("xz", &packed).await?,
            ".zst" => kernel::decompress("zstd", &packed).await?,
            ".gz" => kernel::decompress("gzip", &packed).await?,
            _ => packed,
        };
        if !module.starts_with(b"\x7fELF") {
            return Err(Error::content(tar, format!("{path} is no module")));
        }
        strip_signature(&mut module);
        names.push_str(&format!("{stem}.ko\n"));
        entries.push((format!("modules/{stem}.ko"), module));
    }
    write_archive(&mut archive, &names, &entries).and_then(|()| archive.finish()?.flush()).map_err(write)?;
    Ok(version)
}

fn write_archive<W: Write>(
    archive: &mut Archive<W>,
    names: &str,
    entries: &[(String, Vec<u8>)],
) -> std::io::Result<()> {
    archive.directory("modules")?;
    archive.file("modules/order", 0o644, names.as_bytes())?;
    entries.iter().try_for_each(|(name, module)| archive.file(name, 0o644, module))
}

/// Without KVM, verifying a module's RSA signature takes 18 ms. The kernel also loads modules without one.
fn strip_signature(module: &mut Vec<u8>) {
    let Some(end) = module.len().checked_sub(SIGNED.len()) else { return };
    if &module[end..] != SIGNED {
        return;
    }
    let Some(length) =
        end.checked_sub(4).and_then(|at| module[at..end].try_into().ok()).map(u32::from_be_bytes)
    else {
        return;
    };
    if let Some(start) = end.checked_sub(12 + length as usize) {
        module.truncate(start);
    }
}

/// The kernel's version and its `modules.dep`.
fn dependencies(tar: impl std::io::Read, name: &Path) -> Result<(String, String), Error> {
    for entry in tar::Archive::new(tar).entries().map_err(Error::io("read", name))? {
        let mut entry = entry.map_err(Error::io("read", name))?;
        let path = entry.path().map_err(Error::io("read", name))?.to_string_lossy().into_owned();
        if let Some(version) = path.strip_suffix("/modules.dep") {
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(Error::io("read", name))?;
            return Ok((version.trim_start_matches("./").to_owned(), text));
        }
    }
    Err(Error::content(name, "has no modules.dep"))
}

/// Paths of the wanted modules, each after those it needs.
fn order<'a>(dep: &'a str, wanted: &str) -> Vec<&'a str> {
    let needs: BTreeMap<&str, Vec<&str>> = dep
        .lines()
        .filter_map(|l| l.split_once(':'))
        .map(|(path, rest)| (path, rest.split_ascii_whitespace().collect()))
        .collect();
    // `-` and `_` are the same to the kernel.
    let name = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next().unwrap_or(file).replace('-', "_")
    };
    let by_name: BTreeMap<String, &str> = needs.keys().map(|p| (name(p), *p)).collect();
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for line in wanted.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(path) = by_name.get(&line.replace('-', "_")) {
            visit(path, &needs, &mut seen, &mut order);
        }
    }
    order
}

/// `modules.dep` lists everything that a module needs, directly or not, nearest first; visiting each gives the order.
/// Every path is entered once, so the depth is bounded even if a file claims a cycle.
fn visit<'a>(
    path: &'a str,
    needs: &BTreeMap<&'a str, Vec<&'a str>>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    if !seen.insert(path) {
        return;
    }
    for need in needs.get(path).into_iter().flatten().rev() {
        visit(need, needs, seen, order);
    }
    order.push(path);
}

fn contents(
    tar: impl std::io::Read,
    name: &Path,
    version: &str,
    wanted: &[&str],
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().map_err(Error::io("read", name))? {
        let mut entry = entry.map_err(Error::io("read", name))?;
        let path = entry.path().map_err(Error::io("read", name))?.to_string_lossy().into_owned();
        let Some(path) =
            path.trim_start_matches("./").strip_prefix(version).and_then(|p| p.strip_prefix('/'))
        else {
            continue;
        };
        if wanted.contains(path) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(Error::io("read", name))?;
            files.insert(path.to_owned(), bytes);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn modules_come_after_what_they_need() {
        let dep = "k/virtio_net.ko.xz: k/net_failover.ko.xz k/failover.ko.xz\nk/net_failover.ko.xz: k/failover.ko.xz\n\
                   k/failover.ko.xz:\nk/virtio-rng.ko.xz:\nk/other.ko.xz:\n";
        assert_eq!(
            order(dep, "# comment\nvirtio_net\nvirtio_rng\nnot_there\nfailover\n"),
            ["k/failover.ko.xz", "k/net_failover.ko.xz", "k/virtio_net.ko.xz", "k/virtio-rng.ko.xz"]
        );
    }

    #[test]
    fn a_cycle_ends() {
        assert_eq!(order("a.ko: b.ko\nb.ko: a.ko\n", "a\n"), ["b.ko", "a.ko"]);
    }

    #[test]
    fn a_signature_is_cut_off_and_nothing_else() {
        let mut module = b"\x7fELFbody".to_vec();
        let plain = module.clone();
        strip_signature(&mut module);
        assert_eq!(module, plain);
        module.extend(b"sig!!");
        module.extend([0; 8]);
        module.extend(5_u32.to_be_bytes());
        module.extend(SIGNED);
        strip_signature(&mut module);
        assert_eq!(module, plain);
        // A length beyond the file's start is left alone.
        let mut torn = [&[0_u8; 8][..], &u32::MAX.to_be_bytes()[..], SIGNED].concat();
        let before = torn.clone();
        strip_signature(&mut torn);
        assert_eq!(torn, before);
    }
}
