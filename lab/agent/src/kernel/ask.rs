//! Netlink questions that our crates cannot ask: one message, one answer.

use std::{
    io::{self, Read as _},
    time::Duration,
};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

/// Limit for an answer: the kernel answers at once, or after it has loaded a module.
const PATIENCE: Duration = Duration::from_secs(5);

/// Length of `struct nlmsghdr` in bytes; the answer's `struct nlmsgerr` begins with the error number after it.
const HEADER_LEN: usize = 16;

/// `NFNL_SUBSYS_NFT_COMPAT << 8 | NFNL_MSG_COMPAT_GET` (linux/netfilter/nfnetlink.h, nf_tables_compat.h).
const COMPAT_GET: u16 = 11 << 8;

/// `XFRM_MSG_NEWSA` (linux/xfrm.h).
const NEW_SA: u16 = 0x10;

/// Whether there is a generic netlink family of this name; asking loads its module (`CTRL_CMD_GETFAMILY`,
/// linux/genetlink.h).
pub fn generic_family(name: &str) -> io::Result<()> {
    const GET_FAMILY: u8 = 3;
    const FAMILY_NAME: u16 = 2;
    let mut body = vec![GET_FAMILY, 1, 0, 0];
    attribute(&mut body, FAMILY_NAME, &with_zero(name));
    ask(libc::NETLINK_GENERIC, 0x10, &body)
}

/// Whether iptables (as nf_tables has it) knows a match of this name and revision; asking loads its module.
pub fn iptables_match(name: &str, revision: u32) -> io::Result<()> {
    const INET: u8 = 2;
    let mut body = vec![INET, 0, 0, 0];
    attribute(&mut body, 1, &with_zero(name));
    attribute(&mut body, 2, &revision.to_be_bytes());
    // A match rather than a target.
    attribute(&mut body, 3, &0_u32.to_be_bytes());
    ask(libc::NETLINK_NETFILTER, COMPAT_GET, &body)
}

/// Makes a security association as an encrypted overlay does (moby, libnetwork/drivers/overlay/encryption.go): ESP in
/// transport mode, `rfc4106(gcm(aes))` with a key of 16 octets, a salt of 4 and an ICV of 8.
pub fn esp_state() -> io::Result<()> {
    const AEAD: u16 = 18;
    const ESP: u8 = 50;
    const INET: [u8; 2] = 2_u16.to_ne_bytes();
    // struct xfrm_usersa_info: selector 56, id 24, source 16, lifetime 64 and 32, statistics 12, numbers 8, family.
    let mut body = vec![0; 224];
    body[40..42].copy_from_slice(&INET);
    body[56..60].copy_from_slice(&[127, 0, 0, 1]);
    body[72..76].copy_from_slice(&0x1000_u32.to_be_bytes());
    body[76] = ESP;
    body[80..84].copy_from_slice(&[127, 0, 0, 1]);
    // Neither bytes nor packets are limited.
    body[96..128].fill(0xff);
    body[212..214].copy_from_slice(&INET);
    let mut algorithm = vec![0; 64];
    let name = b"rfc4106(gcm(aes))";
    algorithm[..name.len()].copy_from_slice(name);
    algorithm.extend(160_u32.to_ne_bytes());
    algorithm.extend(64_u32.to_ne_bytes());
    algorithm.extend([7; 20]);
    attribute(&mut body, AEAD, &algorithm);
    ask(libc::NETLINK_XFRM, NEW_SA, &body)
}

fn with_zero(name: &str) -> Vec<u8> {
    let mut octets = name.as_bytes().to_vec();
    octets.push(0);
    octets
}

/// Appends a `struct nlattr` and its value, padded to 4 octets.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Sends one request and takes the first answer: an error with its number, or anything else for a yes.
fn ask(protocol: libc::c_int, kind: u16, body: &[u8]) -> io::Result<()> {
    const REQUEST_ACK: u16 = 1 | 4;
    const ERROR: u16 = 2;
    let mut socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(protocol)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let len = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    // Sequence number 1, to the kernel's choice of port.
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    socket.send(&message)?;
    let mut answer = [0; 8192];
    let n = socket.read(&mut answer)?;
    let answer = &answer[..n];
    let short = || io::Error::other("a netlink answer of no sense");
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(short)?;
    if kind != ERROR {
        return Ok(());
    }
    let number = answer.get(HEADER_LEN..HEADER_LEN + 4).and_then(|b| b.try_into().ok());
    match number.map(i32::from_ne_bytes).ok_or_else(short)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
