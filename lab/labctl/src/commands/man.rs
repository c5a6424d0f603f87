//! `labctl man`

use std::{fs, path::PathBuf};

use clap::{Command, CommandFactory};

use crate::{
    cli::Cli,
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
pub fn run(args: Args, context: &Context) -> Result<Exit, Error> {
    let pages = pages()?;
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
fn pages() -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut root = Cli::command().disable_help_subcommand(true);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_is_a_page_for_each_verb_and_none_for_hidden_ones() {
        let names: Vec<_> = pages().unwrap().into_iter().map(|(n, _)| n).collect();
        assert_eq!(names[0], "labctl.1");
        assert!(names.contains(&"labctl-up.1".to_owned()), "{names:?}");
        assert!(names.contains(&"labctl-image-build.1".to_owned()), "{names:?}");
        assert!(!names.iter().any(|n| n.contains("supervise")), "{names:?}");
    }

    #[test]
    fn pages_say_what_the_exit_status_means() {
        let page = String::from_utf8(pages().unwrap().remove(0).1).unwrap();
        assert!(page.contains("Exit status"), "{page}");
    }
}
