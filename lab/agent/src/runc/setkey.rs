//! `libnetwork-setkey`: the hook by which dockerd learns a container's network namespace.
//!
//! runc calls it when the namespace exists and the container's program does not run yet. It tells dockerd over a socket,
//! and waits until dockerd has put the container's interfaces into the namespace and reports success (moby,
//! libnetwork/sandbox_externalkey_unix.go).

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The name that dockerd gives its hook.
pub const NAME: &str = "libnetwork-setkey";

const EXEC_ROOT: &str = "/var/run/docker";

/// dockerd's whole answer on success; anything else is an error's text.
const SUCCESS: &[u8] = b"success";

/// Longest state from stdin, and longest answer, in bytes.
const MOST: u64 = 1 << 20;

/// Limit for dockerd's answer: longer than it ever takes for the interfaces of one container.
const WITHIN: Duration = Duration::from_secs(120);

/// The part of a container's state (OCI runtime-spec, "State") that we need.
#[derive(Deserialize)]
struct State {
    pid: u32,
}

/// moby's `setKeyData`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Key<'a> {
    #[serde(rename = "ContainerID")]
    container_id: &'a str,
    key: String,
}

/// Runs the hook; reads the container's state from stdin.
///
/// # Errors
/// If dockerd cannot be asked, or answers with an error.
pub fn run(arguments: &[OsString]) -> io::Result<()> {
    let (socket, container) =
        parse(arguments).ok_or_else(|| io::Error::other(format!("not understood: {arguments:?}")))?;
    let mut state = Vec::new();
    io::stdin().take(MOST).read_to_end(&mut state)?;
    let State { pid } = serde_json::from_slice(&state)?;
    tell(&socket, &container, pid)
}

/// dockerd's socket and the container's id, from `[-exec-root=DIR] CONTAINER CONTROLLER`.
fn parse(arguments: &[OsString]) -> Option<(PathBuf, String)> {
    let mut exec_root = EXEC_ROOT;
    let mut names = Vec::new();
    for argument in arguments {
        let argument = argument.to_str()?;
        match argument.strip_prefix("-exec-root=") {
            Some(dir) => exec_root = dir,
            None => names.push(argument),
        }
    }
    let [container, controller] = names[..] else { return None };
    let socket = Path::new(exec_root).join("libnetwork").join(format!("{controller}.sock"));
    Some((socket, container.to_owned()))
}

fn tell(socket: &Path, container: &str, pid: u32) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(WITHIN))?;
    let key = Key { container_id: container, key: format!("/proc/{pid}/ns/net") };
    stream.write_all(&serde_json::to_vec(&key)?)?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    if answer == SUCCESS {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn arguments_are_those_of_both_engines() {
        let of = |words: &str| parse(&words.split(' ').map(Into::into).collect::<Vec<_>>());
        assert_eq!(
            of("-exec-root=/run/d c0ffee 1234abcd5678"),
            Some(("/run/d/libnetwork/1234abcd5678.sock".into(), "c0ffee".into()))
        );
        assert_eq!(of("c0ffee 12"), Some(("/var/run/docker/libnetwork/12.sock".into(), "c0ffee".into())));
        assert_eq!(of("c0ffee"), None);
    }

    #[test]
    fn what_dockerd_answers_is_the_outcome() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        for (answer, well) in [("success", true), ("no such sandbox", false), ("", false)] {
            let listener = UnixListener::bind(&path).unwrap();
            let dockerd = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&asked[..length]).into_owned()
            });
            let outcome = tell(&path, "c1", 42);
            assert_eq!(dockerd.join().unwrap(), r#"{"ContainerID":"c1","Key":"/proc/42/ns/net"}"#);
            assert_eq!(outcome.is_ok(), well);
            if !well {
                assert_eq!(outcome.unwrap_err().to_string(), answer);
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}
