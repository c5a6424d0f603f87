//! The container image that labctl builds itself, so that no registry is needed: one layer with the static agent, which
//! as `pause` waits to be stopped. No shell, no libc, no tools: probers bring their own.

use std::path::Path;

use labctl_model::BUILTIN_IMAGE;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{Error, archive, hash::hex};

/// Builds the image as a tar for `docker load` (image-spec v1.2 of moby: manifest.json, config, layer).
///
/// # Errors
/// The agent's binary cannot be read.
pub fn image(agent: &Path) -> Result<Vec<u8>, Error> {
    let binary = std::fs::read(agent).map_err(Error::io("read the agent", agent))?;
    let layer = archive::files(&[("labctl-agent", 0o755, &binary)]);
    let config = json!({
        "Entrypoint": ["/labctl-agent"],
        "Cmd": ["pause"],
        "Env": ["PATH=/"],
        "StopSignal": "SIGTERM",
    });
    Ok(archive::image(BUILTIN_IMAGE, &config, &layer, &hex(&Sha256::digest(&layer))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn the_layer_is_what_the_config_says() {
        let mut agent = tempfile::NamedTempFile::new().unwrap();
        agent.write_all(b"\x7fELF, in a manner of speaking").unwrap();
        let image = image(agent.path()).unwrap();
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(&image[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), data);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(layer))));
        let mut inner = tar::Archive::new(&layer[..]);
        let binary = inner.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(binary.header().mode().unwrap(), 0o755);
        assert_eq!(binary.path().unwrap().to_string_lossy(), "labctl-agent");
    }
}
