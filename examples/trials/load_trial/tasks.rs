//! The callers of `async`: tokio tasks that each place an order and await it before the next.

use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use doorbuster::{Engine, PlaceError, Placed, Unavailable};

use crate::ledger::Page;
use crate::plan::Plan;
use crate::recorder::{Answered, Recorder};
use crate::shared::timer::Timer;

type Failure = Box<dyn Error + Send + Sync>;

/// How many answers a task gathers before it reports them.
const ANSWERS_PER_TELLING: u64 = 16;

/// What one task was answered. Tasks share no histogram: they keep what they measured.
struct Answer {
    request: u32,
    placed: Placed,
    place_ns: u64,
    commit_ns: u64,
}

/// What all tasks share.
struct Shared {
    engine: Engine,
    plan: Arc<Plan>,
    answered: Arc<Answered>,
    timer: Timer,
    end_ns: u64,
}

/// How the tasks send.
pub(crate) struct Shape {
    pub(crate) threads: u32,
    pub(crate) tasks: u32,
    /// Nothing is sent from then on.
    pub(crate) end_ns: u64,
}

/// Sends the requests from `tasks` tasks on a runtime of `threads` threads.
pub(crate) fn run(
    engine: &Engine,
    plan: &Arc<Plan>,
    answered: &Arc<Answered>,
    page: &mut Page<'_>,
    timer: Timer,
    shape: Shape,
) -> Result<Recorder, Failure> {
    let Shape { threads, tasks, end_ns } = shape;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads as usize).build()?;
    let requests = plan.measured();
    let shared = Arc::new(Shared {
        engine: engine.clone(),
        plan: plan.clone(),
        answered: answered.clone(),
        timer: timer.clone(),
        end_ns,
    });
    let tasks: Vec<_> = (0..tasks)
        .map(|task| plan.share(requests.clone(), task, tasks))
        .map(|share| runtime.spawn(buy(shared.clone(), share)))
        .collect();
    let mut recorder = Recorder::new()?;
    let mut all = Vec::with_capacity(tasks.len());
    runtime.block_on(async {
        for task in tasks {
            all.push(task.await);
        }
    });
    recorder.end_ns = timer.ns();
    for bought in all {
        let (answers, backlogged) = bought??;
        recorder.backlogged += backlogged;
        for answer in answers {
            page.enter(answer.request, &answer.placed);
            recorder.place_ns.saturating_record(answer.place_ns);
            recorder.commit_ns.saturating_record(answer.commit_ns);
        }
    }
    Ok(recorder)
}

/// One task: its answers, and how often it waited for room in the log.
async fn buy(shared: Arc<Shared>, requests: Range<u32>) -> Result<(Vec<Answer>, u64), Failure> {
    let Shared { engine, plan, answered, timer, end_ns } = &*shared;
    let mut answers = Vec::with_capacity(requests.len());
    let (mut untold, mut backlogged) = (0, 0);
    for request in requests {
        let order = plan.order(request);
        let from_ns = timer.ns();
        if from_ns >= *end_ns {
            break;
        }
        let commit = loop {
            match engine.place(&order) {
                Ok(commit) => break commit,
                Err(PlaceError::Unavailable(Unavailable::Backlogged { .. })) => {
                    backlogged += 1;
                    // An engine that will never have room again says why at the next try.
                    let _ = engine.ready().await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let place_ns = timer.ns_since(from_ns);
        let placed = commit.await?;
        let commit_ns = timer.ns_since(from_ns);
        answers.push(Answer { request, placed, place_ns, commit_ns });
        untold += 1;
        if untold == ANSWERS_PER_TELLING {
            answered.add(untold);
            untold = 0;
        }
    }
    answered.add(untold);
    Ok((answers, backlogged))
}
