//! Vagrant boxes: machines with systemd, sshd and Docker, of Debian packages, with a disk that a BIOS boots.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use labctl_model::Suite;
use serde_json::json;

use crate::{
    Error, Progress, bootstrap,
    build::{lock, publish, quoted},
    cache::Staging,
    recipe,
};

/// The hook that makes the disk.
const HOOK: &str = include_str!("box.sh");
/// Where Vagrant looks for settings that a box brings.
const VAGRANTFILE: &str = include_str!("box.rb");
/// VirtualBox's description of the machine (OVF 1.0, DMTF DSP0243).
const OVF: &str = include_str!("box.ovf");

/// Besides Docker and the tools of a node image.
const PACKAGES: &str =
    "systemd-sysv,udev,dbus,openssh-server,sudo,initramfs-tools,grub-pc-bin,grub-common,e2fsprogs";
/// What labctl needs in a seat, besides Docker.
const SEAT_PACKAGES: &str = "bash-completion,less,tcpdump,vim-tiny,zstd";

/// What the hook does besides in a seat: its Docker runs, and the user of Vagrant uses labctl.
const SEAT: &str = r#"
chroot "$root" systemctl unmask docker.service docker.socket containerd.service
chroot "$root" systemctl enable docker.service
chroot "$root" usermod --append --groups docker vagrant
chroot "$root" chown -R vagrant:vagrant @CACHE@
printf 'LABCTL_CACHE_DIR=@CACHE@
' >> "$root/etc/environment"
chmod 755 "$root/usr/bin/labctl" "$root/usr/bin/labctl-agent"
mkdir -p "$root/usr/share/bash-completion/completions"
chroot "$root" labctl completions bash > "$root/usr/share/bash-completion/completions/labctl"
"#;

/// MiB of a machine's disk: Vagrant uploads as much, once.
const DISK: u64 = 3072;
/// MiB that a box takes in the cache while it is made.
const NEED_MIB: u64 = 1000;
/// MiB that its filesystem and disk take while they are made.
const SCRATCH_MIB: u64 = 4000;

/// Name of the box in its folder.
const FILE: &str = "package.box";

const MARKS: bootstrap::Marks = &[
    ("I: running apt-get update", "reading package lists"),
    ("I: downloading packages", "downloading packages"),
    ("I: installing essential packages", "installing packages"),
    ("labctl: settings", "setting it up"),
    ("labctl: disk", "making the disk"),
    ("labctl: packing", "packing it"),
];

/// Whose machines a box is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxProvider {
    /// libvirt, by the plugin vagrant-libvirt.
    Libvirt,
    /// VirtualBox.
    Virtualbox,
}

impl BoxProvider {
    /// As Vagrant names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::Virtualbox => "virtualbox",
        }
    }

    /// The kernel's package. The one for clouds lacks VirtualBox's disk controller.
    fn kernel(self) -> &'static str {
        match self {
            Self::Libvirt => "linux-image-cloud-amd64",
            Self::Virtualbox => "linux-image-amd64",
        }
    }

    /// PCI slot of Vagrant's own NIC. libvirt gives slots out from below; VirtualBox puts its first NIC there.
    fn slot(self) -> &'static str {
        match self {
            Self::Libvirt => "1d",
            Self::Virtualbox => "03",
        }
    }

    /// The settings that the box brings.
    fn vagrantfile(self) -> String {
        VAGRANTFILE.replace("@SLOT@", self.slot())
    }

    /// The disk's name in the box, and qemu-img's words for its format.
    fn disk(self) -> (&'static str, &'static str) {
        match self {
            Self::Libvirt => ("box.img", "-c -O qcow2"),
            Self::Virtualbox => ("box-disk001.vmdk", "-O vmdk -o subformat=streamOptimized"),
        }
    }
}

impl fmt::Display for BoxProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Files for the workshop's machine: where they are here, and where they go.
#[derive(Clone, Debug, Default)]
pub struct Seat {
    /// Files and folders; a folder's contents go into the folder that is named.
    pub files: Vec<(PathBuf, String)>,
}

/// What to make.
#[derive(Clone, Debug)]
pub struct BoxOptions {
    /// The user's cache folder for labctl.
    pub cache: PathBuf,
    /// Debian release.
    pub suite: Suite,
    /// Whose machines it is for.
    pub provider: BoxProvider,
    /// Make it a workshop's machine, with labctl in it.
    pub seat: Option<Seat>,
    /// Make it even if it is there.
    pub rebuild: bool,
}

impl Seat {
    /// labctl's cache folder there.
    pub const CACHE: &str = "/srv/labctl";
}

impl BoxOptions {
    /// Name by which Vagrant knows it: `labctl/trixie-` and 12 hex digits for what decides its contents. A seat's is always
    /// `labctl/seat`, so that a Vagrantfile can name it.
    pub fn name(&self) -> String {
        match self.seat {
            Some(_) => "labctl/seat".to_owned(),
            None => format!("labctl/{}", self.id()),
        }
    }

