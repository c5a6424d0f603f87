//! Listening unix sockets. Only their user can connect; the file is removed when its owner is dropped.

use std::{
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{MAX_PATH_LEN, WireError};

/// Removes the socket's file when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "cannot remove the socket of a port");
            }
            _ => {}
        }
    }
}

/// Listens on a non-blocking stream socket of mode 0600 at `path`, which must not exist yet.
pub(crate) fn listen(path: &Path) -> Result<(mio::net::UnixListener, SocketFile), WireError> {
    if path.as_os_str().as_bytes().len() > MAX_PATH_LEN {
        return Err(WireError::PathTooLong { path: path.into() });
    }
    let failed = |source: io::Error| WireError::Listen { path: path.into(), source };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    // The file inherits the socket's mode, so it is never open to others, not even for a moment after bind.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed(errno.into()))?;
    socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => WireError::PathTaken { path: path.into() },
        _ => failed(error),
    })?;
    let file = SocketFile(path.into());
    socket.set_nonblocking(true).map_err(failed)?;
    socket.listen(8).map_err(failed)?;
    Ok((mio::net::UnixListener::from_std(socket.into()), file))
}
