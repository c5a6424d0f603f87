//! The supervisor's side: accepts connections and hands each request to the [`Service`].

use futures::{SinkExt, StreamExt, future::BoxFuture};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::{
    codec::{Framed, LinesCodec},
    task::TaskTracker,
};

use super::{
    MAX_LINE,
    protocol::{Answer, Request},
};
use crate::error::Failure;

/// Answers that wait for a slow client; a supervisor waits rather than buffers more.
const QUEUE: usize = 256;

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. `input` yields the client's further lines and ends when the client goes away. The connection
    /// ends with the returned result.
    fn answer(
        &self,
        request: Request,
        answers: mpsc::Sender<Answer>,
        input: mpsc::Receiver<String>,
    ) -> BoxFuture<'_, Result<(), Failure>>;
}

/// Accepts connections while it is polled. Connections run in their own tasks, which the tracker knows.
pub async fn serve(listener: &UnixListener, service: std::sync::Arc<impl Service>, tracker: &TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                tracker.spawn(async move { connection(stream, &*service).await });
            }
            Err(e) => {
                // Most likely out of file descriptors: pause for a moment.
                tracing::warn!("control socket: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, service: &impl Service) {
    let (mut sink, mut source) = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE)).split();
    let Some(Ok(first)) = source.next().await else { return };
    let request: Request = match serde_json::from_str(&first) {
        Ok(request) => request,
        Err(e) => {
            let failure = Failure { message: format!("control socket: {e}"), exit_code: 3 };
            if let Ok(line) = serde_json::to_string(&Answer::Error(failure)) {
                let _ = sink.send(line).await;
            }
            return;
        }
    };
    let (answers, mut queue) = mpsc::channel::<Answer>(QUEUE);
    let (forward, input) = mpsc::channel::<String>(QUEUE);
    let reader = tokio::spawn(async move {
        while let Some(Ok(line)) = source.next().await {
            if forward.send(line).await.is_err() {
                break;
            }
        }
    });
    let writer = async {
        while let Some(answer) = queue.recv().await {
            let Ok(line) = serde_json::to_string(&answer) else { continue };
            if sink.send(line).await.is_err() {
                // The client is gone; the service sees its input end.
                break;
            }
        }
    };
    let last = answers.clone();
    let service = async {
        let end = match service.answer(request, answers, input).await {
            Ok(()) => Answer::Done,
            Err(failure) => Answer::Error(failure),
        };
        let _ = last.send(end).await;
        drop(last);
    };
    tokio::join!(service, writer);
    reader.abort();
}
