//! The receive ring, TPACKET_V3: blocks of frames, handed over whole (packet_mmap of the kernel's documentation).

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use super::map::Map;
use super::mmsg::system_time;
use super::{direction, set, tag};
use crate::port::batch::{Meta, Received};

/// How large a ring is.
#[derive(Debug, Clone, Copy)]
pub(in crate::port) struct RxShape {
    /// Bytes of a block, a multiple of the page size.
    pub(in crate::port) block: u32,
    pub(in crate::port) blocks: u32,
    /// Milliseconds after which a block that is not full is handed over.
    pub(in crate::port) hold: u32,
}

/// The ring's memory.
#[derive(Debug)]
pub(in crate::port) struct RawRx {
    map: Map,
    shape: RxShape,
}

/// Bytes of a header, 48: TPACKET_ALIGNMENT leaves it unchanged, so the address follows directly.
const HEADER: usize = size_of::<libc::tpacket3_hdr>();
const BLOCK_HEADER: usize = offset_of!(libc::tpacket_block_desc, hdr);

impl RawRx {
    /// Adds a ring to a packet socket that is not yet bound.
    pub(in crate::port) fn new(fd: BorrowedFd<'_>, shape: RxShape) -> io::Result<Self> {
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        set(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        let request = libc::tpacket_req3 {
            tp_block_size: shape.block,
            tp_block_nr: shape.blocks,
            // The kernel packs frames in a block; this only has to divide the block.
            tp_frame_size: shape.block,
            tp_frame_nr: shape.blocks,
            tp_retire_blk_tov: shape.hold,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let map = Map::new(Some(fd), shape.block as usize * shape.blocks as usize, 0)?;
        Ok(Self { map, shape })
    }

    fn start(&self, block: u32) -> usize {
        (block % self.shape.blocks) as usize * self.shape.block as usize
    }

    fn block_header(&self, block: u32) -> io::Result<libc::tpacket_hdr_v1> {
        let at = self.map.at(self.start(block) + BLOCK_HEADER, size_of::<libc::tpacket_hdr_v1>())?;
        // SAFETY: in the mapping; the block is ours, so nobody writes to it.
        Ok(unsafe { at.cast().read_unaligned() })
    }

    /// Whether `block` is ours.
    pub(in crate::port) fn is_ours(&self, block: u32) -> io::Result<bool> {
        let at = self.start(block) + BLOCK_HEADER + offset_of!(libc::tpacket_hdr_v1, block_status);
        Ok(self.map.atomic(at)?.load(Ordering::Acquire) & libc::TP_STATUS_USER != 0)
    }

    /// Gives `block`, which must be ours, back to the kernel.
    pub(in crate::port) fn give_back(&self, block: u32) -> io::Result<()> {
        let at = self.start(block) + BLOCK_HEADER + offset_of!(libc::tpacket_hdr_v1, block_status);
        self.map.atomic(at)?.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        Ok(())
    }

    /// How many frames are in `block`, which must be ours, and the first one's offset.
    pub(in crate::port) fn frames(&self, block: u32) -> io::Result<(u32, usize)> {
        let header = self.block_header(block)?;
        Ok((header.num_pkts, header.offset_to_first_pkt as usize))
    }

    /// The frame at `offset` of `block`, and the next one's offset. The block must be ours while the frame is used.
    pub(in crate::port) fn frame(&self, block: u32, offset: usize) -> io::Result<(Received<'_>, usize)> {
        let start = self.start(block) + offset;
        let at = self.map.at(start, HEADER + size_of::<libc::sockaddr_ll>())?;
        // SAFETY: in the mapping; the block is ours, so nobody writes to it.
        let header: libc::tpacket3_hdr = unsafe { at.cast().read_unaligned() };
        // SAFETY: as above, right behind the header.
        let from: libc::sockaddr_ll = unsafe { at.add(HEADER).cast().read_unaligned() };
        let len = header.tp_snaplen as usize;
        let bytes = self.map.at(start + usize::from(header.tp_mac), len)?;
        // SAFETY: in the mapping; the block is ours as long as the slice lives, so nobody writes to it.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), len) };
        let (tci, tpid) = (header.hv1.tp_vlan_tci as u16, header.hv1.tp_vlan_tpid);
        let meta = Meta {
            original_len: header.tp_len as usize,
            time: system_time(header.tp_sec.into(), header.tp_nsec),
            direction: Some(direction(from.sll_pkttype)),
            interface: u32::try_from(from.sll_ifindex).ok(),
            tag: tag(header.tp_status, tci, tpid),
            checksum_pending: header.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0,
        };
        Ok((Received { bytes, meta }, offset + header.tp_next_offset as usize))
    }
}
