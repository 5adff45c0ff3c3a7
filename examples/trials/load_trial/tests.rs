//! Small trials of every scenario, as a user runs them. Each proves itself: `run` reports every answer that
//! was wrong.

use std::fs;
use std::path::PathBuf;

use clap::{CommandFactory, Parser, ValueEnum};
use doorbuster::{Engine, OrderId, Placed};
use serde_json::Value;

use crate::args::{Args, Scenario};
use crate::ledger::{Answer, Ledger};
use crate::plan::Plan;
use crate::proof;
use crate::report::Report;
use crate::shared::findings::Findings;

/// A run in a temporary folder.
fn run(arguments: &[&str]) -> (Report, Value, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().to_str().expect("temporary folders have names of letters");
    let args = ["load_trial", "--dir", dir].into_iter().chain(arguments.iter().copied());
    let args = Args::try_parse_from(args).expect("options that are valid");
    assert_eq!(args.contradiction(), None);
    let (report, json) = crate::run(&args).expect("a trial that goes through");
    assert_eq!(report.failures(), Vec::<&str>::new());
    let html = PathBuf::from(json["report"].as_str().expect("a path"));
    let html = fs::read_to_string(html).expect("the report is there");
    (report, json, html)
}

/// Runs a scenario; returns its requests by answer: held, refused, replayed.
fn tally(scenario: &str) -> (u64, u64, u64) {
    let arguments = ["--scenario", scenario, "--orders", "4000", "--threads", "3", "--skus", "50"];
    let (_, json, html) = run(&arguments);
    assert_eq!(json["scenario"], scenario);
    assert_eq!(json["orders"], 4000);
    for breach in ["oversold", "lost", "duplicated"] {
        assert_eq!(json[breach], 0, "{breach}");
    }
    assert!(html.matches("<svg").count() >= 2, "throughput and latencies at least");
    let count = |key: &str| json[key].as_u64().expect("a number");
    (count("held"), count("refused"), count("replayed"))
}

#[test]
fn scenarios_without_retries_hold_every_order() {
    for scenario in ["hot", "zipf", "carts", "lifecycle", "batch"] {
        assert_eq!(tally(scenario), (4000, 0, 0), "{scenario}");
    }
}

#[test]
fn callers_that_wait_for_each_order_hold_every_one() {
    for scenario in ["async", "blocking"] {
        assert_eq!(tally(scenario), (4000, 0, 0), "{scenario}");
    }
}

#[test]
fn one_request_in_five_is_a_retry_and_hears_its_first_order() {
    let (held, refused, replayed) = tally("retries");
    assert_eq!((held + replayed, refused), (4000, 0));
    assert!((600..1000).contains(&replayed), "{replayed} of 4,000");
    let (held, refused, replayed) = tally("soldout");
    assert_eq!((held, refused + replayed), (0, 4000));
    assert!((600..1000).contains(&replayed), "{replayed} of 4,000");
}

#[test]
fn a_sweep_offers_each_rate_and_shows_the_latencies() {
    let (report, json, html) = run(&["--orders", "2000", "--seconds", "1", "--sweep", "500,1000"]);
    let rates: Vec<_> = report.sweep.iter().map(|point| point.rate).collect();
    assert_eq!(rates, [500, 1000]);
    for (point, rate) in report.sweep.iter().zip([500, 1000]) {
        assert_eq!(point.trial.tally.held, rate, "one second's worth");
        assert_eq!(point.trial.load.recorder.commit_ns.len(), rate);
    }
    assert_eq!(json["sweep"].as_array().expect("a list").len(), 2);
    assert!(html.contains("requests offered a second"));
}

#[test]
fn the_table_has_every_figure_and_a_plot() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().to_str().expect("temporary folders have names of letters");
    let arguments = ["load_trial", "--table", "1", "--orders", "2000", "--dir", dir];
    let args = Args::try_parse_from(arguments).expect("options that are valid");
    crate::table::run(&args, 1).expect("a table");
    let report = folder.path().join("run-1/report");
    let table = fs::read_to_string(report.with_extension("md")).expect("the table is there");
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).collect();
    assert_eq!(rows.len(), 25, "{table}");
    assert!(!table.contains("NaN") && table.contains("commit:"), "{table}");
    let plot = fs::read_to_string(report.with_extension("svg")).expect("the plot is there");
    assert_eq!(plot.matches("<rect").count(), 13);
}

#[test]
fn the_help_lists_every_key_of_the_json_object() {
    let (_, json, _) = run(&["--orders", "500"]);
    let help = Args::command().render_long_help().to_string();
    for key in json.as_object().expect("an object").keys() {
        assert!(help.contains(key.as_str()), "--help does not list {key}");
    }
    for percentile in ["p50", "p99", "p999", "p9999", "max"] {
        assert!(json["place_ns"][percentile].is_number(), "place_ns.{percentile}");
        assert!(json["commit_us"][percentile].is_number(), "commit_us.{percentile}");
    }
}

#[test]
fn the_same_seed_draws_the_same_requests_and_another_seed_others() {
    for scenario in Scenario::value_variants() {
        let name = scenario.to_string();
        let plan = |seed| {
            let arguments = ["load_trial", "--orders", "1000", "--seed", seed, "--scenario", &name];
            Plan::new(&Args::try_parse_from(arguments).expect("valid"))
        };
        let draw = |plan: &Plan| -> Vec<String> {
            (0..plan.requests()).map(|request| format!("{:?}", plan.order(request))).collect()
        };
        assert_eq!(draw(&plan("7")), draw(&plan("7")), "{name}");
        assert_ne!(draw(&plan("7")), draw(&plan("8")), "{name}");
    }
}

/// A proof that finds nothing in a broken engine is worth nothing: here the answers are falsified.
#[test]
fn the_proof_finds_an_order_that_is_gone_and_one_that_nobody_was_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments = ["load_trial", "--orders", "3", "--threads", "1"];
    let plan = Plan::new(&Args::try_parse_from(arguments).expect("valid"));
    let options = doorbuster::Options::new(folder.path()).segment_bytes(1 << 20);
    let engine = Engine::open(options).expect("an empty folder opens");
    let add = doorbuster::Adjust::add(3).key(doorbuster::RequestKey::new(1));
    let _ = engine.stock(Plan::sku(0), add).expect("valid").wait().expect("durable");
    let place = |request| engine.place(plan.order(request)).expect("open").wait().expect("durable");
    let mut ledger = Ledger::new(3);
    let mut enter = |request, placed: &Placed| {
        ledger.pages(&[plan.measured()])[0].enter(request, placed);
    };
    enter(0, &place(0));
    // Made, but its caller was never told.
    let _ = place(1);
    // Told, but never made.
    let invented = doorbuster::Held {
        order: OrderId::from_u64(u64::MAX),
        deadline_ms: 0,
        replayed: false,
        state: doorbuster::OrderState::Held,
    };
    enter(2, &Placed::Held(invented));
    assert_eq!(ledger.answer(1), Answer::None);

    let mut findings = Findings::default();
    proof::look_up_and_retry(&engine, &plan, &ledger, &mut findings).expect("it goes through");
    // The invented one is gone; its retry makes an order of its own, as a lost one's would.
    assert_eq!(findings.lost, 1, "{:?}", findings.words);
    assert_eq!(findings.duplicated, 2, "{:?}", findings.words);
    let mut findings = Findings::default();
    proof::compare_levels(&engine, &plan, &[2], &ledger, &mut findings).expect("it goes through");
    assert_eq!(findings.oversold, 1, "{:?}", findings.words);
    engine.close().expect("closed");
}
