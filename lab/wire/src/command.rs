//! What the handle asks of the wire's thread.

use std::os::fd::OwnedFd;

use labctl_model::Traffic;
use tokio::sync::oneshot;
use vxlan::MacAddr;

use crate::{Block, Capture, CaptureSpec, LinkState, Stats, WireError, WireState, port::Brings};

/// The channel for an answer.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, WireError>>;

/// A port whose socket is already open. The caller opens it, so that the caller gets the errors.
pub(crate) struct NewPort {
    pub(crate) name: String,
    pub(crate) segment: String,
    pub(crate) mac: MacAddr,
    pub(crate) socket: Socket,
}

/// The socket that a port begins with.
pub(crate) enum Socket {
    Listening(mio::net::UnixListener, Brings),
    Connected(mio::net::UnixStream),
    Datagrams(OwnedFd),
}

pub(crate) enum Command {
    AddPort {
        port: NewPort,
        reply: Reply<()>,
    },
    RemovePort {
        name: String,
        reply: Reply<()>,
    },
    SetLink {
        port: String,
        state: LinkState,
        reply: Reply<()>,
    },
    Block {
        segment: String,
        block: Block,
        reply: Reply<()>,
    },
    Unblock {
        segment: String,
        filter: Option<Traffic>,
        from: Option<String>,
        to: Option<String>,
        reply: Reply<usize>,
    },
    Capture {
        segment: String,
        spec: CaptureSpec,
        reply: Reply<Capture>,
    },
    Stats {
        reply: Reply<Stats>,
    },
    Save {
        reply: Reply<WireState>,
    },
    Restore {
        state: WireState,
        reply: Reply<()>,
    },
    Inject {
        segment: String,
        frame: Vec<u8>,
        reply: Reply<()>,
    },
    Stop,
}
