//! This machine's own Docker daemon, and whether its containers can be lab hosts.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use bollard::{API_DEFAULT_VERSION, Docker, models::SystemInfo};

/// Where a daemon listens if DOCKER_HOST is not set.
const SOCKET: &str = "/var/run/docker.sock";

/// Limit for one call, in seconds.
const TIMEOUT_S: u64 = 120;

/// A connected daemon.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The connection.
    pub api: Docker,
    /// Its socket.
    pub socket: PathBuf,
    /// Its version.
    pub version: String,
}

impl Daemon {
    /// Connects to the daemon that DOCKER_HOST names, else to this machine's usual one.
    ///
    /// # Errors
    /// In words: there is none, it does not let this user in, or it is not on this machine.
    pub async fn find() -> Result<Self, String> {
        let socket = socket(std::env::var("DOCKER_HOST").ok().as_deref())?;
        let daemon = Self::at(&socket).await?;
        let info =
            daemon.api.info().await.map_err(|e| format!("the Docker daemon at {}: {e}", socket.display()))?;
        let here = nix::sys::utsname::uname().map_err(|e| format!("uname: {e}"))?;
        judge(&info, &here.release().to_string_lossy(), &here.nodename().to_string_lossy())?;
        Ok(Self { version: info.server_version.unwrap_or_default(), ..daemon })
    }

    /// Connects to the daemon at a socket.
    ///
    /// # Errors
    /// As for [`Self::find`].
    pub async fn at(socket: &Path) -> Result<Self, String> {
        let shown = socket.display();
        // Docker's client would give less detail.
        UnixStream::connect(socket).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => format!("there is no Docker daemon here: no socket {shown}"),
            io::ErrorKind::PermissionDenied => {
                format!("the Docker daemon at {shown} does not let this user in; join the group docker")
            }
            _ => format!("no Docker daemon answers at {shown}: {e}"),
        })?;
        let failed = |e: bollard::errors::Error| {
            format!("the Docker daemon at {shown}: {}", labctl_docker::message(e))
        };
        let api = Docker::connect_with_unix(&socket.to_string_lossy(), TIMEOUT_S, API_DEFAULT_VERSION)
            .map_err(failed)?
            .negotiate_version()
            .await
            .map_err(failed)?;
        Ok(Self { api, socket: socket.to_owned(), version: String::new() })
    }
}

/// Where this machine's daemon most likely listens.
pub fn usual_socket() -> PathBuf {
    socket(std::env::var("DOCKER_HOST").ok().as_deref()).unwrap_or_else(|_| SOCKET.into())
}

/// The unix socket that DOCKER_HOST names.
fn socket(docker_host: Option<&str>) -> Result<PathBuf, String> {
    match docker_host.filter(|host| !host.is_empty()) {
        None => Ok(SOCKET.into()),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) => Ok(path.into()),
            None => {
                // A user's name or password may come before the host.
                let place = host.split_once("://").map_or(host, |(_, rest)| rest);
                let place = place.rsplit('@').next().unwrap_or(place);
                Err(format!(
                    "DOCKER_HOST names the daemon at {place}, which may be another machine's: nodes must share this \
                     machine's kernel and files"
                ))
            }
        },
    }
}

/// Whether this daemon's containers run on this kernel, with its root's rights.
fn judge(info: &SystemInfo, kernel: &str, hostname: &str) -> Result<(), String> {
    let known = |text: &Option<String>| text.clone().unwrap_or_default();
    let (their_kernel, name, system) =
        (known(&info.kernel_version), known(&info.name), known(&info.operating_system));
    if system.contains("Docker Desktop") || their_kernel != kernel || name != hostname {
        return Err(format!(
            "the Docker daemon runs on another machine: {system} on `{name}`, kernel {their_kernel}, where labctl runs on \
             `{hostname}`, kernel {kernel}"
        ));
    }
    let options = info.security_options.clone().unwrap_or_default();
    for (option, words) in
        [("name=rootless", "runs without root"), ("name=userns", "maps its root to another user")]
    {
        if options.iter().any(|o| o.split(',').any(|part| part == option)) {
            return Err(format!(
                "the Docker daemon {words}, and a node needs this machine's own root for its dockerd"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_unix_socket_is_here() {
        assert_eq!(socket(None).unwrap(), Path::new(SOCKET));
        assert_eq!(socket(Some("")).unwrap(), Path::new(SOCKET));
        assert_eq!(socket(Some("unix:///run/x.sock")).unwrap(), Path::new("/run/x.sock"));
        for elsewhere in ["tcp://10.0.0.1:2375", "ssh://me:secret@far"] {
            let why = socket(Some(elsewhere)).unwrap_err();
            assert!(why.contains("another machine") && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn a_daemon_of_another_kernel_or_without_root_is_told_apart() {
        let here = SystemInfo {
            kernel_version: Some("6.12.1".into()),
            name: Some("box".into()),
            operating_system: Some("Debian GNU/Linux 13".into()),
            ..SystemInfo::default()
        };
        let of = |info: &SystemInfo| judge(info, "6.12.1", "box");
        assert_eq!(of(&here), Ok(()));
        let desktop = SystemInfo { operating_system: Some("Docker Desktop".into()), ..here.clone() };
        let far = SystemInfo { kernel_version: Some("6.12.2".into()), ..here.clone() };
        let other = SystemInfo { name: Some("moby".into()), ..here.clone() };
        for info in [desktop, far, other] {
            assert!(of(&info).unwrap_err().contains("another machine"));
        }
        let rootless = SystemInfo {
            security_options: Some(vec!["name=seccomp,profile=x".into(), "name=rootless".into()]),
            ..here
        };
        assert!(of(&rootless).unwrap_err().contains("without root"));
    }
}
