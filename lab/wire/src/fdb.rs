//! The forwarding database: which port a station was last heard on.

use std::collections::{HashMap, hash_map::Entry};

use vxlan::MacAddr;

use crate::port::PortId;

/// Seconds after which a silent station is forgotten (IEEE 802.1Q, 8.8.3).
const AGEING: u32 = 300;
/// Most stations per segment. Further ones are not learned but reached by flooding.
const CAPACITY: usize = 8192;

struct Station {
    port: PortId,
    heard: u32,
}

/// Stations of one segment by VLAN and address. Times are seconds of the wire's own clock.
#[derive(Default)]
pub(crate) struct Fdb {
    stations: HashMap<(u16, MacAddr), Station>,
    swept: u32,
    /// How often a station was not learned for lack of room.
    pub(crate) full: u64,
}

impl Fdb {
    /// Learns that `mac` was heard in `vid` on `port`.
    pub(crate) fn learn(&mut self, vid: u16, mac: MacAddr, port: PortId, now: u32) {
        if self.stations.len() >= CAPACITY && self.swept != now {
            // At most once a second: a flood of made-up addresses must not cost a sweep per frame.
            self.swept = now;
            self.stations.retain(|_, station| !station.aged(now));
        }
        let room = self.stations.len() < CAPACITY;
        match self.stations.entry((vid, mac)) {
            Entry::Occupied(mut known) => *known.get_mut() = Station { port, heard: now },
            Entry::Vacant(new) if room => {
                new.insert(Station { port, heard: now });
            }
            Entry::Vacant(_) => self.full += 1,
        }
    }

    /// The port that leads to `mac` in `vid`.
    pub(crate) fn port(&self, vid: u16, mac: MacAddr, now: u32) -> Option<PortId> {
        self.stations.get(&(vid, mac)).filter(|station| !station.aged(now)).map(|station| station.port)
    }

    /// Forgets the stations behind `port`, as a switch does when a link goes down.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.stations.retain(|_, station| station.port != port);
    }

    /// The stations that are known and not aged: VLAN, address and port.
    pub(crate) fn iter(&self, now: u32) -> impl Iterator<Item = (u16, MacAddr, PortId)> {
        let known = self.stations.iter().filter(move |(_, station)| !station.aged(now));
        known.map(|((vid, mac), station)| (*vid, *mac, station.port))
    }

    /// How many stations are known and not aged.
    pub(crate) fn len(&self, now: u32) -> usize {
        self.stations.values().filter(|station| !station.aged(now)).count()
    }
}

impl Station {
    fn aged(&self, now: u32) -> bool {
        now.saturating_sub(self.heard) >= AGEING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn stations_age_and_move_and_vlans_are_apart() {
        let mut fdb = Fdb::default();
        fdb.learn(0, A, 1, 10);
        assert_eq!((fdb.port(0, A, 309), fdb.port(0, A, 310), fdb.port(5, A, 10)), (Some(1), None, None));
        fdb.learn(0, A, 2, 20);
        assert_eq!(fdb.port(0, A, 20), Some(2));
        fdb.forget(2);
        assert_eq!(fdb.port(0, A, 20), None);
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_passes() {
        let mut fdb = Fdb::default();
        let made_up = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            MacAddr([2, 1, a, b, c, d])
        };
        for n in 0..20_000 {
            fdb.learn(0, made_up(n), 1, 5);
        }
        assert_eq!((fdb.len(5), fdb.full), (CAPACITY, 20_000 - CAPACITY as u64));
        // A known station is still refreshed while there is no room for new ones.
        fdb.learn(0, made_up(0), 2, 6);
        assert_eq!(fdb.port(0, made_up(0), 6), Some(2));
        // Once the made-up ones have aged, there is room again.
        fdb.learn(0, A, 3, 305);
        assert_eq!((fdb.port(0, A, 305), fdb.len(305)), (Some(3), 2));
    }
}
