//! `labctl image`

use std::path::PathBuf;

use labctl_images::{
    BuildOptions, Error as ImageError, NodeImage, OwnOptions, added,
    boxes::{self, BoxOptions, BoxProvider, Seat},
    container,
};
use labctl_lesson::Lesson;
use labctl_machines::images;
use labctl_model::{Engine, EngineChoice, Suite, engine};
use labctl_report::table::Table;
use serde_json::json;

use crate::{
    commands::lesson,
    context::{Context, agent},
    engines,
    exit::{Error, Exit},
    printer::Format,
    progress::Progress,
    stop::Stop,
};

const EXAMPLES: &str = "\
Examples:
  labctl image build
  labctl image build --engine forky
  labctl image build --docker docker-29.1.0.tgz --name docker29
  labctl image box
  labctl image box --seat --provider virtualbox
  labctl image ls
  docker save nginx:alpine -o nginx.tar && labctl image add nginx.tar
  labctl image rm bookworm";

/// Make and keep node images, and the container images that labs use
///
/// A node image is what the hosts of a lab boot: a kernel and a root filesystem with dockerd, from Debian packages, or
/// with a dockerd of your own from a tarball.
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
    Box(BoxArgs),
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
#[command(after_long_help = BUILD_EXAMPLES)]
struct Build {
    /// Debian release, and so the version of Docker: trixie has 26.1, forky 28.5, bookworm 20.10; or a version, as 28
    ///
    /// With --docker: where all the rest comes from.
    #[arg(long, value_name = "ENGINE", default_value = "trixie")]
    engine: String,
    /// Take Docker from a tarball, as Docker publishes them for Linux
    #[arg(long, value_name = "FILE.tgz", requires = "name", conflicts_with = "rebuild")]
    docker: Option<PathBuf>,
    /// Name of the engine from the tarball: `engine: NAME` in topologies
    #[arg(long, value_name = "NAME", requires = "docker")]
    name: Option<String>,
    /// Make it even if it is there
    #[arg(long)]
    rebuild: bool,
}

