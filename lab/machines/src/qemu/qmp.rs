//! A client of QEMU's monitor: JSON objects, one per line (QEMU documentation: QMP protocol specification).

use std::collections::HashMap;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, broadcast, oneshot};
use tokio::task::JoinHandle;
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    sync::CancellationToken,
};

use super::Error;

/// Ten times QEMU's longest answers, the descriptions of all its devices.
const MAX_LINE: usize = 4 << 20;

/// How many events a slow reader may lag behind.
const EVENTS: usize = 64;

/// An event from QEMU.
#[derive(Clone, Debug, PartialEq)]
pub struct QmpEvent {
    /// `STOP`, `RESUME`, `SHUTDOWN`, `MIGRATION`, ….
    pub name: String,
    /// Its data.
    pub data: Map<String, Value>,
}

type Answer = Result<Value, String>;
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Answer>>>>;

/// The monitor's client. Several tasks may run commands at once.
#[derive(Debug)]
pub struct Qmp {
    name: String,
    out: AsyncMutex<OwnedWriteHalf>,
    waiting: Waiting,
    next: AtomicU64,
    events: broadcast::Sender<QmpEvent>,
    hung_up: CancellationToken,
    version: (u64, u64, u64),
    reader: JoinHandle<()>,
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Qmp {
    /// Reads QEMU's greeting and leaves the negotiation mode.
    ///
    /// # Errors
    /// [`Error::Silent`] or [`Error::HungUp`], which most often means that QEMU has ended.
    pub async fn handshake(name: &str, stream: StdUnixStream, within: Duration) -> Result<Self, Error> {
        let prepare = || {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        };
        let stream = prepare().map_err(Error::io("use", "QEMU's monitor"))?;
        let (read, out) = stream.into_split();
        let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(MAX_LINE));
        let greeting =
            tokio::time::timeout(within, lines.next()).await.map_err(|_| silent(name, "greeting", within))?;
        let greeting = greeting.and_then(Result::ok).ok_or_else(|| Error::HungUp("greeting".into()))?;
        let greeting: Value = serde_json::from_str(&greeting).unwrap_or_default();
        let part = |which: &str| greeting["QMP"]["version"]["qemu"][which].as_u64().unwrap_or_default();
        let version = (part("major"), part("minor"), part("micro"));

        let waiting = Waiting::default();
        let (events, _) = broadcast::channel(EVENTS);
        let hung_up = CancellationToken::new();
        let (end, read) = (hung_up.clone().drop_guard(), read_all(lines, waiting.clone(), events.clone()));
        let reader = tokio::spawn(async move {
            read.await;
            drop(end);
        });
        let qmp = Self {
            name: name.to_owned(),
            out: AsyncMutex::new(out),
            waiting,
            next: AtomicU64::new(0),
            events,
            hung_up,
            version,
            reader,
        };
        qmp.execute("qmp_capabilities", json!({}), within).await?;
        Ok(qmp)
    }

    /// QEMU's version: major, minor, micro.
    pub fn version(&self) -> (u64, u64, u64) {
        self.version
    }

    /// Runs a command and returns its result.
    ///
    /// # Errors
    /// [`Error::Refused`] with QEMU's message, [`Error::Silent`] after `within`, [`Error::HungUp`].
    pub async fn execute(&self, command: &str, arguments: Value, within: Duration) -> Result<Value, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        let _forget = Forget(&self.waiting, id);
        let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        let ask = async {
            self.out.lock().await.write_all(line.as_bytes()).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(within, ask).await {
            Err(_) => Err(silent(&self.name, command, within)),
            Ok(None) => Err(Error::HungUp(command.to_owned())),
            Ok(Some(Err(why))) => Err(Error::Refused { command: command.to_owned(), why }),
            Ok(Some(Ok(value))) => Ok(value),
        }
    }

    /// Waits until the monitor is closed, which it is when QEMU ends. Returns QEMU's word for why the guest shut down
    /// (`guest-reset`, …), if it did so before.
    pub fn closed(&self) -> impl Future<Output = Option<String>> + Send + use<> {
        let (mut events, hung_up) = (self.events(), self.hung_up.clone());
        async move {
            let mut reason = None;
            loop {
                tokio::select! {
                    biased;
                    event = events.recv() => match event {
                        Ok(event) if event.name == "SHUTDOWN" => {
                            reason = event.data.get("reason").and_then(Value::as_str).map(str::to_owned);
                        }
                        Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                        Err(broadcast::error::RecvError::Closed) => return reason,
                    },
                    () = hung_up.cancelled() => return reason,
                }
            }
        }
    }

