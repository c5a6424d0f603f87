//! Where things are written.

use indexmap::IndexMap;

use labctl_model::Lines;
use labctl_yaml::{Cx, Map};

use super::entries;
use crate::raw;

pub(super) fn read(t: &raw::Topology, cx: &Cx) -> Lines {
    fn of<T>(map: &Option<Map<T>>, cx: &Cx) -> IndexMap<String, u32> {
        entries(map).map(|(name, _)| (name.value.clone(), cx.line(name.at))).collect()
    }
    Lines {
        swarm: t.swarm.as_ref().map_or(0, |s| cx.line(s.at)),
        hosts: t.hosts.0.iter().map(|(name, _)| (name.value.clone(), cx.line(name.at))).collect(),
        networks: of(&t.networks, cx),
        containers: of(&t.containers, cx),
        services: of(&t.services, cx),
    }
}
