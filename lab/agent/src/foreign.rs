//! A machine that is not labctl's own: what a lab makes there is noted before it is made, and nothing else is touched.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use labctl_model::{Interface, OfFamily, Route};
use labctl_protocol::{
    kernel::is_own_sysctl,
    made::{Made, Notes, NotesRequest, table},
    messages::HostConfig,
};
use netlink_packet_route::address::AddressAttribute;
use nix::errno::Errno;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command, sync::Mutex};

use crate::{
    engine::PATH,
    netlink::{Netlink, NetlinkError},
    netns::Namespace,
    network,
};

/// Why something was not done on a machine that is not labctl's own.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The notes.
    #[error("the notes at {path}: {error}", path = path.display())]
    Notes {
        /// Their file.
        path: PathBuf,
        /// What the kernel said, or what is wrong with them.
        error: io::Error,
    },
    /// Nobody has begun the notes, so nothing may be made.
    #[error("no lab has begun its notes here")]
    NoNotes,
    /// Another lab of this name is there.
    #[error("lab `{lab}` is here already, of {owner}")]
    Taken {
        /// Its name.
        lab: String,
        /// Whose it is.
        owner: String,
    },
    /// An error of rtnetlink.
    #[error(transparent)]
    Network(#[from] NetlinkError),
    /// Something that the machine has itself.
    #[error("{0}, and it is not the lab's")]
    Theirs(String),
    /// A setting that does not belong to a network namespace.
    #[error("{0} is a setting of the whole machine")]
    Sysctl(String),
    /// A file or program.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A cut would end the session.
    #[error("ssh comes by {0}: a cut of it would cut off labctl too; give the lab a NIC of its own")]
    Door(String),
    /// nft refused.
    #[error("nft: {0}")]
    Nft(String),
}

/// A lab's part of the machine.
#[derive(Debug)]
pub struct Foreign {
    lab: String,
    path: PathBuf,
    /// The address here that ssh comes to, if it comes by a network.
    door: Option<IpAddr>,
    one_at_a_time: Mutex<()>,
}

impl Foreign {
    /// The part of this lab. Its notes lie beside the agent, which is in a folder of the user's.
    ///
    /// # Errors
    /// This program has no path.
    pub fn of(lab: &str, door: Option<IpAddr>) -> io::Result<Self> {
        let exe = std::env::current_exe()?;
        let folder = exe.parent().unwrap_or(Path::new("/")).join("labs");
        Ok(Self { door, ..Self::at(lab, folder.join(format!("{lab}.json"))) })
    }

    fn at(lab: &str, path: PathBuf) -> Self {
        Self { lab: lab.to_owned(), path, door: None, one_at_a_time: Mutex::default() }
    }

    /// Answers a request about the notes.
    ///
    /// # Errors
    /// The notes cannot be read or written; another lab has this name.
    pub async fn answer(&self, request: NotesRequest, namespace: &Namespace) -> Result<Value, ForeignError> {
        let _one = self.one_at_a_time.lock().await;
        let json = |value: serde_json::Result<Value>| value.map_err(|e| self.failed(e.into()));
        match request {
            NotesRequest::Begin { owner } => {
                match self.read()? {
                    Some(there) if there.owner != owner => {
                        return Err(ForeignError::Taken { lab: self.lab.clone(), owner: there.owner });
                    }
                    Some(_) => {}
                    None => self.write(&Notes { owner, made: Vec::new() })?,
                }
                Ok(Value::Null)
            }
            NotesRequest::Add(made) => {
                self.add(made)?;
                Ok(Value::Null)
            }
            NotesRequest::Read => json(serde_json::to_value(self.read()?)),
            NotesRequest::Undo => json(serde_json::to_value(self.undo(namespace).await?)),
            NotesRequest::End => {
                match fs::remove_file(&self.path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(self.failed(e)),
                    _ => {}
                }
                Ok(Value::Null)
            }
        }
    }

