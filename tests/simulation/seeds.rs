//! Which seeds are run, and how a failure is printed.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sim;
use crate::tally::Tally;

/// Seeds that found a bug of the engine, named after what broke. What a seed draws changes with the
/// simulation; each bug has a test of its own, too.
const REGRESSIONS: &[(&str, u64)] = &[
    ("a spare that a loss of power left at an odd length could not be lengthened", 2_919),
    ("a checkpoint that was found damaged was taken for one to fall back to", 2_779),
    (
        "an older checkpoint that said a little more took a boot's time back",
        9_754_849_518_415_774_678,
    ),
    (
        "a partial order that got nothing of a new SKU outlived the record that made it known",
        50_821,
    ),
    (
        "a limit was lifted, and after a crash nobody knew that its sale is counted",
        246_747_767_215_490_032,
    ),
    ("patience that was over under a halt ended when stock came back", 461),
    ("a watch told of an order that waits, whose patience was over under a halt", 233),
];

/// Always run.
const FIXED_SEEDS: std::ops::Range<u64> = 0..3_000;
/// So many more follow from the commit, so that every commit adds to what was tried.
const FRESH_SEEDS: u64 = 3_000;

/// The seeds that the environment asks for, and whence they come.
pub(crate) fn seeds_of_this_run() -> (Vec<u64>, String) {
    if let Some(seed) = number("SEED") {
        return (vec![seed], "SEED".into());
    }
    if let Some(seeds) = number("SEEDS") {
        let base = number("SEED_BASE").unwrap_or(0);
        return ((base..base + seeds).collect(), format!("SEEDS from {base} on"));
    }
    let mut seeds: Vec<u64> = REGRESSIONS.iter().map(|(_, seed)| *seed).collect();
    seeds.extend(FIXED_SEEDS);
    let whence = match commit() {
        Some(commit) => {
            // Far from the fixed ones, and from those of a soak.
            let base = u64::from_str_radix(&commit[..12], 16).unwrap_or(0) << 20;
            seeds.extend(base..base + FRESH_SEEDS);
            format!("{FIXED_SEEDS:?} and {FRESH_SEEDS} from {base} on, after commit {commit}")
        }
        None => format!("{FIXED_SEEDS:?}; no commit is known that fresh ones could follow from"),
    };
    (seeds, whence)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The hash of the commit that is checked out: told by the environment, or read from `.git`.
fn commit() -> Option<String> {
    let is_hash =
        |text: &String| text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Ok(told) = std::env::var("COMMIT") {
        return Some(told).filter(is_hash);
    }
    let git = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".git");
    let read = |path: &str| std::fs::read_to_string(git.join(path)).ok();
    let head = read("HEAD")?;
    let hash = match head.trim().strip_prefix("ref: ") {
        None => head.trim().to_owned(),
        Some(branch) => match read(branch) {
            Some(hash) => hash.trim().to_owned(),
            None => {
                let packed = read("packed-refs")?;
                let line = packed.lines().find(|line| line.ends_with(branch))?;
                line.split(' ').next()?.to_owned()
            }
        },
    };
    Some(hash).filter(is_hash)
}

/// After this many failures the rest is not run.
const FAILURES_MAX: usize = 20;

/// Runs seeds on all processors; panics if one fails, with the command that reruns it.
pub(crate) fn run_all(seeds: &[u64]) -> Tally {
    let (next, total) = (AtomicUsize::new(0), Tally::default());
    let failures = Mutex::new(Vec::new());
    let run_some = || {
        while locked(&failures).len() < FAILURES_MAX {
            let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            match judge(*seed) {
                Ok(tally) => total.add(&tally),
                Err(failure) => locked(&failures).push(failure),
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(run_some))));
    let failures = locked(&failures);
    if let Some(first) = failures.first() {
        let others: Vec<&str> =
            failures[1..].iter().filter_map(|told| told.lines().next()).collect();
        panic!("{first}\n{} more failed: {}", others.len(), others.join("\n"));
    }
    total
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one seed; a broken promise or a panic as words.
pub(crate) fn judge(seed: u64) -> Result<Tally, String> {
    let again = format!("SEED={seed} cargo test --release --test simulation");
    match std::panic::catch_unwind(AssertUnwindSafe(|| sim::run(seed))) {
        Ok(outcome) => match outcome.broken {
            None => Ok(outcome.tally),
            Some(broken) => {
                let story = outcome.story.join("\n  ");
                Err(format!("seed {seed}: {}\nafter:\n  {story}\nagain: {again}", broken.0))
            }
        },
        Err(_) => Err(format!("seed {seed}: it panicked\nagain: {again}")),
    }
}
