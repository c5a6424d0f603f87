//! Filters that the kernel applies before it copies a frame: classic BPF programs.

use std::net::IpAddr;

use socket2::SockFilter;

use crate::proto::{ethertype, ip_protocol};

/// Selects the frames to receive: those that meet every condition.
///
/// The kernel removes the outermost VLAN tag before it filters, so conditions apply to what is behind it. Further tags
/// and IPv6 extension headers hide what follows.
///
/// ```
/// use vxlan::port::KernelFilter;
/// let overlay = KernelFilter::new().udp_to(4789).vni(4097);
/// let gossip = KernelFilter::new().from([192, 168, 56, 3].into()).udp_to(7946);
/// # let _ = (overlay, gossip);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelFilter {
    ethertype: Option<u16>,
    protocol: Option<u8>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
    vni: Option<u32>,
    keep: Option<u32>,
}

impl KernelFilter {
    /// A filter that takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A filter that takes nothing, for a port that is opened before the real filter is known.
    #[must_use]
    pub fn nothing() -> Self {
        Self { keep: Some(0), ..Self::default() }
    }

    /// Frames of this EtherType.
    #[must_use]
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = Some(ethertype);
        self
    }

    /// IP packets of this protocol: see [`ip_protocol`].
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// IP packets from this address.
    #[must_use]
    pub fn from(mut self, src: IpAddr) -> Self {
        self.src = Some(src);
        self
    }

    /// IP packets to this address.
    #[must_use]
    pub fn to(mut self, dst: IpAddr) -> Self {
        self.dst = Some(dst);
        self
    }

    /// UDP datagrams from this port; of fragments only the first.
    #[must_use]
    pub fn udp_from(mut self, port: u16) -> Self {
        self.protocol = Some(ip_protocol::UDP);
        self.src_port = Some(port);
        self
    }

    /// UDP datagrams to this port; of fragments only the first.
    #[must_use]
    pub fn udp_to(mut self, port: u16) -> Self {
        self.protocol = Some(ip_protocol::UDP);
        self.dst_port = Some(port);
        self
    }

    /// UDP datagrams with this VNI (its low 24 bits) at VXLAN's offset; flags and port are not checked.
    #[must_use]
    pub fn vni(mut self, vni: u32) -> Self {
        self.protocol = Some(ip_protocol::UDP);
        self.vni = Some(vni & crate::proto::vxlan::MAX_VNI);
        self
    }

    /// Keeps this many bytes of each frame; the kernel copies no more.
    #[must_use]
    pub fn keep(mut self, bytes: u32) -> Self {
        self.keep = Some(bytes);
        self
    }

    /// Compiles the program: classic BPF over an Ethernet frame (bpf(4) and the kernel's networking/filter).
    pub(super) fn compile(&self) -> Vec<SockFilter> {
        let mut program = Program::default();
        let keep = self.keep.unwrap_or(u32::MAX);
        if let Some(ethertype) = self.ethertype {
            program.half(12).is(ethertype.into());
        }
        let about_ip = self.protocol.is_some() || self.src.is_some() || self.dst.is_some();
        if !about_ip {
            program.accept(keep);
            return program.finish();
        }
        // Either branch ends the program; a frame that is not IPv4 falls to the next.
        let is_v4 = |address: &Option<IpAddr>| address.is_none_or(|address| address.is_ipv4());
        let is_v6 = |address: &Option<IpAddr>| address.is_none_or(|address| address.is_ipv6());
        if is_v4(&self.src) && is_v4(&self.dst) {
            program.branch(|program| {
                program.half(12).is(ethertype::IPV4.into());
                self.v4(program);
                program.accept(keep);
            });
        }
        if is_v6(&self.src) && is_v6(&self.dst) {
            program.branch(|program| {
                program.half(12).is(ethertype::IPV6.into());
                self.v6(program);
                program.accept(keep);
            });
        }
        program.finish()
    }

    fn v4(&self, program: &mut Program) {
        if let Some(protocol) = self.protocol {
            program.byte(23).is(protocol.into());
        }
        for (at, address) in [(26, self.src), (30, self.dst)] {
            if let Some(IpAddr::V4(address)) = address {
                program.word(at).is(address.to_bits());
            }
        }
        if self.src_port.or(self.dst_port).is_some() || self.vni.is_some() {
            // Only the first fragment has a UDP header.
            program.half(20).none_of(0x1fff);
            program.header_length(14);
            self.udp(program, Program::half_behind, Program::word_behind, 14);
        }
    }

    fn v6(&self, program: &mut Program) {
        if let Some(protocol) = self.protocol {
            program.byte(20).is(protocol.into());
        }
        for (at, address) in [(22, self.src), (38, self.dst)] {
            if let Some(IpAddr::V6(address)) = address {
                let octets = address.octets();
                let (words, _) = octets.as_chunks::<4>();
                for (index, word) in words.iter().enumerate() {
                    program.word(at + 4 * index as u32).is(u32::from_be_bytes(*word));
                }
            }
        }
        self.udp(program, Program::half, Program::word, 54);
    }

    /// Adds the conditions on a UDP header at `at`, with the loads that reach it.
    fn udp(&self, program: &mut Program, half: Load, word: Load, at: u32) {
        if let Some(port) = self.src_port {
            half(program, at).is(port.into());
        }
        if let Some(port) = self.dst_port {
            half(program, at + 2).is(port.into());
        }
        if let Some(vni) = self.vni {
            word(program, at + 12).shifted_right(8).is(vni);
        }
    }
}

