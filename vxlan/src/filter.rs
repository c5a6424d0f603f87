//! Filters that select frames, in words much like those of pcap-filter(7), over the whole stack of layers.
//!
//! ```text
//! filter = all *( "or" all )
//! all    = term *( "and" term )
//! term   = "not" term | "(" filter ")" | [ "inner" | "outer" ] word
//! word   = LAYER                            a layer of the text form: arp, icmp, udp, vxlan, esp, …
//!        | "vni" NUMBER | "vlan" NUMBER
//!        | [ "src" | "dst" ] "host" ADDRESS     IPv4, IPv6, also in ARP
//!        | [ "src" | "dst" ] "net" PREFIX
//!        | [ "src" | "dst" ] "mac" ADDRESS
//!        | [ "udp" | "tcp" ] [ "src" | "dst" ] "port" NUMBER
//!        | "bad"                            malformed, or a wrong length or checksum
//! ```
//!
//! A word applies to any layer of the frame; with `outer` to those up to the first tunnel header, with `inner` to those
//! within a tunnel. `&&`, `||` and `!` work too.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::proto::{Kind, Layer};
use crate::stack::Dissection;
use crate::text::kind_named;
use crate::{Decode, MacAddr};

/// How deep parentheses and `not` may nest.
const DEEPEST: usize = 64;

/// Selects frames.
///
/// ```
/// use vxlan::{Stack, filter::Filter};
///
/// let frame = "eth/ip(src=10.0.0.1,dst=10.0.0.2)/udp/vxlan(vni=4097)/eth/ip(src=10.3.1.1,dst=10.3.1.3)/icmp";
/// let frame = frame.parse::<Stack>()?.build()?;
/// for filter in ["vxlan and vni 4097", "inner host 10.3.1.3", "udp dst port 4789 and not arp"] {
///     assert!(filter.parse::<Filter>()?.matches(&frame), "{filter}");
/// }
/// assert!(!"outer host 10.3.1.3".parse::<Filter>()?.matches(&frame));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Expression);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Any(Vec<Expression>),
    All(Vec<Expression>),
    Not(Box<Expression>),
    Term(Scope, Word),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Whole,
    Outer,
    Inner,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Either,
    Src,
    Dst,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Layer(Kind),
    Vni(u32),
    Vlan(u16),
    /// An address, and how many of its leading bits count.
    Host(Side, IpAddr, u8),
    Mac(Side, MacAddr),
    Port(Option<Kind>, Side, u16),
    Bad,
}

/// Text that is not a filter.
///
/// ```
/// let error = "udp and vnj 7".parse::<vxlan::filter::Filter>().unwrap_err();
/// assert_eq!(error.to_string(), "column 9: nothing is called \"vnj\"; hint: did you mean \"vni\"?");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ParseFilterError {
    /// Number of the wrong character, from 1.
    pub column: usize,
    /// What is wrong there, and the way out.
    pub problem: String,
}

impl Filter {
    /// Whether the filter selects a frame.
    #[must_use]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.meets(&Dissection::of(frame, &Decode::default()))
    }

    /// Whether the filter selects a dissected frame.
    #[must_use]
    pub fn meets(&self, frame: &Dissection) -> bool {
        self.0.meets(frame)
    }
}

impl Expression {
    fn meets(&self, frame: &Dissection) -> bool {
        match self {
            Self::Any(nodes) => nodes.iter().any(|node| node.meets(frame)),
            Self::All(nodes) => nodes.iter().all(|node| node.meets(frame)),
            Self::Not(node) => !node.meets(frame),
            Self::Term(scope, word) => {
                let layers = &frame.stack.layers;
                let tunnel = layers.iter().position(|layer| layer.kind().is_tunnel());
                // The tunnel's own header belongs to the outer layers.
                let split = tunnel.map_or(layers.len(), |at| at + 1);
                let (layers, whole) = match scope {
                    Scope::Whole => (&layers[..], true),
                    Scope::Outer => (&layers[..split], false),
                    Scope::Inner => (&layers[split..], false),
                };
                let broken = whole && *word == Word::Bad && frame.error.is_some();
                broken || layers.iter().any(|layer| word.meets(layer))
            }
        }
    }
}

