//! Checkpoints on disk: whole labs that were saved, and how they are found, listed and removed.
//!
//! ```text
//! <cache>/checkpoints/<name>.lock        locked by who writes or removes it, shared by who reads it
//!                     <name>/checkpoint.json   written last
//!                            <host>.pages      what differs in its memory from the base
//!                            <host>.state      its devices
//!                            <key>.ram         a base: another name of a template's memory
//! ```
//!
//! The name of one that `up` left is `LAB.KEY`; a dot is in no name that a user gives. docs/adr/0022 says why this form.

pub mod archive;
mod machine;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use labctl_images::{
    cache::{self, Marks, Staging},
    durable,
    hash::sha256,
};
use labctl_model::{Action, Lab};
use labctl_wire::WireState;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{error::Error, plan::Plan};

pub use machine::{Fingerprint, SavedMachine};

/// Version of a checkpoint's form.
const VERSION: u32 = 1;

/// A checkpoint that `up` left is made anew once it is older than this.
pub const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// Bytes that checkpoints may take on disk before the least recently used of those that `up` left go.
pub const LIMIT: u64 = 10 << 30;

/// How long a checkpoint may be locked by somebody else.
const OTHERS: Duration = Duration::from_secs(60);

/// Name of the manifest.
const MANIFEST: &str = "checkpoint.json";

/// What was saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointManifest {
    version: u32,
    /// When, in seconds since the epoch.
    pub saved: u64,
    /// The plan of the lab.
    pub plan: Plan,
    /// Tells its kind of lab ([`kind`]) from others.
    pub kind: String,
    /// What a restore depends on.
    pub needs: Fingerprint,
    /// The hosts that ran.
    pub hosts: BTreeMap<String, SavedHost>,
    /// Why others had ended.
    pub ended: BTreeMap<String, String>,
    /// Which of those were nodes of the swarm.
    pub nodes_gone: BTreeSet<String>,
    /// The actions that were done since the end of `up`.
    #[serde(default)]
    pub done: Vec<Action>,
    /// The wire.
    pub wire: WireState,
    /// How long the lab stood still, in microseconds.
    pub pause_us: u64,
    files: Option<Marks>,
}

/// A host that ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedHost {
    /// Name of its base.
    pub base: String,
    /// Its dockerd's API version, `1.45`.
    pub api: String,
}

impl CheckpointManifest {
    /// For a lab that is being saved.
    pub fn new(plan: Plan, kind: String, needs: Fingerprint) -> Self {
        Self {
            version: VERSION,
            saved: now(),
            plan,
            kind,
            needs,
            hosts: BTreeMap::new(),
            ended: BTreeMap::new(),
            nodes_gone: BTreeSet::new(),
            done: Vec::new(),
            wire: WireState::default(),
            pause_us: 0,
            files: None,
        }
    }

    fn file_names(&self) -> BTreeSet<String> {
        let bases = self.hosts.values().map(|h| h.base.clone());
        self.hosts.keys().flat_map(|host| SavedMachine::files(host)).chain(bases).collect()
    }

    /// How long ago it was saved.
    pub fn age(&self) -> Duration {
        since(self.saved)
    }
}

/// A checkpoint that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// There is none of this name.
    #[error("there is none")]
    Absent,
    /// It is damaged, or of another version of labctl.
    #[error("{0}")]
    Damaged(String),
}

/// An intact checkpoint. Nobody replaces or removes it while this exists.
#[derive(Debug)]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
    /// What was saved.
    pub manifest: CheckpointManifest,
    dir: PathBuf,
    _shared: File,
}

impl Checkpoint {
    /// The files of a host.
    pub fn machine(&self, host: &str) -> Option<SavedMachine> {
        self.manifest.hosts.get(host).map(|saved| SavedMachine::of(&self.dir, host, &saved.base))
    }

    /// Notes that it was used now.
    pub fn touch(&self) {
        let touch =
            || File::options().append(true).open(self.dir.join(MANIFEST))?.set_modified(SystemTime::now());
        if let Err(e) = touch() {
            tracing::warn!("{}: {e}", self.dir.display());
        }
    }

    /// Fails, by name, if it needs something that is not here.
    ///
    /// # Errors
    /// What differs.
    pub fn check_fits(&self, here: &Fingerprint) -> Result<(), Error> {
        let differs = self.manifest.needs.iter().find(|(part, value)| here.get(*part) != Some(value));
        match differs {
            None => Ok(()),
            Some((part, value)) => Err(Error::Checkpoint {
                name: self.name.clone(),
                why: format!(
                    "it needs another {part}: {value}, and here is {}",
                    here.get(part).map_or("none", |v| v)
                ),
            }),
        }
    }
}

