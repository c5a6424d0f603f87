//! A supervisor's answers to each request.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::future::BoxFuture;
use labctl_machines::{Event, Events};
use labctl_model::{Command, Draft, Source};
use labctl_protocol::messages::{ExecIn, ExecOut};
use labctl_wire::{CaptureSpec, CapturedFrame, Fate};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vxlan::{Decode, Dissection, filter::Filter};

use crate::{
    Checking, Error, Expectations,
    control::{
        Service,
        protocol::{self, Answer, Frame, HostStatus, Request, Stage, Status},
    },
    error::Failure,
    frames::{self, vxlan::Which},
    lab::RunningLab,
    wire,
};

/// How far a lab has come, for its followers.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Everything that happened during the bring-up.
    pub events: Vec<Event>,
    /// Stage.
    pub stage: Stage,
    /// Whether a client has followed it.
    pub followed: bool,
    /// Why the bring-up failed, if it did.
    pub failure: Option<Failure>,
    /// Whether a client was told of the failure.
    pub told: bool,
    /// Who asked for the lab's end.
    pub ended_by: Option<String>,
    /// Set once only this process is left of the lab; holds the warnings.
    pub gone: Option<Vec<String>>,
}

impl Progress {
    pub fn at(stage: Stage) -> watch::Sender<Self> {
        let events = Vec::new();
        let (followed, told) = (false, false);
        watch::channel(Self { events, stage, followed, failure: None, told, ended_by: None, gone: None }).0
    }

    /// Notes who asked for the lab's end; the first one counts.
    pub fn end(&mut self, by: impl Into<String>) {
        self.ended_by.get_or_insert_with(|| by.into());
    }

    /// The error for users of a lab that ends while they use it.
    pub fn taken_down(&self, lab: &str) -> Error {
        labctl_state::Error::taken_down(lab, self.ended_by.as_deref()).into()
    }
}

/// Answers requests for one lab.
pub(crate) struct LabService {
    lab: Arc<RunningLab>,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
}

impl LabService {
    pub(crate) fn new(
        lab: Arc<RunningLab>,
        progress: watch::Sender<Progress>,
        stop: CancellationToken,
    ) -> Self {
        Self { lab, progress, stop }
    }

    fn stage(&self) -> Stage {
        self.progress.borrow().stage
    }

    fn name(&self) -> &str {
        &self.lab.plan().lab.name
    }

