//! `images`.

use super::CommandLine;
use labctl_yaml::{At, OneOrMany, raw};

raw! {
    /// A container image made of Debian packages, so that no registry is needed.
    Image, "an image" {
        /// The packages that it is made of; what they depend on comes along.
        debian: OneOrMany<At<String>>,
        /// The Debian suite that they come from: `trixie` (default), `forky` or `bookworm`.
        #[schemars(extend("enum" = ["trixie", "forky", "bookworm"]))]
        suite: Option<At<String>>,
        /// What a container of it always runs, as a list or as words.
        entrypoint: Option<CommandLine>,
        /// What a container without a `command` runs, as a list or as words.
        cmd: Option<CommandLine>,
    }
}