/// The checkpoints of a cache folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What is listed of a checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct ListedCheckpoint {
    /// Its name.
    pub name: String,
    /// Whether `up` left it.
    pub by_up: bool,
    /// Its lab; absent if it is damaged.
    pub lab: Option<String>,
    /// When it was saved, in seconds since the epoch.
    pub saved: Option<u64>,
    /// When it was last used, in seconds since the epoch.
    pub used: u64,
    /// Bytes on disk, without what templates have too.
    pub bytes: u64,
    /// Hosts.
    pub hosts: usize,
    /// Why it cannot be used, if so.
    pub damage: Option<String>,
}

impl Store {
    /// Those in this cache folder.
    pub fn of(cache: &Path) -> Self {
        Self { root: cache.join("checkpoints") }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn make_root(&self) -> Result<(), Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        made.map_err(Error::io("cannot make the folder", &self.root))
    }

    /// A folder to save into.
    ///
    /// # Errors
    /// The cache cannot be written to.
    pub fn stage(&self) -> Result<Staging, Error> {
        self.make_root()?;
        Staging::new(&self.root).map_err(Error::io("cannot make a folder in", &self.root))
    }

    async fn lock(&self, name: &str, shared: bool) -> Result<File, Error> {
        self.make_root()?;
        let path = self.root.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(Error::io("cannot open", &path))?;
        let locked = match shared {
            true => cache::lock_shared(&file, OTHERS).await,
            false => cache::lock(&file, OTHERS, || ()).await,
        };
        match locked {
            true => Ok(file),
            false => Err(Error::Checkpoint {
                name: name.to_owned(),
                why: format!("another command uses it for longer than {} s", OTHERS.as_secs()),
            }),
        }
    }

