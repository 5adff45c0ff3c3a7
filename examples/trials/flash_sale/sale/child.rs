//! The child process of a sale: it sells until SIGKILL ends it, and tells the parent through a pipe
//! what was acknowledged.
//!
//! The signal is raised by the calling thread that sells the drawn unit, the moment the engine has
//! decided and before the order can be durable. A kill from outside would come after a delay in
//! which a fast engine sells a good part of the stock. Nothing is flushed, dropped or joined
//! on the way out; the other threads are stopped wherever they are.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use doorbuster::{Adjust, Adjusted, Engine, Held, Placed, RequestKey};
use rustix::process::{Signal, getpid, kill_process};

use super::caller::{self, Answered, Listener};
use super::frame::{Frame, FrameWriter};
use super::plan::{Plan, SKU};
use crate::shared::patience::ask;

type Failure = Box<dyn Error + Send + Sync>;

/// What the parent asks for.
pub(crate) struct Child {
    pub(crate) folder: PathBuf,
    pub(crate) kill_at_unit: u64,
    pub(crate) seed: u64,
    pub(crate) requests: u32,
    pub(crate) buyers: u32,
    pub(crate) stock: u32,
    pub(crate) threads: usize,
}

/// Opens the engine, fills the stock and sells. Coming back is an error: the kill did not come.
pub(crate) fn run(child: &Child) -> Result<(), Failure> {
    let plan = Plan::new(child.seed, child.requests, child.buyers);
    let requests: Vec<u32> = (0..plan.requests()).collect();
    let engine = Engine::open(super::options(&child.folder, &plan, child.stock))?;
    let delivery = Adjust::set(child.stock).expect(0).key(RequestKey::from_text("delivery"));
    match ask(&engine, || engine.stock(SKU, delivery.clone()))?.wait()? {
        Adjusted::Done { replayed: false, .. } => {}
        other => return Err(format!("the delivery answered {other:?}").into()),
    }
    let units_sold = AtomicU64::new(0);
    let start = Instant::now();
    let sellers = (0..child.threads)
        .map(|_| {
            let pipe = io::stdout().as_fd().try_clone_to_owned()?;
            Ok(Seller {
                frames: FrameWriter::new(File::from(pipe)),
                units_sold: &units_sold,
                kill_at_unit: child.kill_at_unit,
                start,
            })
        })
        .collect::<io::Result<Vec<_>>>()?;
    caller::send_all(&engine, &plan, &requests, sellers)?;
    Err(format!("all was sold before unit {} came by", child.kill_at_unit).into())
}

struct Seller<'a> {
    frames: FrameWriter<File>,
    /// Units that the engine has given, durable or not. Shared by all threads, and only counted:
    /// relaxed, since exactly one thread sees the drawn number whatever the order.
    units_sold: &'a AtomicU64,
    kill_at_unit: u64,
    start: Instant,
}

impl Listener for Seller<'_> {
    fn decided(&mut self, placed: &Placed) {
        if let Placed::Held(Held { replayed: false, .. }) = placed
            && self.units_sold.fetch_add(1, Ordering::Relaxed) + 1 == self.kill_at_unit
        {
            die();
        }
    }

    fn answered(&mut self, answer: Answered) -> Result<(), Failure> {
        let Answered { request, placed, latency, seen } = answer;
        let held = match placed {
            Placed::Held(held) => Some(held),
            Placed::Refused(_) => None,
            other => return Err(format!("request {request} was answered {other:?}").into()),
        };
        let since_start = seen - self.start;
        Ok(self.frames.tell(&Frame { request, held, latency, since_start })?)
    }

    fn resting(&mut self) -> Result<(), Failure> {
        Ok(self.frames.flush()?)
    }
}

fn die() -> ! {
    let sent = kill_process(getpid(), Signal::KILL);
    // The signal is delivered before the call returns.
    unreachable!("SIGKILL had no effect: {sent:?}")
}
