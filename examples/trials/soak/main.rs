//! Places, confirms and fulfils orders at a steady rate and lets them retire, and watches memory, disk and
//! latency, beside checkpoints and without.
//!
//! 1. `load` sends the orders of the `plan`; `windows` notes how long each commit took, by window of time.
//! 2. `watch` looks at the process and its folder from outside meanwhile.
//! 3. `proof` compares levels, orders and keys with what was acknowledged, before and after a reopen.
//! 4. `report` prints the table and the JSON object, writes the CSV file and the page; `plots` draws.
//!
//! `cargo run --release --example soak -- --help` tells the options.

mod args;
mod load;
mod plan;
mod plots;
mod proof;
mod report;
#[cfg(test)]
mod tests;
mod watch;
mod windows;

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
    pub(crate) mod recovery_bar;
    pub(crate) mod run_args;
    pub(crate) mod text;
    pub(crate) mod timer;
}

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use doorbuster::{Adjust, Engine, Options, RequestKey};
use serde_json::Value;

use crate::args::Args;
use crate::plan::Plan;
use crate::report::{Files, Reopened, Report};
use crate::shared::findings::Findings;
use crate::shared::folder::RunFolder;
use crate::shared::patience::ask;
use crate::shared::recovery_bar::RecoveryBar;
use crate::shared::text::{chain, say};

type Failure = Box<dyn Error + Send + Sync>;

/// After the reopen nothing is to leave memory while it is looked at.
const RETENTION_AT_PROOF: Duration = Duration::from_secs(24 * 3600);

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(words) = args.contradiction() {
        Args::command().error(ErrorKind::ValueValidation, words).exit();
    }
    let outcome = run(&args).and_then(|(report, json)| {
        if args.run.json {
            say(&json.to_string());
        }
        match report.findings.words[..] {
            [] => Ok(()),
            ref words => Err(format!("not proved: {}", words.join("; ")).into()),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("soak: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

/// Runs the soak, prints the table, writes the files.
fn run(args: &Args) -> Result<(Report, Value), Failure> {
    let folder = RunFolder::new("soak", args.run.dir.as_deref())?;
    say(&format!("seed {}; {folder}", args.seed));
    let report = soak(args, &folder.part("engine"))?;
    report.print(args);
    let files = Files::of(&folder);
    report.write(args, folder.path(), &files)?;
    let json = report.json(args, &files);
    Ok((report, json))
}

fn soak(args: &Args, folder: &Path) -> Result<Report, Failure> {
    let plan = Plan::new(args);
    let engine = Engine::open(options(args, folder).orders_reserved(args.orders_reserved()))?;
    let mut commits = Vec::new();
    for (sku, units) in plan.stock() {
        let add = || engine.stock(sku, Adjust::add(units).key(RequestKey::new(1)));
        commits.push(ask(&engine, add)?);
    }
    for commit in commits {
        commit.wait()?;
    }
    let watched = load::run(args, &plan, &engine, folder)?;
    if engine.stats().checkpoints == 0 {
        // The run is too short for a checkpoint: something must be left to reopen.
        engine.checkpoint()?.wait()?;
    }
    let stats = engine.stats();
    let mut findings = Findings::default();
    watched.ledger.tell(&mut findings);
    proof::compare_levels(&engine, &plan, &watched.ledger, &mut findings)?;
    let closed_ms = engine.now_ms();
    engine.close()?;
    drop(engine);

    let bar = Arc::new(RecoveryBar::new("reopening"));
    let opening = Instant::now();
    let engine =
        Engine::open(bar.clone().show(options(args, folder).retention(RETENTION_AT_PROOF)))?;
    let took = opening.elapsed();
    bar.finish();
    let reopened = Reopened { took, report: engine.recovery() };
    proof::compare_levels(&engine, &plan, &watched.ledger, &mut findings)?;
    proof::look_up_and_retry(args, &engine, &plan, &watched.ledger, closed_ms, &mut findings)?;
    engine.close()?;
    drop(engine);
    if let Err(error) = doorbuster::verify(folder) {
        findings.words.push(format!("the folder is not whole: {error}"));
    }
    Ok(Report { watched, stats, reopened, findings })
}

fn options(args: &Args, folder: &Path) -> Options {
    Options::new(folder)
        .retention(args.retention())
        .checkpoint_bytes(args.checkpoint_bytes())
        .segment_bytes(args.segment_bytes())
        .orders_max(args.orders_max())
}