    /// Gives what is in a folder of [`Self::stage`] this name, in place of an older one.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn publish(
        &self,
        staging: Staging,
        name: &str,
        mut manifest: CheckpointManifest,
    ) -> Result<(), Error> {
        let dir = staging.path().to_owned();
        let failed = || Error::io("cannot write", self.dir(name));
        let (files, there) = (manifest.file_names(), dir.clone());
        let marks = blocking(move || {
            durable::sync_files(&there)?;
            Marks::of(&there, files)
        });
        manifest.files = Some(marks.await.map_err(failed())?);
        let text = serde_json::to_vec(&manifest).map_err(|e| failed()(e.into()))?;
        fs::write(dir.join(MANIFEST), text).map_err(failed())?;
        let _alone = self.lock(name, false).await?;
        let to = self.dir(name);
        blocking(move || staging.publish(&to)).await.map_err(failed())
    }

    /// Opens a checkpoint and checks that it is intact.
    ///
    /// # Errors
    /// The outer one: its lock. The inner one: it cannot be used.
    pub async fn open(&self, name: &str) -> Result<Result<Checkpoint, Unusable>, Error> {
        let shared = self.lock(name, true).await?;
        Ok(self.read(name).map(|manifest| Checkpoint {
            name: name.to_owned(),
            manifest,
            dir: self.dir(name),
            _shared: shared,
        }))
    }

    /// [`Self::open`], where a user has named it.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be used.
    pub async fn require(&self, name: &str) -> Result<Checkpoint, Error> {
        match self.open(name).await? {
            Ok(checkpoint) => Ok(checkpoint),
            Err(Unusable::Absent) => {
                let known: Vec<String> = self.list().into_iter().map(|l| l.name).collect();
                let hint = match known.as_slice() {
                    [] => "`labctl checkpoint save LAB NAME` makes one of a lab that is up".to_owned(),
                    _ => format!("there are: {}", known.join(", ")),
                };
                Err(Error::NoSuchCheckpoint { name: name.to_owned(), hint })
            }
            Err(Unusable::Damaged(why)) => Err(Error::Checkpoint { name: name.to_owned(), why }),
        }
    }

    fn read(&self, name: &str) -> Result<CheckpointManifest, Unusable> {
        let dir = self.dir(name);
        let text = match fs::read(dir.join(MANIFEST)) {
            Ok(text) => text,
            Err(_) if !dir.exists() => return Err(Unusable::Absent),
            Err(e) => return Err(Unusable::Damaged(format!("its manifest cannot be read: {e}"))),
        };
        let value: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|e| Unusable::Damaged(format!("its manifest is damaged: {e}")))?;
        if value["version"] != json!(VERSION) {
            return Err(Unusable::Damaged("it was saved by another version of labctl".to_owned()));
        }
        let manifest: CheckpointManifest = serde_json::from_value(value)
            .map_err(|e| Unusable::Damaged(format!("it was saved by another version of labctl: {e}")))?;
        let marks =
            manifest.files.as_ref().ok_or_else(|| Unusable::Damaged("it was not finished".to_owned()))?;
        marks.check(&dir).map_err(Unusable::Damaged)?;
        Ok(manifest)
    }

    /// All checkpoints, sorted by name.
    pub fn list(&self) -> Vec<ListedCheckpoint> {
        let folders = fs::read_dir(&self.root).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
        let names = folders.filter_map(|e| e.file_name().into_string().ok()).filter(|n| !n.starts_with('.'));
        let mut all: Vec<ListedCheckpoint> = names.map(|name| self.look(name)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn look(&self, name: String) -> ListedCheckpoint {
        let (read, dir) = (self.read(&name), self.dir(&name));
        let files = fs::read_dir(&dir).into_iter().flatten().flatten().filter_map(|e| e.metadata().ok());
        // A base with another name is a template's, or another checkpoint's.
        let bytes = files.filter(|m| m.nlink() == 1).map(|m| m.blocks() * 512).sum();
        let used =
            fs::metadata(dir.join(MANIFEST)).or_else(|_| fs::metadata(&dir)).and_then(|m| m.modified());
        let used = used.ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default().as_secs();
        let (by_up, damage) = (name.contains('.'), read.as_ref().err().map(ToString::to_string));
        let manifest = read.ok();
        ListedCheckpoint {
            by_up,
            lab: manifest.as_ref().map(|m| m.plan.lab.name.clone()),
            saved: manifest.as_ref().map(|m| m.saved),
            used,
            bytes,
            hosts: manifest.map_or(0, |m| m.hosts.len()),
            damage,
            name,
        }
    }

    /// Removes a checkpoint. Labs that were restored from it go on.
    ///
    /// # Errors
    /// Somebody uses it for too long, or it cannot be removed.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let _alone = self.lock(name, false).await?;
        let dir = self.dir(name);
        // The manifest first: what is left is no checkpoint.
        let remove = || -> io::Result<()> {
            match fs::remove_file(dir.join(MANIFEST)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            fs::remove_dir_all(&dir)
        };
        remove().map_err(Error::io("cannot remove", &dir))?;
        let _ = fs::remove_file(self.root.join(format!("{name}.lock")));
        Ok(())
    }

    /// Removes the least recently used checkpoints that `up` left until all together take no more than `limit` bytes.
    /// Returns the names of those removed.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub async fn prune(&self, limit: u64) -> Result<Vec<String>, Error> {
        let mut all = self.list();
        let mut left: u64 = all.iter().map(|l| l.bytes).sum();
        all.retain(|l| l.by_up);
        all.sort_by_key(|l| l.used);
        let mut removed = Vec::new();
        for listed in all {
            let old = since(listed.used) > KEPT;
            if left <= limit && !old && listed.damage.is_none() {
                continue;
            }
            self.remove(&listed.name).await?;
            left = left.saturating_sub(listed.bytes);
            removed.push(listed.name);
        }
        Ok(removed)
    }
}

/// Tells one kind of lab from others: what `up` makes of the topology, whatever its text and its name, and with what. Its
/// expectations are no part of that; its steps are, since they name images.
pub fn kind(lab: &Lab, images: &BTreeMap<String, String>, needs: &Fingerprint) -> String {
    let mut what =
        json!(Lab { name: String::new(), description: String::new(), expect: Vec::new(), ..lab.clone() });
    if let Some(what) = what.as_object_mut() {
        what.remove("lines");
        what.remove("steps");
    }
    let actions: Vec<_> = lab.steps.iter().flat_map(|s| &s.actions).collect();
    let text = json!([VERSION, env!("CARGO_PKG_VERSION"), what, actions, images, needs]).to_string();
    sha256(text)[..16].to_owned()
}

/// Name of the checkpoint that `up` leaves of a kind: no name that a user may give.
pub fn name_of_kind(kind: &str) -> String {
    format!("up.{kind}")
}

/// Whether two labs have the same parts, whatever their names and what is expected of them.
pub fn is_same(one: &Lab, other: &Lab) -> bool {
    let parts = |lab: &Lab| Lab {
        name: String::new(),
        description: String::new(),
        checkpoint: true,
        expect: Vec::new(),
        steps: Vec::new(),
        lines: Default::default(),
        ..lab.clone()
    };
    parts(one) == parts(other)
}

