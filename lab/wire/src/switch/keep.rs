//! Handing a switch's state to another one.

use vxlan::MacAddr;

use super::{Now, Segment, Switch};
use crate::{
    WireError,
    block::Blocks,
    saved::{Listener, Station, WireState},
};

impl Switch {
    /// What another switch needs to go on in this one's place.
    pub(crate) fn save(&self, now: Now) -> WireState {
        let nics = self.ports.iter().filter(|port| !port.removed && !port.station);
        let stations = |segment: &Segment| {
            let heard = segment.fdb.iter(now.secs).filter(|(.., id)| !self.ports[*id].station);
            let mut stations: Vec<Station> = heard
                .map(|(vid, mac, id)| Station {
                    vid,
                    mac: mac.octets(),
                    port: self.ports[id].name.to_string(),
                })
                .collect();
            stations.sort();
            stations
        };
        let blocks = |segment: &Segment| segment.blocks.iter().map(|rule| self.named(rule)).collect();
        let listeners = |segment: &Segment| {
            let known = segment.mld.iter().flat_map(|mld| mld.iter(now.secs));
            let known = known.filter(|(_, id)| !self.ports[*id].station);
            let named = known.map(|((vid, group), id)| Listener {
                vid,
                group,
                port: self.ports[id].name.to_string(),
            });
            let mut listeners: Vec<Listener> = named.collect();
            listeners.sort();
            listeners
        };
        WireState {
            links: nics.map(|port| (port.name.to_string(), port.pipeline.link())).collect(),
            blocks: self.segments.iter().map(|s| (s.name.clone(), blocks(s))).collect(),
            stations: self.segments.iter().map(|s| (s.name.clone(), stations(s))).collect(),
            listeners: self.segments.iter().map(|s| (s.name.clone(), listeners(s))).collect(),
        }
    }

    /// Goes on in the place of another switch. Its stations and listeners count as heard now.
    pub(crate) fn restore(&mut self, state: &WireState, now: Now) -> Result<(), WireError> {
        for (port, link) in &state.links {
            let id = self.port_id(port)?;
            self.set_link(id, *link);
        }
        for (segment, blocks) in &state.blocks {
            let id = self.segment_id(segment)?;
            self.segments[id].blocks = Blocks::default();
            blocks.iter().try_for_each(|block| self.block(segment, block))?;
        }
        for (segment, stations) in &state.stations {
            let id = self.segment_id(segment)?;
            for station in stations {
                let port = self.port_id(&station.port)?;
                self.segments[id].fdb.learn(station.vid, MacAddr(station.mac), port, now.secs);
            }
        }
        for (segment, listeners) in &state.listeners {
            let id = self.segment_id(segment)?;
            for listener in listeners {
                let port = self.port_id(&listener.port)?;
                if let Some(mld) = &mut self.segments[id].mld {
                    mld.join((listener.vid, listener.group), port, now.secs);
                }
            }
        }
        Ok(())
    }
}