    fn id(&self) -> String {
        match self.seat {
            Some(_) => format!("seat-{}", self.suite.name()),
            None => {
                recipe::id(self.suite.name(), &[&self.packages(), &self.hook(), &self.provider.vagrantfile()])
            }
        }
    }

    fn packages(&self) -> String {
        let seat = if self.seat.is_some() { SEAT_PACKAGES } else { "" };
        [&recipe::packages(self.suite), PACKAGES, self.provider.kernel(), seat]
            .join(",")
            .trim_end_matches(',')
            .to_owned()
    }

    /// The hook that makes this one.
    fn hook(&self) -> String {
        let extra = self.seat.as_ref().map(|_| SEAT.replace("@CACHE@", Seat::CACHE)).unwrap_or_default();
        HOOK.replace("@MIB@", &self.disk_mib().to_string())
            .replace("@FORMAT@", self.provider.disk().1)
            .replace("@SLOT@", self.provider.slot())
            .replace("@EXTRA@", &extra)
    }

    /// Where it is, once it is made.
    pub fn file(&self) -> PathBuf {
        self.folder().join(FILE)
    }

    fn folder(&self) -> PathBuf {
        folder(&self.cache).join(format!("{}.{}", self.id(), self.provider))
    }

    /// MiB of its disk. A seat has images of its own.
    fn disk_mib(&self) -> u64 {
        if self.seat.is_some() { 3 * DISK } else { DISK }
    }
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("boxes")
}

/// The boxes that are there: `trixie-0123456789ab.libvirt`, and bytes on disk.
pub fn ls(cache: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(folder(cache)).into_iter().flatten().flatten();
    let made = entries.filter_map(|e| {
        let size = fs::metadata(e.path().join(FILE)).ok()?.len();
        Some((e.file_name().into_string().ok()?, size))
    });
    let mut found: Vec<_> = made.collect();
    found.sort();
    found
}

/// Removes a box by the name that [`ls`] gives it. Returns whether there was one.
///
/// # Errors
/// Those of the file system.
pub fn rm(cache: &Path, name: &str) -> Result<bool, Error> {
    if !ls(cache).iter().any(|(known, _)| known == name) {
        return Ok(false);
    }
    let path = folder(cache).join(name);
    fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
    Ok(true)
}

/// Makes a box, unless it is there. Two builds at once do not collide.
///
/// # Errors
/// As of [`crate::build()`].
pub async fn build_box(
    options: &BoxOptions,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<(), Error> {
    let there = || options.file().exists() && !options.rebuild;
    if there() {
        return Ok(());
    }
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::Architecture(std::env::consts::ARCH));
    }
    let boxes = folder(&options.cache);
    fs::create_dir_all(&boxes).map_err(Error::io("make", &boxes))?;
    let asked = SystemTime::now();
    let id = options.id();
    let _lock = lock(boxes.join(format!(".lock-{id}")), MARKS.len(), progress).await?;
    let since = fs::metadata(options.file()).and_then(|m| m.modified()).ok();
    if there() || since.is_some_and(|made| made > asked) {
        return Ok(());
    }
    let missing = |source| Error::Missing { program: "qemu-img", package: "qemu-utils", source };
    Command::new("qemu-img").arg("--version").output().map_err(missing)?;
    // A seat's disk and archive are larger.
    let need_mib = if options.seat.is_some() { 2 * NEED_MIB } else { NEED_MIB };
    bootstrap::need_space(&boxes, need_mib, "free some, or give another cache folder (LABCTL_CACHE_DIR)")?;
    let staging = Staging::new(&boxes).map_err(Error::io("make a folder in", &boxes))?;
    let disk = staging.path().join(options.provider.disk().0);
    let mut hooks = Vec::new();
    for (from, to) in options.seat.iter().flat_map(|seat| &seat.files) {
        let verb = if from.is_dir() { "sync-in" } else { "upload" };
        let parent = Path::new(to).parent().unwrap_or(Path::new("/")).display();
        hooks.push(format!(
            "--customize-hook=mkdir -p \"$1{}\"",
            if from.is_dir() { to.clone() } else { parent.to_string() }
        ));
        hooks.push(format!("--customize-hook={verb} {} {to}", quoted(from)?));
    }
    hooks.push(format!("--customize-hook={}", options.hook()));
    hooks.push(format!("--customize-hook=download /.labctl/disk {}", quoted(&disk)?));
    hooks.push("--customize-hook=rm -r \"$1/.labctl\"".to_owned());
    let job = bootstrap::Job {
        suite: options.suite,
        mode: bootstrap::Mode::detect().await?,
        variant: "minbase",
        packages: &options.packages(),
        options: hooks,
        // Only the disk is wanted.
        to: PathBuf::from("/dev/null"),
        marks: MARKS,
        scratch_mib: SCRATCH_MIB + options.disk_mib(),
        log: &boxes.join(format!("{id}.log")),
    };
    bootstrap::run(&job, progress).await?;
    let (step, of) =
        (u32::try_from(MARKS.len()).unwrap_or(u32::MAX), u32::try_from(MARKS.len()).unwrap_or(u32::MAX));
    progress(Progress { step, of, what: "packing it", elapsed: Duration::ZERO });
    let (dir, provider, mib) = (staging.path().to_owned(), options.provider, options.disk_mib());
    let packed = tokio::task::spawn_blocking(move || pack(&dir, provider, mib)).await;
    packed.map_err(|e| Error::content(&disk, e.to_string()))?.map_err(Error::io("write", staging.path()))?;
    fs::remove_file(&disk).map_err(Error::io("remove", &disk))?;
    publish(staging, &[FILE], &options.folder())
}

