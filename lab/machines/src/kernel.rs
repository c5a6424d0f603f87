//! What this machine's kernel can do for hosts that share it. The agent's binary tries it in its own namespace. For
//! `labctl doctor` and for the `dind` runtime.

use std::{path::Path, process::Stdio, time::Duration};

pub use labctl_protocol::kernel::{Feature, Findings, is_own_sysctl};
use tokio::process::Command;

/// Time limit for trying it all: some 50 ms, and the time to load modules.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns what the kernel has, and its answer for what it lacks.
///
/// # Errors
/// It cannot be tried, in words: neither root nor a user namespace.
pub async fn examine(agent: &Path) -> Result<Findings, String> {
    let mut command = Command::new(agent);
    command.arg("kernel").stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(LIMIT, command.output()).await {
        Err(_) => return Err(format!("{} did not end within {LIMIT:?}", agent.display())),
        Ok(Err(e)) => return Err(format!("{}: {e}", agent.display())),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("{}: {e}", agent.display()))
}
