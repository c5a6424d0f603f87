//! `labctl image`

use std::path::PathBuf;

use labctl_images::{BuildOptions, Error as ImageError, NodeImage, Suite, added, container};
use labctl_machines::images;
use serde_json::json;

use crate::{
    context::Context,
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    render::table::Table,
    stop::Stop,
};

const EXAMPLES: &str = "\
Examples:
  labctl image build
  labctl image build --engine bookworm
  labctl image ls
  docker save nginx:alpine -o nginx.tar && labctl image add nginx.tar
  labctl image rm bookworm";

/// Make and keep node images, and the container images that labs use
///
/// A node image is what the hosts of a lab boot: a kernel and a root filesystem with dockerd, from Debian packages.
/// `labctl up` makes it when it is needed. A host of a lab reaches no registry, so container images that topologies
/// name come from here too, else from the Docker daemon of this machine, if there is one. Those that topologies make of
/// Debian packages are kept here once they are made; remove one, and the next `labctl up` makes it of newer packages.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Build(Build),
    /// List node images and container images
    #[command(after_long_help = "Example:\n  labctl image ls")]
    Ls,
    /// Remove an image
    #[command(after_long_help = "Examples:\n  labctl image rm trixie\n  labctl image rm nginx:alpine")]
    Rm {
        /// Node image or its engine, or a container image
        #[arg(value_name = "IMAGE")]
        name: String,
    },
    /// Keep a container image for labs, as `docker save` writes it
    #[command(
        after_long_help = "Example:\n  docker save nginx:alpine -o nginx.tar && labctl image add nginx.tar"
    )]
    Add {
        /// Archive
        #[arg(value_name = "TAR")]
        tar: PathBuf,
    },
}

/// Make a node image, which takes a Debian mirror and half a minute
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  labctl image build\n  labctl image build --engine bookworm")]
struct Build {
    /// Debian release, and so the version of Docker: trixie has 26.1, bookworm 20.10
    #[arg(long, value_name = "ENGINE", default_value = "trixie", value_parser = ["trixie", "bookworm"])]
    engine: String,
    /// Make it even if it is there
    #[arg(long)]
    rebuild: bool,
}

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    match args.what {
        What::Build(args) => {
            let mut progress = Progress::new(&context.printer, "image");
            let mut stop = Stop::new()?;
            let built = tokio::select! {
                built = build(context, args.engine.parse()?, args.rebuild, &mut progress) => built,
                () = stop.wait() => Err(Error::Interrupted),
            };
            drop(progress);
            let image = built?;
            match context.printer.format {
                Format::Json => context.printer.json(&node(&image))?,
                Format::Text => context.printer.data(&format!(
                    "{}: Docker {}, kernel {}",
                    image.id(),
                    image.docker_version(),
                    image.kernel_version()
                ))?,
            }
        }
        What::Ls => ls(context)?,
        What::Rm { name } => {
            for removed in rm(context, &name)? {
                context.printer.say(&format!("{removed} is removed"));
            }
        }
        What::Add { tar } => {
            let added = added::add(&context.dirs.cache, &tar)?;
            match context.printer.format {
                Format::Json => context.printer.json(&added)?,
                Format::Text => context.printer.data(&added.names.join("\n"))?,
            }
        }
    }
    Ok(Exit::OK)
}

async fn build(
    context: &Context,
    suite: Suite,
    rebuild: bool,
    progress: &mut Progress<'_>,
) -> Result<NodeImage, Error> {
    let options = BuildOptions { cache: context.dirs.cache.clone(), suite, rebuild };
    Ok(progress.showing(async |events| images::build_telling(&options, events).await).await?)
}

fn ls(context: &Context) -> Result<(), Error> {
    let nodes = labctl_images::ls(&context.dirs.cache)?;
    let containers = added::list(&context.dirs.cache)?;
    let debian = container::ls(&context.dirs.cache);
    if context.printer.format == Format::Json {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|l| {
                let mut value = node(&l.image);
                value["bytes"] = json!(l.size);
                value["current"] = json!(l.current);
                value
            })
            .collect();
        let debian: Vec<_> = debian.iter().map(of_debian).collect();
        return context.printer.json(&json!({ "nodes": nodes, "containers": containers, "debian": debian }));
    }
    if nodes.is_empty() && containers.is_empty() && debian.is_empty() {
        context.printer.say("no images yet; `labctl up` makes those that it needs");
        return Ok(());
    }
    let mut table = Table::new(["IMAGE", "KIND", "SIZE", "WHAT"]);
    for l in &nodes {
        let old = if l.current { "" } else { ", of another version of labctl" };
        let what = format!("Docker {}, kernel {}{old}", l.image.docker_version(), l.image.kernel_version());
        table.plain_row([l.image.id().to_owned(), "node".to_owned(), size(l.size), what]);
    }
    for i in &containers {
        table.plain_row([i.names.join(", "), "container".to_owned(), size(i.bytes), String::new()]);
    }
    for i in &debian {
        let what = format!("{} of Debian {}", i.packages().join(", "), i.suite());
        table.plain_row([i.id().to_owned(), "container".to_owned(), size(i.bytes()), what]);
    }
    context.printer.data(&table.render())
}

/// Removes a node image by its name or engine, else a container image.
fn rm(context: &Context, name: &str) -> Result<Vec<String>, Error> {
    match labctl_images::rm(&context.dirs.cache, name) {
        Err(ImageError::NotFound(_)) if container::rm(&context.dirs.cache, name)? => {
            Ok(vec![name.to_owned()])
        }
        Err(ImageError::NotFound(_)) if added::remove(&context.dirs.cache, name)? => {
            Ok(vec![name.to_owned()])
        }
        done => Ok(done?),
    }
}

fn node(image: &NodeImage) -> serde_json::Value {
    json!({
        "image": image.id(),
        "engine": image.suite(),
        "docker": image.docker_version(),
        "kernel": image.kernel_version(),
        "built": image.built(),
        "path": image.dir(),
    })
}

fn of_debian(image: &container::ContainerImage) -> serde_json::Value {
    json!({
        "image": image.id(),
        "suite": image.suite(),
        "packages": image.packages(),
        "bytes": image.bytes(),
        "path": image.dir(),
    })
}

fn size(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
