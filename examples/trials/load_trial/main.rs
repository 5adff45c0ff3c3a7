//! The load trial of `doorbuster`: puts an engine under a load of one's choice, checks every answer, and
//! writes figures with plots.
//!
//! 1. `plan` draws every request from the seed, before the clock starts.
//! 2. `trial` stocks an engine, lets `load` send the requests (`caller` one by one, `batches`, `lifecycle`,
//!    `tasks`), closes it, opens its folder again, and has `proof` check every answer.
//! 3. `empty_loop` measures what the load generator and the machine cost by themselves.
//! 4. `report` prints the table and the JSON object, `html` writes the page, `plots` draws.
//!
//! `table` runs all that is published, many times; `beside` measures what the machine does without an engine.
//!
//! `cargo run --release --example load_trial -- --help` tells scenarios and options.

mod args;
mod batches;
mod beside;
mod caller;
mod desk;
mod empty_loop;
mod html;
mod ledger;
mod lifecycle;
mod load;
mod plan;
mod plots;
mod proof;
mod recorder;
mod report;
mod shop;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
mod trial;

#[path = "../shared"]
mod shared {
    pub(crate) mod chart;
    pub(crate) mod findings;
    pub(crate) mod folder;
    pub(crate) mod html;
    pub(crate) mod latency_axis;
    pub(crate) mod machine;
    pub(crate) mod memory;
    pub(crate) mod output;
    pub(crate) mod pace;
    pub(crate) mod patience;
    pub(crate) mod progress;
    pub(crate) mod random;
    pub(crate) mod run_args;
    pub(crate) mod text;
    pub(crate) mod timer;
}

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use serde_json::Value;

use crate::args::{Args, Sweep};
use crate::report::{Point, Report};
use crate::shared::folder::RunFolder;
use crate::shared::text::{chain, grouped, say};
use crate::trial::Trial;

type Failure = Box<dyn Error + Send + Sync>;

/// Loads of a sweep without rates, in percent of what the closed loop reached.
const SHARES_PERCENT: [f64; 9] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0];

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(words) = args.contradiction() {
        Args::command().error(ErrorKind::ArgumentConflict, words).exit();
    }
    if let Some(times) = args.table {
        return exit_code(table::run(&args, times));
    }
    let outcome = run(&args).and_then(|(report, json)| {
        if args.run.json {
            say(&json.to_string());
        }
        match report.failures()[..] {
            [] => Ok(()),
            ref failures => Err(format!("not proved: {}", failures.join("; ")).into()),
        }
    });
    exit_code(outcome)
}

fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("load_trial: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// Runs everything that was asked for, prints the table, writes the page.
fn run(args: &Args) -> Result<(Report, Value), Failure> {
    let folder = RunFolder::new("load-trial", args.run.dir.as_deref())?;
    say(&format!("{}, seed {}; {folder}", args.scenario, args.seed));
    let trial = Trial::run(args, &folder.part("engine"), "load")?;
    let empty = empty_loop::measure(args, &trial.plan, &trial.load, folder.path())?;
    let sweep = sweep(args, &trial, &folder)?;
    let report = Report { trial, empty, sweep };
    report.print(args);
    let html = args.report(&folder);
    html::write(&report, args, folder.path(), &html)?;
    say(&format!("\nreport: {}", html.display()));
    let json = report.json(args, &html);
    Ok((report, json))
}

fn sweep(args: &Args, closed: &Trial, folder: &RunFolder) -> Result<Vec<Point>, Failure> {
    let rates = match args.sweep() {
        None => return Ok(Vec::new()),
        Some(Sweep::Rates(rates)) => rates,
        Some(Sweep::Shares) => {
            let top = closed.requests_per_s();
            SHARES_PERCENT.iter().map(|share| ((top * share / 100.0) as u32).max(1)).collect()
        }
    };
    let point = |rate: u32| {
        let folder = folder.part(&format!("at-{rate}"));
        let trial = run_and_remove(&args.at_rate(rate), &folder)?;
        Ok(Point { rate, trial })
    };
    rates.into_iter().map(point).collect()
}

/// A sweep makes many folders; what is proved is not needed any more.
fn run_and_remove(args: &Args, folder: &Path) -> Result<Trial, Failure> {
    let rate = args.rate().unwrap_or_default();
    say(&format!("at {} requests/s", grouped(u64::from(rate))));
    let trial = Trial::run(args, folder, "load")?;
    if trial.findings.words.is_empty() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(trial)
}