impl Word {
    fn meets(&self, layer: &Layer) -> bool {
        match self {
            // VXLAN with a group policy is VXLAN too.
            Self::Layer(Kind::Vxlan) => matches!(layer, Layer::Vxlan(_) | Layer::Gbp(_)),
            Self::Layer(kind) => layer.kind() == *kind,
            Self::Vni(vni) => match layer {
                Layer::Vxlan(header) => header.vni == *vni,
                Layer::Gbp(header) => header.vni == *vni,
                Layer::Gpe(header) => header.vni == *vni,
                _ => false,
            },
            Self::Vlan(vid) => matches!(layer, Layer::Dot1q(tag) if tag.vid == *vid),
            Self::Host(side, host, bits) => {
                let (src, dst) = match layer {
                    Layer::Ipv4(ip) => (ip.src.map(IpAddr::V4), ip.dst.map(IpAddr::V4)),
                    Layer::Ipv6(ip) => (ip.src.map(IpAddr::V6), ip.dst.map(IpAddr::V6)),
                    Layer::Arp(arp) => (arp.sender_ip.map(IpAddr::V4), Some(IpAddr::V4(arp.target_ip))),
                    _ => (None, None),
                };
                side.any(src, dst, |address| within(*address, *host, *bits))
            }
            Self::Mac(side, mac) => match layer {
                Layer::Ether(ether) => side.any(ether.src, ether.dst, |address| address == mac),
                _ => false,
            },
            Self::Port(kind, side, port) => {
                let (src, dst) = match layer {
                    Layer::Udp(udp) => (udp.src_port, udp.dst_port),
                    Layer::Tcp(tcp) => (Some(tcp.src_port), Some(tcp.dst_port)),
                    _ => (None, None),
                };
                kind.is_none_or(|kind| layer.kind() == kind) && side.any(src, dst, |found| found == port)
            }
            Self::Bad => !layer.wrong().is_empty(),
        }
    }
}

impl Side {
    fn any<T>(self, src: Option<T>, dst: Option<T>, wanted: impl Fn(&T) -> bool) -> bool {
        let is = |address: Option<T>| address.is_some_and(|address| wanted(&address));
        match self {
            Self::Either => is(src) || is(dst),
            Self::Src => is(src),
            Self::Dst => is(dst),
        }
    }
}

fn within(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    let (address, net, room) = match (address, net) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    // If all bits are shifted out, nothing can differ.
    (address ^ net).checked_shr(room - u32::from(bits)).is_none_or(|rest| rest == 0)
}

impl FromStr for Filter {
    type Err = ParseFilterError;

    /// Reads the words that the [module](self) describes.
    fn from_str(text: &str) -> Result<Self, ParseFilterError> {
        let mut reader = Reader { tokens: tokens(text), next: 0, end: text.chars().count() + 1, depth: 0 };
        let node = reader.any()?;
        match reader.peek() {
            None => Ok(Self(node)),
            Some(")") => Err(reader.error("there is no parenthesis to close".into())),
            Some(_) => Err(reader.error("`and` or `or` should be here".into())),
        }
    }
}

/// Words and signs, each with its column.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut column = 1;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '(' | ')' | '!' => 1,
            _ if first.is_whitespace() => first.len_utf8(),
            _ => rest.find(|c: char| c.is_whitespace() || "()!".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(len);
        if !first.is_whitespace() {
            tokens.push((column, token));
        }
        column += token.chars().count();
        rest = after;
    }
    tokens
}

