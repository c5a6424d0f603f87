//! A lab that runs in this process.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::Docker;
use labctl_machines::Events;
use labctl_model::{Action, By, Cell, Command, Expected, Matrix, Observed, Power, Probe, Target, Tools};
use labctl_protocol::client::Output;
use labctl_report::{CellReport, Report};
use labctl_runtime::{Checking, lab::Frames};
use labctl_state::Runtime;
use labctl_wire::CaptureSpec;

use crate::{Error, home::Home};

/// A lab that is up. Dropping it takes it down and waits for that, about a second, on every kind of runtime.
///
/// If the program is killed, its machines end with it. Only a folder is left: the next lab of that name clears it, and
/// so does `labctl down --all`.
pub struct RunningLab {
    lab: Arc<labctl_runtime::RunningLab>,
    events: Events,
    home: Home,
    captures: Option<PathBuf>,
}

/// The result of a probe.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Source.
    pub from: String,
    /// Destination, as the caller wrote it.
    pub to: String,
    /// The verdict.
    pub verdict: Observed,
    /// For a `no`: the reason, and where the packet was last seen. For a `yes`: who answered. May be empty.
    pub detail: String,
    /// Round trip time, if there was an answer.
    pub rtt: Option<Duration>,
}

impl Answer {
    /// Whether the destination was reached.
    pub fn is_yes(&self) -> bool {
        self.verdict == Observed::Yes
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}  {}", self.from, self.to, self.verdict.word())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl From<CellReport> for Answer {
    fn from(cell: CellReport) -> Self {
        let CellReport { from, to, observed, detail, rtt_us, .. } = cell;
        Self { from, to, verdict: observed, detail, rtt: rtt_us.map(Duration::from_micros) }
    }
}

impl fmt::Debug for RunningLab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningLab").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

impl RunningLab {
    pub(crate) fn new(
        home: Home,
        lab: Arc<labctl_runtime::RunningLab>,
        events: Events,
        captures: Option<PathBuf>,
    ) -> Self {
        Self { lab, events, home, captures }
    }

    /// The lab's model: hosts, networks, containers, what must hold.
    pub fn model(&self) -> &labctl_model::Lab {
        &self.lab.plan().lab
    }

    /// The lab's folder. It holds each host's sockets and console log.
    pub fn dir(&self) -> &Path {
        self.lab.dir().path()
    }

    /// What the hosts run on.
    pub fn runtime(&self) -> Runtime {
        self.lab.plan().runtime
    }

    /// Probes everything that the topology expects of the lab, without its steps.
    ///
    /// ```no_run
    /// # async fn f(lab: lab::RunningLab) -> Result<(), lab::Error> {
    /// let report = lab.check().await?;
    /// assert!(report.holds, "{report}");      // shows the matrix, and why each wrong cell is what it is
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the lab cannot be asked. What does not hold is no error: the report shows it.
    pub async fn check(&self) -> Result<Report, Error> {
        self.run_checks(false).await
    }

    /// Does what [`RunningLab::check`] does, then the topology's steps, each with its own checks.
    ///
    /// # Errors
    /// Those of [`RunningLab::check`].
    pub async fn check_with_steps(&self) -> Result<Report, Error> {
        self.run_checks(true).await
    }

    async fn run_checks(&self, steps: bool) -> Result<Report, Error> {
        let (lab, events) = (self.lab.clone(), self.events.clone());
        let checked =
            self.home.run(async move { lab.check(Checking { steps, ..Checking::default() }, &events).await });
        let mut report: Report = checked.await?;
        let file = &self.lab.plan().topology;
        let here = std::env::current_dir().ok();
        let file = here.and_then(|here| file.strip_prefix(here).ok()).unwrap_or(file);
        report.file = Some(file.display().to_string());
        self.keep(&mut report);
        Ok(report)
    }

    /// Copies a report's captures to where they outlive the lab. One that cannot be copied stays where it is.
    fn keep(&self, report: &mut Report) {
        let Some(folder) = &self.captures else { return };
        let lab = self.lab.dir().name();
        let checks = report.checks.iter_mut().chain(report.steps.iter_mut().flat_map(|s| &mut s.checks));
        for path in checks.flat_map(|check| &mut check.captures) {
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            let to = folder.join(format!("{lab}.{name}"));
            match fs::create_dir_all(folder).and_then(|()| fs::copy(&*path, &to)) {
                Ok(_) => *path = to,
                Err(e) => {
                    tracing::warn!("cannot keep the capture {} in {}: {e}", path.display(), folder.display())
                }
            }
        }
    }

