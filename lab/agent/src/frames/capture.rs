//! Captures what the host sends through one of its interfaces: what enters the segment there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use labctl_protocol::{
    lines::{self, LineError},
    messages::{CaptureOut, Reply, SentFrame},
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use vxlan::port::{Batch, Direction, PacketPort, index_of};

use crate::server::{Server, ServerStream, refuse};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Most bytes of a frame that are kept: with segmentation left to the NIC, it may have 64 KiB.
const LONGEST: usize = 66_000;
/// Frames in one batch from the socket.
const AT_ONCE: usize = 32;

/// Serves a capture until the stream ends.
pub async fn serve(
    server: &Server,
    interface: String,
    snaplen: usize,
    mut stream: ServerStream,
) -> Result<(), LineError> {
    let open = move || PacketPort::open(index_of(&interface)?);
    let port = match server.namespace.run(open).await {
        Ok(port) => port,
        Err(error) => {
            refuse(stream, error.to_string()).await;
            return Ok(());
        }
    };
    lines::write(&mut stream, &Reply::Ok(Value::Null)).await?;
    let (mut read, mut write) = split(stream);
    let mut look = tokio::time::interval(LOOK);
    let mut batch = Batch::new(AT_ONCE, LONGEST);
    let (mut lost, mut byte) = (0, [0; 1]);
    loop {
        tokio::select! {
            asked = read.read(&mut byte) => match asked {
                Ok(1) => drain(&port, &mut batch, snaplen, &mut lost, &mut write, true).await?,
                _ => break,
            },
            _ = look.tick() => drain(&port, &mut batch, snaplen, &mut lost, &mut write, false).await?,
        }
    }
    // Closing a packet socket waits for all processors, so not on the runtime's thread.
    drop(tokio::task::spawn_blocking(move || drop(port)));
    write.shutdown().await?;
    Ok(())
}

/// Tells all frames that are there, and, if somebody `asked`, that these are all.
async fn drain(
    port: &PacketPort,
    batch: &mut Batch,
    snaplen: usize,
    lost: &mut u64,
    write: &mut (impl AsyncWrite + Unpin),
    asked: bool,
) -> Result<(), LineError> {
    // An error: nothing is there, or the interface went down.
    while port.recv_batch(batch).is_ok() {
        let dropped = port.stats().map_or(*lost, |stats| stats.dropped);
        let mut lost_before = dropped.saturating_sub(*lost);
        *lost = dropped;
        let mut frames = Vec::new();
        for received in batch.iter().filter(|r| r.direction() == Some(Direction::Outgoing)) {
            let frame = received.frame();
            let time = received.time().unwrap_or_else(SystemTime::now);
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            frames.push(SentFrame {
                time_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
                length: frame.len(),
                data: STANDARD.encode(&frame[..frame.len().min(snaplen)]),
                lost_before: std::mem::take(&mut lost_before),
            });
        }
        for frame in frames {
            lines::write(write, &CaptureOut::Frame(frame)).await?;
        }
    }
    match asked {
        true => lines::write(write, &CaptureOut::All).await,
        false => Ok(()),
    }
}