    /// Events from now on. Subscribe before running the command whose event you await.
    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        self.events.subscribe()
    }
}

fn silent(name: &str, command: &str, within: Duration) -> Error {
    Error::Silent { name: name.to_owned(), command: command.to_owned(), within, tail: String::new() }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets a command that was given up.
struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(&self.1);
    }
}

async fn read_all(
    mut lines: FramedRead<OwnedReadHalf, LinesCodec>,
    waiting: Waiting,
    events: broadcast::Sender<QmpEvent>,
) {
    while let Some(Ok(line)) = lines.next().await {
        let Ok(Value::Object(mut message)) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let name = name.to_owned();
            let data = match message.remove("data") {
                Some(Value::Object(data)) => data,
                _ => Map::new(),
            };
            // Nobody need listen.
            let _ = events.send(QmpEvent { name, data });
            continue;
        }
        let Some(answer) =
            message.get("id").and_then(Value::as_u64).and_then(|id| lock(&waiting).remove(&id))
        else {
            continue;
        };
        let result = match message.remove("error") {
            Some(error) => Err(error["desc"].as_str().unwrap_or("no reason given").to_owned()),
            None => Ok(message.remove("return").unwrap_or_default()),
        };
        // Whoever asked may have given up.
        let _ = answer.send(result);
    }
    // All who still wait are told at once.
    lock(&waiting).clear();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    const SOON: Duration = Duration::from_secs(5);

    /// A monitor that greets, and answers each command by `answer`.
    fn monitor(answer: impl Fn(&Value) -> Vec<String> + Send + 'static) -> StdUnixStream {
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let theirs = UnixStream::from_std(theirs).unwrap();
        tokio::spawn(async move {
            let (read, mut write) = theirs.into_split();
            let greeting = json!({"QMP": {"version": {"qemu": {"major": 10, "minor": 1, "micro": 2}}}});
            write.write_all(format!("{greeting}\r\n").as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                for out in answer(&serde_json::from_str(&line).unwrap()) {
                    write.write_all(format!("{out}\r\n").as_bytes()).await.unwrap();
                }
            }
        });
        ours
    }

    fn ok(command: &Value) -> Vec<String> {
        vec![json!({"return": {}, "id": command["id"]}).to_string()]
    }

    #[tokio::test]
    async fn answers_find_their_commands_whatever_their_order() {
        let held = Mutex::new(Vec::new());
        let stream = monitor(move |command| {
            if command["execute"] == "qmp_capabilities" {
                return ok(command);
            }
            let mut held = held.lock().unwrap();
            held.push(json!({"return": command["arguments"]["n"], "id": command["id"]}).to_string());
            if held.len() == 2 { held.drain(..).rev().collect() } else { Vec::new() }
        });
        let qmp = Qmp::handshake("m", stream, SOON).await.unwrap();
        assert_eq!(qmp.version(), (10, 1, 2));
        let ask = |n: u64| qmp.execute("x", json!({ "n": n }), SOON);
        let (one, two) = tokio::join!(ask(1), ask(2));
        assert_eq!((one.unwrap(), two.unwrap()), (json!(1), json!(2)));
    }

    #[tokio::test]
    async fn refusals_events_and_rubbish_are_told_apart() {
        let stream = monitor(|command| match command["execute"].as_str().unwrap() {
            "bad" => vec![
                "rubbish".into(),
                "{}".into(),
                json!({"event": "STOP", "data": {"x": 1}}).to_string(),
                json!({"error": {"class": "GenericError", "desc": "no way"}, "id": command["id"]})
                    .to_string(),
            ],
            _ => ok(command),
        });
        let qmp = Qmp::handshake("m", stream, SOON).await.unwrap();
        let mut events = qmp.events();
        let refused = qmp.execute("bad", json!({}), SOON).await.unwrap_err();
        assert_eq!(refused.to_string(), "QEMU refused `bad`: no way");
        assert_eq!(events.recv().await.unwrap().name, "STOP");
    }

    #[tokio::test]
    async fn silence_and_hanging_up_end_the_wait() {
        let stream = monitor(|command| if command["execute"] == "sleep" { Vec::new() } else { ok(command) });
        let qmp = Qmp::handshake("m", stream, SOON).await.unwrap();
        let silent = qmp.execute("sleep", json!({}), Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(silent, Error::Silent { .. }), "{silent}");

        let (ours, theirs) = StdUnixStream::pair().unwrap();
        drop(theirs);
        assert!(matches!(Qmp::handshake("m", ours, SOON).await, Err(Error::HungUp(_))));
    }
}
