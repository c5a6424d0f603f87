//! Received frames and packets.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::VlanTag;
use crate::proto::ethernet;

/// Direction of a frame, seen from the host (packet(7), `sll_pkttype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To this interface's address.
    ToUs,
    /// Broadcast.
    Broadcast,
    /// Multicast.
    Multicast,
    /// To another station: seen because the interface is promiscuous.
    ToOthers,
    /// Sent by this host.
    Outgoing,
}

/// What the kernel reports about something that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) original_len: usize,
    pub(super) time: Option<SystemTime>,
    pub(super) direction: Option<Direction>,
    pub(super) interface: Option<u32>,
    pub(super) tag: Option<VlanTag>,
    pub(super) checksum_pending: bool,
}

impl Meta {
    pub(super) const NONE: Self = Self {
        original_len: 0,
        time: None,
        direction: None,
        interface: None,
        tag: None,
        checksum_pending: false,
    };
}

/// A frame that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) meta: Meta,
}

impl<'a> Received<'a> {
    /// The bytes that were kept, without the VLAN tag that the kernel removed: see [`tag`](Self::tag).
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The frame as it was on the wire: with its VLAN tag, if it had one.
    #[must_use]
    pub fn frame(&self) -> Cow<'a, [u8]> {
        let addresses = ethernet::HEADER_LEN - 2;
        let Some(tag) = self.meta.tag.filter(|_| self.bytes.len() >= addresses) else {
            return self.bytes.into();
        };
        let control = u16::from(tag.pcp) << 13 | u16::from(tag.dei) << 12 | tag.vid;
        let (ends, rest) = self.bytes.split_at(addresses);
        [ends, &tag.tpid.to_be_bytes(), &control.to_be_bytes(), rest].concat().into()
    }

    /// The VLAN tag that the kernel removed.
    #[must_use]
    pub fn tag(&self) -> Option<VlanTag> {
        self.meta.tag
    }

    /// Length before it was cut to the snaplen, without a removed VLAN tag.
    #[must_use]
    pub fn original_len(&self) -> usize {
        self.meta.original_len
    }

    /// When it arrived, by the kernel's clock.
    #[must_use]
    pub fn time(&self) -> Option<SystemTime> {
        self.meta.time
    }

    /// Its direction.
    #[must_use]
    pub fn direction(&self) -> Option<Direction> {
        self.meta.direction
    }

    /// Index of the interface that it passed.
    #[must_use]
    pub fn interface(&self) -> Option<u32> {
        self.meta.interface
    }

    /// Whether the checksum of TCP or UDP is not computed yet: the frame comes from this machine and has not passed the
    /// NIC that would compute it.
    #[must_use]
    pub fn checksum_pending(&self) -> bool {
        self.meta.checksum_pending
    }
}

/// Room for what one call receives.
#[derive(Debug)]
pub struct Batch {
    pub(super) room: Vec<u8>,
    pub(super) snaplen: usize,
    /// Length and metadata of each, for as many as fit.
    pub(super) slots: Vec<(usize, Meta)>,
    pub(super) filled: usize,
}

impl Batch {
    /// Makes room for `count` (1 to 1024) of at most `snaplen` bytes each (1 to 65,535); longer ones are cut.
    #[must_use]
    pub fn new(count: usize, snaplen: usize) -> Self {
        let (count, snaplen) = (count.clamp(1, 1024), snaplen.clamp(1, 65_535));
        Self { room: vec![0; count * snaplen], snaplen, slots: vec![(0, Meta::NONE); count], filled: 0 }
    }

    /// What the last call received.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Received<'_>> {
        let rooms = self.room.chunks_exact(self.snaplen);
        self.slots[..self.filled]
            .iter()
            .zip(rooms)
            .map(|((len, meta), room)| Received { bytes: &room[..(*len).min(room.len())], meta: *meta })
    }
}
