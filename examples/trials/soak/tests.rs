//! Small soaks, as a user runs them. Each proves itself: `run` reports every answer that was wrong.

use std::fs;

use clap::{CommandFactory, Parser};
use serde_json::Value;

use crate::args::Args;
use crate::report::Report;

fn args(arguments: &[&str]) -> Result<Args, String> {
    let args = ["soak"].into_iter().chain(arguments.iter().copied());
    let args = Args::try_parse_from(args).map_err(|error| error.to_string())?;
    match args.contradiction() {
        Some(words) => Err(words),
        None => Ok(args),
    }
}

/// A soak of orders that all retire while it runs, or after.
fn run(arguments: &[&str]) -> (Report, Value) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().to_str().expect("temporary folders have names of letters");
    let small =
        ["--rate", "20000", "--retention-ms", "100", "--checkpoint-mib", "1", "--window-ms", "50"];
    let arguments: Vec<_> = ["--dir", dir].iter().chain(&small).chain(arguments).copied().collect();
    let args = args(&arguments).expect("options that are valid");
    let (report, json) = crate::run(&args).expect("a soak that goes through");
    assert_eq!(report.findings.words, Vec::<String>::new());
    let file =
        |key: &str| fs::read_to_string(json[key].as_str().expect("a path")).expect("it is there");
    assert_eq!(file("csv").lines().count() as u64, json["windows"].as_u64().expect("a number") + 1);
    assert!(file("svg").contains("<svg") && file("report").contains("<svg"));
    (report, json)
}

#[test]
fn orders_go_all_their_way_and_nothing_is_lost_by_the_reopen() {
    let (report, json) = run(&["--orders", "30000", "--skus", "7", "--threads", "2"]);
    assert_eq!(json["orders"], 30_000);
    for breach in ["oversold", "lost", "duplicated", "checkpoints_failed"] {
        assert_eq!(json[breach], 0, "{breach}");
    }
    assert!(json["checkpoints"].as_u64() >= Some(1), "taken by itself, or at the end");
    let commits = report.watched.with_checkpoint_ns.len() + report.watched.without_ns.len();
    assert_eq!(commits, 3 * 30_000, "each commit is counted once");
    let in_rows: u64 = report.watched.rows.iter().map(|row| row.commits).sum();
    assert_eq!(in_rows, 3 * 30_000);
    assert_eq!(report.watched.rows.last().map(|row| row.orders), Some(30_000));
}

#[test]
fn the_help_lists_every_key_of_the_json_object() {
    let (_, json) = run(&["--orders", "500"]);
    let help = Args::command().render_long_help().to_string();
    for key in json.as_object().expect("an object").keys() {
        let listed = match key.strip_prefix("commit_us_") {
            Some(rest) => rest.split_once('_').is_some_and(|(name, beside)| {
                help.contains(&format!("_{beside}")) && help.contains(name)
            }),
            None => help.contains(key.as_str()),
        };
        assert!(listed, "--help does not list {key}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    for (arguments, named) in [
        (&["--orders", "0"][..], "--orders"),
        (&["--rate", "0"], "--rate"),
        (&["--rate", "10000000", "--seconds", "1000"], "--seconds 1000"),
        (
            &["--rate", "1000000", "--retention-ms", "600000", "--orders", "4000000000"],
            "--retention-ms 600000",
        ),
        (&["--rate", "1", "--orders", "4000000", "--window-ms", "10"], "--window-ms 10"),
    ] {
        let words = args(arguments).expect_err("it is refused");
        assert!(words.contains(named), "{words}");
    }
}

/// A proof that finds nothing in a broken engine is worth nothing: here the ledger says what never was.
#[test]
fn the_proof_finds_units_that_were_told_and_are_not_sold() {
    let (report, _) = run(&["--orders", "100", "--skus", "1"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = doorbuster::Options::new(folder.path()).segment_bytes(1 << 20);
    let engine = doorbuster::Engine::open(options).expect("an empty folder opens");
    let args = args(&["--orders", "100", "--skus", "1"]).expect("valid");
    let plan = crate::plan::Plan::new(&args);
    for (sku, units) in plan.stock() {
        let add = doorbuster::Adjust::add(units).key(doorbuster::RequestKey::new(1));
        let _ = engine.stock(sku, add).expect("valid").wait().expect("durable");
    }
    let mut findings = crate::shared::findings::Findings::default();
    let ledger = &report.watched.ledger;
    crate::proof::compare_levels(&engine, &plan, ledger, &mut findings).expect("it looks");
    assert_eq!((findings.lost, findings.oversold), (100, 0), "{:?}", findings.words);
    let mut findings = crate::shared::findings::Findings::default();
    let looked = crate::proof::look_up_and_retry(&args, &engine, &plan, ledger, 0, &mut findings);
    looked.expect("it looks");
    assert_eq!(findings.lost, 101, "one is also among the old: {:?}", findings.words);
    engine.close().expect("closed");
}
