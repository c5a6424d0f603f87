//! Takes labs down, even if their supervisor is gone.

use std::time::Duration;

use labctl_machines::clear::{DIES_WITHIN, clear, end};
use labctl_protocol::polling::Polling;
use labctl_state::{Dirs, LabDir, Lock, Process};

use crate::{
    Error,
    control::{
        Client,
        protocol::{Answer, Request},
    },
};

/// How long a supervisor may take to take its lab down before it is killed. On machines that exist a swarm is left first.
const SUPERVISOR_WITHIN: Duration = Duration::from_secs(60);

/// How long a lab that is just beginning may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Pause between two looks at a process, lock or socket that is about to appear or go.
const LOOK: Duration = Duration::from_millis(10);

/// Interval for checking a supervisor that was asked: a stopped one will not answer.
const LOOK_WHILE_ASKED: Duration = Duration::from_millis(200);

/// Takes a lab down: by its supervisor or, if that is gone or does not answer, from what is on disk. Returns what went
/// wrong; the lab is gone all the same. The next lab of that name, which may begin as soon as this one is gone, is left
/// alone.
///
/// # Errors
/// There is no such lab, or its holder neither answers nor is noted.
pub async fn down(dirs: &Dirs, name: &str) -> Result<Vec<String>, Error> {
    let dir = labctl_state::find(dirs, name)?;
    let mut warnings = Vec::new();
    let client = match find_holder(&dir, ANSWERS_WITHIN).await? {
        Holder::Nobody => return Ok(warnings),
        Holder::Us(lock) => return Ok(clear(&dir, &lock).await),
        Holder::Supervisor(client) => Some(*client),
        Holder::Silent => None,
    };
    let supervisor = dir.supervisor();
    if let Err(e) = ask(&dir, client, supervisor.as_ref()).await
        // Unless it was already ending, and is gone.
        && dir.path().exists()
        && dir.supervisor() == supervisor
    {
        warnings.push(e.to_string());
        // Its machines die with it.
        if let Some(supervisor) = &supervisor {
            warnings.extend(end(supervisor).await.err());
        }
    }
    let wait = Polling::new(DIES_WITHIN, LOOK);
    loop {
        match dir.path().exists() {
            true if dir.supervisor() == supervisor => {}
            _ => return Ok(warnings),
        }
        if let Some(lock) = dir.lock()? {
            warnings.extend(clear(&dir, &lock).await);
            return Ok(warnings);
        }
        if !wait.again().await {
            let why = format!("lab `{name}` is held by a process that does not answer");
            return Err(Error::Control(format!(
                "{why}\nhint: `fuser {}` finds it",
                dir.path().join("lock").display()
            )));
        }
    }
}

/// Who holds a lab's folder.
enum Holder {
    Nobody,
    /// Nobody did, so we took the lock.
    Us(Lock),
    Supervisor(Box<Client>),
    /// A holder that does not listen.
    Silent,
}

/// Finds out who holds a lab's folder. Waits for a supervisor that is just starting and does not listen yet.
async fn find_holder(dir: &LabDir, within: Duration) -> Result<Holder, Error> {
    let wait = Polling::new(within, LOOK);
    loop {
        if !dir.path().exists() {
            return Ok(Holder::Nobody);
        }
        if let Some(lock) = dir.lock()? {
            return Ok(Holder::Us(lock));
        }
        if let Ok(client) = Client::connect(dir).await {
            return Ok(Holder::Supervisor(Box::new(client)));
        }
        if dir.supervisor().is_some_and(|s| s.is_stopped()) || !wait.again().await {
            return Ok(Holder::Silent);
        }
    }
}

/// Asks the supervisor to take its lab down.
async fn ask(dir: &LabDir, client: Option<Client>, supervisor: Option<&Process>) -> Result<(), Error> {
    let Some(client) = client else {
        return Err(labctl_state::Error::Dead { name: dir.name().to_owned(), log: dir.log() }.into());
    };
    let stopped = async {
        while !supervisor.is_some_and(Process::is_stopped) {
            tokio::time::sleep(LOOK_WHILE_ASKED).await;
        }
    };
    let silent =
        |why: &str| Err(Error::Control(format!("the supervisor of `{}` {why}: it was killed", dir.name())));
    tokio::select! {
        answered = tokio::time::timeout(SUPERVISOR_WITHIN, send_down(client)) => match answered {
            Ok(answered) => answered,
            Err(_) => silent(&format!("did not answer within {} s", SUPERVISOR_WITHIN.as_secs())),
        },
        () = stopped => silent("was stopped (SIGSTOP)"),
    }
}

/// This command's name, as shown to others.
fn this_command() -> String {
    let mut words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or_default().to_owned();
    }
    format!("`{}` (process {})", words.join(" "), std::process::id())
}

async fn send_down(mut client: Client) -> Result<(), Error> {
    client.send(&Request::Down { by: this_command() }).await?;
    while let Some(answer) = client.next().await? {
        match answer {
            Answer::Done => break,
            Answer::Error(failure) => return Err(Error::Remote(failure)),
            _ => {}
        }
    }
    Ok(())
}
