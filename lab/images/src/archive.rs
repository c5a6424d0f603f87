//! Images in the form that `docker load` takes (image-spec v1.2 of moby: manifest.json, config, layer).

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::hash::hex;

/// Builds an image of one layer. `config` is for its containers (`Cmd`, `Env`, …), `layer` is an uncompressed tar and
/// `digest` its SHA-256 in hex.
pub fn image(name: &str, config: &Value, layer: &[u8], digest: &str) -> Vec<u8> {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        "history": [{ "created_by": "labctl" }],
    })
    .to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": [layer_name] }]).to_string();
    files(&[
        (&config_name, 0o644, config.as_bytes()),
        (&layer_name, 0o644, layer),
        ("manifest.json", 0o644, manifest.as_bytes()),
    ])
}

/// Builds a tar of regular files that depends only on its arguments: no times, no owners.
pub fn files(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(*mode);
        header.set_entry_type(tar::EntryType::Regular);
        // Writing to a Vec cannot fail, and the names are short and relative.
        let _ = builder.append_data(&mut header, name, *data);
    }
    builder.into_inner().unwrap_or_default()
}
