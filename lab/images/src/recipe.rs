//! What decides the contents of a node image.

use labctl_model::Suite;
use sha2::{Digest, Sha256};

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

/// What a tarball of Docker's must hold (docker/packaging, static).
pub(crate) const BINARIES: [&str; 8] = [
    "docker",
    "dockerd",
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
    "ctr",
    "docker-init",
    "docker-proxy",
];

/// The script that runs after all packages are installed.
const HOOK: &str = include_str!("hook.sh");

/// The modules that are loaded ahead.
pub(crate) const MODULES: &str = include_str!("modules.txt");

/// Raise this when code changes the image in a way that the inputs above do not show.
const FORMAT: u32 = 1;

/// Of a suite's own Docker and of one from a tarball: what a hook prints for labctl to read.
const DEBIAN_VERSION: &str = r#"$(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${Version}' docker.io)"#;
const OWN_VERSION: &str =
    r#"$(chroot "$root" dockerd --version | sed -n 's/^Docker version \([^,]*\),.*/\1/p')"#;

/// The release that the kernel comes from: 6.12 for all, so that suites differ in Docker alone.
pub(crate) fn kernel_suite(suite: Suite) -> &'static str {
    match suite {
        Suite::Trixie | Suite::Forky => "trixie",
        Suite::Bookworm => "bookworm-backports",
    }
}

/// The packages to install, separated by commas.
pub(crate) fn packages(suite: Suite) -> String {
    let mut packages = PACKAGES.join(",");
    if suite >= Suite::Trixie {
        // A separate package since Debian 13.
        packages.push_str(",docker-cli");
    }
    packages
}

/// The script for mmdebstrap's customize hook.
pub(crate) fn hook(suite: Suite) -> String {
    let from = kernel_suite(suite);
    // A release of its own, such as backports, is used only where asked for; otherwise the newest wins, security
    // updates included.
    HOOK.replace("@FROM@", &if from == suite.name() { String::new() } else { format!("-t {from}") })
}

/// The same script where Docker is not Debian's.
pub(crate) fn own_hook(suite: Suite) -> String {
    hook(suite).replace(DEBIAN_VERSION, OWN_VERSION)
}

/// Name of the image that this version of labctl makes of a suite: `trixie-` and 12 hex digits.
pub fn image_id(suite: Suite) -> String {
    id(suite.name(), &[suite.name(), &packages(suite), &hook(suite), MODULES])
}

/// A name, and 12 hex digits for all that decides what is in the image.
pub(crate) fn id(name: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_le_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    format!("{name}-{}", crate::hash::hex(&digest[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_of_one_s_own_says_its_version_itself() {
        let hook = own_hook(Suite::Trixie);
        assert!(hook.contains("dockerd --version") && !hook.contains("dpkg-query"), "{hook}");
    }
}
