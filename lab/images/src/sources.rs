//! Where packages come from: the machine's own apt configuration, as apt itself reads it.

use tokio::process::Command;

use labctl_model::Suite;

use crate::{Error, recipe::kernel_suite};

/// Releases of Debian proper, by which the machine's Debian mirrors are recognised.
const RELEASES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// What apt downloads through (proxies, time-outs) and how it judges dates, which must hold for the image as well.
const SETTINGS: &[&str] =
    &["Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv"];

/// One-line sources for `suite` from this machine's mirrors. Empty if it has none for Debian, as on Ubuntu: mmdebstrap
/// then uses Debian's own.
pub async fn lines(suite: Suite) -> Result<Vec<String>, Error> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
    let targets =
        run("apt-get", &["indextargets", "--no-release-info", "--format", format, "Created-By: Packages"])
            .await?;
    Ok(select(&targets, suite))
}

/// `--aptopt` values with the machine's own settings.
pub async fn settings() -> Result<Vec<String>, Error> {
    let dump = run("apt-config", &["dump"]).await?;
    // Lines without a value only open a scope.
    let wanted = |line: &&str| SETTINGS.iter().any(|s| line.starts_with(s)) && !line.ends_with("\"\";");
    Ok(dump.lines().filter(wanted).map(|l| l.trim_end_matches(';').to_owned()).collect())
}

fn select(targets: &str, suite: Suite) -> Vec<String> {
    let mut main = None;
    let mut security = None;
    for line in targets.lines() {
        let [uri, release, "main"] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else { continue };
        let (base, rest) = release.split_once(['-', '/']).unwrap_or((release, ""));
        if !RELEASES.contains(&base) {
            continue;
        }
        match rest {
            "" => main = main.or(Some(uri)),
            "security" => security = security.or(Some(uri)),
            _ => {}
        }
    }
    let Some(main) = main else { return Vec::new() };
    let mut lines = vec![format!("deb {main} {suite} main"), format!("deb {main} {suite}-updates main")];
    lines.extend(security.map(|uri| format!("deb {uri} {suite}-security main")));
    if kernel_suite(suite) != suite.name() {
        lines.push(format!("deb {main} {} main", kernel_suite(suite)));
    }
    lines
}

async fn run(program: &'static str, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(program).args(arguments).output().await.map_err(|source| Error::Missing {
        program,
        package: "apt",
        source,
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mirror_of_one_release_serves_another() {
        let targets = "http://m.example/debian/ bookworm main\nhttp://m.example/debian/ bookworm contrib\n\
                       http://m.example/debian/ bookworm-updates main\nhttp://m.example/sec/ bookworm-security main\n\
                       http://other.example/node/ nodistro main\n";
        assert_eq!(
            select(targets, Suite::Trixie),
            [
                "deb http://m.example/debian/ trixie main",
                "deb http://m.example/debian/ trixie-updates main",
                "deb http://m.example/sec/ trixie-security main"
            ]
        );
        assert!(
            select(targets, Suite::Bookworm)
                .contains(&"deb http://m.example/debian/ bookworm-backports main".into())
        );
        // Its kernel is trixie's.
        assert!(select(targets, Suite::Forky).contains(&"deb http://m.example/debian/ trixie main".into()));
    }

    #[test]
    fn a_machine_that_is_not_debian_leaves_the_choice_to_mmdebstrap() {
        assert!(
            select(
                "http://u.example/ubuntu/ noble main\nhttp://u.example/ubuntu/ noble-security main\n",
                Suite::Trixie
            )
            .is_empty()
        );
    }
}
