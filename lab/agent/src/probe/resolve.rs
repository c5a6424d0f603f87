//! Looks up names as the endpoint's own resolver does: in its /etc/hosts, then at the name servers of its
//! /etc/resolv.conf, from its own namespace (where Docker's 127.0.0.11 answers).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use labctl_model::{Family, OfFamily};
use labctl_protocol::messages::Outcome;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE, rdata::RData};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::space::Space;
use crate::ops::facts::{file_of, hosts_lines};

const PORT: u16 = 53;

/// How long we wait for a name server before we ask the next one, or the same again.
const PATIENCE: Duration = Duration::from_secs(1);

/// As in glibc (resolv.conf(5): MAXNS, MAXDNSRCH of old, and the largest ndots).
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
const MAX_NDOTS: usize = 15;

/// Addresses of a name in a family, or the outcome if there are none: `NoName` is the answer of the files or servers; `Failed` means
/// that we could not ask them, which says nothing about the name.
pub async fn resolve(
    space: &Space,
    pid: Option<u32>,
    (name, family): (&str, Family),
    deadline: Instant,
) -> Result<Vec<IpAddr>, Outcome> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let addresses = in_hosts(&file(pid, "/etc/hosts")?, name, family);
    if !addresses.is_empty() {
        return Ok(addresses);
    }
    let config = Config::parse(&file(pid, "/etc/resolv.conf")?);
    if config.servers.is_empty() {
        let why = "not in /etc/hosts, and no name server in /etc/resolv.conf".into();
        return Err(Outcome::NoName { why });
    }
    let servers = config.servers.clone();
    let asking =
        space.namespace.run(move || servers.into_iter().map(Asking::new).collect::<io::Result<Vec<_>>>());
    let failed = |error: io::Error| Outcome::Failed { why: format!("no socket for the look-up: {error}") };
    let asking = asking.await.map_err(failed)?;
    let mut why = String::new();
    for candidate in config.candidates(name) {
        match ask(&asking, (&candidate, family), deadline).await {
            Ok(addresses) => return Ok(addresses),
            // Keep the error of the first candidate, the most likely name.
            Err(error) if why.is_empty() => why = error,
            Err(_) => {}
        }
    }
    Err(Outcome::NoName { why })
}

/// A file as the process sees it; empty if there is none. If the process is gone, the file's contents are unknown.
fn file(pid: Option<u32>, path: &str) -> Result<String, Outcome> {
    let has_root = || pid.is_none_or(|pid| Path::new(&format!("/proc/{pid}/root")).exists());
    match file_of(pid, path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound && has_root() => Ok(String::new()),
        Err(error) => Err(Outcome::Failed { why: error.to_string() }),
    }
}

/// A name server, and a socket of its family to ask it by.
struct Asking {
    server: IpAddr,
    socket: UdpSocket,
}

impl Asking {
    fn new(server: IpAddr) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind((server.family().unspecified(), 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self { server, socket: UdpSocket::from_std(socket)? })
    }
}

/// Addresses of a name in a hosts(5) file, which is case-insensitive.
fn in_hosts(text: &str, name: &str, family: Family) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let lines = hosts_lines(text).filter(|(_, names)| names.clone().any(|n| n.eq_ignore_ascii_case(name)));
    lines.filter_map(|(address, _)| address.parse().ok()).filter(|a: &IpAddr| a.family() == family).collect()
}

/// The parts of a resolv.conf(5) that we use.
#[derive(Debug, PartialEq, Eq)]
struct Config {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Config {
    fn parse(text: &str) -> Self {
        let mut config = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or("");
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if config.servers.len() < MAX_SERVERS => {
                    config.servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()));
                }
                // The last such line counts.
                Some("search" | "domain") => {
                    config.search =
                        words.take(MAX_SEARCH).map(|w| w.trim_end_matches('.').to_owned()).collect();
                }
                Some("options") => {
                    let ndots = words.filter_map(|w| w.strip_prefix("ndots:")?.parse().ok()).next_back();
                    config.ndots = ndots.unwrap_or(config.ndots).min(MAX_NDOTS);
                }
                _ => {}
            }
        }
        config
    }

    /// The names to ask for, in order.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().filter(|s| !s.is_empty()).map(|domain| format!("{name}.{domain}"));
        let dots = name.bytes().filter(|&b| b == b'.').count();
        match dots >= self.ndots {
            true => std::iter::once(name.to_owned()).chain(searched).collect(),
            false => searched.chain(std::iter::once(name.to_owned())).collect(),
        }
    }
}

/// What one name server said.
enum Answer {
    Addresses(Vec<IpAddr>),
    /// There is no such name, or it has no address of the family: no other server is asked.
    None(String),
    /// It cannot tell; another server may.
    Cannot(String),
    /// It did not answer.
    Silence(String),
}

/// Asks the servers in turn, repeatedly, until one knows or the deadline comes.
async fn ask(servers: &[Asking], name: (&str, Family), deadline: Instant) -> Result<Vec<IpAddr>, String> {
    loop {
        let mut why = String::new();
        let mut hope = false;
        for server in servers {
            match ask_one(server, name, deadline.min(Instant::now() + PATIENCE)).await {
                Answer::Addresses(addresses) => return Ok(addresses),
                Answer::None(word) => return Err(word),
                Answer::Cannot(word) => why = word,
                Answer::Silence(word) => (why, hope) = (word, true),
            }
        }
        if !hope || Instant::now() >= deadline {
            return Err(why);
        }
    }
}

