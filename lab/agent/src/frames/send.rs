//! Sends raw frames through an interface of a namespace.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use labctl_protocol::{
    lines::{self, LineError},
    messages::{MAX_FRAMES, MAX_SENDING_S, Reply, SendFrame},
};
use serde_json::Value;
use vxlan::port::Pace;

use super::{
    closed,
    supply::Supply,
    way_out::{Interface, WayOut},
};
use crate::server::{Server, ServerStream, refuse};

/// Longest sleep between two checks that somebody still waits.
const NAP: Duration = Duration::from_millis(50);
/// Frames between two such checks.
const AT_ONCE: usize = 64;
/// How late sending may end, if a queue stays full or a machine is too slow. Less than the client's limit, so that the
/// client gets the error.
const LATE: Duration = Duration::from_secs(20);
/// After too long a sleep, at most the rate divided by this goes at once.
const CATCH_UP: u32 = 10;

/// Stops sending when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends all frames and then answers; stops if the stream ends.
pub async fn serve(server: &Server, spec: SendFrame, mut stream: ServerStream) -> Result<(), LineError> {
    let sent = tokio::select! {
        sent = send(server, spec) => sent,
        () = closed(&mut stream) => return Ok(()),
    };
    match sent {
        Ok(()) => lines::write(&mut stream, &Reply::Ok(Value::Null)).await,
        Err(why) => {
            refuse(stream, why).await;
            Ok(())
        }
    }
}

async fn send(server: &Server, spec: SendFrame) -> Result<(), String> {
    let SendFrame { netns, interface, frames, count, rate } = spec;
    let mut supply = Supply::new(frames)?;
    let all = supply.kinds().checked_mul(count).filter(|all| *all <= MAX_FRAMES);
    let in_time = |all: &u32| rate.is_none_or(|rate| rate > 0 && u64::from(all / rate) <= MAX_SENDING_S);
    let Some(all) = all.filter(in_time) else {
        let rate = rate.map_or_else(|| "flat out".to_owned(), |rate| format!("at {rate} a second"));
        return Err(format!(
            "{count} times {} frames {rate}: at most {MAX_FRAMES}, in at most {MAX_SENDING_S} s",
            supply.kinds()
        ));
    };
    let namespace = server.enter(&netns).map_err(|e| e.to_string())?;
    let stop = StopOnDrop(Arc::default());
    let stopped = stop.0.clone();
    let work = move || {
        let interface = Interface::named(&interface)?;
        let mut way = if rate.is_none() {
            WayOut::fast(interface, supply.longest())
        } else {
            WayOut::usual(interface)
        }?;
        let now = Instant::now();
        let mut pace = rate.map_or_else(Pace::flat_out, |rate| {
            Pace::per_second(rate.into(), now).catching_up((rate / CATCH_UP).into())
        });
        let takes = rate.map_or(MAX_SENDING_S, |rate| u64::from(all / rate));
        let deadline = now + Duration::from_secs(takes) + LATE;
        let (mut left, mut due) = (all as usize, 0);
        while left > 0 && !stopped.load(Ordering::Relaxed) {
            let now = Instant::now();
            if due == 0 {
                match pace.take(left.min(AT_ONCE), now) {
                    Ok(frames) => due = frames,
                    Err(early) => {
                        thread::sleep(early.min(NAP));
                        continue;
                    }
                }
            }
            let sent = way.send(&mut supply, due, NAP)?;
            (left, due) = (left - sent, due - sent);
            if now > deadline {
                let why = format!("{left} of {all} frames are left after {takes} s and {LATE:?} more");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        way.flush()
    };
    namespace.run(work).await.map_err(|e| e.to_string())
}
