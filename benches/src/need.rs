//! Tools that we are measured against.

use std::process::Command;

/// Ends with how to install it if something that we are measured against is missing: `check`, a shell command, fails.
pub fn need(what: &str, check: &str, package: &str) {
    let found = Command::new("sh").args(["-c", check]).output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("{what} is missing; hint: apt-get install --no-install-recommends {package}");
        std::process::exit(3);
    }
}
