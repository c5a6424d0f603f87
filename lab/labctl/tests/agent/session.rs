//! Sessions: how they begin, what runs in them, how they end.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::common;
use labctl_agent::{
    netns::Namespace,
    server::{Kernel, Server},
    session,
};
use labctl_model::Tools;
use labctl_protocol::{
    client::{AgentClient, ClientError, Dial, ExecEvent, Stream},
    messages::{Exec, ExecIn, Netns, Request},
    preamble,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf},
    process::Command,
    time::{Instant, sleep, timeout},
};

const SOON: Duration = Duration::from_secs(10);

fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|&a| a.into()).collect(),
        netns: Netns::Host,
        tools: Tools::Own,
        tty: None,
        env: BTreeMap::new(),
    }
}

#[tokio::test]
async fn the_binary_serves_on_stdio() {
    let (_child, stdio) = common::spawn(Command::new(common::agent()).args(["serve", "--stdio"]));
    let client = AgentClient::connect(stdio).await.unwrap();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(client.hello().kernel, kernel.trim());
    let out = client.run(&["cat", "/proc/self/comm"], SOON).await.unwrap();
    assert_eq!((out.status, out.stdout), (0, b"cat\n".to_vec()));
}

#[tokio::test]
async fn an_agent_of_a_shared_kernel_does_not_power_off() {
    let error = common::client().await.power_off().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { op: "power-off", .. }), "{error}");
}

#[tokio::test]
async fn a_command_has_input_output_errors_and_a_status() {
    let client = common::client().await;
    let script = "read a; echo out $a; echo err $a >&2; exit 7";
    let (mut input, mut output) = client.exec(exec(&["sh", "-c", script])).await.unwrap().split();
    input.stdin(b"x\n").await.unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = loop {
        match output.next().await.unwrap() {
            ExecEvent::Stdout(bytes) => out.extend(bytes),
            ExecEvent::Stderr(bytes) => err.extend(bytes),
            ExecEvent::Exit(status) => break status,
        }
    };
    assert_eq!((status, &out[..], &err[..]), (7, &b"out x\n"[..], &b"err x\n"[..]));

    let killed = client.run(&["sh", "-c", "kill -9 $$"], SOON).await.unwrap();
    assert_eq!(killed.status, 128 + 9);
    let missing = client.run(&["/no/such/program"], SOON).await.unwrap_err();
    assert!(missing.to_string().contains("/no/such/program"), "{missing}");
}

#[tokio::test]
async fn much_output_arrives_whole_and_in_order() {
    let client = common::client().await;
    let out = client.run(&["seq", "1", "300000"], SOON).await.unwrap();
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(out.stdout == expected.as_bytes(), "{} bytes instead of {}", out.stdout.len(), expected.len());
}

#[tokio::test]
async fn a_terminal_is_one_and_changes_its_size() {
    let client = common::client().await;
    let script = "test -t 0 && stty size; read x; stty size";
    let exec = Exec { tty: Some((11, 22)), ..exec(&["sh", "-c", script]) };
    let (mut input, mut output) = client.exec(exec).await.unwrap().split();
    let mut seen = String::new();
    let status = loop {
        match output.next().await.unwrap() {
            ExecEvent::Stdout(bytes) => seen += &String::from_utf8(bytes).unwrap(),
            ExecEvent::Stderr(bytes) => panic!("a terminal has no stderr: {bytes:?}"),
            ExecEvent::Exit(status) => break status,
        }
        if seen.ends_with("11 22\r\n") {
            input.send(&ExecIn::Resize(33, 44)).await.unwrap();
            input.stdin(b"\n").await.unwrap();
        }
    };
    assert_eq!(status, 0);
    assert!(seen.starts_with("11 22\r\n") && seen.ends_with("33 44\r\n"), "{seen:?}");
}

/// Waits for a process to be gone.
async fn gone(pid: &str) -> bool {
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => return true,
            Ok(stat) if stat.contains(") Z ") => return true,
            Ok(_) => sleep(Duration::from_millis(10)).await,
        }
    }
    false
}

#[tokio::test]
async fn closing_the_stream_kills_the_command_and_its_children() {
    let client = common::client().await;
    // The second one does not read its input, of which there is more than any buffer holds.
    for fill in [0, 8 << 20] {
        let script = "sleep 1000 & echo $!; sleep 1000";
        let (mut input, mut output) = client.exec(exec(&["sh", "-c", script])).await.unwrap().split();
        let ExecEvent::Stdout(pid) = output.next().await.unwrap() else { panic!("no output") };
        let pid = String::from_utf8(pid).unwrap().trim().to_owned();
        // It gets stuck on the way, which is the point.
        let _ = timeout(Duration::from_millis(300), input.stdin(&vec![0; fill])).await;
        assert!(std::fs::metadata(format!("/proc/{pid}")).is_ok());
        drop((input, output));
        assert!(gone(&pid).await, "with {fill} bytes of input, {pid} lives on");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_no_other_up() {
    let client = common::client().await;
    let unread = client.exec(exec(&["sh", "-c", "yes"])).await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let out = client.run(&["echo", "still here"], SOON).await.unwrap();
    assert_eq!(out.stdout, b"still here\n");
    drop(unread);
}

#[tokio::test]
async fn a_unix_socket_is_dialled_and_half_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    // Answers only after the end of what it is sent, with more than a window of data.
    let far = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        socket.read_to_end(&mut got).await.unwrap();
        socket.write_all(&got.repeat(1 << 20)).await.unwrap();
    });
    let client = common::client().await;
    let mut stream = client.dial_unix(path.to_str().unwrap()).await.unwrap();
    stream.write_all(b"abc").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    timeout(SOON, stream.read_to_end(&mut back)).await.unwrap().unwrap();
    assert_eq!(back.len(), 3 << 20);
    far.await.unwrap();

    let error = client.dial_unix("/no/such/socket").await.unwrap_err();
    assert!(error.to_string().contains("/no/such/socket"), "{error}");
}

