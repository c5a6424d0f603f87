//! The runtimes, and which one a lab gets.

use std::path::Path;

use labctl_model::Lab;

use crate::{
    Error, LabDir, Plan,
    dind::{self, DindProvider},
    machine::Provider,
    vm::{self, Accel, VmProvider},
};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// The best one that can run the lab here.
    #[default]
    Auto,
    /// Each host is a machine with its own kernel.
    Vm,
    /// Each host is a container with its own dockerd.
    Dind,
}

/// The runtime that a lab gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The runtime's name.
    pub runtime: &'static str,
    /// Why, in one line, if labctl chose.
    pub why: Option<String>,
}

impl Chosen {
    /// As a choice that is already made.
    pub fn choice(&self) -> RuntimeChoice {
        match self.runtime {
            DindProvider::NAME => RuntimeChoice::Dind,
            _ => RuntimeChoice::Vm,
        }
    }
}

impl RuntimeChoice {
    /// Chooses the runtime before anything is made. `cache` is the user's cache folder.
    ///
    /// With `auto` this is `vm` if KVM works (a kernel per host, and no slower) or if machines must boot (`cold`); else
    /// `dind` if Docker and this kernel have all that the lab needs, since emulated machines are several times slower;
    /// else `vm`, which runs everywhere.
    ///
    /// # Errors
    /// [`Error::Unfit`]: `dind` was asked for and cannot run this lab here.
    pub async fn resolve(self, lab: &Lab, cache: &Path, agent: &Path, cold: bool) -> Result<Chosen, Error> {
        let vm = |why: String| Chosen { runtime: VmProvider::NAME, why: Some(why) };
        match self {
            RuntimeChoice::Vm => Ok(Chosen { runtime: VmProvider::NAME, why: None }),
            RuntimeChoice::Dind => match dind::fit(lab, agent).await {
                Ok(_) => Ok(Chosen { runtime: DindProvider::NAME, why: None }),
                Err(unfit) => Err(unfit.error(&lab.places)),
            },
            RuntimeChoice::Auto if cold => Ok(vm("runtime vm: only machines can be booted".into())),
            RuntimeChoice::Auto if has_kvm(cache, agent).await => Ok(vm("runtime vm: there is KVM".into())),
            RuntimeChoice::Auto => Ok(match dind::fit(lab, agent).await {
                Ok(version) => {
                    let why = format!(
                        "runtime dind: no KVM here, and this kernel and Docker {version} have all that the lab needs; \
                         root in a host is root of this machine"
                    );
                    Chosen { runtime: DindProvider::NAME, why: Some(why) }
                }
                Err(unfit) => vm(format!("runtime vm, not dind: {}", unfit.summary())),
            }),
        }
    }
}

/// Whether KVM works: tested by booting a node image once if there is one (see [`Accel::detect`]), else by running a few
/// instructions, which proves less.
async fn has_kvm(cache: &Path, agent: &Path) -> bool {
    match labctl_images::ls(cache).unwrap_or_default().into_iter().find(|l| l.current) {
        Some(listed) => Accel::detect(cache, &listed.image, agent).await == Accel::Kvm,
        None => vm::kvm_works().await.is_ok(),
    }
}

/// Creates the provider of a plan's runtime.
pub fn provider(plan: &Plan) -> Result<Box<dyn Provider>, Error> {
    match plan.runtime.as_str() {
        VmProvider::NAME => Ok(Box::new(VmProvider::new(plan))),
        DindProvider::NAME => Ok(Box::new(DindProvider::new(plan))),
        other => Err(Error::Unsupported(format!("runtime `{other}` is unknown\nhint: there are: vm, dind"))),
    }
}

/// Waits until this process has cleaned up all starts that were given up.
pub async fn settled() {
    vm::settled().await;
}

/// Removes what a lab left besides processes, as its runtime noted in the lab's folder. Returns what could not be
/// removed.
pub async fn sweep(dir: &LabDir) -> Vec<String> {
    dind::sweep(dir).await
}