async fn ask_one(asking: &Asking, (name, family): (&str, Family), until: Instant) -> Answer {
    let Asking { server, socket } = asking;
    let id: u16 = rand::random();
    let query = match query(id, name, family) {
        Ok(query) => query,
        Err(error) => return Answer::None(format!("{name}: {error}")),
    };
    let exchange = async {
        socket.connect(SocketAddr::new(*server, PORT)).await?;
        socket.send(&query).await?;
        let mut reply = vec![0; 4096];
        loop {
            let n = socket.recv(&mut reply).await?;
            if let Some(answer) = read(&reply[..n], id, (name, family), *server) {
                return io::Result::Ok(answer);
            }
        }
    };
    match timeout_at(until, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Answer::Cannot(format!("no name server at {server}: refused"))
        }
        Ok(Err(error)) => Answer::Cannot(format!("name server {server}: {error}")),
        Err(_elapsed) => Answer::Silence(format!("no answer from name server {server}")),
    }
}

fn query(id: u16, name: &str, family: Family) -> Result<Vec<u8>, simple_dns::SimpleDnsError> {
    let kind = match family {
        Family::V4 => TYPE::A,
        Family::V6 => TYPE::AAAA,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name)?, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec()
}

/// Reads a reply; `None` if it does not belong to this query.
fn read(reply: &[u8], id: u16, (name, family): (&str, Family), server: IpAddr) -> Option<Answer> {
    let reply = Packet::parse(reply).ok()?;
    if reply.id() != id || !reply.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    let said = |word: &str| format!("{word} for {name} from {server}");
    Some(match reply.rcode() {
        RCODE::NoError => {
            // All addresses, whichever alias of the name they belong to.
            let addresses: Vec<_> = reply
                .answers
                .iter()
                .filter_map(|record| match &record.rdata {
                    RData::A(a) if family == Family::V4 => Some(IpAddr::from(a.address.to_be_bytes())),
                    RData::AAAA(a) if family == Family::V6 => Some(IpAddr::from(a.address.to_be_bytes())),
                    _ => None,
                })
                .collect();
            match addresses.is_empty() {
                true => Answer::None(said(&format!("no {family} address"))),
                false => Answer::Addresses(addresses),
            }
        }
        RCODE::NameError => Answer::None(said("NXDOMAIN")),
        RCODE::ServerFailure => Answer::Cannot(said("SERVFAIL")),
        RCODE::Refused => Answer::Cannot(said("REFUSED")),
        other => Answer::Cannot(said(&format!("{other:?}"))),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_glibc_does() {
        let text = "# Docker\nnameserver 127.0.0.11 # inside\nnameserver fd00::53\nsearch a.example. b\noptions edns0 ndots:0\n";
        let config = Config::parse(text);
        let servers: [IpAddr; 2] = ["127.0.0.11".parse().unwrap(), "fd00::53".parse().unwrap()];
        assert_eq!(config.servers, servers);
        assert_eq!((&config.search[..], config.ndots), (&["a.example".to_owned(), "b".to_owned()][..], 0));
        assert_eq!(config.candidates("web"), ["web", "web.a.example", "web.b"]);
        let one = Config { ndots: 1, ..config };
        assert_eq!(one.candidates("web"), ["web.a.example", "web.b", "web"]);
        assert_eq!(one.candidates("web.c"), ["web.c", "web.c.a.example", "web.c.b"]);
        assert_eq!(one.candidates("web."), ["web"]);
        assert_eq!(Config::parse("options ndots:99999").ndots, MAX_NDOTS);
    }

    #[test]
    fn a_file_that_is_not_there_is_empty_unless_its_process_is_gone() {
        for pid in [None, Some(std::process::id())] {
            assert_eq!(file(pid, "/etc/no.such.file"), Ok(String::new()));
        }
        // Beyond the largest process id that there can be.
        let gone = file(Some(5_000_000), "/etc/hosts");
        assert!(matches!(gone, Err(Outcome::Failed { .. })), "{gone:?}");
    }

    #[test]
    fn hosts_give_every_address_of_a_name() {
        let text = "127.0.0.1 localhost\n::1 c1\n10.0.0.2\tC1 c1.net # c2\n\n10.0.0.3 c1\n";
        let of = |family| in_hosts(text, "c1", family).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(Family::V4), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(of(Family::V6), ["::1"]);
        assert!(in_hosts(text, "c2", Family::V4).is_empty());
    }

    #[test]
    fn names_that_cannot_be_asked_for_and_replies_that_are_none_do_no_harm() {
        assert!(query(1, &"a".repeat(64), Family::V4).is_err());
        assert!(query(1, &"a.".repeat(200), Family::V4).is_err());
        let (server, x) = (Family::V4.loopback(), ("x", Family::V4));
        assert!(read(b"", 1, x, server).is_none());
        assert!(read(&[0xFF; 600], 1, x, server).is_none());
        let own = query(1, "x", Family::V4).unwrap();
        assert!(read(&own, 1, x, server).is_none(), "a query is no reply");
    }
}