/// Make a Vagrant box of Debian packages, with Docker
///
/// `labctl up --runtime vagrant` makes the one that it needs. `vagrant box add` takes the file that this prints to any other
/// machine, which then needs no network for it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = BOX_EXAMPLES)]
struct BoxArgs {
    /// Debian release, and so the version of Docker, as for `build`
    #[arg(long, value_name = "ENGINE", default_value = "trixie")]
    engine: String,
    /// Whose machines it is for
    #[arg(long, value_enum, default_value = "libvirt")]
    provider: BoxFor,
    /// Make a workshop's machine: with labctl, its lessons and topologies, and a node image (vagrant/README.md)
    #[arg(long)]
    seat: bool,
    /// Make it even if it is there
    #[arg(long)]
    rebuild: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum BoxFor {
    /// libvirt, by the plugin vagrant-libvirt
    Libvirt,
    /// VirtualBox
    Virtualbox,
}

const BOX_EXAMPLES: &str = "\
Examples:
  labctl image box
  labctl image box --seat
  labctl image box --seat --provider virtualbox        # for laptops without Linux
  vagrant box add --name labctl/seat $(labctl image box --seat)";

const BUILD_EXAMPLES: &str = "\
Examples:
  labctl image build
  labctl image build --engine forky
  labctl image build --docker docker-29.1.0.tgz --name docker29";

/// Runs the verb.
pub async fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    match args.what {
        What::Build(args) => {
            let image = making(context, async |progress| build(context, &args, progress).await).await?;
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
        What::Box(args) => {
            let options = making(context, async |progress| make_box(context, &args, progress).await).await?;
            match context.printer.format {
                Format::Json => context
                    .printer
                    .json(&json!({ "box": options.name(), "provider": options.provider.name(), "path": options.file() }))?,
                Format::Text => context.printer.data(&options.file().display().to_string())?,
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

/// Makes something, with its progress shown, until it is interrupted.
async fn making<T>(
    context: &Context,
    make: impl AsyncFnOnce(&mut Progress<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut progress = Progress::new(&context.printer, "image");
    let mut stop = Stop::new()?;
    tokio::select! {
        made = make(&mut progress) => made,
        () = stop.wait() => Err(Error::Interrupted),
    }
}

async fn build(context: &Context, args: &Build, progress: &mut Progress<'_>) -> Result<NodeImage, Error> {
    let (suite, cache) = (suite(&args.engine, context)?, context.dirs.cache.clone());
    if let (Some(tarball), Some(name)) = (args.docker.clone(), args.name.clone()) {
        let options = OwnOptions { cache, name, tarball, suite };
        return Ok(progress
            .showing(async |events| images::build_own_telling(&options, events).await)
            .await?);
    }
    let options = BuildOptions { cache, suite, rebuild: args.rebuild };
    Ok(progress.showing(async |events| images::build_telling(&options, events).await).await?)
}

async fn make_box(
    context: &Context,
    args: &BoxArgs,
    progress: &mut Progress<'_>,
) -> Result<BoxOptions, Error> {
    let provider = match args.provider {
        BoxFor::Libvirt => BoxProvider::Libvirt,
        BoxFor::Virtualbox => BoxProvider::Virtualbox,
    };
    let (suite, cache) = (suite(&args.engine, context)?, context.dirs.cache.clone());
    let seat = if args.seat { Some(seat(context, suite, progress).await?) } else { None };
    let options = BoxOptions { cache, suite, provider, seat, rebuild: args.rebuild };
    progress.showing(async |events| images::build_box_telling(&options, events).await).await?;
    Ok(options)
}

/// What a workshop's machine has of labctl: this one, its agent, a node image, and the images of the lessons; images are made
/// if they are not there.
async fn seat(context: &Context, suite: Suite, progress: &mut Progress<'_>) -> Result<Seat, Error> {
    let options = BuildOptions { cache: context.dirs.cache.clone(), suite, rebuild: false };
    let image = progress.showing(async |events| images::build_telling(&options, events).await).await?;
    let own = std::env::current_exe().map_err(Error::file("find", "this program"))?;
    let mut files = vec![
        (own, "/usr/bin/labctl".to_owned()),
        (agent()?, "/usr/bin/labctl-agent".to_owned()),
        (image.dir().to_owned(), format!("{}/images/{}", Seat::CACHE, image.id())),
    ];
    let lessons = lesson::folder(None)?;
    // Installed they are siblings; in a checkout, lessons are in `vagrant`.
    let beside = lessons.ancestors().skip(1).take(2).map(|above| above.join("topologies"));
    files.extend(
        beside.filter(|path| path.is_dir()).map(|path| (path, "/usr/share/labctl/topologies".to_owned())),
    );
    for lesson in labctl_lesson::list(&lessons) {
        let lab = Lesson::load(&lesson)?.lab;
        let make = async |events: &_| images::ensure_containers(&context.dirs.cache, &lab, events).await;
        let made = progress.showing(make).await?;
        files.extend(made.iter().map(|i| (i.dir().to_owned(), format!("{}/debian/{}", Seat::CACHE, i.id()))));
    }
    files.push((lessons, "/usr/share/labctl/lessons".to_owned()));
    Ok(Seat { files })
}

/// A suite by its name, or by its version of Docker.
fn suite(word: &str, context: &Context) -> Result<Suite, Error> {
    // Without the user's own engines: those are made of tarballs.
    let choice = EngineChoice::default();
    let engine = engines::find(&choice, word)?;
    if engine::is_number(word) {
        context.printer.say(&engines::stands_for(word, &engine));
    }
    Ok(match engine {
        Engine::Debian(suite) => suite,
        Engine::Own { .. } => Suite::default(),
    })
}

fn ls(context: &Context) -> Result<(), Error> {
    let nodes = labctl_images::ls(&context.dirs.cache)?;
    let containers = added::list(&context.dirs.cache)?;
    let debian = container::ls(&context.dirs.cache);
    let boxes = boxes::ls(&context.dirs.cache);
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
        let boxes: Vec<_> =
            boxes.iter().map(|(name, bytes)| json!({ "box": name, "bytes": bytes })).collect();
        return context
            .printer
            .json(&json!({ "nodes": nodes, "containers": containers, "debian": debian, "boxes": boxes }));
    }
    if nodes.is_empty() && containers.is_empty() && debian.is_empty() && boxes.is_empty() {
        context.printer.say("no images yet; `labctl up` makes those that it needs");
        return Ok(());
    }
    let mut table = Table::new(["IMAGE", "KIND", "SIZE", "WHAT"]);
    for l in &nodes {
        let old = if l.current { "" } else { ", of another version of labctl" };
        let (engine, docker) = (l.image.engine(), l.image.docker_version());
        let what = format!("engine {engine}: Docker {docker}, kernel {}{old}", l.image.kernel_version());
        table.plain_row([l.image.id().to_owned(), "node".to_owned(), size(l.size), what]);
    }
    for i in &containers {
        table.plain_row([i.names.join(", "), "container".to_owned(), size(i.bytes), String::new()]);
    }
    for i in &debian {
        let what = format!("{} of Debian {}", i.packages().join(", "), i.suite());
        table.plain_row([i.id().to_owned(), "container".to_owned(), size(i.bytes()), what]);
    }
    for (name, bytes) in &boxes {
        let what =
            if name.starts_with("seat") { "a workshop's machine" } else { "hosts of --runtime vagrant" };
        table.plain_row([name.clone(), "box".to_owned(), size(*bytes), what.to_owned()]);
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
        Err(ImageError::NotFound(_)) if boxes::rm(&context.dirs.cache, name)? => Ok(vec![name.to_owned()]),
        done => Ok(done?),
    }
}

fn node(image: &NodeImage) -> serde_json::Value {
    json!({
        "image": image.id(),
        "engine": image.engine(),
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
