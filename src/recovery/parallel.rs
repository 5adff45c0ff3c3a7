//! Work on many things by a few threads. Where the system refuses a thread, its caller does the work.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use crate::sync::{AtomicUsize, Mutex, Ordering};

/// Starts a thread in the scope. `None`: the system refused one, and `work` is gone.
pub(super) fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    Builder::new().name("dbr-recovery".into()).spawn_scoped(scope, work).ok()
}

/// What the thread returned; its panic goes on in the caller.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Does both, side by side unless there is one thread; then in this order.
pub(super) fn both<A: Send, B>(
    threads: usize,
    beside: impl Fn() -> A + Sync,
    here: impl FnOnce() -> B,
) -> (A, B) {
    if threads <= 1 {
        return (beside(), here());
    }
    std::thread::scope(|scope| match start(scope, &beside) {
        Some(thread) => {
            let here = here();
            (join(thread), here)
        }
        None => (beside(), here()),
    })
}

/// Does `work` on `threads` threads at once.
pub(super) fn on_threads(threads: usize, work: impl Fn() + Sync) {
    if threads <= 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map_while(|_| start(scope, &work)).collect();
        if started.len() < threads {
            work();
        }
        started.into_iter().for_each(join);
    });
}

/// Does `work` on every item, on `threads` threads; each takes the next item when it is done with one.
pub(super) fn on_each<T: Send>(threads: usize, items: &mut [T], work: impl Fn(&mut T) + Sync) {
    if threads <= 1 {
        return items.iter_mut().for_each(work);
    }
    let next = AtomicUsize::new(0);
    let items: Vec<_> = items.iter_mut().map(|item| Mutex::new(Some(item))).collect();
    let take = || {
        let item = items.get(next.fetch_add(1, Ordering::Relaxed))?;
        item.lock().take()
    };
    on_threads(threads, || std::iter::from_fn(take).for_each(&work));
}
