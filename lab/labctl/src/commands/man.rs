//! `labctl man`

use std::{fs, path::PathBuf};

use clap::Command;

use crate::{
    context::Context,
    exit::{Error, Exit},
};

const EXAMPLES: &str = "\
Examples:
  labctl man | man -l -
  labctl man ~/.local/share/man/man1";

/// Print the manual page, or write all of them to a folder
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Folder that gets labctl.1 and a page for each verb
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: Args, root: Command, context: &Context) -> Result<Exit, Error> {
    let pages = pages(root)?;
    match args.dir {
        None => pages.first().map_or(Ok(()), |(_, page)| context.printer.bytes(page))?,
        Some(dir) => {
            fs::create_dir_all(&dir).map_err(Error::file("make", dir.display()))?;
            for (name, page) in pages {
                let path = dir.join(name);
                fs::write(&path, page).map_err(Error::file("write", path.display()))?;
            }
        }
    }
    Ok(Exit::OK)
}

/// Every page with its file name, labctl's own first.
fn pages(root: Command) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut root = root.disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut pages)?;
    Ok(pages)
}

fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), Error> {
    let man = clap_mangen::Man::new(command.clone());
    let (name, mut page) = (man.get_filename(), Vec::new());
    man.render(&mut page).map_err(Error::file("write", &name))?;
    pages.push((name, page));
    command.get_subcommands().filter(|c| !c.is_hide_set()).try_for_each(|c| collect(c, pages))
}
