//! The same work on others: units of one hot SKU are placed idempotently by (buyer, key), and every answer is
//! durable before its caller counts it.
//!
//! `cargo bench --bench peers`; one alone by its name, such as `-- redis`. Redis takes part where
//! `DOORBUSTER_REDIS_URL` is set (`redis://host:port`), PostgreSQL where `DOORBUSTER_PG_URL` is
//! (`postgres://user@host/database`). Both are left as they were found.
//!
//! Every run checks what it sold: see [`work`]. What is unfair about each comparison is in
//! `benches/README.md`.

mod engine;
mod one_file;
mod postgres;
mod redis;
#[path = "../shared/resp.rs"]
#[allow(dead_code, reason = "another bench uses the rest")]
mod resp;
mod work;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use doorbuster::Durability;

use crate::one_file::Promise;
use crate::work::Work;

/// Calling threads of what runs in this process.
const THREADS: u64 = 2;

/// Measures one kind of work; `sell` returns how long the selling took.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    work: Work,
    mut sell: impl FnMut(Work) -> Duration,
) {
    group.throughput(Throughput::Elements(work.requests()));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|runs| (0..runs).map(|_| sell(work)).sum());
    });
}

fn in_process(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("in process");
    group.sample_size(10);
    let work = Work { units: 1_000_000, callers: THREADS };
    measure(&mut group, "doorbuster, durable", work, |work| engine::sell(work, Durability::Synced));
    measure(&mut group, "doorbuster, written", work, |work| {
        engine::sell(work, Durability::Written)
    });
    measure(&mut group, "DashMap and one file, durable", work, |work| {
        one_file::sell(work, Promise::Synced)
    });
    measure(&mut group, "DashMap and one file, not durable", work, |work| {
        one_file::sell(work, Promise::None)
    });
    group.finish();
}

/// The URL of a server, if it is to take part.
fn server(variable: &str, name: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("{variable} is not set: {name} is left out");
    }
    url
}

fn redis(criterion: &mut Criterion) {
    let Some(url) = server("DOORBUSTER_REDIS_URL", "Redis") else { return };
    let mut group = criterion.benchmark_group("redis");
    group.sample_size(10);
    for (promise, durable) in [("durable", true), ("not durable", false)] {
        let server = redis::Server::set_up(&url, durable);
        println!("redis, {promise}: {}", server.settings());
        if durable && !server.is_durable() {
            println!("redis, {promise}: left out, the server does not sync before it answers");
            continue;
        }
        for pipeline in [16, 512] {
            let work = Work { units: 20_000, callers: 4 };
            let name = format!("one Lua script, {promise}, 4 connections, pipelines of {pipeline}");
            measure(&mut group, &name, work, |work| server.sell(work, pipeline));
        }
    }
    group.finish();
}

fn postgres(criterion: &mut Criterion) {
    let Some(url) = server("DOORBUSTER_PG_URL", "PostgreSQL") else { return };
    let mut group = criterion.benchmark_group("postgres");
    group.sample_size(10);
    for (promise, durable) in [("durable", true), ("not durable", false)] {
        let server = postgres::Server::set_up(&url, durable);
        println!("postgres, {promise}: {}", server.settings());
        if durable && !server.is_durable() {
            println!("postgres, {promise}: left out, the server does not sync before it answers");
            continue;
        }
        let (alone, together) = match durable {
            true => (1_000, 10_000),
            false => (5_000, 10_000),
        };
        let work = Work { units: alone, callers: 16 };
        let name = format!("one function, {promise}, 16 connections");
        measure(&mut group, &name, work, |work| server.sell(work, 1));
        let work = Work { units: together, callers: 4 };
        let name = format!("one function, {promise}, 4 connections, 64 orders a transaction");
        measure(&mut group, &name, work, |work| server.sell(work, 64));
    }
    group.finish();
}

criterion_group!(benches, in_process, redis, postgres);
criterion_main!(benches);
