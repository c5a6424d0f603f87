//! From bytes to layers.

use super::{MAX_LAYERS, Stack, build};
use crate::proto::{
    Decode, Kind, Layer, Payload, Read, arp, dot1q, esp, ethernet, gpe, icmp, icmpv6, ipv4, ipv6, tcp, udp,
    vxlan,
};
use crate::{Problem, ReadError};

/// Bytes read as far as possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dissection {
    /// The layers that were read.
    pub stack: Stack,
    /// Where each layer begins, in bytes.
    pub offsets: Vec<usize>,
    /// Why the rest could not be read.
    pub error: Option<ReadError>,
}

impl Dissection {
    /// Reads `bytes` as far as possible, as `decode` says.
    #[must_use]
    pub fn of(bytes: &[u8], decode: &Decode) -> Self {
        let mut this = Self { stack: Stack::new(), offsets: Vec::new(), error: None };
        this.error = this.read(bytes, decode).err();
        let layers = &mut this.stack.layers;
        for index in 0..layers.len() {
            let next = layers.get(index + 1).map(Layer::kind);
            layers[index].header_mut().settle(next);
        }
        this
    }

    fn read(&mut self, bytes: &[u8], decode: &Decode) -> Result<(), ReadError> {
        let mut kind = decode.first;
        let mut room = 0..bytes.len();
        loop {
            let layers = &mut self.stack.layers;
            if layers.len() == MAX_LAYERS {
                let problem = Problem::TooDeep { limit: MAX_LAYERS };
                return Err(ReadError { layer: kind.name(), field: "layers", offset: room.start, problem });
            }
            let Read { layer, body, next } =
                read_one(kind, &bytes[room.clone()], layers, decode).map_err(|error| error.at(room.start))?;
            layers.push(layer);
            self.offsets.push(room.start);
            room = room.start + body.start..room.start + body.end;
            // A stack may end with any layer.
            if room.is_empty() {
                return Ok(());
            }
            kind = next.unwrap_or(Kind::Payload);
        }
    }
}

fn read_one(kind: Kind, bytes: &[u8], below: &[Layer], decode: &Decode) -> Result<Read, ReadError> {
    let addresses = build::addresses(below);
    match kind {
        Kind::Ether => ethernet::Ether::read(bytes),
        Kind::Dot1q => dot1q::Dot1q::read(bytes),
        Kind::Arp => arp::Arp::read(bytes),
        Kind::Ipv4 => ipv4::Ipv4::read(bytes),
        Kind::Ipv6 => ipv6::Ipv6::read(bytes),
        Kind::Icmp => icmp::Icmp::read(bytes),
        Kind::Icmpv6 => icmpv6::Icmpv6::read(bytes, addresses),
        Kind::Tcp => tcp::Tcp::read(bytes, addresses),
        Kind::Udp => udp::Udp::read(bytes, addresses, decode),
        Kind::Esp => esp::Esp::read(bytes),
        Kind::Vxlan | Kind::Gbp => vxlan::Vxlan::read(bytes),
        Kind::Gpe => gpe::Gpe::read(bytes),
        Kind::Payload => {
            let end = bytes.len();
            Ok(Read { layer: Payload(bytes.to_vec()).into(), body: end..end, next: None })
        }
    }
}

impl Stack {
    /// Reads an Ethernet frame.
    ///
    /// Fields are read whatever their value. A field is left unset if building would fill in the same value. So a length,
    /// checksum or type number that is set after reading is wrong or unknown. Building the result gives the same bytes.
    ///
    /// # Errors
    /// If a layer cannot hold its bytes: too few, another version, an impossible header length. Names the first such layer.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        Self::parse_as(bytes, &Decode::default())
    }

    /// Reads bytes as `decode` says; otherwise like [`parse`](Self::parse).
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    pub fn parse_as(bytes: &[u8], decode: &Decode) -> Result<Self, ReadError> {
        let Dissection { stack, error, .. } = Dissection::of(bytes, decode);
        error.map_or(Ok(stack), Err)
    }
}