    /// Gives the NICs their addresses where these lack, and makes interfaces, settings and routes. What is there already
    /// stays, and is not noted.
    ///
    /// # Errors
    /// The machine has something of its own there; the kernel refuses.
    pub async fn configure(&self, config: &HostConfig, namespace: &Namespace) -> Result<(), ForeignError> {
        let _one = self.one_at_a_time.lock().await;
        let netlink = Netlink::open(namespace).await?;
        for nic in &config.nics {
            let link = netlink.link(&nic.name).await?;
            let link = link.ok_or_else(|| NetlinkError::NoInterface(nic.name.clone()))?;
            if !link.up {
                self.add(Made::Up(nic.name.clone()))?;
                network::set_up(&netlink, &link).await?;
            }
            for address in nic.addresses.iter() {
                let peer = nic.peer.get(address.family());
                if netlink.addresses().await?.iter().any(|a| a.index == link.index && a.address == address) {
                    continue;
                }
                self.add(Made::Address { interface: nic.name.clone(), address, peer })?;
                let mut request = netlink.0.address().add(link.index, address.addr(), address.prefix_len());
                if let Some(peer) = peer {
                    let attributes = &mut request.message_mut().attributes;
                    attributes.retain(|a| matches!(a, AddressAttribute::Local(_)));
                    attributes.push(AddressAttribute::Address(peer));
                }
                let what = format!("give {} the address {address}", nic.name);
                request.execute().await.map_err(NetlinkError::of(what))?;
            }
        }
        for interface in &config.interfaces {
            self.make_interface(&netlink, interface).await?;
        }
        for (key, value) in &config.sysctls {
            self.set_sysctl(namespace, key, value).await?;
        }
        for route in &config.routes {
            self.add_route(&netlink, route).await?;
        }
        Ok(())
    }

    /// Adds a route, or removes one that the lab has added.
    ///
    /// # Errors
    /// The machine has such a route of its own.
    pub async fn route(&self, namespace: &Namespace, add: bool, route: &Route) -> Result<(), ForeignError> {
        let _one = self.one_at_a_time.lock().await;
        let netlink = Netlink::open(namespace).await?;
        if add {
            return self.add_route(&netlink, route).await;
        }
        if !self.has_made(&Made::Route(route.clone()))? {
            return Err(ForeignError::Theirs(format!("the route to {} is the machine's", route.to)));
        }
        Ok(network::remove_route(&netlink, route).await?)
    }

    /// Makes an interface, or removes one that the lab has made.
    ///
    /// # Errors
    /// The machine has such an interface of its own.
    pub async fn interface(
        &self,
        namespace: &Namespace,
        add: bool,
        interface: &Interface,
    ) -> Result<(), ForeignError> {
        let _one = self.one_at_a_time.lock().await;
        let netlink = Netlink::open(namespace).await?;
        if add {
            return self.make_interface(&netlink, interface).await;
        }
        if !self.has_made(&Made::Interface(interface.name.clone()))? {
            return Err(ForeignError::Theirs(format!("interface {} is the machine's", interface.name)));
        }
        Ok(network::remove_interface(&netlink, &interface.name).await?)
    }

    /// Notes an interface that the agent is about to make and will remove itself.
    ///
    /// # Errors
    /// The machine has one of that name; the notes cannot be written.
    pub async fn note_interface(&self, namespace: &Namespace, name: &str) -> Result<(), ForeignError> {
        let _one = self.one_at_a_time.lock().await;
        self.claim_interface(&Netlink::open(namespace).await?, name).await
    }

    /// Replaces or removes the lab's nftables table.
    ///
    /// # Errors
    /// There is no nft, or it refuses; ssh comes by an interface that is `cut`.
    pub async fn table(
        &self,
        namespace: &Namespace,
        rules: Option<&str>,
        cut: &[String],
    ) -> Result<(), ForeignError> {
        let _one = self.one_at_a_time.lock().await;
        if let Some(door) = self.door.filter(|_| !cut.is_empty()) {
            let netlink = Netlink::open(namespace).await?;
            let at = netlink.addresses().await?.into_iter().find(|a| a.address.addr() == door);
            let links = netlink.links().await?;
            let name = at.and_then(|at| links.into_iter().find(|l| l.index == at.index)).map(|l| l.name);
            if let Some(name) = name.filter(|name| cut.contains(name)) {
                return Err(ForeignError::Door(name));
            }
        }
        if rules.is_some() {
            self.add(Made::Table)?;
        }
        nft(&self.lab, rules).await
    }

