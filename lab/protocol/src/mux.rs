//! Carries many streams over one with yamux; one task drives each session.
//!
//! We use the crate `yamux`, not `tokio-yamux`: there, a stream that nobody reads blocks all others, and after a
//! half-close at most one window of data arrives.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode};

/// Most streams that a client holds open at once; further ones wait. The session's own limit is twice that, because a
/// session ends when its limit is exceeded.
const MAX_STREAMS: usize = 4096;

fn config() -> Config {
    let mut config = Config::default();
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(2 * MAX_STREAMS);
    config
}

/// A stream that the far end opened.
pub type Accepted = Compat<yamux::Stream>;

/// Serves the far end's streams until the session ends; `Ok` when the far end closed it.
pub async fn serve(
    transport: impl AsyncRead + AsyncWrite + Unpin,
    mut on_stream: impl FnMut(Accepted),
) -> Result<(), ConnectionError> {
    let mut session = Connection::new(transport.compat(), config(), Mode::Server);
    while let Some(stream) = poll_fn(|cx| session.poll_next_inbound(cx)).await {
        on_stream(stream?.compat());
    }
    Ok(())
}

type Ask = oneshot::Sender<Compat<yamux::Stream>>;

/// Opens streams. Clones share the session, which ends when the last clone and the last stream are gone.
#[derive(Clone, Debug)]
pub struct Opener {
    asks: mpsc::Sender<Ask>,
    permits: Arc<Semaphore>,
    ended: watch::Receiver<Option<Arc<str>>>,
}

impl Opener {
    /// Starts a session as its client, on a task of its own.
    pub fn start(transport: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (asks, asked) = mpsc::channel(64);
        let (end, ended) = watch::channel(None);
        tokio::spawn(async move {
            let session = Connection::new(transport.compat(), config(), Mode::Client);
            let why = match drive(session, asked).await {
                Ok(()) => "the far end closed the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            end.send_replace(Some(why.into()));
        });
        Self { asks, permits: Arc::new(Semaphore::new(MAX_STREAMS)), ended }
    }

    /// Opens a stream; `None` once the session has ended.
    pub async fn open(&self) -> Option<Stream> {
        let permit = self.permits.clone().acquire_owned().await.ok()?;
        let (ask, answer) = oneshot::channel();
        self.asks.send(ask).await.ok()?;
        let inner = answer.await.ok()?;
        Some(Stream { inner, _permit: permit, _session: self.asks.clone() })
    }

    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some() || self.ended.has_changed().is_err()
    }

    /// Why the session ended, once it has.
    pub async fn ended(&self) -> Arc<str> {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await;
        // The sender is dropped without a reason only if its task was killed with the runtime.
        why.ok().and_then(|w| w.clone()).unwrap_or_else(|| "the session was dropped".into())
    }
}

async fn drive<T>(mut session: Connection<T>, mut asked: mpsc::Receiver<Ask>) -> Result<(), ConnectionError>
where
    T: futures::AsyncRead + futures::AsyncWrite + Unpin,
{
    let mut ask: Option<Ask> = None;
    let mut unused = false;
    poll_fn(|cx| {
        loop {
            if ask.is_none() && !unused {
                match asked.poll_recv(cx) {
                    Poll::Ready(None) => unused = true,
                    Poll::Ready(next) => ask = next,
                    Poll::Pending => {}
                }
            }
            if unused {
                return session.poll_close(cx);
            }
            if ask.is_some()
                && let Poll::Ready(stream) = session.poll_new_outbound(cx)
            {
                let stream = stream?.compat();
                // The caller may have given up by now: then the stream is dropped, which closes it.
                ask.take().map(|a| a.send(stream));
                continue;
            }
            // The agent opens no streams; polling for them drives all the others.
            match ready!(session.poll_next_inbound(cx)) {
                Some(Ok(_unasked)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
    })
    .await
}

/// One stream of a session. It keeps the session alive.
#[derive(Debug)]
pub struct Stream {
    inner: Compat<yamux::Stream>,
    _permit: OwnedSemaphorePermit,
    _session: mpsc::Sender<Ask>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
