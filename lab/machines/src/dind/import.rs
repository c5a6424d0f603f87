//! Imports the node image into this machine's Docker daemon.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use bollard::Docker;
use bollard::models::ImageSummary;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
};
use futures::{Stream, StreamExt as _};
use labctl_images::{Error as ImageError, NodeImage, cache};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::io::ReaderStream;

use crate::Error;

/// Repository of node images in a Docker daemon; the tag is the image's id.
pub const REPOSITORY: &str = "labctl/node";

/// An import takes seconds; one that takes longer than this is stuck.
const LIMIT: Duration = Duration::from_secs(600);

/// Bytes of the archive read at once.
const PIECE: usize = 1 << 20;

/// Docker's name for this image: `labctl/node:trixie-0123456789ab`.
pub fn reference(image: &NodeImage) -> String {
    format!("{REPOSITORY}:{}", image.id())
}

/// Makes sure that `docker` has this image, and returns its name there. If it is there already, that costs one request.
/// Images of the same engine from earlier versions of labctl are removed, unless a container uses them.
///
/// `progress` gets the bytes of the archive that were sent and their total; it is not called if nothing is to be done.
/// Two imports at once do not collide: the second waits and uses what the first has made.
///
/// # Errors
/// The archive cannot be read, `zstd` is not installed, or Docker refuses.
pub async fn import(
    image: &NodeImage,
    docker: &Docker,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<String, Error> {
    let name = reference(image);
    if is_there(docker, &name).await? {
        return Ok(name);
    }
    let _lock = lock(image).await?;
    if is_there(docker, &name).await? {
        return Ok(name);
    }
    match tokio::time::timeout(LIMIT, feed(image, docker, progress)).await {
        Ok(done) => done?,
        Err(_) => return Err(Error::Import { name, why: format!("it did not end within {LIMIT:?}") }),
    }
    remove_older(image, docker).await;
    Ok(name)
}

async fn is_there(docker: &Docker, name: &str) -> Result<bool, Error> {
    match docker.inspect_image(name).await {
        Ok(_) => Ok(true),
        Err(e) if labctl_docker::is_not_found(&e) => Ok(false),
        Err(e) => Err(Error::Import { name: name.to_owned(), why: labctl_docker::message(e) }),
    }
}

/// Waits for its turn; closing the file releases the lock. The archive itself is locked, so that a cache which only
/// another user can write to will do.
async fn lock(image: &NodeImage) -> Result<File, Error> {
    let path = image.tar();
    let file = File::open(&path).map_err(ImageError::io("read", &path))?;
    if cache::lock(&file, LIMIT, || ()).await {
        return Ok(file);
    }
    Err(Error::Import { name: reference(image), why: "another import of it still runs".to_owned() })
}

/// Sends the bare tar, since Docker before 23.0 does not know zstd.
async fn feed(
    image: &NodeImage,
    docker: &Docker,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<(), Error> {
    let failed = |why: String| Error::Import { name: reference(image), why };
    let mut child = Command::new("zstd")
        .args(["-dcq"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ImageError::Missing { program: "zstd", package: "zstd", source })?;
    let Some(packed) = child.stdin.take() else { return Err(failed("zstd has no input".into())) };
    let tar = output(&mut child);
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(REPOSITORY).tag(image.id()).build();
    let import = async {
        let mut said = docker.create_image(Some(options), Some(bollard::body_try_stream(tar)), None);
        while let Some(news) = said.next().await {
            news.map_err(|e| failed(labctl_docker::message(e)))?;
        }
        Ok::<_, Error>(())
    };
    // Docker reports a refusal; the feeding then ends because nobody reads any more.
    let (fed, imported) = tokio::join!(unpack(image, packed, progress), import);
    imported?;
    fed?;
    let status = child.wait().await.map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        // Docker's image of half an archive must not be taken for the whole one.
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let _ = docker.remove_image(&reference(image), Some(options), None).await;
        return Err(ImageError::content(image.tar(), format!("zstd cannot unpack it ({status})")).into());
    }
    Ok(())
}

fn output(child: &mut Child) -> impl Stream<Item = std::io::Result<bytes::Bytes>> + Send + use<> {
    let output = child.stdout.take();
    futures::stream::iter(output).flat_map(|output| ReaderStream::with_capacity(output, PIECE))
}

async fn unpack(
    image: &NodeImage,
    mut into: ChildStdin,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<(), Error> {
    let path = image.tar();
    let mut file = tokio::fs::File::open(&path).await.map_err(ImageError::io("read", &path))?;
    let of = file.metadata().await.map_err(ImageError::io("read", &path))?.len();
    let (mut piece, mut done) = (vec![0; PIECE], 0);
    loop {
        let n = file.read(&mut piece).await.map_err(ImageError::io("read", &path))?;
        if n == 0 || into.write_all(&piece[..n]).await.is_err() {
            // A program that stops reading reports the cause by its status.
            return Ok(());
        }
        done += n as u64;
        progress(done, of);
    }
}

/// Removes earlier versions' imports of the same engine. One in use stays: Docker refuses to remove it.
async fn remove_older(image: &NodeImage, docker: &Docker) {
    let older = format!("{REPOSITORY}:{}", image.engine());
    let current = reference(image);
    for name in imported(docker).await.unwrap_or_default() {
        if name.rsplit_once('-').is_some_and(|(engine, _)| engine == older) && name != current {
            let removed = docker.remove_image(&name, None::<RemoveImageOptions>, None).await;
            tracing::debug!("{name}: {removed:?}");
        }
    }
}

/// The node images in `docker`, by name.
///
/// # Errors
/// Docker's refusal.
pub async fn imported(docker: &Docker) -> Result<Vec<String>, bollard::errors::Error> {
    let filters = std::collections::HashMap::from([("reference", vec![REPOSITORY])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let images: Vec<ImageSummary> = docker.list_images(Some(options)).await?;
    Ok(images.into_iter().flat_map(|i| i.repo_tags).collect())
}
