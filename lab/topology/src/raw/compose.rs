//! `compose`.

use labctl_yaml::{At, Cx, FromNode, Map, OneOrMany, Value, Yaml, inline_schema, raw};
use schemars::json_schema;

raw! {
    /// A Compose file that the topology includes, with the options of `labctl import`.
    ComposeFile, "compose" {
        /// The Compose file, from the topology's folder.
        file: At<String>,
        /// How many hosts there are, host1 and so on. Default 1.
        hosts: Option<At<u32>>,
        /// A swarm of so many hosts, which runs services, as `docker stack deploy` makes them.
        swarm: Option<At<u32>>,
        /// The hosts of services, by service; else they are dealt in turn.
        place: Option<Map<At<String>>>,
        /// Keep the file's images, with commands, environment, volumes and health checks. Default false.
        images: Option<At<bool>>,
        /// Profiles whose services are taken too: one or a list; `*` for all.
        profile: Option<OneOrMany<At<String>>>,
        /// Whether what Compose promises is expected. Default true.
        expect: Option<At<bool>>,
    }
}

/// `compose`: the file alone, or with options.
#[derive(Clone, Debug)]
pub(crate) struct Compose(pub(crate) ComposeFile);

impl FromNode for Compose {
    fn from_node(node: &Yaml, cx: &mut Cx) -> Option<Self> {
        if !matches!(node.value, Value::Text(_) | Value::Plain(..)) {
            return ComposeFile::from_node(node, cx).map(Self);
        }
        let (at, file) = (cx.owner, At::from_node(node, cx)?);
        Some(Self(ComposeFile {
            at,
            file,
            hosts: None,
            swarm: None,
            place: None,
            images: None,
            profile: None,
            expect: None,
        }))
    }
}

inline_schema!(Compose, g => {
    let long = g.subschema_for::<ComposeFile>();
    json_schema!({ "anyOf": [{ "type": "string" }, long] })
});
