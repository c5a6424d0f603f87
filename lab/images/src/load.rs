//! The container images that a lab needs, read once for all its hosts.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use labctl_model::{BUILTIN_IMAGE, Lab};

use crate::{Error, added, builtin, container};

/// Tars of container images by name, read once for all hosts.
pub type Images = BTreeMap<String, Bytes>;

/// Reads the images that a lab's containers need. `agent` is the agent's binary.
///
/// # Errors
/// An image is not available.
pub async fn images(lab: &Lab, cache: &Path, agent: &Path) -> Result<Images, Error> {
    let mut images = Images::new();
    for (container, image) in lab.images_of_all() {
        if !images.contains_key(image) {
            let tar = tar(lab, cache, agent, image).await?.map_err(|why| Error::NoImage {
                image: image.to_owned(),
                container: container.to_owned(),
                why,
            })?;
            images.insert(image.to_owned(), tar);
        }
    }
    for image in lab.images_of_updates() {
        // If it is not available, Docker says so when the service is updated.
        if !images.contains_key(image)
            && let Ok(tar) = tar(lab, cache, agent, image).await?
        {
            images.insert(image.to_owned(), tar);
        }
    }
    Ok(images)
}

/// What tells the images that a lab's containers need from others of the same names, without reading them. An image
/// that is not here yet has none.
///
/// # Errors
/// The cache cannot be read.
pub async fn identities(lab: &Lab, cache: &Path) -> Result<BTreeMap<String, String>, Error> {
    let mut identities = BTreeMap::new();
    for image in lab.images_of_all().map(|(_, image)| image).chain(lab.images_of_updates()) {
        // The agent is in it, and has its own identity.
        if image == BUILTIN_IMAGE || identities.contains_key(image) {
            continue;
        }
        let identity = match lab.image(image) {
            Some(debian) => container::find(cache, debian).map(|i| format!("{} {}", i.id(), i.bytes())),
            None => added::identity(cache, image).await?,
        };
        identities.insert(image.to_owned(), identity.unwrap_or_default());
    }
    Ok(identities)
}

/// The tar of an image; the inner `Err` says why it is not available.
async fn tar(lab: &Lab, cache: &Path, agent: &Path, image: &str) -> Result<Result<Bytes, String>, Error> {
    if image == BUILTIN_IMAGE {
        return Ok(Ok(builtin::image(agent)?.into()));
    }
    match lab.image(image) {
        Some(debian) => Ok(Ok(added::of_packages(cache, image, debian)?.into())),
        None => Ok(added::provide(cache, image).await?.map(Bytes::from)),
    }
}
