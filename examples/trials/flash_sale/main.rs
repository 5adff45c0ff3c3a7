//! The main job of `doorbuster`: a real month of orders, and a flash sale that is killed halfway.
//!
//! 1. `replay` sends a history of invoices (`data`) through an engine, twice; `books` checks it.
//! 2. `sale` lets a million buyers loose on one SKU in a child process, kills it with SIGKILL at a
//!    moment drawn from the seed, reopens its folder, and proves that nothing was lost, sold twice
//!    or ordered twice.
//! 3. `report` prints what came out.
//!
//! `cargo run --release --example flash_sale -- --help` tells the options.

mod args;
mod books;
mod data;
mod replay;
mod report;
mod sale;
#[cfg(test)]
mod tests;

#[path = "../shared"]
mod shared {
    pub(crate) mod findings;
    pub(crate) mod folder;
    pub(crate) mod patience;
    pub(crate) mod progress;
    pub(crate) mod random;
    pub(crate) mod recovery_bar;
    pub(crate) mod run_args;
    pub(crate) mod text;
}

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use doorbuster::{Engine, Options};

use crate::args::Args;
use crate::books::Totals;
use crate::data::History;
use crate::replay::Pass;
use crate::report::{PassReport, ReplayReport, Report};
use crate::shared::folder::RunFolder;
use crate::shared::progress::Progress;
use crate::shared::text::{chain, say};

type Failure = Box<dyn Error + Send + Sync>;

/// A month of orders fills a fraction of a default segment of 64 MiB.
const REPLAY_SEGMENT_BYTES: u64 = 8 << 20;

/// How many SKUs an engine allows by default; a larger history asks for as many as it needs.
const SKUS_MAX_DEFAULT: usize = 1 << 20;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.child() {
        Some(child) => sale::child::run(&child),
        None => run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("flash_sale: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let folder = RunFolder::new("flash-sale", args.run.dir.as_deref())?;
    say(&format!("seed {}; {folder}", args.seed));
    let mut report = Report::new(args);
    let mut failures = Vec::new();
    if !args.skip_replay {
        report.replay = Some(replay_history(args, &folder, &mut failures)?);
    }
    if !args.skip_sale {
        let sale = sale::run(args, &folder.part("sale"))?;
        failures.extend(sale.failures.iter().cloned());
        report.sale = Some(sale);
    }
    report.print_table();
    if args.run.json {
        report.print_json();
    }
    match failures.len() {
        0 => Ok(()),
        _ => Err(format!("not proved: {}", failures.join("; ")).into()),
    }
}

fn replay_history(
    args: &Args,
    folder: &RunFolder,
    failures: &mut Vec<String>,
) -> Result<ReplayReport, Failure> {
    let history = History::read(&args.data)?;
    let threads = args.threads.unwrap_or(1) as usize;
    let short = replay_pass(&history, Pass::Short, threads, folder, failures)?;
    let full = replay_pass(&history, Pass::Full, threads, folder, failures)?;
    if let Err(failure) = books::prove_full(&full.totals, full.closing) {
        failures.push(failure.to_string());
    }
    Ok(ReplayReport {
        rows: history.rows,
        skus: history.codes.len(),
        senseless: history.senseless,
        threads,
        short,
        full,
    })
}

fn replay_pass(
    history: &History,
    pass: Pass,
    threads: usize,
    folder: &RunFolder,
    failures: &mut Vec<String>,
) -> Result<PassReport, Failure> {
    let (name, label) = match pass {
        Pass::Short => ("replay-a", "replay A, 80 % of the demand"),
        Pass::Full => ("replay-b", "replay B, the full demand"),
    };
    let options = Options::new(folder.part(name))
        .segment_bytes(REPLAY_SEGMENT_BYTES)
        .skus_max(history.codes.len().max(SKUS_MAX_DEFAULT));
    let engine = Engine::open(options)?;
    let progress = Progress::new(label, "invoices", replay::invoices_in(history, pass) as u64);
    let replayed = replay::run(&engine, history, pass, threads, &|sent| progress.add(sent))?;
    progress.finish();
    let closing = books::audit(&engine, history, pass, &replayed)?;
    if closing.oversold_units > 0 {
        let units = closing.oversold_units;
        failures.push(format!("{label}: {units} units were sold that were never stocked"));
    }
    engine.close()?;
    Ok(PassReport {
        totals: Totals::of(&replayed, history),
        closing,
        elapsed: replayed.elapsed,
        capped: replayed.capped,
    })
}
