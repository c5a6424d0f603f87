//! Whether machines use the processor's virtualization (KVM) or are emulated (TCG).

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use labctl_images::NodeImage;
use labctl_protocol::client::AgentClient;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{Memory, QEMU, Vm, VmSpec};

/// How a machine's processor is provided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By this machine's processor, through `/dev/kvm`.
    Kvm,
    /// By translation: several times slower, runs everywhere.
    Tcg,
}

/// With KVM a trial ends in a tenth of a second; broken nested KVM may hang.
const TRIAL: Duration = Duration::from_secs(3);

/// How long an image may take to boot with KVM. It takes half a second if KVM works, and three with TCG.
const BOOT: Duration = Duration::from_secs(5);

/// What the trial's firmware writes to the port that ends QEMU, whose exit status is then `2 * ANSWER + 1`.
const ANSWER: u8 = 42;

/// A 64 KiB firmware whose reset vector, 16 octets below its end, says `mov $42, %al; out %al, $0xf4; hlt; jmp .`.
fn firmware() -> Vec<u8> {
    let mut rom = vec![0xf4; 64 << 10];
    let code = [0xb0, ANSWER, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd];
    let reset = rom.len() - 16;
    rom[reset..reset + code.len()].copy_from_slice(&code);
    rom
}

impl Accel {
    /// KVM if it boots `image` with this agent, else TCG. The result is kept in `cache` until this machine reboots.
    ///
    /// `/dev/kvm` alone proves nothing, nor do a few instructions: under some hypervisors a machine starts and stops in
    /// the middle of its kernel, or is slower than TCG.
    pub async fn detect(cache: &Path, image: &NodeImage, agent: &Path) -> Self {
        if open_kvm().is_err() {
            return Self::Tcg;
        }
        let kept = cache.join("accel.json");
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let known =
            fs::read(&kept).ok().and_then(|text| serde_json::from_slice::<(String, Self)>(&text).ok());
        if let Some((_, accel)) = known.filter(|(when, _)| *when == boot && !boot.is_empty()) {
            return accel;
        }
        let accel = match kvm_boots(image, agent).await {
            Ok(()) => Self::Kvm,
            Err(why) => {
                tracing::info!("KVM is not used: {why}");
                Self::Tcg
            }
        };
        // If this fails, the next start only tries again.
        let _ = fs::create_dir_all(cache);
        let _ = serde_json::to_vec(&(boot, accel)).map(|text| fs::write(&kept, text));
        accel
    }

    /// `kvm` or `tcg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

fn open_kvm() -> Result<(), String> {
    fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map(drop)
        .map_err(|e| format!("/dev/kvm: {e}"))
}

/// Boots this image with KVM up to its agent.
///
/// # Errors
/// Why that failed, in words.
pub async fn kvm_boots(image: &NodeImage, agent: &Path) -> Result<(), String> {
    kvm_works().await?;
    let dir = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let spec = VmSpec {
        name: "trial".into(),
        dir: dir.path().to_owned(),
        accel: Accel::Kvm,
        memory_mib: 512,
        memory: Memory::Anonymous,
        kernel: image.kernel(),
        initrd: image.initrd(agent).map_err(|e| e.to_string())?,
        root: image.root(),
        nics: Vec::new(),
        shortcuts: false,
        incoming: false,
    };
    // Dropping it does not wait: a broken KVM may hold on to its process for minutes.
    let vm = Vm::start(spec).await.map_err(|e| e.to_string())?;
    let mut events = vm.qmp().events();
    let stream = vm.agent().await.map_err(|e| e.to_string())?;
    tokio::select! {
        answer = AgentClient::connect_within(stream, BOOT) => match answer {
            Ok(_) => Ok(()),
            Err(e) => Err(format!("a machine with KVM did not boot: {e}")),
        },
        // The processor met something that this KVM cannot do.
        event = events.recv() => Err(format!("a machine with KVM stopped while it booted ({})", event.map(|e| e.name).unwrap_or_default())),
    }
}

/// Runs a few instructions in a machine with KVM: a quick test, while [`kvm_boots`] is the proof.
///
/// # Errors
/// Why that failed, in words.
pub async fn kvm_works() -> Result<(), String> {
    open_kvm()?;
    let rom = tempfile::NamedTempFile::new().map_err(|e| format!("no temporary file: {e}"))?;
    fs::write(rom.path(), firmware()).map_err(|e| format!("no temporary file: {e}"))?;
    let mut command = Command::new(QEMU);
    command
        .args([
            "-accel",
            "kvm",
            "-cpu",
            "host",
            "-machine",
            "pc",
            "-m",
            "16",
            "-nodefaults",
            "-no-user-config",
        ])
        .args(["-display", "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-bios"])
        .arg(rom.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(TRIAL, command.output()).await {
        Err(_) => Err(format!("a machine with KVM did nothing for {} s", TRIAL.as_secs())),
        Ok(Err(e)) => Err(format!("{QEMU}: {e}")),
        Ok(Ok(output)) if output.status.code() == Some(i32::from(ANSWER) * 2 + 1) => Ok(()),
        Ok(Ok(output)) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let why = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("it ended without a word");
            Err(why.trim_start_matches(QEMU).trim_start_matches(": ").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The firmware, not KVM, is under test: TCG runs the same instructions.
    #[tokio::test]
    async fn the_firmware_answers() {
        let rom = tempfile::NamedTempFile::new().unwrap();
        fs::write(rom.path(), firmware()).unwrap();
        let output = Command::new(QEMU)
            .args([
                "-accel",
                "tcg",
                "-machine",
                "pc",
                "-m",
                "16",
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
            ])
            .args(["-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-bios"])
            .arg(rom.path())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(20), output).await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(85), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
