//! Writes captures as pcapng files: one interface per port, the direction, and a comment on each dropped frame. Reads them
//! again.
//!
//! Timestamps are in nanoseconds, and every interface says so (`if_tsresol`).

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pcap_file::{
    DataLink, Endianness,
    pcapng::{
        Block, PcapNgReader, PcapNgWriteError, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{
                InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
            },
            opt_common::CommonOption,
            section_header::{SectionHeaderBlock, SectionHeaderOption},
        },
    },
};

use crate::{CapturedFrame, Fate};

/// `epb_flags`, bits 0 and 1: inbound, as seen from the port.
const INBOUND: u32 = 1;

/// A pcapng file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PcapngError {
    /// The underlying writer failed.
    #[error("cannot write the capture: {0}")]
    Io(#[from] io::Error),
    /// The block could not be written.
    #[error("cannot write a pcapng block: {0}")]
    Block(Box<PcapNgWriteError>),
}

impl From<PcapNgWriteError> for PcapngError {
    fn from(error: PcapNgWriteError) -> Self {
        match error {
            PcapNgWriteError::Io(error) => Self::Io(error),
            other => Self::Block(Box::new(other)),
        }
    }
}

/// A frame as the file records it, made from a [`CapturedFrame`] or from another source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it entered the switch.
    pub timestamp: SystemTime,
    /// Name of the port it entered by.
    pub port: &'a Arc<str>,
    /// Its length in bytes.
    pub original_len: usize,
    /// Its first bytes.
    pub data: &'a [u8],
    /// Frames lost since the one before.
    pub lost_before: u64,
    /// A comment: why it was dropped.
    pub comment: Option<Cow<'a, str>>,
}

impl<'a> From<&'a CapturedFrame> for Record<'a> {
    fn from(frame: &'a CapturedFrame) -> Self {
        let dropped = matches!(frame.fate, Fate::Dropped { .. });
        Self {
            timestamp: frame.timestamp,
            port: &frame.port,
            original_len: frame.original_len,
            data: &frame.data,
            lost_before: frame.lost_before,
            comment: dropped.then(|| Cow::Owned(frame.fate.to_string())),
        }
    }
}

/// Writes captured frames. Use a buffered writer; it flushes only when told.
pub struct PcapngWriter<W: Write> {
    inner: PcapNgWriter<W>,
    interfaces: HashMap<Arc<str>, u32>,
    segment: String,
    snaplen: u32,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section header. `segment` goes into the interfaces' description; `snaplen` is theirs, in bytes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W, segment: &str, snaplen: usize) -> Result<Self, PcapngError> {
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(
                concat!("labctl ", env!("CARGO_PKG_VERSION")).into(),
            )],
            ..SectionHeaderBlock::default()
        };
        Ok(Self {
            inner: PcapNgWriter::with_section_header(writer, section)?,
            interfaces: HashMap::new(),
            segment: segment.into(),
            snaplen: u32::try_from(snaplen).unwrap_or(u32::MAX),
        })
    }

    /// Writes a frame. Before a port's first frame, writes its interface.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write<'a>(&mut self, frame: impl Into<Record<'a>>) -> Result<(), PcapngError> {
        let frame = frame.into();
        let interface_id = match self.interfaces.get(frame.port) {
            Some(id) => *id,
            None => self.interface(frame.port)?,
        };
        let mut options = vec![EnhancedPacketOption::Flags(INBOUND)];
        if frame.lost_before > 0 {
            options.push(EnhancedPacketOption::DropCount(frame.lost_before));
        }
        if let Some(comment) = frame.comment {
            options.push(EnhancedPacketOption::Common(CommonOption::Comment(comment)));
        }
        let block = EnhancedPacketBlock {
            interface_id,
            // Keep the frame even if the clock is before 1970.
            timestamp: frame.timestamp.duration_since(UNIX_EPOCH).unwrap_or_default(),
            original_len: u32::try_from(frame.original_len).unwrap_or(u32::MAX),
            data: Cow::Borrowed(frame.data),
            options,
        };
        self.inner.write_pcapng_block(block)?;
        Ok(())
    }

    fn interface(&mut self, port: &Arc<str>) -> Result<u32, PcapngError> {
        let mut block = InterfaceDescriptionBlock::new(DataLink::ETHERNET, self.snaplen);
        block.options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed(port)),
            InterfaceDescriptionOption::IfDescription(Cow::Owned(format!("segment {}", self.segment))),
            InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
        ];
        self.inner.write_pcapng_block(block)?;
        let id = self.interfaces.len() as u32;
        self.interfaces.insert(Arc::clone(port), id);
        Ok(id)
    }

    /// Flushes the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn flush(&mut self) -> Result<(), PcapngError> {
        Ok(self.inner.get_mut().flush()?)
    }

    /// Flushes and hands back the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> Result<W, PcapngError> {
        self.flush()?;
        Ok(self.inner.into_inner())
    }
}

/// A frame as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When it entered the switch: time since 1970.
    pub time: Duration,
    /// Name of the port it entered by.
    pub port: String,
    /// Its first bytes.
    pub data: Vec<u8>,
    /// A comment, of several lines; may be empty.
    pub comment: String,
}

/// Reads a file that a [`PcapngWriter`] wrote. `None` if it is none.
pub fn read(file: &[u8]) -> Option<Vec<Recorded>> {
    let mut reader = PcapNgReader::new(file).ok()?;
    let (mut ports, mut frames) = (Vec::new(), Vec::new());
    while let Some(block) = reader.next_block() {
        match block.ok()?.0 {
            Block::InterfaceDescription(port) => ports.push(port.options.iter().find_map(|o| match o {
                InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                _ => None,
            })),
            Block::EnhancedPacket(frame) => frames.push(Recorded {
                time: frame.timestamp,
                port: ports.get(frame.interface_id as usize).cloned().flatten()?,
                data: frame.data.to_vec(),
                comment: frame
                    .options
                    .iter()
                    .find_map(|o| match o {
                        EnhancedPacketOption::Common(CommonOption::Comment(text)) => Some(text.to_string()),
                        _ => None,
                    })
                    .unwrap_or_default(),
            }),
            _ => {}
        }
    }
    Some(frames)
}