    async fn make_interface(&self, netlink: &Netlink, interface: &Interface) -> Result<(), ForeignError> {
        self.claim_interface(netlink, &interface.name).await?;
        Ok(network::make_interface(netlink, interface).await?)
    }

    async fn claim_interface(&self, netlink: &Netlink, name: &str) -> Result<(), ForeignError> {
        let made = Made::Interface(name.to_owned());
        if !self.has_made(&made)? && netlink.link(name).await?.is_some() {
            return Err(ForeignError::Theirs(format!("there is an interface {name}")));
        }
        self.add(made)
    }

    async fn set_sysctl(&self, namespace: &Namespace, key: &str, value: &str) -> Result<(), ForeignError> {
        if !is_own_sysctl(key) {
            return Err(ForeignError::Sysctl(key.to_owned()));
        }
        let failed = |error| ForeignError::Io { what: format!("sysctl {key}"), error };
        let before = network::sysctl(namespace, key).await.map_err(failed)?;
        if before == value {
            return Ok(());
        }
        self.add(Made::Sysctl { key: key.to_owned(), before })?;
        network::set_sysctls(namespace, [(key.to_owned(), value.to_owned())]).await.map_err(failed)
    }

    async fn add_route(&self, netlink: &Netlink, route: &Route) -> Result<(), ForeignError> {
        let made = Made::Route(route.clone());
        let is_ours = self.has_made(&made)?;
        if !is_ours {
            // Noted first. A route that is refused is not the lab's, and its note is taken back.
            self.add(made.clone())?;
        }
        match network::add_new_route(netlink, route).await {
            Err(e) if e.errno() == Some(Errno::EEXIST) && is_ours => Ok(()),
            Err(e) => {
                if !is_ours {
                    self.forget(&made)?;
                }
                match e.errno() {
                    Some(Errno::EEXIST) => {
                        Err(ForeignError::Theirs(format!("the machine has a route to {}", route.to)))
                    }
                    _ => Err(e.into()),
                }
            }
            Ok(()) => Ok(()),
        }
    }

    async fn undo(&self, namespace: &Namespace) -> Result<Vec<String>, ForeignError> {
        let Some(mut notes) = self.read()? else { return Ok(Vec::new()) };
        let netlink = Netlink::open(namespace).await?;
        let (mut failures, mut left) = (Vec::new(), Vec::new());
        while let Some(made) = notes.made.pop() {
            if made.is_dockers() {
                left.push(made);
                continue;
            }
            if let Err(error) = self.undo_one(&made, &netlink, namespace).await {
                failures.push(format!("{made}: {error}"));
                left.push(made);
            }
        }
        left.reverse();
        self.write(&Notes { made: left, ..notes })?;
        Ok(failures)
    }

    async fn undo_one(
        &self,
        made: &Made,
        netlink: &Netlink,
        namespace: &Namespace,
    ) -> Result<(), ForeignError> {
        match made {
            Made::Address { interface, address, .. } => {
                let Some(link) = netlink.link(interface).await? else { return Ok(()) };
                let there = netlink.addresses().await?.into_iter();
                for old in there.filter(|a| a.index == link.index && a.address == *address) {
                    let what = format!("remove {address} from {interface}");
                    let removed = netlink.0.address().del(old.message).execute().await;
                    removed.map_err(NetlinkError::of(what))?;
                }
            }
            Made::Up(interface) => {
                if let Some(link) = netlink.link(interface).await? {
                    network::set_down(netlink, &link).await?;
                }
            }
            Made::Route(route) => network::remove_route(netlink, route).await?,
            Made::Interface(name) => network::remove_interface(netlink, name).await?,
            Made::Sysctl { key, before } => {
                let set = network::set_sysctls(namespace, [(key.clone(), before.clone())]).await;
                match set {
                    // Of an interface that is gone.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    set => set.map_err(|error| ForeignError::Io { what: format!("sysctl {key}"), error })?,
                }
            }
            Made::Table => nft(&self.lab, None).await?,
            Made::Image(_) | Made::Network(_) | Made::Swarm(_) => {}
        }
        Ok(())
    }