    /// Sends events up to the end of the bring-up. If a client that owns the lab goes away before that, the lab ends.
    async fn follow(
        &self,
        own: bool,
        answers: &mpsc::Sender<Answer>,
        input: &mut mpsc::Receiver<String>,
    ) -> Result<(), Failure> {
        self.progress.send_modify(|p| p.followed = true);
        let mut watch = self.progress.subscribe();
        let mut told = 0;
        loop {
            let (news, stage, failure) = {
                let p = watch.borrow_and_update();
                (p.events[told..].to_vec(), p.stage, p.failure.clone())
            };
            told += news.len();
            for event in news {
                let _ = answers.send(Answer::Event(event)).await;
            }
            if let Some(failure) = failure {
                self.progress.send_modify(|p| p.told = true);
                return Err(failure);
            }
            match stage {
                Stage::Up | Stage::Partial => return Ok(()),
                Stage::Stopping | Stage::Dead => return Err(self.taken_down().to_failure()),
                Stage::Starting => {}
            }
            tokio::select! {
                changed = watch.changed() => if changed.is_err() { return Ok(()) },
                // A client sends nothing more, so this is its end.
                _ = input.recv() => {
                    if own {
                        self.end("the end of the command that began it");
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Runs the topology's checks, or these.
    async fn check(
        &self,
        how: Checking,
        other: Option<&Expectations>,
        answers: &mpsc::Sender<Answer>,
        input: &mut mpsc::Receiver<String>,
    ) -> Result<(), Error> {
        self.must_be_up()?;
        let checking = async |events: &Events| match other {
            None => self.lab.check(how, events).await,
            Some(e) => self.lab.check_these(&e.expect, &e.steps, how, events).await,
        };
        let report = tokio::select! {
            report = forwarding(answers, checking) => report?,
            // Nobody waits for the result any more.
            _ = input.recv() => return Err(Error::Cancelled),
        };
        let _ = answers.send(Answer::Report(Box::new(report))).await;
        Ok(())
    }

    async fn exec(
        &self,
        command: Command,
        tty: Option<(u16, u16)>,
        answers: &mpsc::Sender<Answer>,
        input: &mut mpsc::Receiver<String>,
    ) -> Result<(), Error> {
        self.must_be_there()?;
        let (host, session) = self.lab.exec(command, tty).await?;
        let failed = Error::agent(&host);
        let (mut command, mut output) = session.split();
        let out = async {
            loop {
                let line = output.next_line().await.map_err(&failed)?;
                let ended = matches!(line, ExecOut::Exit(_));
                let _ = answers.send(Answer::Exec(line)).await;
                if ended {
                    return Ok(());
                }
            }
        };
        let into = async {
            while let Some(line) = input.recv().await {
                let line: ExecIn = serde_json::from_str(&line).map_err(|e| Error::Control(e.to_string()))?;
                command.send(&line).await.map_err(&failed)?;
            }
            // The client is gone: dropping the session ends the command.
            Ok(())
        };
        tokio::select! { ended = out => ended, gone = into => gone }
    }

    async fn capture(
        &self,
        segment: &str,
        mut spec: CaptureSpec,
        filter: Option<String>,
        answers: &mpsc::Sender<Answer>,
        input: &mut mpsc::Receiver<String>,
    ) -> Result<(), Error> {
        let lab = &self.lab.plan().lab;
        let filter = match filter {
            Some(text) => {
                let template = Draft::filter(&text).map_err(|e| Error::Frame(format!("filter: {e}")))?;
                Some(frames::filter(&self.lab.view(), &template).await?)
            }
            None => None,
        };
        let decode = Decode { vxlan_ports: frames::vxlan_ports(lab), ..Decode::default() };
        // Only frames that match the filter count.
        let mut left = if filter.is_some() { spec.count.take() } else { None };
        // The filter needs whole frames.
        let snaplen = spec.snaplen;
        if filter.is_some() {
            spec.snaplen = labctl_wire::MAX_FRAME_LEN;
        }
        let mut frames = self.lab.capture(segment, spec).await?;
        let _ = answers.send(Answer::Ports(frames.ports.clone())).await;
        loop {
            tokio::select! {
                frame = frames.next() => match frame {
                    Some(mut frame) => {
                        let meant = |f: &Filter| f.meets(&Dissection::of(&frame.data, &decode));
                        if !filter.as_ref().is_none_or(meant) {
                            continue;
                        }
                        frame.data.truncate(snaplen);
                        let _ = answers.send(Answer::Frame(describe(&frame, &frames.ports))).await;
                        left = left.map(|left| left.saturating_sub(1));
                        if left == Some(0) {
                            break;
                        }
                    }
                    None => break,
                },
                _ = input.recv() => break,
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        order: protocol::Send,
        answers: &mpsc::Sender<Answer>,
        input: &mut mpsc::Receiver<String>,
    ) -> Result<(), Error> {
        self.must_be_up()?;
        let within = Duration::from_millis(order.within_ms);
        let vary = order.vary.iter().map(|text| text.parse()).collect::<Result<_, vxlan::ParseVaryError>>();
        let order = frames::Order {
            from: Source::parse(&order.from),
            frame: Draft::frame(&order.frame).map_err(|e| Error::Frame(e.to_string()))?,
            count: order.count,
            rate: order.rate,
            vary: vary.map_err(|e| Error::Frame(e.to_string()))?,
            mark: order.mark,
            received_by: order.received_by,
            not_received_by: order.not_received_by,
            timeout: within,
            within,
        };
        let sent = tokio::select! {
            sent = self.lab.send(&order) => sent?,
            _ = input.recv() => return Err(Error::Cancelled),
        };
        let _ = answers.send(Answer::Sent(Box::new(sent))).await;
        Ok(())
    }

    async fn vxlan(
        &self,
        which: Which,
        answers: &mpsc::Sender<Answer>,
        input: &mut mpsc::Receiver<String>,
    ) -> Result<(), Error> {
        self.must_be_up()?;
        let found = tokio::select! {
            found = self.lab.vxlan(&which) => found?,
            _ = input.recv() => return Err(Error::Cancelled),
        };
        let _ = answers.send(Answer::Vxlan(Box::new(found))).await;
        Ok(())
    }

    /// Begins the lab's end.
    fn end(&self, by: impl Into<String>) {
        self.progress.send_modify(|p| p.end(by));
        self.stop.cancel();
    }

    fn taken_down(&self) -> Error {
        self.progress.borrow().taken_down(self.name())
    }

    async fn down(&self, by: String) -> Result<(), Failure> {
        let mut watch = self.progress.subscribe();
        self.end(by);
        let gone = watch.wait_for(|p| p.gone.is_some()).await;
        let warnings = gone.ok().and_then(|p| p.gone.clone()).unwrap_or_default();
        if warnings.is_empty() {
            return Ok(());
        }
        Err(Failure { message: warnings.join("\n"), exit_code: 3 })
    }

    async fn status(&self) -> Status {
        let impaired = wire::impairments(&self.lab.view()).await.unwrap_or_default();
        let plan = self.lab.plan();
        let pids: std::collections::BTreeMap<_, _> = self.lab.processes().into_iter().collect();
        let ended = self.lab.hosts().ended;
        let host = |(name, host): (&String, &labctl_model::Host)| {
            let nics = host.nics.iter().map(Into::into);
            let containers = plan.lab.containers.iter().filter(|(_, c)| &c.host == name);
            let console = self.lab.dir().console(name);
            let status = HostStatus {
                nics: nics.collect(),
                containers: containers.map(|(n, _)| n.clone()).collect(),
                docker_socket: self.lab.dir().docker_socket(name),
                console: console.exists().then_some(console),
                pid: pids.get(name).copied(),
                down: ended.get(name).cloned(),
            };
            (name.clone(), status)
        };
        Status {
            lab: self.lab.dir().name().to_owned(),
            runtime: plan.runtime,
            topology: plan.topology.clone(),
            stage: self.stage(),
            supervisor: std::process::id(),
            since: plan.since,
            hosts: plan.lab.hosts.iter().map(host).collect(),
            peers: plan.lab.peers.iter().map(|(n, p)| (n.clone(), p.nic.to_string())).collect(),
            segments: plan.lab.segments.keys().cloned().collect(),
            impaired,
        }
    }

    /// Answers requests that need the lab, for as long as it exists.
    async fn use_lab(
        &self,
        request: Request,
        answers: &mpsc::Sender<Answer>,
        input: &mut mpsc::Receiver<String>,
    ) -> Result<(), Error> {
        match request {
            Request::Check(how) => self.check(how, None, answers, input).await,
            Request::CheckOther { how, expectations } => {
                self.check(how, Some(&expectations), answers, input).await
            }
            Request::Do { action } => {
                self.must_be_up()?;
                forwarding(answers, async |events| self.lab.act(&action, events).await).await
            }
            Request::Save { name } => {
                self.must_be_up()?;
                let saved = self.lab.save(&name).await?;
                let _ = answers.send(Answer::Saved(saved)).await;
                Ok(())
            }
            Request::Reset { name } => {
                self.must_be_up()?;
                // In a task of its own: a client that goes away must not leave half a lab.
                let lab = self.lab.clone();
                let reset =
                    tokio::spawn(async move { lab.reset(name.as_deref(), &Events::channel().0).await });
                reset.await.map_err(|e| Error::Control(e.to_string()))??;
                let _ = answers.send(Answer::Reset).await;
                Ok(())
            }
            Request::Exec { command, tty } => self.exec(command, tty, answers, input).await,
            Request::Send(order) => self.send(*order, answers, input).await,
            Request::Vxlan { from, to, port } => self.vxlan(Which { from, to, port }, answers, input).await,
            Request::Capture { segment, count, duration_ms, snaplen, filter } => {
                let spec = CaptureSpec {
                    snaplen: usize::try_from(snaplen).unwrap_or(usize::MAX),
                    count,
                    duration: duration_ms.map(Duration::from_millis),
                    ..CaptureSpec::default()
                };
                self.capture(&segment, spec, filter, answers, input).await
            }
            // Answered for any lab, also one that is not up yet.
            Request::Follow { .. } | Request::Status | Request::Down { .. } => Ok(()),
        }
    }

    fn must_be_up(&self) -> Result<(), Error> {
        match self.stage() {
            Stage::Up => Ok(()),
            _ => Err(Error::NotUp(self.name().to_owned())),
        }
    }

    /// Fails unless the lab is up, or as far up as it came.
    fn must_be_there(&self) -> Result<(), Error> {
        match self.stage() {
            Stage::Up | Stage::Partial => Ok(()),
            _ => Err(Error::NotUp(self.name().to_owned())),
        }
    }
}

impl Service for LabService {
    fn answer(
        &self,
        request: Request,
        answers: mpsc::Sender<Answer>,
        mut input: mpsc::Receiver<String>,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            match request {
                Request::Follow { own } => return self.follow(own, &answers, &mut input).await,
                Request::Down { by } => return self.down(by).await,
                Request::Status => {
                    let _ = answers.send(Answer::Status(Box::new(self.status().await))).await;
                    return Ok(());
                }
                _ => {}
            }
            let answered = tokio::select! {
                answered = self.use_lab(request, &answers, &mut input) => answered,
                () = self.stop.cancelled() => Err(self.taken_down()),
            };
            answered.map_err(|e| e.to_failure())
        })
    }
}

/// Does `work` and passes its progress on as it happens.
async fn forwarding<T>(answers: &mpsc::Sender<Answer>, work: impl AsyncFnOnce(&Events) -> T) -> T {
    let (events, mut received) = Events::channel();
    let forward = async {
        while let Some(event) = received.recv().await {
            let _ = answers.send(Answer::Event(event)).await;
        }
    };
    let work = async {
        let result = work(&events).await;
        drop(events);
        result
    };
    tokio::join!(work, forward).0
}

fn describe(frame: &CapturedFrame, ports: &[String]) -> Frame {
    let since = frame.timestamp.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Frame {
        time_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        port: ports.iter().position(|p| **p == *frame.port).unwrap_or(ports.len()),
        length: u32::try_from(frame.original_len).unwrap_or(u32::MAX),
        data: BASE64_STANDARD.encode(&frame.data),
        fate: frame.fate.to_string(),
        dropped: matches!(frame.fate, Fate::Dropped { .. }),
        lost_before: frame.lost_before,
    }
}
