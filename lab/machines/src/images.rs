//! Makes the images of a lab, with progress as events.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Mutex,
};

use labctl_images::{
    BuildOptions, NodeImage, OwnOptions, Progress,
    boxes::{BoxOptions, build_box},
    build, build_own,
    container::{self, ContainerImage},
    find, require,
};
use labctl_model::{DebianImage, Engine, Lab};
use labctl_state::Runtime;

use crate::{Error, Events, vagrant};

/// Makes the node images that a lab's hosts need on this runtime, and the Debian package images that its containers need, if they are
/// not in the cache.
///
/// # Errors
/// Those of [`labctl_images::build`]; [`Error::OfPackages`].
pub async fn ensure(cache: &Path, lab: &Lab, runtime: Runtime, events: &Events) -> Result<(), Error> {
    if runtime == Runtime::Vagrant {
        for options in vagrant::boxes(cache, lab).await? {
            build_box_telling(&options, events).await?;
        }
    }
    // Machines that exist have a dockerd of their own, and boxes theirs.
    let made = lab.hosts.values().filter(|_| matches!(runtime, Runtime::Vm | Runtime::Dind));
    let engines: BTreeSet<&Engine> = made.map(|h| &h.engine).collect();
    for engine in engines {
        let damaged = match find(cache, engine) {
            Some(image) => examine(move || image.check(), format!("node image {engine}"), events).await,
            None => false,
        };
        match engine {
            Engine::Debian(suite) => {
                let options = BuildOptions { cache: cache.to_owned(), suite: *suite, rebuild: damaged };
                build_telling(&options, events).await?;
            }
            // Only the user has what it is made of.
            Engine::Own { .. } if damaged => {
                return Err(labctl_images::Error::NoNodeImage(engine.clone()).into());
            }
            Engine::Own { .. } => drop(require(cache, engine)?),
        }
    }
    ensure_containers(cache, lab, events).await.map(drop)
}

/// Makes the Debian package images that a lab's containers need, if they are not in the cache, and returns them.
///
/// # Errors
/// [`Error::OfPackages`].
pub async fn ensure_containers(
    cache: &Path,
    lab: &Lab,
    events: &Events,
) -> Result<Vec<ContainerImage>, Error> {
    let used = lab.images_of_all().map(|(_, image)| image).chain(lab.images_of_updates());
    let debian: BTreeMap<&str, &DebianImage> =
        used.filter_map(|name| Some((name, lab.image(name)?))).collect();
    let mut made = Vec::new();
    for (name, image) in debian {
        if let Some(found) = container::find(cache, image) {
            let id = found.id().to_owned();
            if examine(move || found.check(), format!("image {name}"), events).await {
                container::rm(cache, &id)?;
            }
        }
        let what = format!("image {name} of {} for the first time", image.packages.join(", "));
        let built = container::build(cache, image, &telling(events, what)).await;
        made.push(built.map_err(|source| Error::OfPackages {
            name: name.to_owned(),
            line: image.line,
            source,
        })?);
    }
    Ok(made)
}

/// Whether something is damaged; reports it as an event.
async fn examine(
    check: impl FnOnce() -> Result<(), String> + Send + 'static,
    what: String,
    events: &Events,
) -> bool {
    // Hundreds of MiB may have to be read.
    match tokio::task::spawn_blocking(check).await {
        Ok(Err(why)) => {
            events.note(format!("{what} is damaged ({why}) and is made anew"));
            true
        }
        _ => false,
    }
}

/// Damage found in the node images of a lab whose hosts do not start. The next `labctl up` makes these anew.
pub async fn find_damage(cache: &Path, lab: &Lab) -> Vec<String> {
    let engines: BTreeSet<&Engine> = lab.hosts.values().map(|h| &h.engine).collect();
    let images: Vec<NodeImage> = engines.into_iter().filter_map(|engine| find(cache, engine)).collect();
    let look = move || {
        let damage = images.iter().filter_map(|image| {
            image.distrust();
            let why = image.check().err()?;
            Some(format!(
                "node image {} is damaged ({why}): the next `labctl up` makes it anew",
                image.engine()
            ))
        });
        damage.collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Like [`labctl_images::build`], with its steps reported as phases.
///
/// # Errors
/// Those of [`labctl_images::build`].
pub async fn build_telling(options: &BuildOptions, events: &Events) -> Result<NodeImage, Error> {
    Ok(build(options, &telling(events, format!("node image {}", options.suite))).await?)
}

/// Like [`labctl_images::build_own`], with its steps reported as phases.
///
/// # Errors
/// Those of [`labctl_images::build_own`].
pub async fn build_own_telling(options: &OwnOptions, events: &Events) -> Result<NodeImage, Error> {
    Ok(build_own(options, &telling(events, format!("node image {}", options.name))).await?)
}

/// Like [`labctl_images::boxes::build_box`], with its steps reported as phases.
///
/// # Errors
/// Those of [`labctl_images::boxes::build_box`].
pub async fn build_box_telling(options: &BoxOptions, events: &Events) -> Result<(), Error> {
    Ok(build_box(options, &telling(events, format!("box {}", options.name()))).await?)
}

/// Reports the progress of making an image.
fn telling(events: &Events, making: String) -> impl Fn(Progress<'_>) + Send + Sync {
    let told = Mutex::new(String::new());
    move |p| {
        let Ok(mut told) = told.lock() else { return };
        // It is also called as time passes, which plain lines need not show.
        if *told != p.what {
            p.what.clone_into(&mut told);
            events.phase(format!("making {making}, {}/{}: {}", p.step, p.of, p.what));
        }
    }
}
