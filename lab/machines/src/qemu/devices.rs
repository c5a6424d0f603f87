//! Stops a machine, saves and loads the state of its devices without its memory, and lets it go on.
//!
//! `xen-save-devices-state` writes what a migration would, without memory. It has no configuration section, which QEMU
//! expects of a migration ([`super::VmSpec::incoming`] says so). Memory comes from elsewhere: see docs/adr/0022.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::{Error, Qmp};

/// How long loading may take.
const LOADED: Duration = Duration::from_secs(60);

/// How long a command of the monitor may take.
const COMMAND: Duration = Duration::from_secs(10);

/// Stops the guest. It notices nothing but the time that has passed.
///
/// # Errors
/// QEMU refuses or has ended.
pub async fn stop(qmp: &Qmp) -> Result<(), Error> {
    qmp.execute("stop", json!({}), COMMAND).await.map(drop)
}

/// Lets a stopped guest go on.
///
/// # Errors
/// QEMU refuses or has ended.
pub async fn resume(qmp: &Qmp) -> Result<(), Error> {
    qmp.execute("cont", json!({}), COMMAND).await.map(drop)
}

/// Writes the devices of a stopped machine, some hundred KiB, to a file.
///
/// # Errors
/// QEMU cannot write the file, or has ended.
pub async fn save(qmp: &Qmp, file: &Path) -> Result<(), Error> {
    // `live`: the machine keeps its disk.
    let arguments = json!({ "filename": file, "live": true });
    qmp.execute("xen-save-devices-state", arguments, COMMAND).await.map(drop)
}

/// Loads devices into a machine that was started with [`super::VmSpec::incoming`] and has its memory. It stays stopped.
///
/// # Errors
/// QEMU refuses the state, and ends.
pub async fn load(qmp: &Qmp, file: &Path) -> Result<(), Error> {
    const COMMAND_NAME: &str = "migrate-incoming";
    let on = json!({ "capabilities": [{ "capability": "events", "state": true }] });
    qmp.execute("migrate-set-capabilities", on, COMMAND).await?;
    // QEMU would have the guest announce its addresses five times, as after a move to another machine. Nothing has moved.
    qmp.execute("migrate-set-parameters", json!({ "announce-rounds": 0 }), COMMAND).await?;
    let mut events = qmp.events();
    qmp.execute(COMMAND_NAME, json!({ "uri": format!("file:{}", file.display()) }), COMMAND).await?;
    let refused = |why: String| Error::Refused { command: COMMAND_NAME.to_owned(), why };
    let closed = qmp.closed();
    let ended = async {
        loop {
            let event = events.recv().await.map_err(|_| Error::HungUp(COMMAND_NAME.to_owned()))?;
            let status = event.data.get("status").and_then(|s| s.as_str()).unwrap_or_default();
            match (event.name.as_str(), status) {
                ("MIGRATION", "completed") => return Ok(()),
                ("MIGRATION", "failed") => return Err(refused("the state does not fit".to_owned())),
                _ => {}
            }
        }
    };
    tokio::select! {
        biased;
        ended = tokio::time::timeout(LOADED, ended) => {
            ended.unwrap_or_else(|_| Err(refused(format!("not done within {} s", LOADED.as_secs()))))
        }
        // It ends when it refuses a state.
        _ = closed => Err(refused("the state does not fit, and QEMU has ended".to_owned())),
    }
}
