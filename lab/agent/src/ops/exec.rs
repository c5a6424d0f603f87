//! Runs commands in the host.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use labctl_model::Tools;
use labctl_protocol::{
    lines::{self, LineError},
    messages::{Exec, ExecIn, ExecOut, Netns, Reply},
};
use nix::{
    pty::openpty,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, split},
    process::{Child, Command},
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{
    engine::PATH,
    fd::FdStream,
    ops::files::OwnFiles,
    server::{Server, ServerStream, refuse},
    sys,
};

/// Hint for a program that the container lacks.
const OTHER_TOOLS: &str = "\nhint: `with host-tools`, or `labctl exec --host-tools`, runs the host's program in the \
                           container's network namespace, among the host's files";

/// Bytes of output in one line.
const PIECE: usize = 32 << 10;

/// Pieces of input or output that wait for their reader.
const QUEUE: usize = 16;

/// Longest pause in the output after the command's end: what it left in the background may hold the pipe open for ever.
const LINGER: Duration = Duration::from_millis(200);

/// How often we check that labctl is still there while a command does not read its input.
const CHECK: Duration = Duration::from_secs(1);

/// Runs a command until it ends or the stream does.
pub async fn serve(server: &Server, exec: Exec, mut stream: ServerStream) -> Result<(), LineError> {
    match start(server, &exec) {
        Ok(running) => {
            lines::write(&mut stream, &Reply::Ok(serde_json::Value::Null)).await?;
            running.serve(stream).await
        }
        Err(why) => {
            refuse(stream, why).await;
            Ok(())
        }
    }
}

/// A started command. Dropping it kills its process group, unless it has ended by itself.
struct Running {
    child: Child,
    group: Group,
    input: Option<Input>,
    output: mpsc::Receiver<ExecOut>,
}

enum Input {
    Pipe(tokio::process::ChildStdin),
    Terminal(FdStream),
}

struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may just have ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

fn start(server: &Server, exec: &Exec) -> Result<Running, String> {
    let Some((program, arguments)) = exec.argv.split_first() else {
        return Err("no command given".into());
    };
    let failed = |e: io::Error| format!("{program}: {e}");
    let namespace = server.enter(&exec.netns).and_then(|n| n.descriptor()).map_err(failed)?;
    let mut command = Command::new(program);
    let own = match (&exec.netns, exec.tools) {
        (Netns::Pid(pid), Tools::Own) => {
            let own = OwnFiles::with(*pid, program).map_err(failed)?;
            Some(own.ok_or_else(|| format!("there is no `{program}` in the container{OTHER_TOOLS}"))?)
        }
        _ => None,
    };
    match &own {
        Some(own) => command.env_clear().envs(&own.environment),
        None => command.env("PATH", PATH),
    };
    command.args(arguments).envs(&exec.env).kill_on_drop(true);
    let (out, output) = mpsc::channel(QUEUE);
    let terminal = match exec.tty {
        Some((rows, columns)) => Some(attach_terminal(&mut command, rows, columns).map_err(failed)?),
        None => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
    };
    sys::prepare_child(&mut command, namespace, own.map(|o| o.root.into()), terminal.is_some());
    let mut child = command.spawn().map_err(failed)?;
    // The command holds the terminal's other end open, which must close with the child.
    drop(command);
    let group = Group(child.id().map(|pid| Pid::from_raw(pid.cast_signed())));
    let input = match terminal {
        Some(terminal) => {
            tokio::spawn(forward(terminal.clone(), out, ExecOut::Stdout));
            Some(Input::Terminal(terminal))
        }
        None => {
            child.stdout.take().map(|pipe| tokio::spawn(forward(pipe, out.clone(), ExecOut::Stdout)));
            child.stderr.take().map(|pipe| tokio::spawn(forward(pipe, out, ExecOut::Stderr)));
            child.stdin.take().map(Input::Pipe)
        }
    };
    Ok(Running { child, group, input, output })
}

fn attach_terminal(command: &mut Command, rows: u16, columns: u16) -> io::Result<FdStream> {
    let pair = openpty(None, None)?;
    sys::set_window_size(&pair.master, rows, columns)?;
    let end = |fd: &OwnedFd| fd.try_clone().map(Stdio::from);
    command.stdin(end(&pair.slave)?).stdout(end(&pair.slave)?).stderr(Stdio::from(pair.slave));
    FdStream::new(pair.master)
}

/// Forwards output until its end, or until the receiver is gone.
async fn forward(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<ExecOut>, line: fn(String) -> ExecOut) {
    let mut piece = vec![0; PIECE];
    // A terminal whose last process is gone fails with EIO: that is its end.
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        if to.send(line(STANDARD.encode(&piece[..n]))).await.is_err() {
            return;
        }
    }
}

impl Running {
    async fn serve(mut self, stream: ServerStream) -> Result<(), LineError> {
        let (read, mut write) = split(stream);
        let (lines_in, input) = mpsc::channel(QUEUE);
        let mut feeding = std::pin::pin!(feed(self.input.take(), input));
        let mut reading = std::pin::pin!(lines::pump(BufReader::new(read), lines_in));
        let (mut fed, mut check) = (false, tokio::time::interval_at(Instant::now() + CHECK, CHECK));
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                // The far end closed the stream: dropping the group kills the command.
                ended = &mut reading => return ended,
                () = &mut feeding, if !fed => fed = true,
                Some(piece) = self.output.recv() => lines::write(&mut write, &piece).await?,
                // A full input queue hides the end of the stream from us, but a write then fails.
                _ = check.tick(), if !fed => lines::write(&mut write, &ExecOut::Stdout(String::new())).await?,
            }
        };
        self.group.0 = None;
        while let Ok(Some(piece)) = timeout(LINGER, self.output.recv()).await {
            lines::write(&mut write, &piece).await?;
        }
        lines::write(&mut write, &ExecOut::Exit(exit_status(status))).await?;
        write.shutdown().await?;
        Ok(())
    }
}

fn exit_status(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

/// Passes input to the command until the input ends.
async fn feed(mut input: Option<Input>, mut from: mpsc::Receiver<ExecIn>) {
    while let Some(line) = from.recv().await {
        // A command that closed its stdin, or bytes that are no base64, lose the input and nothing else.
        let _ = match (line, &mut input) {
            (ExecIn::Stdin(text), Some(Input::Pipe(pipe))) => match STANDARD.decode(text) {
                Ok(bytes) => pipe.write_all(&bytes).await,
                Err(_) => Ok(()),
            },
            (ExecIn::Stdin(text), Some(Input::Terminal(terminal))) => match STANDARD.decode(text) {
                Ok(bytes) => terminal.write_all(&bytes).await,
                Err(_) => Ok(()),
            },
            (ExecIn::Resize(rows, columns), Some(Input::Terminal(terminal))) => {
                sys::set_window_size(terminal.fd(), rows, columns)
            }
            // Control-D at the start of a line is how a terminal's input ends.
            (ExecIn::Eof, Some(Input::Terminal(terminal))) => terminal.write_all(&[4]).await,
            (ExecIn::Eof, pipe) => {
                *pipe = None;
                Ok(())
            }
            (ExecIn::Resize(..) | ExecIn::Stdin(_), _) => Ok(()),
        };
    }
}
