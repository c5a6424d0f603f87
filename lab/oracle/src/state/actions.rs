//! What the actions of steps change.

use labctl_model::{Action, Direction, Place, Power, Role, Route, ServiceChange, Step, Traffic};

use super::{State, Status};

/// Programs that change nothing of a host's network.
const HARMLESS: [&str; 8] = ["sleep", "ping", "hostname", "cat", "test", "true", "redis-cli", "echo"];

impl State<'_> {
    /// Does what a step does. What a step expects to be refused changes nothing.
    pub fn apply(&mut self, step: &Step) {
        let refused = usize::from(step.fails.is_some());
        let done = step.actions.len().saturating_sub(refused);
        for action in step.actions.iter().take(done) {
            self.act(action);
        }
        if step.fails.is_some() {
            self.refused(step);
        }
    }

    /// Some refusals leave traces.
    fn refused(&mut self, step: &Step) {
        if let Some(Action::Update { service, .. }) = step.actions.last()
            && let Some(s) = self.services.get_mut(service)
        {
            // Docker stops at the first task that fails: which, and how many are left, is its choice.
            s.certain = false;
        }
    }

    pub(super) fn act(&mut self, action: &Action) {
        match action {
            Action::Create(c) => self.create(c),
            Action::Start(c) => self.start(c),
            Action::Stop(c) => self.stop(c, Status::Exited),
            Action::Restart(c) => {
                self.stop(c, Status::Exited);
                self.start(c);
            }
            Action::Remove(c) => self.stop(c, Status::Absent),
            Action::Connect { container, network, address } => {
                self.connect(container, network, address.iter().copied().collect());
            }
            Action::Disconnect { container, network } => self.disconnect(container, network),
            Action::CreateNetwork(key) => self.create_network(key),
            Action::RemoveNetwork(key) => {
                self.overlays.shift_remove(key);
                if self.lab.mesh().is_some_and(|(mesh, _)| mesh == key) {
                    self.end_mesh();
                }
                for host in self.hosts.values_mut() {
                    host.networks.shift_remove(key);
                }
            }
            Action::PruneNetworks(host) => self.prune(host),
            Action::RouteAdd { host, route } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    // As `ip route replace`: one to the same destination with the same metric goes.
                    h.routes.retain(|r| (r.to, r.metric) != (route.to, route.metric));
                    h.routes.push(route.clone());
                }
            }
            Action::RouteDel { host, route } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    let is = |r: &Route| {
                        r.to == route.to
                            && (route.via.is_none() || r.via == route.via)
                            && (route.dev.is_none() || r.dev.is_none() || r.dev == route.dev)
                            && (route.metric.is_none() || r.metric == route.metric)
                    };
                    h.routes.retain(|r| !is(r));
                }
            }
            Action::CreateInterface { host, name } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    h.interfaces.insert(name.clone());
                }
            }
            Action::RemoveInterface { host, name } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    h.interfaces.shift_remove(name);
                    h.routes.retain(|r| r.dev.as_deref() != Some(name));
                }
            }
            Action::CreateService { service, .. } => {
                if let Some(spec) = self.lab.services.get(service) {
                    self.create_service(service, spec);
                }
            }
            Action::RemoveService(service) => drop(self.services.shift_remove(service)),
            Action::Scale { service, replicas, .. } => {
                let change = ServiceChange { replicas: Some(*replicas), ..ServiceChange::default() };
                self.update(service, &change);
            }
            Action::Update { service, change, .. } => self.update(service, change),
            Action::Drain(host) | Action::Activate(host) => {
                if let Some(node) = self.nodes.get_mut(host) {
                    node.active = matches!(action, Action::Activate(_));
                }
                self.join_mesh(host);
                self.place_all(false);
            }
            Action::Promote(host) | Action::Demote(host) => {
                if let Some(node) = self.nodes.get_mut(host) {
                    node.role =
                        if matches!(action, Action::Promote(_)) { Role::Manager } else { Role::Worker };
                }
                self.join_mesh(host);
                self.place_all(false);
            }
            Action::Leave(host) => {
                let sandbox = self.nodes.shift_remove(host).and_then(|n| n.sandbox);
                let gwbridge = self.gwbridge();
                sandbox.into_iter().for_each(|ip| self.take_back(host, gwbridge, ip));
                self.end_overlays_of(host);
                self.place_all(false);
            }
            Action::Join { host, role, advertise, .. } => self.join(host, *role, *advertise),
            Action::RemoveNode { host, force } => {
                // Of a host that is a node again only the stale entries go.
                let runs = self.hosts.get(host.as_str()).is_some_and(|h| h.up && h.docker);
                if *force || !runs {
                    self.nodes.shift_remove(host);
                    self.former.shift_remove(host);
                }
            }
            Action::ForceNewCluster(host) => {
                let others: Vec<String> = self.nodes.keys().filter(|n| *n != host).cloned().collect();
                for name in others {
                    let node = self.nodes.shift_remove(&name);
                    self.former.extend(node.map(|node| (name, node)));
                }
                self.swarm_unknown = Some(format!(
                    "what {host} tells others after force-new-cluster, until its dockerd starts anew"
                ));
                self.place_all(false);
            }
            Action::Exec(command) => self.exec(command),
            Action::ConfigureDocker { host, daemon_json } => {
                if let Some(h) = self.hosts.get_mut(host.as_str()) {
                    h.daemon_json = daemon_json.clone();
                }
                self.docker(host, Power::Restart);
            }
            Action::Power { host, power } => self.power(host, *power),
            Action::Docker { host, power } => self.docker(host, *power),
            Action::Cut { host, segment, direction } => {
                let to = *direction != Direction::Outbound;
                let from = *direction != Direction::Inbound;
                for name in self.segments_of(host, segment.as_deref()) {
                    if let Some(h) = self.hosts.get_mut(host.as_str()) {
                        let cut = h.cut.entry(name).or_default();
                        *cut = (cut.0 || to, cut.1 || from);
                    }
                }
            }
            Action::Heal { host, segment } => {
                for name in self.segments_of(host, segment.as_deref()) {
                    if let Some(h) = self.hosts.get_mut(host.as_str()) {
                        h.cut.shift_remove(&name);
                    }
                }
            }
            Action::Reset => *self = State::new(self.lab),
            Action::Block { filter, place } => self.block(*filter, place),
            Action::Unblock { filter, place } => {
                let covers = |mine: &Option<String>, its: &Option<String>| mine.is_none() || mine == its;
                self.blocks.retain(|(f, p)| {
                    !(filter.is_none_or(|filter| filter == *f)
                        && covers(&place.segment, &p.segment)
                        && covers(&place.from, &p.from)
                        && covers(&place.to, &p.to))
                });
            }
        }
    }

    fn block(&mut self, filter: Traffic, place: &Place) {
        // One entry for each segment, so that one of them can be unblocked alone.
        let segments: Vec<String> = match &place.segment {
            Some(one) => vec![one.clone()],
            None => self.lab.segments.keys().cloned().collect(),
        };
        for segment in segments {
            self.blocks.push((filter, Place { segment: Some(segment), ..place.clone() }));
        }
    }

    fn segments_of(&self, host: &str, only: Option<&str>) -> Vec<String> {
        let nics = self.lab.hosts.get(host).map(|h| h.nics.as_slice()).unwrap_or_default();
        nics.iter().map(|n| n.segment.clone()).filter(|s| only.is_none_or(|only| only == s)).collect()
    }

    /// A command in a host or a container: who knows what it does.
    fn exec(&mut self, command: &labctl_model::Command) {
        let program = command.argv.first().map(|p| p.rsplit('/').next().unwrap_or(p)).unwrap_or_default();
        if HARMLESS.contains(&program) {
            return;
        }
        let why = Some(format!("what `{program}` has done in {}", command.place));
        match self.lab.namespace_of(&command.place) {
            Some(place) if self.hosts.contains_key(place) => {
                if let Some(host) = self.hosts.get_mut(place) {
                    host.unknown = host.unknown.take().or(why);
                }
            }
            place => {
                if let Some(c) = place.and_then(|name| self.containers.get_mut(name)) {
                    c.unknown = c.unknown.take().or(why);
                }
            }
        }
    }
}
