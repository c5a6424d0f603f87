//! Access to a running lab: commands, captures, single probes.

use std::{
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use bollard::Docker;
use futures::Stream;
use labctl_model::{Cell, Command, Matrix, Target};
use labctl_protocol::{client::ExecSession, messages::Exec};
use labctl_report::MatrixReport;
use labctl_wire::{Capture, CaptureSpec, CapturedFrame};

use super::RunningLab;
use crate::{Error, exec, filters::port_name, peers, probe, view::View, wire};

/// The frames of a segment as they pass: a stream that ends with the capture. Dropping it ends the capture.
#[derive(Debug)]
pub struct Frames {
    /// The ports of the segment: `host/nic`, then the gateway's, and the one for frames sent on the wire.
    pub ports: Vec<String>,
    capture: Capture,
}

impl Frames {
    /// The next frame; `None` once the capture has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<CapturedFrame> {
        self.capture.next().await
    }
}

impl Stream for Frames {
    type Item = CapturedFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CapturedFrame>> {
        self.capture.poll_next(cx)
    }
}

impl RunningLab {
    /// Starts a command in a host or container, and returns it with the host's name. `tty`: rows and columns of its
    /// terminal, if it gets one.
    ///
    /// # Errors
    /// No such endpoint, one that does not run, or no such program.
    pub async fn exec(
        &self,
        command: Command,
        tty: Option<(u16, u16)>,
    ) -> Result<(String, ExecSession), Error> {
        let Command { place: endpoint, tools, argv } = command;
        let (view, endpoint) = (self.view(), endpoint.as_str());
        let lab = view.lab;
        if let Some(peer) = lab.peers.get(endpoint) {
            let (lab, peer, segment) = (lab.name.clone(), endpoint.to_owned(), peer.nic.segment.clone());
            return Err(Error::APeer { lab, peer, segment });
        }
        let (host, netns) = exec::place(&view, endpoint).await?;
        let exec = Exec { argv, netns, tools, tty, env: Default::default() };
        Ok((host.name.clone(), host.agent.exec(exec).await.map_err(host.failed())?))
    }

    /// Begins to capture a segment.
    ///
    /// # Errors
    /// There is no such segment, the limits make no sense, or the lab is being taken down.
    pub async fn capture(&self, segment: &str, spec: CaptureSpec) -> Result<Frames, Error> {
        let view = self.view();
        let lab = view.lab;
        view.named("segment", &lab.segments, segment)?;
        let (capture, _) = wire::capture(&view, segment, spec).await?;
        let mut ports: Vec<String> = Vec::new();
        for (host, h) in &lab.hosts {
            ports.extend(h.nics.iter().filter(|n| n.segment == segment).map(|n| port_name(host, &n.name)));
        }
        let on = |p: &&labctl_model::Peer| p.nic.segment == segment;
        ports.extend(lab.peers.iter().filter(|(_, p)| on(p)).map(|(name, p)| peers::port(name, p)));
        if view.wire.is_some() {
            ports.push(labctl_wire::GATEWAY_PORT.to_owned());
            ports.push(labctl_wire::station_port(segment));
        }
        Ok(Frames { ports, capture })
    }

    /// Probes the cells of a matrix once. Keeps their `expected` and lines.
    ///
    /// # Errors
    /// A cell names something that the lab does not have. A lost packet or a silent host is a verdict, never an error.
    pub async fn probe(&self, matrix: &Matrix) -> Result<MatrixReport, Error> {
        let view = self.view();
        matrix.cells.iter().try_for_each(|cell| knows(&view, cell))?;
        let _one_at_a_time = self.checking.lock().await;
        Ok(probe::matrix(&self.view(), matrix, true).await)
    }

    /// The socket on this machine where a host's dockerd answers while the host runs.
    ///
    /// # Errors
    /// There is no such host.
    pub fn docker_socket(&self, host: &str) -> Result<PathBuf, Error> {
        self.view().named("host", &self.plan.lab.hosts, host)?;
        Ok(self.dir.docker_socket(host))
    }

    /// A client of a host's dockerd. It shares no connection with the lab's own, which belong to the async runtime that
    /// made them.
    ///
    /// # Errors
    /// There is no such host, or it does not run.
    pub fn docker(&self, name: &str) -> Result<Docker, Error> {
        let socket = self.docker_socket(name)?;
        Ok(self.view().host(name)?.docker.another(&socket)?)
    }
}

/// Whether the lab has what a cell names.
fn knows(view: &View<'_>, cell: &Cell) -> Result<(), Error> {
    let lab = view.lab;
    if !lab.is_endpoint(&cell.from) {
        return Err(view.no_such("host, container or peer", &cell.from, lab.endpoints()));
    }
    let Target::Endpoint { name, at } = &cell.to else { return Ok(()) };
    if !lab.is_endpoint(name) && !lab.services.contains_key(name) {
        let known = lab.endpoints().chain(lab.services.keys().map(String::as_str));
        return Err(view.no_such("host, container or service", name, known));
    }
    match at {
        Some(at) if at != "bridge" && !lab.networks.contains_key(at) && !lab.segments.contains_key(at) => {
            let known = lab.networks.keys().chain(lab.segments.keys()).map(String::as_str);
            Err(view.no_such("network or segment", at, known))
        }
        _ => Ok(()),
    }
}
