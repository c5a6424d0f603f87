//! The runtimes, and which one a lab gets.

use std::path::Path;

use labctl_model::Lab;
use labctl_state::{LabDir, Machines, Plan, Runtime};
use labctl_yaml::Places;

use crate::{
    Error,
    dind::{self, DindProvider},
    machine::Provider,
    qemu::{self, Accel},
    spawn,
    ssh::{self, SshProvider},
    vagrant::{self, VagrantProvider},
    vm::VmProvider,
};

/// The runtime that a lab gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Which one.
    pub runtime: Runtime,
    /// Why, in one line, if labctl chose.
    pub why: Option<String>,
    /// The lab as it is there: machines that exist have NICs of their own.
    pub lab: Lab,
}

/// Chooses the runtime before anything is made: the one that was `asked` for, else the best one that can run the lab here.
/// `places` are those of the lab's topology, `cache` is the user's cache folder.
///
/// The best is `vm` if KVM works (a kernel per host, and no slower) or if machines must boot (`cold`); else `dind` if
/// Docker and this kernel have all that the lab needs, since emulated machines are several times slower; else `vm`, which
/// runs everywhere.
///
/// # Errors
/// [`Error::Unfit`] and [`Error::Lacks`]: `dind` or `ssh` was asked for and cannot run this lab.
pub async fn resolve(
    asked: Option<Runtime>,
    machines: Option<&Machines>,
    lab: &Lab,
    places: &Places,
    cache: &Path,
    agent: &Path,
    cold: bool,
) -> Result<Chosen, Error> {
    let chosen = |runtime, why| Chosen { runtime, why, lab: lab.clone() };
    let vm = |why: String| chosen(Runtime::Vm, Some(why));
    match asked {
        Some(runtime @ (Runtime::Vm | Runtime::Vagrant)) => Ok(chosen(runtime, None)),
        Some(Runtime::Ssh) => {
            let machines = machines.ok_or(Error::NoMachines)?;
            Ok(Chosen { lab: ssh::adopt(lab, places, machines).await?, ..chosen(Runtime::Ssh, None) })
        }
        Some(Runtime::Dind) => match dind::fit(lab, agent).await {
            Ok(_) => Ok(chosen(Runtime::Dind, None)),
            Err(unfit) => Err(unfit.error(places)),
        },
        None if cold => Ok(vm("runtime vm: only machines can be booted".into())),
        None if has_kvm(cache, agent).await => Ok(vm("runtime vm: there is KVM".into())),
        None => Ok(match dind::fit(lab, agent).await {
            Ok(version) => {
                let why = format!(
                    "runtime dind: no KVM here, and this kernel and Docker {version} have all that the lab needs; \
                     root in a host is root of this machine"
                );
                chosen(Runtime::Dind, Some(why))
            }
            Err(unfit) => vm(format!("runtime vm, not dind: {}", unfit.summary())),
        }),
    }
}

/// Whether KVM works: tested by booting a node image once if there is one (see [`Accel::detect`]), else by running a few
/// instructions, which proves less.
pub(crate) async fn has_kvm(cache: &Path, agent: &Path) -> bool {
    match labctl_images::ls(cache).unwrap_or_default().into_iter().find(|l| l.current) {
        Some(listed) => Accel::detect(cache, &listed.image, agent).await == Accel::Kvm,
        None => qemu::kvm_works().await.is_ok(),
    }
}

/// What makes the hosts of a plan, whose lab has this folder.
pub fn provider(plan: &Plan, dir: &LabDir) -> Box<dyn Provider> {
    match plan.runtime {
        Runtime::Vm => Box::new(VmProvider::new(plan)),
        Runtime::Dind => Box::new(DindProvider::new(plan)),
        Runtime::Ssh => Box::new(SshProvider::new(plan, dir)),
        Runtime::Vagrant => Box::new(VagrantProvider::new(plan, dir)),
    }
}

/// Waits until this process has cleaned up all starts that were given up.
pub async fn settled() {
    spawn::settled().await;
}

/// Removes what a lab left besides processes, as its runtime noted in the lab's folder. Returns what could not be
/// removed.
pub async fn sweep(dir: &LabDir) -> Vec<String> {
    let mut left = dind::sweep(dir).await;
    left.extend(ssh::sweep(dir).await);
    left.extend(vagrant::sweep(dir).await);
    left
}