    fn has_made(&self, made: &Made) -> Result<bool, ForeignError> {
        Ok(self.read()?.is_some_and(|notes| notes.made.contains(made)))
    }

    /// Notes something, once.
    fn add(&self, made: Made) -> Result<(), ForeignError> {
        let mut notes = self.read()?.ok_or(ForeignError::NoNotes)?;
        // Of a setting only the first value counts: the later ones are the lab's.
        let same = |other: &Made| match (other, &made) {
            (Made::Sysctl { key: a, .. }, Made::Sysctl { key: b, .. }) => a == b,
            (Made::Swarm(_), Made::Swarm(_)) => true,
            (a, b) => a == b,
        };
        if notes.made.iter().any(same) {
            return Ok(());
        }
        notes.made.push(made);
        self.write(&notes)
    }

    fn forget(&self, made: &Made) -> Result<(), ForeignError> {
        let Some(mut notes) = self.read()? else { return Ok(()) };
        notes.made.retain(|other| other != made);
        self.write(&notes)
    }

    fn failed(&self, error: io::Error) -> ForeignError {
        ForeignError::Notes { path: self.path.clone(), error }
    }

    fn read(&self) -> Result<Option<Notes>, ForeignError> {
        let bytes = match fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|e| self.failed(e))?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| self.failed(e.into()))
    }

    /// Writes them atomically, and returns once they are on disk.
    fn write(&self, notes: &Notes) -> Result<(), ForeignError> {
        let write = || -> io::Result<()> {
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder)?;
            let draft = self.path.with_extension("new");
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec(notes)?)?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|e| self.failed(e))
    }
}

/// Replaces the lab's table, or removes it. The family `netdev` sees what macvlan and ipvlan interfaces send and receive
/// through a NIC, too.
async fn nft(lab: &str, rules: Option<&str>) -> Result<(), ForeignError> {
    let name = table(lab);
    // Declared first, so that its removal cannot fail.
    let mut script = format!("table netdev {name} {{}}\ndelete table netdev {name}\n");
    if let Some(rules) = rules {
        script += &format!("table netdev {name} {{\n{rules}\n}}\n");
    }
    let failed = |error| ForeignError::Io { what: "nft".into(), error };
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(ForeignError::Nft(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_thing_is_noted_once_and_a_setting_with_its_first_value() {
        let tmp = tempfile::tempdir().unwrap();
        let foreign = Foreign::at("lab", tmp.path().join("labs/lab.json"));
        let image = || Made::Image("redis".into());
        assert!(matches!(foreign.add(image()), Err(ForeignError::NoNotes)), "nothing before its notes begin");
        foreign.write(&Notes { owner: "me".into(), made: Vec::new() }).unwrap();
        let sysctl = |before: &str| Made::Sysctl { key: "net.ipv4.ip_forward".into(), before: before.into() };
        for made in [image(), sysctl("0"), image(), sysctl("1")] {
            foreign.add(made).unwrap();
        }
        assert_eq!(foreign.read().unwrap().unwrap().made, [image(), sysctl("0")]);
        foreign.forget(&image()).unwrap();
        assert_eq!(foreign.read().unwrap().unwrap().made, [sysctl("0")]);
    }

    #[tokio::test]
    async fn a_second_lab_of_the_name_is_kept_out() {
        let tmp = tempfile::tempdir().unwrap();
        let foreign = Foreign::at("lab", tmp.path().join("labs/lab.json"));
        let here = Namespace::own().unwrap();
        let begin = |owner: &str| foreign.answer(NotesRequest::Begin { owner: owner.into() }, &here);
        begin("a").await.unwrap();
        begin("a").await.unwrap();
        assert!(begin("b").await.unwrap_err().to_string().contains("lab `lab` is here already, of a"));
        foreign.answer(NotesRequest::End, &here).await.unwrap();
        begin("b").await.unwrap();
    }
}
