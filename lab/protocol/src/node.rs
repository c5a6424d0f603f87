//! Paths and a log line that labctl and hosts in containers agree on.

/// Path of the agent in a node.
pub const AGENT: &str = "/usr/local/bin/labctl-agent";

/// Where the host's folder on labctl's machine is mounted; the wire listens on `NIC.sock` in it for each NIC.
pub const FOLDER: &str = "/run/labctl";

/// Log line of a node that was told to start a dockerd, once this answers.
pub const ENGINE_ANSWERS: &str = "labctl-node: dockerd answers";