/// A name that a user may give: 1 to 48 of `[a-z0-9-]`, as labs have.
///
/// # Errors
/// It is no such name.
pub fn check_name(name: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    match (1..=48).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('-') {
        true => Ok(()),
        false => Err(Error::NoSuchCheckpoint {
            name: name.to_owned(),
            hint: "a name is 1 to 48 of `a-z`, `0-9` and `-`, and begins with no `-`".to_owned(),
        }),
    }
}

/// Runs work that blocks beside the async runtime's.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// How long ago this was, in seconds since the epoch.
pub fn since(then: u64) -> Duration {
    Duration::from_secs(now().saturating_sub(then))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LAB: &str = "
name: t
description: One
segments: { lan: { subnet: 10.0.0.0/24 } }
hosts: { a: { lan: 10.0.0.1 }, b: { lan: 10.0.0.2 } }
expect: [ { probe: icmp, from: a, to: b, verdict: yes } ]
steps: [ { name: cut it, do: cut a } ]
";

    fn kind_of(text: &str, needs: &str) -> String {
        let needs = Fingerprint::from([("QEMU".to_owned(), needs.to_owned())]);
        kind(&labctl_topology::parse(text, "t.yaml").unwrap(), &BTreeMap::new(), &needs)
    }

    #[test]
    fn a_kind_is_what_a_lab_is_not_how_it_is_written() {
        let same = kind_of(LAB, "10");
        let written = format!("# a remark\n{}", LAB.replace("One", "Two").replace("icmp", "tcp/80"));
        assert_eq!(kind_of(&written, "10"), same);
        assert_eq!(kind_of(&LAB.replace("name: t", "name: seat-7"), "10"), same);
        for (from, to) in
            [("10.0.0.2 }", "10.0.0.3 }"), ("cut a", "cut b"), ("b: { lan", "b: { engine: bookworm, lan")]
        {
            assert_ne!(kind_of(&LAB.replace(from, to), "10"), same, "{to}");
        }
        assert_ne!(kind_of(LAB, "11"), same);
    }

    #[tokio::test]
    async fn the_least_recently_used_go_and_named_ones_stay() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::of(cache.path());
        let lab = labctl_topology::parse(LAB, "t.yaml").unwrap();
        let plan = |lab| Plan {
            lab,
            topology: "t.yaml".into(),
            runtime: crate::Runtime::Vm,
            cold: false,
            keep: false,
            origin: Default::default(),
            since: 0,
            agent: "/agent".into(),
            cache: cache.path().to_owned(),
            machines: None,
        };
        for (name, age) in [("t.one", 30), ("t.two", 20), ("mine", 90), ("t.three", 10)] {
            let mut manifest = CheckpointManifest::new(plan(lab.clone()), "k".into(), Fingerprint::new());
            let host = SavedHost { base: "k.ram".into(), api: "1.45".into() };
            manifest.hosts.insert("a".into(), host);
            let staging = store.stage().unwrap();
            for file in manifest.file_names() {
                fs::write(staging.path().join(file), [7; 8192]).unwrap();
            }
            store.publish(staging, name, manifest).await.unwrap();
            let used = SystemTime::now() - Duration::from_secs(age);
            let manifest = File::options().append(true).open(store.dir(name).join(MANIFEST)).unwrap();
            manifest.set_modified(used).unwrap();
        }
        let names = || store.list().into_iter().map(|l| l.name).collect::<Vec<_>>();
        assert_eq!(names(), ["mine", "t.one", "t.three", "t.two"]);
        store.require("t.two").await.unwrap().touch();
        let each = store.list()[0].bytes;
        assert_eq!(store.prune(4 * each).await.unwrap(), Vec::<String>::new());
        assert_eq!(store.prune(2 * each).await.unwrap(), ["t.one", "t.three"]);
        assert_eq!(names(), ["mine", "t.two"]);

        let opened = store.require("mine").await.unwrap();
        let other = Fingerprint::from([("QEMU".to_owned(), "11".to_owned())]);
        opened.check_fits(&other).unwrap();
        fs::write(store.dir("t.two").join("a.pages"), "x").unwrap();
        assert!(store.list().iter().any(|l| l.damage.as_ref().is_some_and(|d| d.contains("a.pages"))));
        assert_eq!(store.prune(u64::MAX).await.unwrap(), ["t.two"], "a damaged one is of no use");
        assert!(matches!(store.open("t.two").await.unwrap(), Err(Unusable::Absent)));
        fs::write(store.dir("mine").join(MANIFEST), "{\"version\": 99}").unwrap();
        let error = store.require("mine").await.unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
    }
}