struct Reader<'a> {
    tokens: Vec<(usize, &'a str)>,
    next: usize,
    /// The column after the last character.
    end: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    fn take(&mut self, words: &[&str]) -> Option<&'a str> {
        let token = self.peek().filter(|token| words.contains(token))?;
        self.next += 1;
        Some(token)
    }

    /// An error at the next token.
    fn error(&self, problem: String) -> ParseFilterError {
        ParseFilterError {
            column: self.tokens.get(self.next).map_or(self.end, |(column, _)| *column),
            problem,
        }
    }

    fn any(&mut self) -> Result<Expression, ParseFilterError> {
        let mut nodes = vec![self.all()?];
        while self.take(&["or", "||"]).is_some() {
            nodes.push(self.all()?);
        }
        Ok(Expression::Any(nodes))
    }

    fn all(&mut self) -> Result<Expression, ParseFilterError> {
        let mut nodes = vec![self.term()?];
        while self.take(&["and", "&&"]).is_some() {
            nodes.push(self.term()?);
        }
        Ok(Expression::All(nodes))
    }

    fn term(&mut self) -> Result<Expression, ParseFilterError> {
        if self.depth == DEEPEST {
            return Err(self.error(format!("more than {DEEPEST} levels of parentheses and `not`")));
        }
        self.depth += 1;
        let node = if self.take(&["not", "!"]).is_some() {
            Expression::Not(Box::new(self.term()?))
        } else if self.take(&["("]).is_some() {
            let node = self.any()?;
            if self.take(&[")"]).is_none() {
                return Err(self.error("a closing parenthesis is missing".into()));
            }
            node
        } else {
            let scope = match self.take(&["inner", "outer"]) {
                Some("inner") => Scope::Inner,
                Some(_) => Scope::Outer,
                None => Scope::Whole,
            };
            Expression::Term(scope, self.word()?)
        };
        self.depth -= 1;
        Ok(node)
    }

    fn word(&mut self) -> Result<Word, ParseFilterError> {
        let start = self.next;
        let transport = match self.take(&["udp", "tcp"]) {
            Some("udp") => Some(Kind::Udp),
            Some(_) => Some(Kind::Tcp),
            None => None,
        };
        // `udp` alone is a layer; before `port`, or a side and `port`, it is part of that.
        if let Some(kind) = transport
            && !matches!(self.peek(), Some("src" | "dst" | "port"))
        {
            return Ok(Word::Layer(kind));
        }
        let side = match self.take(&["src", "dst"]) {
            Some("src") => Side::Src,
            Some(_) => Side::Dst,
            None => Side::Either,
        };
        let sided = transport.is_some() || side != Side::Either;
        match self.peek() {
            Some("port") => Ok(Word::Port(transport, side, self.value("a port", "4789")?)),
            Some(_) if transport.is_some() => Err(self.error("`port` should be here".into())),
            Some("host") => {
                let address: IpAddr = self.value("an address", "192.168.56.3")?;
                Ok(Word::Host(side, address, if address.is_ipv4() { 32 } else { 128 }))
            }
            Some("net") => self.net(side),
            Some("mac") => Ok(Word::Mac(side, self.value("a MAC address", "02:42:0a:03:01:03")?)),
            Some("vni") if !sided => Ok(Word::Vni(self.value("a VNI", "4097")?)),
            Some("vlan") if !sided => Ok(Word::Vlan(self.value("a VLAN", "10")?)),
            Some("bad") if !sided => {
                self.next += 1;
                Ok(Word::Bad)
            }
            Some(name) if !sided && kind_named(name).is_some() => {
                self.next += 1;
                Ok(Word::Layer(kind_named(name).unwrap_or(Kind::Payload)))
            }
            Some(_) if sided => Err(self.error("`host`, `net`, `mac` or `port` should be here".into())),
            Some(name) => Err(self.error(unknown(name))),
            None if start == self.next => Err(self.error("a filter's word is missing".into())),
            None => Err(self.error("here the filter ends too early".into())),
        }
    }

    /// The value after a word.
    fn value<T: FromStr>(&mut self, what: &str, example: &str) -> Result<T, ParseFilterError> {
        self.next += 1;
        let Some(text) = self.peek() else {
            return Err(self.error(format!("{what} is missing; hint: as in {example}")));
        };
        let value =
            text.parse().map_err(|_| self.error(format!("{text:?} is not {what}; hint: as in {example}")))?;
        self.next += 1;
        Ok(value)
    }

    fn net(&mut self, side: Side) -> Result<Word, ParseFilterError> {
        let at = self.next;
        let text: String = self.value("a prefix", "10.3.1.0/24")?;
        let parsed = text.split_once('/').and_then(|(address, bits)| {
            let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
            (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
        });
        let Some((address, bits)) = parsed else {
            self.next = at + 1;
            return Err(self.error(format!("{text:?} is not a prefix; hint: as in 10.3.1.0/24")));
        };
        Ok(Word::Host(side, address, bits))
    }
}

fn unknown(word: &str) -> String {
    const OWN: [&str; 13] =
        ["not", "inner", "outer", "vni", "vlan", "src", "dst", "host", "net", "mac", "port", "bad", "and"];
    let known: Vec<&'static str> = OWN.into_iter().chain(Kind::ALL.iter().map(|kind| kind.name())).collect();
    match crate::text::nearest(word, &known) {
        Some(near) => format!("nothing is called {word:?}; hint: did you mean {near:?}?"),
        None => format!("nothing is called {word:?}; hint: there are {}", known.join(", ")),
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, nodes: &[Expression], word: &str| {
            if let [one] = nodes {
                return one.fmt(f);
            }
            for (index, node) in nodes.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                match node {
                    Expression::Any(inner) if inner.len() > 1 => write!(f, "({node})")?,
                    node => node.fmt(f)?,
                }
            }
            Ok(())
        };
        match self {
            Self::Any(nodes) => list(f, nodes, "or"),
            Self::All(nodes) => list(f, nodes, "and"),
            Self::Not(node) => match &**node {
                Self::Term(..) | Self::Not(_) => write!(f, "not {node}"),
                _ => write!(f, "not ({node})"),
            },
            Self::Term(scope, word) => {
                f.write_str(match scope {
                    Scope::Whole => "",
                    Scope::Outer => "outer ",
                    Scope::Inner => "inner ",
                })?;
                word.fmt(f)
            }
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Side| match side {
            Side::Either => "",
            Side::Src => "src ",
            Side::Dst => "dst ",
        };
        match self {
            Self::Layer(kind) => f.write_str(kind.name()),
            Self::Vni(vni) => write!(f, "vni {vni}"),
            Self::Vlan(vid) => write!(f, "vlan {vid}"),
            Self::Host(s, host, bits) if *bits == if host.is_ipv4() { 32 } else { 128 } => {
                write!(f, "{}host {host}", side(s))
            }
            Self::Host(s, net, bits) => write!(f, "{}net {net}/{bits}", side(s)),
            Self::Mac(s, mac) => write!(f, "{}mac {mac}", side(s)),
            Self::Port(kind, s, port) => {
                let kind = kind.map(|kind| format!("{} ", kind.name())).unwrap_or_default();
                write!(f, "{kind}{}port {port}", side(s))
            }
            Self::Bad => f.write_str("bad"),
        }
    }
}
