//! What decides the contents of a node image.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::Error;

/// Installed in every node image, with dependencies but without recommended packages.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    labctl_protocol::messages::BUILTIN_RUNTIME,
    "docker.io",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "mount",
    "nftables",
    "procps",
];

/// The script that runs after all packages are installed.
const HOOK: &str = include_str!("hook.sh");

/// The modules that are loaded ahead.
pub(crate) const MODULES: &str = include_str!("modules.txt");

/// Raise this when code changes the image in a way that the inputs above do not show.
const FORMAT: u32 = 1;

/// A Debian release, and with it a version of Docker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// Debian 13, Docker 26.1.
    #[default]
    Trixie,
    /// Debian 12, Docker 20.10.
    Bookworm,
}

impl Suite {
    /// All of them.
    pub const ALL: [Suite; 2] = [Suite::Trixie, Suite::Bookworm];

    /// Debian's code name.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Trixie => "trixie",
            Suite::Bookworm => "bookworm",
        }
    }

    /// The release that the kernel comes from: 6.12 in both, so that suites differ in Docker alone.
    pub(crate) fn kernel_suite(self) -> &'static str {
        match self {
            Suite::Trixie => "trixie",
            Suite::Bookworm => "bookworm-backports",
        }
    }

    /// The packages to install, separated by commas.
    pub(crate) fn packages(self) -> String {
        let mut packages = PACKAGES.join(",");
        if self == Suite::Trixie {
            // A separate package since Debian 13.
            packages.push_str(",docker-cli");
        }
        packages
    }

    /// The script for mmdebstrap's customize hook.
    pub(crate) fn hook(self) -> String {
        let from = self.kernel_suite();
        // A release of its own, such as backports, is used only where asked for; otherwise the newest wins, security
        // updates included.
        HOOK.replace("@FROM@", &if from == self.name() { String::new() } else { format!("-t {from}") })
    }

    /// Name of the image that this version of labctl makes of this suite: `trixie-` and 12 hex digits.
    pub fn image_id(self) -> String {
        let mut hash = Sha256::new();
        hash.update(FORMAT.to_le_bytes());
        for part in [self.name(), &self.packages(), &self.hook(), MODULES] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let hex = crate::hash::hex(&digest[..6]);
        format!("{}-{hex}", self.name())
    }
}

impl From<labctl_model::Engine> for Suite {
    fn from(engine: labctl_model::Engine) -> Self {
        match engine {
            labctl_model::Engine::Trixie => Self::Trixie,
            labctl_model::Engine::Bookworm => Self::Bookworm,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| Error::UnknownSuite(text.to_owned()))
    }
}
