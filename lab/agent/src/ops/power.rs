//! The end of a vm.

use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};

/// Lets the reply get out, then powers the machine off. Its disk is read-only and the rest is RAM: nothing to sync.
pub async fn off() {
    tokio::time::sleep(Duration::from_millis(50)).await;
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    tracing::error!("cannot power off: {error}");
}
