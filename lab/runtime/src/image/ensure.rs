//! The images of a lab, with progress as events.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use lab_model::{DebianImage, Lab};

use super::{BuildOptions, Error, NodeImage, Progress, Suite, build, container};
use crate::Events;

/// Makes the node images that a lab's hosts need, and the images that its containers are to have of Debian packages,
/// where they are not there yet.
///
/// # Errors
/// As of [`build`]; [`Error::OfPackages`].
pub async fn ensure(cache: &Path, lab: &Lab, events: &Events) -> Result<(), Error> {
    let mut suites: Vec<Suite> = lab.hosts.values().map(|h| h.engine.into()).collect();
    suites.sort_unstable();
    suites.dedup();
    for suite in suites {
        let options = BuildOptions { cache: cache.to_owned(), suite, rebuild: false };
        build_telling(&options, events).await?;
    }
    let used = lab.images_of_all().map(|(_, image)| image).chain(lab.images_of_updates());
    let debian: BTreeMap<&str, &DebianImage> =
        used.filter_map(|name| Some((name, lab.image(name)?))).collect();
    for (name, image) in debian {
        let what = format!("image {name} of {} for the first time", image.packages.join(", "));
        container::build(cache, image, &telling(events, what)).await.map_err(|source| Error::OfPackages {
            name: name.to_owned(),
            line: image.line,
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// As [`build`], its steps told as phases.
///
/// # Errors
/// As of [`build`].
pub async fn build_telling(options: &BuildOptions, events: &Events) -> Result<NodeImage, Error> {
    build(options, &telling(events, format!("node image {}", options.suite))).await
}

/// Tells how far the making of an image is.
fn telling(events: &Events, making: String) -> impl Fn(Progress<'_>) + Send + Sync {
    let told = Mutex::new(String::new());
    move |p| {
        let Ok(mut told) = told.lock() else { return };
        // It also tells of time passing, which matters to nobody who sees plain lines.
        if *told != p.what {
            p.what.clone_into(&mut told);
            events.phase(format!("making {making}, {}/{}: {}", p.step, p.of, p.what));
        }
    }
}
