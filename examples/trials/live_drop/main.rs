//! A live-stream drop, second by second.
//!
//! 1. `stage` sets up an engine with two SKUs of two merchants, on a simulated clock or the real one.
//! 2. `crowd` lets members of three tiers come, buy, wait, lose patience, pay or walk away, while `script`
//!    restocks in the middle and has one merchant delisted.
//! 3. `proof` closes the engine, and shows from its log alone that no order was served out of turn.
//!
//! `cargo run --release --example live_drop -- --help` tells the options.

mod args;
mod crowd;
mod page;
mod proof;
mod show;
mod stage;
#[cfg(test)]
mod tests;

#[path = "../shared"]
mod shared {
    pub(crate) mod chart;
    pub(crate) mod folder;
    pub(crate) mod html;
    pub(crate) mod machine;
    pub(crate) mod output;
    pub(crate) mod random;
    pub(crate) mod run_args;
    pub(crate) mod text;
}

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::crowd::Crowd;
use crate::proof::Findings;
use crate::shared::folder::RunFolder;
use crate::shared::output;
use crate::shared::text::{chain, say};
use crate::show::Show;
use crate::stage::{CLOSING_TICK, DELIST_TICK, LAST_TICK, RESTOCK_TICK, Stage, TICK_MS};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("live_drop: {}", chain(&*failure));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let folder = RunFolder::new("live-drop", args.run.dir.as_deref())?;
    say(&format!("seed {}; {folder}", args.seed));
    let (crowd, findings) = hold_drop(args, &folder)?;
    if args.run.json {
        say(&show::json(args, &crowd, &findings).to_string());
    }
    match findings.failures() {
        [] => Ok(()),
        failures => Err(format!("not proved: {}", failures.join("; ")).into()),
    }
}

/// The whole drop, from the first member that comes to the proof.
fn hold_drop(args: &Args, folder: &RunFolder) -> Result<(Crowd, Findings), Failure> {
    let mut stage = Stage::set(args, &folder.part("drop"))?;
    let mut crowd = Crowd::new(args);
    let mut show = Show::new(args);
    for tick in 0..=LAST_TICK {
        match tick {
            RESTOCK_TICK => show.note(&stage.restock()?),
            DELIST_TICK => show.note(&stage.delist()?),
            CLOSING_TICK => show.note("the sale has closed; what is held can still be paid"),
            _ => {}
        }
        crowd.act(&mut stage, tick)?;
        stage.pass(tick)?;
        if (tick * TICK_MS).is_multiple_of(1_000) {
            show.second(tick, &stage, &crowd);
        }
    }
    let findings = proof::prove(stage, &crowd, &folder.part("drop"))?;
    show.findings(&crowd, &findings);
    let file = output::file(folder, "report.html", "doorbuster-live-drop.html");
    page::write(&file, args, folder.path(), &show, (&crowd, &findings))?;
    say(&format!("Report: {}", file.display()));
    Ok((crowd, findings))
}
