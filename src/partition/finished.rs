//! Finished orders, in the order in which they finished: the order in which they leave memory.
//!
//! Orders that are kept equally long leave in the order in which they finished, so a FIFO queue is enough; no timer
//! wheel is needed. Nothing is looked up to remove an order from it: an order that changed again (confirmed and
//! finished, then fulfilled) is in it twice. So the caller that takes an entry checks whether the order is really
//! due.

use std::collections::VecDeque;

use crate::bounds::Keep;
use crate::order::OrderState;

/// Bytes an entry, rounded up.
pub(super) const ENTRY_BYTES: usize = size_of::<Chunk>().div_ceil(CHUNK_ENTRIES);
/// Entries to a chunk of 1 KiB.
const CHUNK_ENTRIES: usize = 126;

impl Keep {
    /// How long an order in this state is kept; `None`: it is not finished.
    pub(crate) fn of(&self, state: OrderState) -> Option<u64> {
        match state {
            OrderState::Waiting | OrderState::Held => None,
            OrderState::Confirmed => self.finish_on_confirm.then_some(self.retention_ms),
            OrderState::Fulfilled => Some(self.returns_window_ms),
            OrderState::Cancelled | OrderState::Expired => Some(self.retention_ms),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Finished {
    keep: Keep,
    fulfilled: Queue,
    others: Queue,
}

impl Finished {
    pub(crate) fn new(keep: Keep) -> Self {
        Self { keep, fulfilled: Queue::default(), others: Queue::default() }
    }

    pub(crate) fn keep(&self) -> Keep {
        self.keep
    }

    /// Notes that an order came into a state. Returns when the order leaves memory, if it is finished.
    pub(crate) fn note(&mut self, state: OrderState, now_ms: u64, handle: u32) -> Option<u64> {
        let keep_ms = self.keep.of(state)?;
        let queue = match state {
            OrderState::Fulfilled => &mut self.fulfilled,
            _ => &mut self.others,
        };
        queue.push(now_ms, handle);
        Some(now_ms + keep_ms)
    }

    /// No order is due before this time; `u64::MAX` when none is finished.
    pub(crate) fn next_due_ms(&self) -> u64 {
        let due = |queue: &Queue, keep_ms| queue.first().map(|(at_ms, _)| at_ms + keep_ms);
        let fulfilled = due(&self.fulfilled, self.keep.returns_window_ms);
        let others = due(&self.others, self.keep.retention_ms);
        fulfilled.into_iter().chain(others).min().unwrap_or(u64::MAX)
    }

    /// The entry that is due first, if it is due.
    pub(crate) fn first_due(&self, now_ms: u64) -> Option<u32> {
        self.due_queue(now_ms)
            .and_then(|(fulfilled, _)| self.queue(fulfilled).first())
            .map(|it| it.1)
    }

    /// Takes that entry.
    pub(crate) fn pop_due(&mut self, now_ms: u64) {
        match self.due_queue(now_ms) {
            Some((true, _)) => self.fulfilled.pop(),
            Some((false, _)) => self.others.pop(),
            None => {}
        }
    }

    /// Takes entries from the front as long as they are gone.
    pub(crate) fn forget_front(&mut self, is_gone: impl Fn(u32) -> bool) {
        for queue in [&mut self.fulfilled, &mut self.others] {
            while queue.first().is_some_and(|(_, handle)| is_gone(handle)) {
                queue.pop();
            }
        }
    }

    #[cfg(test)]
    /// Entries, those of orders that went on included.
    pub(crate) fn len(&self) -> usize {
        self.fulfilled.len + self.others.len
    }

    fn queue(&self, fulfilled: bool) -> &Queue {
        if fulfilled { &self.fulfilled } else { &self.others }
    }

    /// Whether the queue of the fulfilled is the one whose first entry is due first.
    fn due_queue(&self, now_ms: u64) -> Option<(bool, u64)> {
        let keep = &self.keep;
        let due = |fulfilled, keep_ms| {
            let (at_ms, _) = self.queue(fulfilled).first()?;
            Some((fulfilled, at_ms + keep_ms)).filter(|(_, due_ms)| *due_ms <= now_ms)
        };
        let both = [due(false, keep.retention_ms), due(true, keep.returns_window_ms)];
        both.into_iter().flatten().min_by_key(|(_, due_ms)| *due_ms)
    }
}

/// Times and handles, in ascending order of time, in chunks so that no push pays for many others.
#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Box<Chunk>>,
    /// Entries taken from the first chunk.
    taken: usize,
    len: usize,
    /// A drained chunk, so that a steady rate asks for no memory.
    spare: Option<Box<Chunk>>,
}

#[derive(Debug)]
struct Chunk {
    /// What the times of the entries count from.
    base_ms: u64,
    len: u32,
    entries: [(u32, u32); CHUNK_ENTRIES],
}

const _: () = assert!(size_of::<Chunk>() == 1024);

impl Queue {
    /// An earlier time than the last one is taken for that: an entry may come late, never early.
    fn push(&mut self, now_ms: u64, handle: u32) {
        self.len += 1;
        if let Some(chunk) = self.chunks.back_mut()
            && (chunk.len as usize) < CHUNK_ENTRIES
        {
            let last = chunk.entries[chunk.len as usize - 1].0;
            if let Ok(offset) = u32::try_from(now_ms.saturating_sub(chunk.base_ms)) {
                chunk.entries[chunk.len as usize] = (offset.max(last), handle);
                chunk.len += 1;
                return;
            }
        }
        let last_ms = self.chunks.back().map_or(0, |chunk| chunk.time(chunk.len as usize - 1));
        let mut chunk = self.spare.take().unwrap_or_else(|| Box::new(Chunk::EMPTY));
        (chunk.base_ms, chunk.len, chunk.entries[0]) = (now_ms.max(last_ms), 1, (0, handle));
        self.chunks.push_back(chunk);
    }

    fn first(&self) -> Option<(u64, u32)> {
        let chunk = self.chunks.front()?;
        Some((chunk.time(self.taken), chunk.entries[self.taken].1))
    }

    fn pop(&mut self) {
        let Some(chunk) = self.chunks.front() else { return };
        self.len -= 1;
        self.taken += 1;
        if self.taken == chunk.len as usize {
            self.spare = self.chunks.pop_front();
            self.taken = 0;
        }
    }
}

impl Chunk {
    const EMPTY: Self = Self { base_ms: 0, len: 0, entries: [(0, 0); CHUNK_ENTRIES] };

    fn time(&self, nth: usize) -> u64 {
        self.base_ms + u64::from(self.entries[nth].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { retention_ms: 100, returns_window_ms: 300, finish_on_confirm: false };

    #[test]
    fn orders_leave_in_the_order_in_which_they_are_due() {
        let mut finished = Finished::new(KEEP);
        assert_eq!(finished.note(OrderState::Held, 0, 0), None);
        assert_eq!(finished.note(OrderState::Confirmed, 0, 0), None);
        assert_eq!(finished.note(OrderState::Fulfilled, 1000, 1), Some(1300));
        assert_eq!(finished.note(OrderState::Cancelled, 1150, 2), Some(1250));
        assert_eq!(finished.note(OrderState::Expired, 1250, 3), Some(1350));
        for (due_ms, handle) in [(1250, 2), (1300, 1), (1350, 3)] {
            assert_eq!(finished.next_due_ms(), due_ms);
            assert_eq!(finished.first_due(due_ms - 1), None);
            assert_eq!(finished.first_due(due_ms), Some(handle));
            finished.pop_due(due_ms);
        }
        assert_eq!((finished.next_due_ms(), finished.len()), (u64::MAX, 0));
    }

    #[test]
    fn a_queue_keeps_times_and_handles_across_chunks_and_long_pauses() {
        let mut queue = Queue::default();
        let at = |nth: u64| nth * 7 + (nth / 500) * (1 << 33);
        let mut next = 0;
        for nth in 0..5_000_u64 {
            queue.push(at(nth), nth as u32);
            if nth % 3 == 0 {
                assert_eq!(queue.first(), Some((at(next), next as u32)));
                queue.pop();
                next += 1;
            }
        }
        while let Some(first) = queue.first() {
            assert_eq!(first, (at(next), next as u32));
            queue.pop();
            next += 1;
        }
        assert_eq!((next, queue.len), (5_000, 0));
    }
}
