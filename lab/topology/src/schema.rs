//! The JSON Schema of topologies, for editors.

use serde_json::json;

/// The JSON Schema (2020-12) of a topology. It knows keys, types and what they mean; what needs the whole topology
/// (names, addresses, tables) is validated by [`crate::Lab::parse`] alone.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(crate::raw::Topology);
    schema.insert("title".into(), "labctl topology".into());
    // A Compose file brings what else is required.
    let required = schema.remove("required");
    schema.insert("anyOf".into(), json!([{ "required": required }, { "required": ["compose"] }]));
    schema.to_value()
}
