//! What this machine's kernel can do for hosts that share it: asked of the agent's binary, which tries it in a namespace
//! of its own. For `labctl doctor` and for the `dind` runtime.

use std::{path::Path, process::Stdio, time::Duration};

pub use lab_agent::kernel::{Feature, Findings, is_own_sysctl};
use tokio::process::Command;

/// Trying it all takes some 50 ms, or what loading modules takes.
const LIMIT: Duration = Duration::from_secs(30);

/// What the kernel has, and its answer for what it has not.
///
/// # Errors
/// There is nowhere to try it, in words: neither root nor a user namespace.
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
