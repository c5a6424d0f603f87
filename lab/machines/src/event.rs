//! Progress of long work, as data: each receiver decides how to show it.

use serde::{Deserialize, Serialize};

/// Something that happened while a lab was brought up, checked or taken down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A phase began: `starting 2 hosts`, `creating networks`.
    Phase(String),
    /// A host reached a stage: `booting`, `agent answers`, `dockerd runs`, `4 containers running`.
    Host {
        /// Host.
        host: String,
        /// Stage, in words.
        stage: String,
    },
    /// A step began.
    Step {
        /// Index from 0.
        step: usize,
        /// How many steps there are.
        of: usize,
        /// Its name.
        name: String,
    },
    /// A remark that is not a failure.
    Note(String),
}

impl std::fmt::Display for Event {
    /// `host1: agent answers`, `step 1/2 host2 is cut off`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Phase(text) => f.write_str(text),
            Self::Host { host, stage } => write!(f, "{host}: {stage}"),
            Self::Step { step, of, name } => write!(f, "step {}/{of} {name}", step + 1),
            Self::Note(text) => write!(f, "note: {text}"),
        }
    }
}

/// Sends events. Cheap to clone; events sent after the receiver is gone are lost, which is fine.
#[derive(Clone, Debug)]
pub struct Events(tokio::sync::mpsc::UnboundedSender<Event>);

/// [`Events`] for who outlives the work: the receiver sees the end of the events while this is there.
#[derive(Clone, Debug)]
pub(crate) struct WeakEvents(tokio::sync::mpsc::WeakUnboundedSender<Event>);

impl WeakEvents {
    /// The sender, while somebody else has it.
    pub(crate) fn upgrade(&self) -> Option<Events> {
        self.0.upgrade().map(Events)
    }
}

impl Events {
    /// Returns a sender and its receiver.
    pub fn channel() -> (Self, tokio::sync::mpsc::UnboundedReceiver<Event>) {
        let (tx, rx) = tokio::sync::mpsc::unbounded_channel();
        (Self(tx), rx)
    }

    /// Runs `work` and passes each event to `tell` as it happens; all are passed on before this returns.
    pub async fn told<T>(work: impl AsyncFnOnce(&Self) -> T, mut tell: impl FnMut(Event)) -> T {
        let (events, mut received) = Self::channel();
        let work = async {
            let result = work(&events).await;
            drop(events);
            result
        };
        let listen = async {
            while let Some(event) = received.recv().await {
                tell(event);
            }
        };
        tokio::join!(work, listen).0
    }

    /// The same, without keeping the receiver waiting.
    pub(crate) fn downgrade(&self) -> WeakEvents {
        WeakEvents(self.0.downgrade())
    }

    /// Sends one event.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Sends [`Event::Phase`].
    pub fn phase(&self, text: impl Into<String>) {
        self.send(Event::Phase(text.into()));
    }

    /// Sends [`Event::Host`].
    pub fn host(&self, host: &str, stage: impl Into<String>) {
        self.send(Event::Host { host: host.to_owned(), stage: stage.into() });
    }

    /// Sends [`Event::Note`].
    pub fn note(&self, text: impl Into<String>) {
        self.send(Event::Note(text.into()));
    }
}
