//! Executors made by hand: a waker that counts, and a run queue on one thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// Counts how often it was called.
#[derive(Default)]
pub(crate) struct Bell(AtomicUsize);

impl Bell {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (bell.clone(), Waker::from(bell))
    }

    pub(crate) fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    job: Mutex<Option<Job>>,
    queue: Sender<Arc<Task>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let queue = self.queue.clone();
        // The executor may have gone. Then no task is left to run.
        let _ = queue.send(self);
    }
}

/// Runs the futures on the calling thread until all have ended.
pub(crate) fn run_all(futures: Vec<impl Future<Output = ()> + Send + 'static>) {
    let (queue, woken): (Sender<Arc<Task>>, Receiver<Arc<Task>>) = channel();
    let mut left = futures.len();
    for future in futures {
        let job = Mutex::new(Some(Box::pin(future) as Job));
        queue.send(Arc::new(Task { job, queue: queue.clone() })).expect("the queue is open");
    }
    while left > 0 {
        let task = woken.recv().expect("the queue is open");
        let waker = Waker::from(task.clone());
        let mut job = task.job.lock().expect("no job panicked");
        if let Some(future) = job.as_mut()
            && future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        {
            *job = None;
            left -= 1;
        }
    }
}
