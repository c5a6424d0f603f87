//! Probe sessions: listeners and watchers in every endpoint, and shots that all share one deadline.

mod judge;
mod listen;
mod resolve;
mod session;
mod shot;
mod space;
mod volley;
mod watch;

use std::{sync::Arc, time::Duration};

use labctl_protocol::{
    lines::{self, LineError},
    messages::{ProbeIn, ProbeOut, ProbeSession, Reply},
};
use tokio::{
    io::{AsyncWriteExt, BufReader, split},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

use crate::server::{Server, ServerStream, refuse};
use session::Session;

/// Most results that wait for labctl to read them, and most in one line.
const QUEUE: usize = 1024;

/// Most sightings in one line, far below the longest line.
const SIGHTINGS: usize = 5_000;

/// Serves a session until the stream ends.
pub async fn serve(
    server: &Arc<Server>,
    request: ProbeSession,
    mut stream: ServerStream,
) -> Result<(), LineError> {
    let session = match Session::open(server, request).await {
        Ok(session) => Arc::new(session),
        Err(why) => {
            refuse(stream, why).await;
            return Ok(());
        }
    };
    lines::write(&mut stream, &Reply::Ok(serde_json::to_value(session.absent())?)).await?;
    let (read, mut write) = split(stream);
    let (orders_in, mut orders) = mpsc::channel(4);
    let mut reading = std::pin::pin!(lines::pump(BufReader::new(read), orders_in));
    let (results_in, mut results) = mpsc::channel(QUEUE);
    let mut ready = Vec::new();
    let mut volleys = JoinSet::new();
    loop {
        tokio::select! {
            ended = &mut reading => {
                ended?;
                break;
            }
            Some(order) = orders.recv() => match order {
                ProbeIn::Fire { deadline_ms, shots } => {
                    let deadline = Instant::now() + Duration::from_millis(deadline_ms.into());
                    volleys.spawn(volley::fire(session.clone(), shots, deadline, results_in.clone()));
                }
                ProbeIn::Sightings { brief } => {
                    let seen = session.sightings(&brief).await;
                    for part in seen.chunks(SIGHTINGS).chain([&[][..]]) {
                        lines::write(&mut write, &ProbeOut::Sightings(part.to_vec())).await?;
                    }
                }
            },
            _ = results.recv_many(&mut ready, QUEUE) => {
                lines::write(&mut write, &ProbeOut::Results(std::mem::take(&mut ready))).await?;
            }
            Some(_) = volleys.join_next() => {}
        }
    }
    write.shutdown().await?;
    Ok(())
}
