//! Raw frames: sends them from an interface, watches for them, and decapsulates them.

mod capture;
mod send;
mod supply;
mod vtep;
mod watch;
mod way_out;

pub(crate) use capture::serve as capture;
pub(crate) use send::serve as send;
pub(crate) use vtep::serve as vtep;
pub(crate) use watch::serve as watch;

use tokio::io::AsyncReadExt;

use crate::server::ServerStream;

/// Waits until labctl has closed the stream; ignores what it still sends.
async fn closed(stream: &mut ServerStream) {
    let mut rest = [0; 256];
    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
}
