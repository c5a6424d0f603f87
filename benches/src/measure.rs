//! Medians, and one way to print them.

use std::time::Instant;

/// Runs of each side.
pub const RUNS: usize = 5;

/// The middle of the values; of an even number, the lower one of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds that something takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

/// `name: ours / other = ratio`.
pub fn versus(name: &str, unit: &str, ours: &[f64], other: &[f64]) {
    let (a, b) = (median(ours.to_vec()), median(other.to_vec()));
    println!("{name}: {a:.2} {unit} / {b:.2} {unit} = {:.3}", a / b);
    spread(ours, unit);
}

/// `name: ours / aim = ratio`, where there is nothing but an aim to hold it against.
pub fn against_aim(name: &str, unit: &str, ours: &[f64], aim: f64) {
    let a = median(ours.to_vec());
    println!("{name}: {a:.2} {unit} / {aim:.2} {unit} (aim) = {:.3}", a / aim);
    spread(ours, unit);
}

/// `name: ours`, where there is nothing to hold it against.
pub fn alone(name: &str, unit: &str, ours: &[f64]) {
    println!("{name}: {:.2} {unit}", median(ours.to_vec()));
    spread(ours, unit);
}

fn spread(values: &[f64], unit: &str) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    println!("    {} runs, {low:.2} to {high:.2} {unit}", values.len());
}