#[tokio::test]
async fn an_agent_that_dies_fails_what_is_under_way() {
    let (mut child, stdio) = common::spawn(Command::new(common::agent()).args(["serve", "--stdio"]));
    let client = AgentClient::connect(stdio).await.unwrap();
    let (_input, mut output) =
        client.exec(exec(&["sh", "-c", "echo $$; exec sleep 1000"])).await.unwrap().split();
    let ExecEvent::Stdout(pid) = output.next().await.unwrap() else { panic!("no output") };
    child.start_kill().unwrap();
    let error = timeout(SOON, output.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Gone { .. }), "{error}");
    assert!(gone(String::from_utf8(pid).unwrap().trim()).await, "the command outlives its agent");
    timeout(SOON, client.gone()).await.unwrap();
    let error = client.request(&Request::HostsFile { pid: 1 }).await.unwrap_err();
    assert!(matches!(error, ClientError::Gone { op: "hosts-file", .. }), "{error}");
}

/// A port does not tell that the agent behind it has died. The next agent ends the session that is left, even one in
/// the middle of a frame, and the client begins another one.
#[tokio::test]
async fn an_agent_that_is_back_is_used_again() {
    let (near, far) = tokio::net::UnixStream::pair().unwrap();
    let (near, far) = (near.into_std().unwrap(), far.into_std().unwrap());
    let port = |end: &std::os::unix::net::UnixStream| {
        Port(tokio::net::UnixStream::from_std(end.try_clone().unwrap()).unwrap())
    };
    let server = || Arc::new(Server::new(Kernel::Shared, Namespace::own().unwrap()));
    let serve = |mut end: Port| tokio::spawn(async move { session::serve(&server(), &mut end).await });
    let agent = serve(port(&far));
    let dial = Dial::new(move || {
        let stream: Box<dyn Stream> = Box::new(port(&near));
        async move { Ok(stream) }
    });
    let client = AgentClient::dial(dial).await.unwrap();
    let says_hi = async || client.run(&["echo", "hi"], SOON).await.unwrap().stdout == b"hi\n";
    assert!(says_hi().await);
    agent.abort();
    let _ = agent.await;

    let mut end = port(&far);
    // Half of what the dead one was saying: 16 KiB of data for stream 1.
    end.write_all(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x40, 0, 7, 7, 7]).await.unwrap();
    preamble::end_earlier(&mut end).await.unwrap();
    serve(end);
    timeout(SOON, client.gone()).await.unwrap();
    assert!(says_hi().await);
}

#[tokio::test]
async fn nobody_there_is_an_error_in_time() {
    let (near, _far) = tokio::net::UnixStream::pair().unwrap();
    let error = AgentClient::connect_within(near, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect(_)), "{error}");
}

/// One end of something that stays open when its user goes, as a port does.
struct Port(tokio::net::UnixStream);

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Port {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A port outlives its sessions: the far end of this pair stays open while one labctl after the other uses it, and
/// none says goodbye, as in a machine restored from a snapshot.
#[tokio::test]
async fn a_new_session_begins_after_one_that_was_cut_off() {
    let (near, far) = tokio::net::UnixStream::pair().unwrap();
    let server = Arc::new(Server::new(Kernel::Shared, Namespace::own().unwrap()));
    tokio::spawn(async move {
        let mut far = far;
        while session::serve(&server, &mut far).await.is_ok() {}
    });
    let near = near.into_std().unwrap();
    let again = || Port(tokio::net::UnixStream::from_std(near.try_clone().unwrap()).unwrap());
    let works = async || {
        let client = AgentClient::connect(again()).await.unwrap();
        assert_eq!(client.run(&["echo", "hi"], SOON).await.unwrap().stdout, b"hi\n");
    };
    works().await;

    // A data frame that opens stream 1 and promises 16 KiB, cut off within its body and within its header.
    let frame = [&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0x40, 0][..], &[7; 100]].concat();
    for torn in [frame.len(), 5] {
        let mut cut_off = BufReader::new(again());
        preamble::begin(&mut cut_off, SOON).await.unwrap();
        cut_off.write_all(&frame[..torn]).await.unwrap();
        drop(cut_off);
        works().await;
    }

    // A session with a command in it whose output fills every buffer on the way.
    let stream = near.try_clone().unwrap();
    let left = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::UnixStream::from_std(stream).unwrap();
            let client = AgentClient::connect(Port(stream)).await.unwrap();
            let mut session = client.exec(exec(&["sh", "-c", "echo $$; exec yes"])).await.unwrap().split().1;
            let ExecEvent::Stdout(pid) = session.next().await.unwrap() else { panic!("no output") };
            std::mem::forget(session);
            String::from_utf8(pid).unwrap().lines().next().unwrap().to_owned()
        })
    });
    let pid = tokio::task::spawn_blocking(|| left.join().unwrap()).await.unwrap();
    works().await;
    assert!(gone(&pid).await, "what hung on the old session lives on");
}