/// Writes the archive (https://developer.hashicorp.com/vagrant/docs/boxes/format).
fn pack(dir: &Path, provider: BoxProvider, mib: u64) -> io::Result<()> {
    let (disk, _) = provider.disk();
    let mut archive = tar::Builder::new(fs::File::create(dir.join(FILE))?);
    let mut add = |name: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes())
    };
    let metadata = match provider {
        BoxProvider::Libvirt => {
            json!({ "provider": "libvirt", "format": "qcow2", "virtual_size": mib.div_ceil(1024) })
        }
        BoxProvider::Virtualbox => json!({ "provider": "virtualbox" }),
    };
    add("metadata.json", &metadata.to_string())?;
    add("Vagrantfile", &provider.vagrantfile())?;
    if provider == BoxProvider::Virtualbox {
        let packed = fs::metadata(dir.join(disk))?.len();
        let text = OVF.replace("@PACKED@", &packed.to_string()).replace("@BYTES@", &(mib << 20).to_string());
        add("box.ovf", &text)?;
    }
    archive.append_path_with_name(dir.join(disk), disk)?;
    archive.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_box_holds_what_vagrant_reads() {
        let dir = tempfile::tempdir().unwrap();
        for provider in [BoxProvider::Libvirt, BoxProvider::Virtualbox] {
            let (disk, _) = provider.disk();
            fs::write(dir.path().join(disk), [7; 1000]).unwrap();
            pack(dir.path(), provider, 3072).unwrap();
            let mut archive = tar::Archive::new(fs::File::open(dir.path().join(FILE)).unwrap());
            let mut found = std::collections::BTreeMap::new();
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut bytes = Vec::new();
                io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
                found.insert(name, bytes);
            }
            assert_eq!(found[disk], [7; 1000]);
            let metadata: serde_json::Value = serde_json::from_slice(&found["metadata.json"]).unwrap();
            assert_eq!(metadata["provider"], provider.name());
            assert!(found.contains_key("Vagrantfile"));
            match provider {
                BoxProvider::Libvirt => assert_eq!(metadata["virtual_size"], 3),
                BoxProvider::Virtualbox => {
                    let ovf = String::from_utf8(found["box.ovf"].clone()).unwrap();
                    let document = roxmltree::Document::parse(&ovf).unwrap();
                    let disk = document.descendants().find(|n| n.has_tag_name("Disk")).unwrap();
                    let ovf = "http://schemas.dmtf.org/ovf/envelope/1";
                    assert_eq!(disk.attribute((ovf, "capacity")), Some("3221225472"));
                }
            }
        }
    }

    #[test]
    fn a_box_is_known_by_what_is_in_it() {
        let cache = tempfile::tempdir().unwrap();
        let options = |suite, provider, seat| BoxOptions {
            cache: cache.path().to_owned(),
            suite,
            provider,
            seat,
            rebuild: false,
        };
        let trixie = options(Suite::Trixie, BoxProvider::Libvirt, None);
        assert_eq!(trixie.name().len(), "labctl/trixie-".len() + 12);
        assert_ne!(trixie.name(), options(Suite::Bookworm, BoxProvider::Libvirt, None).name());
        assert_eq!(options(Suite::Trixie, BoxProvider::Libvirt, Some(Seat::default())).name(), "labctl/seat");
        assert!(ls(cache.path()).is_empty() && !rm(cache.path(), "x").unwrap());
        fs::create_dir_all(trixie.folder()).unwrap();
        fs::write(trixie.file(), "box").unwrap();
        let name = format!("{}.libvirt", trixie.id());
        assert_eq!(ls(cache.path()), [(name.clone(), 3)]);
        assert!(rm(cache.path(), &name).unwrap() && ls(cache.path()).is_empty());
    }
}
