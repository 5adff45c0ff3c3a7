//! Work on many things by a few threads.

use crate::sync::{AtomicUsize, Mutex, Ordering};

/// Does both, side by side unless there is one thread; then in this order.
pub(super) fn both<A: Send, B>(
    threads: usize,
    beside: impl FnOnce() -> A + Send,
    here: impl FnOnce() -> B,
) -> (A, B) {
    if threads <= 1 {
        return (beside(), here());
    }
    std::thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let here = here();
        (beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), here)
    })
}

/// Does `work` on every item, by so many threads; each takes the next item when it is done with one.
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
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| std::iter::from_fn(take).for_each(&work));
        }
    });
}
