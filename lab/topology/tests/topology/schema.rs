//! The committed JSON Schema is what the code says. After a change of the topology's keys:
//! `UPDATE_SCHEMA=1 cargo test --profile quick -p labctl-topology --test topology schema`

use std::{fs, path::Path};

use serde_json::Value;

#[test]
fn the_committed_schema_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/topology.schema.json");
    let new = serde_json::to_string_pretty(&labctl_topology::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &new).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(
        committed == new,
        "docs/topology.schema.json is not what the code says: \
         UPDATE_SCHEMA=1 cargo test --profile quick -p labctl-topology --test topology schema"
    );
}

/// Every key has its words: editors show them.
#[test]
fn every_key_is_described() {
    fn walk(at: &str, schema: &Value) {
        if let Some(Value::Object(keys)) = schema.get("properties") {
            for (key, value) in keys {
                assert!(
                    value.get("description").is_some_and(Value::is_string),
                    "{at}.{key} has no description"
                );
            }
        }
        match schema {
            Value::Object(o) => o.iter().for_each(|(k, v)| walk(&format!("{at}.{k}"), v)),
            Value::Array(a) => a.iter().for_each(|v| walk(at, v)),
            _ => {}
        }
    }
    let schema = labctl_topology::schema();
    walk("topology", &schema);
    assert_eq!(schema["anyOf"][0]["required"], serde_json::json!(["name", "hosts"]));
    assert_eq!(schema["additionalProperties"], false);
    let words: Vec<_> =
        ["yes", "no"].into_iter().chain(labctl_model::No::ALL.iter().map(|(_, w)| *w)).collect();
    for of in ["Check", "Rule"] {
        assert_eq!(schema["$defs"][of]["properties"]["verdict"]["enum"], serde_json::json!(words), "{of}");
    }
}
