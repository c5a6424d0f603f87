//! Random labs on real kernels, held against the oracle: each cell is predicted and probed. A lab with a cell that comes
//! out otherwise is made as small as it can be and kept.

mod compare;
mod random;
mod shrink;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anstream::println;
use anyhow::{Context, Result};
use clap::Parser;
use lab::Runtime;

use compare::Outcome;

/// Runs random labs, and compares each cell with what the oracle predicts.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The first seed. Each lab has the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many labs to run. Seeds that give no valid lab are left out and do not count
    #[arg(long, default_value_t = 20)]
    labs: usize,
    /// Ends after this many minutes, even if fewer labs have run
    #[arg(long)]
    minutes: Option<u64>,
    /// What the hosts run on
    #[arg(long, default_value = "vm", value_parser = runtime)]
    runtime: Runtime,
    /// Engines to choose from, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "trixie")]
    engines: Vec<String>,
    /// Runs that may be spent on making one difference smaller; 0 keeps labs as they are
    #[arg(long, default_value_t = 20)]
    tries: usize,
    /// Where labs with differences are kept
    #[arg(long, default_value = "target/fuzz")]
    keep: PathBuf,
    /// Prints the lab of the first seed and its predictions' number, and runs nothing
    #[arg(long)]
    show: bool,
}

fn runtime(name: &str) -> Result<Runtime, serde_json::Error> {
    serde_json::from_value(name.into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.show {
        println!("{}", compare::kept(&random::lab(args.seed, &args.engines), &[])?);
        return Ok(ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let (mut labs, mut invalid, mut refused, mut compared, mut unknown, mut wrong) = (0, 0, 0, 0, 0, 0);
    let mut seed = args.seed;
    while labs < args.labs && args.minutes.is_none_or(|m| began.elapsed() < Duration::from_secs(60 * m)) {
        let lab = random::lab(seed, &args.engines);
        seed += 1;
        let Some((_, predictions)) = compare::predictions(&lab) else {
            invalid += 1;
            continue;
        };
        labs += 1;
        let name = lab["name"].as_str().unwrap_or_default();
        let found =
            match compare::run(&lab, &predictions, args.runtime).await.with_context(|| name.to_owned())? {
                Outcome::Refused(why) => {
                    refused += 1;
                    println!("{name}: refused: {why}");
                    continue;
                }
                Outcome::Ran(found) => found,
            };
        compared += found.compared;
        unknown += found.unknown;
        wrong += found.differences.len();
        println!(
            "{name}: {} cells, {} unknown, {} differ",
            found.compared,
            found.unknown,
            found.differences.len()
        );
        let Some(first) = found.differences.first() else { continue };
        found.differences.iter().for_each(|d| println!("  {d}"));
        fs::create_dir_all(&args.keep)?;
        let (least, difference) = match args.tries {
            0 => (lab.clone(), first.clone()),
            tries => shrink::shrink(&lab, first, args.runtime, tries).await?,
        };
        let file = args.keep.join(format!("{name}.yaml"));
        fs::write(&file, compare::kept(&least, &[difference])?)?;
        println!("  kept as {}", file.display());
    }
    println!(
        "seeds {} to {}: {labs} labs ran ({invalid} seeds gave no valid lab), {refused} refused by Docker; {compared} cells compared, {unknown} unknown, {wrong} differ; {} s",
        args.seed,
        seed - 1,
        began.elapsed().as_secs()
    );
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