/// Loads something at an offset.
type Load = fn(&mut Program, u32) -> &mut Program;

/// A program under construction. A condition that fails jumps to the end of its branch.
#[derive(Debug, Default)]
struct Program {
    code: Vec<(u16, u8, u8, u32)>,
    /// Where the branch's conditions are, and for each whether it fails when met.
    open: Vec<(usize, bool)>,
}

impl Program {
    fn push(&mut self, code: u32, k: u32) -> &mut Self {
        self.code.push((code as u16, 0, 0, k));
        self
    }

    fn byte(&mut self, at: u32) -> &mut Self {
        self.push(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at)
    }

    fn half(&mut self, at: u32) -> &mut Self {
        self.push(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, at)
    }

    fn word(&mut self, at: u32) -> &mut Self {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at)
    }

    /// Loads at offset `at` after the header that [`header_length`](Self::header_length) measured.
    fn half_behind(&mut self, at: u32) -> &mut Self {
        self.push(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, at)
    }

    fn word_behind(&mut self, at: u32) -> &mut Self {
        self.push(libc::BPF_LD | libc::BPF_W | libc::BPF_IND, at)
    }

    /// Measures the IPv4 header at `at`.
    fn header_length(&mut self, at: u32) {
        self.push(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, at);
    }

    fn shifted_right(&mut self, bits: u32) -> &mut Self {
        self.push(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, bits)
    }

    fn is(&mut self, value: u32) {
        self.open.push((self.code.len(), false));
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value);
    }

    fn none_of(&mut self, bits: u32) {
        self.open.push((self.code.len(), true));
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, bits);
    }

    fn accept(&mut self, keep: u32) {
        self.push(libc::BPF_RET | libc::BPF_K, keep);
    }

    /// Adds a branch: if one of its conditions fails, the program jumps behind it.
    fn branch(&mut self, part: impl FnOnce(&mut Self)) {
        let outer = std::mem::take(&mut self.open);
        part(self);
        self.close();
        self.open = outer;
    }

    fn close(&mut self) {
        let end = self.code.len();
        for (at, fails_if_met) in self.open.drain(..) {
            // The longest program has some thirty instructions.
            let far = (end - at - 1) as u8;
            let (_, if_met, if_not, _) = &mut self.code[at];
            *(if fails_if_met { if_met } else { if_not }) = far;
        }
    }

    fn finish(mut self) -> Vec<SockFilter> {
        self.close();
        self.push(libc::BPF_RET | libc::BPF_K, 0);
        self.code
            .into_iter()
            .map(|(code, if_met, if_not, k)| SockFilter::new(code, if_met, if_not, k))
            .collect()
    }
}