    /// Probes once. `to` is a destination as in a table: a host, container or service, `CONTAINER@NETWORK`,
    /// `HOST@SEGMENT` or an address.
    ///
    /// ```no_run
    /// # use lab::{Probe, Verdict};
    /// # async fn f(lab: lab::RunningLab) -> Result<(), lab::Error> {
    /// let answer = lab.probe("c1", "c2", Probe::Tcp(80)).await?;
    /// assert_eq!(answer.verdict, Verdict::Yes, "{answer}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the lab has no such parts, or cannot be asked.
    pub async fn probe(&self, from: &str, to: &str, probe: Probe) -> Result<Answer, Error> {
        let mut answers = self.probe_all([(from, to)], probe).await?;
        answers.pop().ok_or_else(|| labctl_runtime::Error::Control("a probe without an answer".into()).into())
    }

    /// Probes many pairs at once. All silent pairs share one deadline of two seconds.
    ///
    /// ```no_run
    /// # use lab::Probe;
    /// # async fn f(lab: lab::RunningLab) -> Result<(), lab::Error> {
    /// let hosts: Vec<&str> = lab.model().hosts.keys().map(String::as_str).collect();
    /// let pairs = hosts.iter().flat_map(|a| hosts.iter().map(move |b| (*a, *b))).filter(|(a, b)| a != b);
    /// for answer in lab.probe_all(pairs, Probe::Icmp).await? {
    ///     assert!(answer.is_yes(), "{answer}");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`RunningLab::probe`].
    pub async fn probe_all<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        probe: Probe,
    ) -> Result<Vec<Answer>, Error> {
        let cell = |(from, to): (&str, &str)| Cell {
            from: from.to_owned(),
            to: Target::from(to),
            // Unused: `Answer` does not compare.
            expected: Expected::Yes,
            answers: None,
            line: 0,
        };
        let cells = pairs.into_iter().map(cell).collect();
        let matrix = Matrix {
            probe,
            size: None,
            family: Default::default(),
            by: By::Address,
            timeout: labctl_model::check::DEFAULT_TIMEOUT,
            within: Duration::ZERO,
            cells,
            wire: Vec::new(),
            answers: Vec::new(),
            line: 0,
        };
        self.probe_matrix(matrix).await
    }

    /// Probes the cells of a matrix as it says: of a size, over one family, by name. What it expects does not matter.
    ///
    /// # Errors
    /// Those of [`RunningLab::probe`].
    pub async fn probe_matrix(&self, matrix: Matrix) -> Result<Vec<Answer>, Error> {
        let lab = self.lab.clone();
        let found = self.home.run(async move { lab.probe(&matrix).await }).await?;
        Ok(found.cells.into_iter().map(Answer::from).collect())
    }

    /// Runs a command in a host or container and collects its output. In a container, the program is the image's own.
    ///
    /// ```no_run
    /// # async fn f(lab: lab::RunningLab) -> Result<(), lab::Error> {
    /// let answer = lab.exec("cache", ["redis-cli", "ping"]).await?;
    /// assert_eq!(answer.status, 0);
    /// assert_eq!(answer.stdout, b"PONG\n");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If the endpoint does not exist or does not run, or has no such program. A status other than 0 is no error.
    pub async fn exec(
        &self,
        endpoint: &str,
        argv: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Output, Error> {
        self.run_command(endpoint, Tools::Own, argv).await
    }

    /// Runs one of the host's programs in a container's network namespace, with the host's files. The image then needs no
    /// tools of its own to inspect its network. Otherwise like [`RunningLab::exec`].
    ///
    /// ```no_run
    /// # async fn f(lab: lab::RunningLab) -> Result<(), lab::Error> {
    /// let routes = lab.exec_with_host_tools("c1", ["ip", "route"]).await?;
    /// assert!(String::from_utf8_lossy(&routes.stdout).contains("default"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`RunningLab::exec`].
    pub async fn exec_with_host_tools(
        &self,
        endpoint: &str,
        argv: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Output, Error> {
        self.run_command(endpoint, Tools::Host, argv).await
    }

    async fn run_command(
        &self,
        endpoint: &str,
        tools: Tools,
        argv: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Output, Error> {
        let lab = self.lab.clone();
        let argv = argv.into_iter().map(Into::into).collect();
        let command = Command { place: endpoint.to_owned(), tools, argv };
        let work = async move {
            let (host, session) = lab.exec(command, None).await?;
            session.output().await.map_err(labctl_runtime::Error::agent(&host))
        };
        self.home.run(work).await
    }

    /// Does what a step of a topology can do: stop and start containers, cut a host off, block a port on the wire, scale
    /// and update services, run a command that must succeed. The words are those of `do` (`docs/topology.md`, `steps`).
    /// Returns when the action is done.
    ///
    /// ```no_run
    /// # use lab::Probe;
    /// # async fn f(lab: lab::RunningLab) -> Result<(), lab::Error> {
    /// lab.act("cut host2 on lan").await?;
    /// assert!(!lab.probe("c1", "c2", Probe::Icmp).await?.is_yes());
    /// lab.act("heal host2").await?;
    /// assert!(lab.probe("c1", "c2", Probe::Icmp).await?.is_yes());
    ///
    /// lab.act("exec host1 -- test -e /etc/hosts").await?;
    /// lab.act("update web { ports: ['8081:80'] } within 2m").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Topology`] if the text is not an action, or names something that the lab does not have. Otherwise the action
    /// was refused (with Docker's own message, if Docker refused it), or something is broken.
    pub async fn act(&self, action: &str) -> Result<(), Error> {
        self.run_action(labctl_topology::parse_action(action, self.model())?).await
    }

    /// A client of a host's own dockerd. Other programs use its socket: [`RunningLab::docker_host`].
    ///
    /// # Errors
    /// If there is no such host, or it does not run.
    pub fn docker(&self, host: &str) -> Result<Docker, Error> {
        Ok(self.lab.docker(host)?)
    }

    /// The `DOCKER_HOST` of a host's own dockerd: `unix://` and a socket that only this user may use.
    ///
    /// # Errors
    /// If there is no such host.
    pub fn docker_host(&self, host: &str) -> Result<String, Error> {
        Ok(format!("unix://{}", self.lab.docker_socket(host)?.display()))
    }

    /// Records a segment from now on: every frame as it enters, and what became of it.
    ///
    /// ```no_run
    /// # async fn f(lab: lab::RunningLab) -> Result<(), lab::Error> {
    /// let mut frames = lab.capture("lan").await?;
    /// lab.exec("host1", ["ping", "-c", "1", "192.168.56.7"]).await?;
    /// while let Some(frame) = frames.next().await {      // also a `Stream`; dropping it ends the capture
    ///     println!("{} {}: {} bytes", frame.port, frame.fate, frame.original_len);
    /// #   break;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// If there is no such segment.
    pub async fn capture(&self, segment: &str) -> Result<Frames, Error> {
        let (lab, segment) = (self.lab.clone(), segment.to_owned());
        self.home.run(async move { lab.capture(&segment, CaptureSpec::default()).await }).await
    }

    /// Cuts a host's power: nothing in it can shut down in order.
    ///
    /// # Errors
    /// If there is no such host, or it does not run.
    pub async fn kill_host(&self, host: &str) -> Result<(), Error> {
        self.power(host, Power::Kill).await
    }

    /// Stops a host's containers, then the host.
    ///
    /// # Errors
    /// If there is no such host, or it does not run.
    pub async fn stop_host(&self, host: &str) -> Result<(), Error> {
        self.power(host, Power::Stop).await
    }

    /// Starts a killed or stopped host anew, with a new disk and everything that the topology gives it.
    ///
    /// # Errors
    /// If there is no such host, or it runs.
    pub async fn start_host(&self, host: &str) -> Result<(), Error> {
        self.power(host, Power::Start).await
    }

    async fn power(&self, host: &str, power: Power) -> Result<(), Error> {
        self.run_action(Action::Power { host: host.to_owned(), power }).await
    }

    async fn run_action(&self, action: Action) -> Result<(), Error> {
        let (lab, events) = (self.lab.clone(), self.events.clone());
        self.home.run(async move { lab.act(&action, &events).await }).await
    }

    /// Saves the lab as it is as a checkpoint of this name, for `labctl checkpoint restore` and [`RunningLab::reset_to`].
    /// It stands still for some tens of milliseconds.
    ///
    /// # Errors
    /// If its hosts cannot be saved (docs/checkpoints.md), or there is no room.
    pub async fn save(&self, name: &str) -> Result<(), Error> {
        let (lab, name) = (self.lab.clone(), name.to_owned());
        self.home.run(async move { lab.save(&name).await.map(drop) }).await
    }

    /// Makes the lab what it was at the end of [`Lab::up`](crate::Lab::up), within a second. Connections to it end.
    ///
    /// # Errors
    /// If it was not brought up with [`Lab::from_checkpoint`](crate::Lab::from_checkpoint).
    pub async fn reset(&self) -> Result<(), Error> {
        self.go_back(None).await
    }

    /// Makes the lab what it was when it was saved under this name.
    ///
    /// # Errors
    /// If there is no such checkpoint of this lab.
    pub async fn reset_to(&self, name: &str) -> Result<(), Error> {
        self.go_back(Some(name.to_owned())).await
    }

    async fn go_back(&self, name: Option<String>) -> Result<(), Error> {
        let (lab, events) = (self.lab.clone(), self.events.clone());
        self.home.run(async move { lab.reset(name.as_deref(), &events).await }).await
    }

    /// Takes the lab down. Dropping it does the same, but cannot report what was left.
    ///
    /// # Errors
    /// [`Error::LeftOver`] if something could not be cleared.
    pub async fn down(self) -> Result<(), Error> {
        let Self { lab, events, home, captures: _ } = self;
        drop((lab, events));
        let warnings = home.end().await;
        if warnings.is_empty() { Ok(()) } else { Err(Error::LeftOver(warnings)) }
    }
}
