//! Serves sessions. Each of their streams is a request, its reply, and what follows.

use std::{io, sync::Arc, time::Duration};

use labctl_protocol::{
    lines,
    messages::{Hello, Netns, Reply, Request, VERSION},
    mux,
    preamble::{self, PreambleError},
};
use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional},
    net::UnixStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    engine, frames, network, ops,
    port::Port,
    probe, runc,
    server::{Kernel, Server, ServerStream, refuse},
};

/// How long a request may take to arrive after its stream was opened.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a session to begin on the stream and serves it until it ends. All requests of the session end with it.
pub async fn serve(
    server: &Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), PreambleError> {
    let mut transport = BufReader::new(stream);
    preamble::await_begin(&mut transport).await?;
    let mut requests = JoinSet::new();
    let ended = mux::serve(transport, |stream| {
        // Drop finished ones, so that the set holds only open streams.
        while requests.try_join_next().is_some() {}
        requests.spawn(serve_stream(server.clone(), BufReader::new(stream)));
    });
    if let Err(error) = ended.await {
        tracing::info!("the session ended: {error}");
    }
    requests.shutdown().await;
    Ok(())
}

/// Serves one session after another on a virtio-serial port, for ever.
///
/// # Errors
/// If the port fails.
pub async fn serve_port(server: &Arc<Server>, port: &Port) -> io::Result<()> {
    port.connected().await?;
    // If labctl disconnects now, there is no session to end.
    let _ = preamble::end_earlier(&mut port.stream()?).await;
    loop {
        port.connected().await?;
        match serve(server, port.stream()?).await {
            Ok(()) | Err(PreambleError::Ended) => {}
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

async fn serve_stream(server: Arc<Server>, mut stream: ServerStream) {
    let request = match timeout(PATIENCE, lines::read(&mut stream)).await {
        Ok(Ok(Some(request))) => request,
        Ok(Err(error)) => {
            refuse(stream, format!("no request: {error}")).await;
            return;
        }
        Ok(Ok(None)) | Err(_) => return,
    };
    let result = match request {
        Request::DialUnix { path } => dial(stream, &path).await,
        Request::Exec(exec) => ops::exec::serve(&server, exec, stream).await,
        Request::Probe(session) => probe::serve(&server, session, stream).await,
        Request::Send(frame) => frames::send(&server, frame, stream).await,
        Request::Watch(watch) => frames::watch(&server, watch, stream).await,
        Request::Vtep(vtep) => frames::vtep(&server, vtep, stream).await,
        Request::Capture { interface, snaplen } => frames::capture(&server, interface, snaplen, stream).await,
        request => answer(&server, request, stream).await,
    };
    if let Err(error) = result {
        tracing::debug!("a stream ended: {error}");
    }
}

async fn answer(
    server: &Arc<Server>,
    request: Request,
    mut stream: ServerStream,
) -> Result<(), lines::LineError> {
    let power_off = matches!(request, Request::PowerOff) && server.kernel == Kernel::Own;
    let reply = match perform(server, request).await {
        Ok(value) => Reply::Ok(value),
        Err(why) => Reply::Err(why),
    };
    lines::write(&mut stream, &reply).await?;
    stream.shutdown().await?;
    if power_off {
        ops::power::off().await;
    }
    Ok(())
}

/// Carries out a request whose only answer is its reply.
async fn perform(server: &Arc<Server>, request: Request) -> Result<Value, String> {
    match request {
        Request::Hello { version: _ } => value(&hello(server)?),
        Request::Configure(config) => match &server.foreign {
            Some(part) => done(part.configure(&config, &server.namespace).await),
            None => done(ops::configure::apply(server, *config).await),
        },
        Request::EndDocker { .. } | Request::StartDocker if server.foreign.is_some() => {
            Err("the dockerd of this machine is not labctl's".into())
        }
        Request::Docker { .. } if server.foreign.is_some() => {
            value(&engine::ping().await.ok_or("no Docker answers at /var/run/docker.sock")?)
        }
        Request::Notes(request) => match &server.foreign {
            Some(part) => part.answer(request, &server.namespace).await.map_err(|e| e.to_string()),
            None => Err("this host is labctl's own".into()),
        },
        Request::Table { rules, cut } => match &server.foreign {
            Some(part) => done(part.table(&server.namespace, rules.as_deref(), &cut).await),
            None => Err("this host is labctl's own".into()),
        },
        Request::EndDocker { kill } => done(server.engine.lock().await.end(kill).await),
        Request::StartDocker => done(server.engine.lock().await.start().await),
        Request::Docker { daemon_json } => {
            let api = server.engine.lock().await.ensure(daemon_json).await.map_err(|e| e.to_string())?;
            value(&api)
        }
        Request::Clock { clock_ns } => done(ops::configure::clock(server, clock_ns)),
        Request::Wake { clock_ns, entropy } => done(ops::configure::wake(server, clock_ns, &entropy)),
        Request::Settle => {
            server.engine.lock().await.settle().await;
            Ok(Value::Null)
        }
        Request::Facts { netns } => {
            let namespace = server.enter(&netns).map_err(|e| format!("{}: {e}", described(&netns)))?;
            value(&ops::facts::read(&namespace).await.map_err(|e| e.to_string())?)
        }
        Request::HostsFile { pid } => value(&ops::facts::hosts_file(pid).map_err(|e| e.to_string())?),
        Request::InContainers { processes } => {
            let answers = processes.iter().map(|(pid, id)| ops::facts::is_in_container(*pid, id));
            value(&answers.collect::<io::Result<Vec<bool>>>().map_err(|e| e.to_string())?)
        }
        Request::Route { add, route } => match &server.foreign {
            Some(part) => done(part.route(&server.namespace, add, &route).await),
            None => done(network::route(&server.namespace, add, &route).await),
        },
        Request::Interface { add, interface } => match &server.foreign {
            Some(part) => done(part.interface(&server.namespace, add, &interface).await),
            None => done(network::interface(&server.namespace, add, &interface).await),
        },
        Request::PowerOff => match server.kernel {
            Kernel::Own => Ok(Value::Null),
            Kernel::Shared => Err("this host shares its kernel with others, which keep running".into()),
        },
        Request::DialUnix { .. }
        | Request::Exec(_)
        | Request::Probe(_)
        | Request::Send(_)
        | Request::Watch(_)
        | Request::Vtep(_)
        | Request::Capture { .. } => Err("this request needs its stream".into()),
    }
}

fn done<E: std::fmt::Display>(result: Result<(), E>) -> Result<Value, String> {
    result.map(|()| Value::Null).map_err(|e| e.to_string())
}

fn value(answer: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(answer).map_err(|e| e.to_string())
}

fn hello(server: &Server) -> Result<Hello, String> {
    let names = nix::sys::utsname::uname().map_err(|e| format!("uname: {e}"))?;
    Ok(Hello {
        version: VERSION,
        kernel: names.release().to_string_lossy().into_owned(),
        hostname: names.nodename().to_string_lossy().into_owned(),
        shortcuts: runc::stands_in() && server.foreign.is_none(),
        foreign: server.foreign.is_some(),
    })
}

fn described(netns: &Netns) -> String {
    match netns {
        Netns::Host => "the host's network namespace".into(),
        Netns::Pid(pid) => format!("the network namespace of process {pid}"),
    }
}

async fn dial(mut stream: ServerStream, path: &str) -> Result<(), lines::LineError> {
    match UnixStream::connect(path).await {
        Ok(mut far) => {
            lines::write(&mut stream, &Reply::Ok(Value::Null)).await?;
            copy_bidirectional(&mut stream, &mut far).await?;
        }
        Err(error) => refuse(stream, format!("{path}: {error}")).await,
    }
    Ok(())
}
