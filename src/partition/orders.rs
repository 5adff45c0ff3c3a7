//! The orders of a partition.
//!
//! Orders lie in pages, in the order of their sequence numbers: a new order goes where the last one
//! went, into memory that is warm, and its id leads to it without a hash table of orders. A page
//! comes whole and no larger table ever grows, so placing never pays for more than one page.
//!
//! Invariants:
//! - A *handle* is the index of a page and a place in it. It names one order as long as that is in
//!   memory.
//! - A page holds the sequences of one multiple of [`PAGE_ORDERS`]; sequences that were never used,
//!   or not in this life of the engine, are vacant places. Orders that outlive most of their page
//!   are in pages of their own, see [`kept`].
//! - An emptied page frees its memory at once, and its index once no timer has a handle of it: so a timer that fires
//!   finds its own order or none.

mod kept;

use std::collections::HashMap;

use crate::ids::{BuyerId, OrderId, RequestKey};
use crate::order::OrderState;
use crate::partition::slot::{NewOrder, Slot};
use crate::prefetch;
use kept::Kept;
pub(crate) use kept::SPARSE_ORDERS;

/// A model checker gets small pages.
const PAGE_BITS: u32 = if cfg!(loom) { 3 } else { 10 };
/// Orders to a page.
pub(crate) const PAGE_ORDERS: usize = 1 << PAGE_BITS;
/// Emptied pages kept for the orders to come, beside those set aside at open: 640 KiB.
const PAGES_KEPT: usize = 8;
/// How many pages behind one are looked for by their numbers before all pages are gone through.
const PAGES_NEAR: u64 = 16;
/// The page that fills, and those kept.
pub(super) const FIXED_BYTES: usize = (1 + PAGES_KEPT) * PAGE_ORDERS * size_of::<Slot>();
/// Fewer timers of orders that are not held any more are left where they are.
const STALE_TIMERS_MIN: usize = 4096;

#[derive(Debug, Default)]
struct Page {
    first_sequence: u64,
    slots: Vec<Slot>,
    /// Places of `slots` without an order.
    vacant: u16,
    /// Places of orders that are gone and whose timer is still to fire.
    timed: u16,
    /// Its orders outlived their pages: see [`kept`].
    is_kept: bool,
    /// Noted as one of which few orders are left.
    is_sparse: bool,
}

/// What an insert writes comes first and close together: it moves between the callers' processors
/// with every order.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct OrderTable {
    next_sequence: u64,
    len: u64,
    /// The page that new orders go to; its place in `pages` is empty.
    newest: Page,
    newest_index: u32,
    partition: u32,
    pages: Vec<Page>,
    /// Index of a page by `sequence / PAGE_ORDERS`.
    by_number: HashMap<u64, u32, ahash::RandomState>,
    /// Timers that have the handle of an order that is not held any more.
    stale_timers: usize,
    rare: Box<Rare>,
}

/// What neither an insert nor a look needs.
#[derive(Debug, Default)]
struct Rare {
    /// Places in `pages` that can be used again.
    free_indices: Vec<u32>,
    /// Pages whose memory has been touched.
    set_aside: Vec<Vec<Slot>>,
    /// How many emptied pages are kept for reuse.
    set_aside_max: usize,
    /// Sequences below `next_sequence` that were never given, or to orders that a crash erased:
    /// first and end, in ascending order. Each open adds one at most.
    gaps: Vec<(u64, u64)>,
    kept: Kept,
}

/// At most what it took without retirement: an insert touches no more lines.
const _: () = assert!(size_of::<OrderTable>() <= 168);

/// No page has this index.
const NO_PAGE: u32 = u32::MAX;

impl OrderTable {
    pub(crate) fn new(partition: usize, first_sequence: u64) -> Self {
        let mut table = Self {
            next_sequence: 0,
            len: 0,
            newest: Page::default(),
            newest_index: NO_PAGE,
            partition: partition as u32,
            pages: Vec::new(),
            by_number: HashMap::default(),
            stale_timers: 0,
            rare: Box::new(Rare { set_aside_max: PAGES_KEPT, ..Rare::default() }),
        };
        table.skip_to(first_sequence);
        table
    }

    /// Takes memory for `orders` orders and touches it.
    pub(crate) fn set_aside(&mut self, orders: usize) {
        let pages = orders.div_ceil(PAGE_ORDERS);
        self.pages.reserve(pages);
        self.by_number.reserve(pages);
        self.rare.set_aside_max = pages + PAGES_KEPT;
        self.rare.set_aside.resize_with(pages, || {
            let mut slots = Vec::with_capacity(PAGE_ORDERS);
            slots.resize_with(PAGE_ORDERS, Slot::vacant);
            slots.clear();
            slots
        });
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What the pages take, those set aside included.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let pages = self.pages.iter().chain([&self.newest]).map(|page| &page.slots);
        let slots: usize = pages.chain(&self.rare.set_aside).map(Vec::capacity).sum();
        (slots * size_of::<Slot>()) as u64
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Sequences below this one are never given again (rule R3).
    pub(crate) fn skip_to(&mut self, sequence: u64) {
        let next = self.next_sequence;
        if sequence <= next {
            return;
        }
        match self.rare.gaps.last_mut().filter(|(_, end)| *end == next) {
            Some((_, end)) => *end = sequence,
            None => self.rare.gaps.push((next, sequence)),
        }
        self.next_sequence = sequence;
    }

    /// Sequences below this one were given, as far as [`OrderTable::note_gap`] does not say otherwise.
    pub(crate) fn restore_to(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence);
    }

    pub(crate) fn gaps(&self) -> &[(u64, u64)] {
        &self.rare.gaps
    }

    /// Sequences that were never given; ascending from call to call.
    pub(crate) fn note_gap(&mut self, first: u64, end: u64) {
        self.rare.gaps.push((first, end));
    }

    /// Whether an order got this sequence, whatever became of it since.
    pub(crate) fn was_given(&self, sequence: u64) -> bool {
        let after = self.rare.gaps.partition_point(|(first, _)| *first <= sequence);
        let in_gap = after.checked_sub(1).is_some_and(|gap| sequence < self.rare.gaps[gap].1);
        sequence < self.next_sequence && !in_gap
    }

    /// The sequences that orders got: first and end, ascending.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn given(&self) -> Vec<(u64, u64)> {
        let ends = self.rare.gaps.iter().map(|gap| gap.0).chain([self.next_sequence]);
        let firsts = [0].into_iter().chain(self.rare.gaps.iter().map(|gap| gap.1));
        firsts.zip(ends).filter(|(first, end)| first < end).collect()
    }

    /// The handle that the next order gets, its place made; `None` when there are no more handles.
    pub(crate) fn reserve(&mut self) -> Option<u32> {
        self.turn_to_page()?;
        Some(handle(self.newest_index, self.next_sequence))
    }

    /// The id that the next order gets.
    pub(crate) fn next_id(&self) -> OrderId {
        OrderId::from_parts(self.partition as usize, self.next_sequence)
    }

    /// Puts an order at the reserved handle; its record has this LSN.
    #[inline(always)]
    pub(crate) fn insert(&mut self, order: NewOrder, lsn: u64) -> Option<u32> {
        let sequence = self.next_sequence;
        self.turn_to_page()?;
        let page = &mut self.newest;
        let place = place(sequence);
        // Only after a start of the sequence within a page are there places to skip.
        while page.slots.len() < place {
            page.slots.push(Slot::vacant());
            page.vacant += 1;
        }
        page.slots.push(Slot::new(order, lsn));
        // The next order's place is memory that no thread has touched for long.
        if let Some(next) = page.slots.spare_capacity_mut().first() {
            prefetch::lines_for_write(next, 2);
        }
        self.next_sequence += 1;
        self.len += 1;
        Some(handle(self.newest_index, sequence))
    }

    /// Takes the order at a handle out of memory.
    pub(crate) fn remove(&mut self, handle: u32) -> Option<Slot> {
        let slot = self.take(handle)?;
        self.len -= 1;
        self.note_if_sparse(handle >> PAGE_BITS);
        Some(slot)
    }

    /// Takes an order out of its place, which is used again once no timer has its handle.
    fn take(&mut self, handle: u32) -> Option<Slot> {
        let kept_sequence = self.rare.kept.sequence(handle);
        let slot = std::mem::replace(self.get_mut(handle)?, Slot::vacant());
        let (index, timed) = (handle >> PAGE_BITS, slot.is_timed());
        self.stale_timers += usize::from(timed && slot.state().has_deadline());
        if let Some(sequence) = kept_sequence {
            self.rare.kept.by_sequence.remove(&sequence);
            if !timed {
                self.rare.kept.free(handle);
            }
            return Some(slot);
        }
        if let Some(page) = self.page_mut(index) {
            page.vacant += 1;
            page.timed += u16::from(timed);
        }
        self.release_if_empty(index);
        Some(slot)
    }

    /// Whether most of `timers` timers have handles of orders that are not held any more.
    pub(crate) fn has_stale_timers(&self, timers: usize) -> bool {
        self.stale_timers >= STALE_TIMERS_MIN && 2 * self.stale_timers > timers
    }

    /// The order at a handle came into another state.
    pub(crate) fn change(&mut self, handle: u32, state: OrderState, lsn: u64, now_ms: u64) {
        let Some(slot) = self.get_mut(handle) else { return };
        let had_deadline = slot.state().has_deadline();
        slot.change(state, lsn, now_ms);
        let is_stale = had_deadline && slot.is_timed();
        self.stale_timers += usize::from(is_stale);
    }

    /// An order that waited is held from now on, until then.
    pub(crate) fn hold(&mut self, handle: u32, deadline_ms: u64, lsn: u64) {
        if let Some(slot) = self.get_mut(handle) {
            slot.hold(deadline_ms, lsn);
        }
    }

    /// When the timer that has this handle must fire; `None` if it is not needed any more, and then it must go.
    pub(crate) fn timer_deadline(&mut self, handle: u32) -> Option<u64> {
        match self.get(handle) {
            Some(slot) if slot.state().has_deadline() => Some(slot.deadline_ms()),
            _ => {
                self.timer_gone(handle);
                None
            }
        }
    }

    /// A timer has this handle, which is of an order with a deadline.
    pub(crate) fn set_timed(&mut self, handle: u32) {
        if let Some(slot) = self.get_mut(handle) {
            slot.set_timed();
        }
    }

    /// No timer has this handle any more, which was not of an order with a deadline.
    pub(crate) fn timer_gone(&mut self, handle: u32) {
        self.stale_timers = self.stale_timers.saturating_sub(1);
        if let Some(slot) = self.get_mut(handle) {
            return slot.clear_timed();
        }
        if self.rare.kept.sequence(handle).is_some() {
            return self.rare.kept.free(handle);
        }
        let index = handle >> PAGE_BITS;
        if let Some(page) = self.page_mut(index) {
            debug_assert!(page.timed > 0, "a timer has a handle of an order that was");
            page.timed -= 1;
            self.free_if_unused(index);
        }
    }

    /// Frees the memory of a page without orders, unless it is the one that fills.
    fn release_if_empty(&mut self, index: u32) {
        let page = &mut self.pages[index as usize];
        let is_empty = page.slots.len() == page.vacant as usize && page.slots.capacity() > 0;
        if index == self.newest_index || !is_empty {
            return;
        }
        self.by_number.remove(&(page.first_sequence >> PAGE_BITS));
        let mut slots = std::mem::take(&mut page.slots);
        (page.vacant, page.is_sparse) = (0, false);
        slots.clear();
        if self.rare.set_aside.len() < self.rare.set_aside_max {
            self.rare.set_aside.push(slots);
        }
        self.free_if_unused(index);
    }

    /// Lets the index of a page be used again once neither an order nor a timer has it.
    fn free_if_unused(&mut self, index: u32) {
        let page = &self.pages[index as usize];
        if index != self.newest_index && page.slots.capacity() == 0 && page.timed == 0 {
            self.rare.free_indices.push(index);
        }
    }

    /// No order in memory has a lower sequence.
    pub(crate) fn oldest_sequence(&self) -> u64 {
        let page = self.by_number.keys().min().map(|number| number << PAGE_BITS);
        let kept = self.rare.kept.by_sequence.keys().next().copied();
        page.into_iter().chain(kept).min().unwrap_or(self.next_sequence)
    }

    /// The handle of an order by its sequence number.
    pub(crate) fn find(&self, sequence: u64) -> Option<u32> {
        let page = self.by_number.get(&(sequence >> PAGE_BITS));
        let in_page = page.map(|page| handle(*page, sequence));
        let found = in_page.filter(|handle| self.get(*handle).is_some());
        found.or_else(|| self.rare.kept.by_sequence.get(&sequence).copied())
    }

    /// The order at a handle; `None` when its place is vacant or not filled yet.
    pub(crate) fn get(&self, handle: u32) -> Option<&Slot> {
        let page = self.page(handle >> PAGE_BITS)?;
        page.slots.get(place(u64::from(handle))).filter(|slot| !slot.is_vacant())
    }

    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut Slot> {
        let page = self.page_mut(handle >> PAGE_BITS)?;
        page.slots.get_mut(place(u64::from(handle))).filter(|slot| !slot.is_vacant())
    }

    /// Has an order loaded that will be changed.
    pub(crate) fn prefetch(&self, sequence: u64) {
        let index = self.by_number.get(&(sequence >> PAGE_BITS));
        let page = index.and_then(|index| self.page(*index));
        if let Some(slot) = page.and_then(|page| page.slots.get(place(sequence))) {
            prefetch::lines_for_write(slot, 2);
        }
    }

    /// Whether the order at a handle was made by this key of this buyer.
    pub(crate) fn is_of(&self, handle: u32, buyer: BuyerId, key: RequestKey) -> bool {
        self.get(handle).is_some_and(|slot| slot.is_of(buyer, key))
    }

    /// The sequence of the order at a handle.
    pub(crate) fn sequence(&self, handle: u32) -> u64 {
        match self.page(handle >> PAGE_BITS) {
            Some(page) if !page.is_kept => page.first_sequence + place(handle.into()) as u64,
            _ => self.rare.kept.sequence(handle).unwrap_or(0),
        }
    }

    /// The id of the order at a handle.
    pub(crate) fn id(&self, handle: u32) -> OrderId {
        OrderId::from_parts(self.partition as usize, self.sequence(handle))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let pages =
            (0..self.pages.len() as u32).filter_map(|index| Some((index, self.page(index)?)));
        pages.flat_map(|(index, page)| {
            let slots = (0_u64..).zip(&page.slots).filter(|(_, slot)| !slot.is_vacant());
            slots.map(move |(place, slot)| (handle(index, place), slot))
        })
    }

    /// The numbers of the pages with sequences below `end`, ascending.
    pub(crate) fn pages_below(&self, end: u64) -> Vec<u64> {
        let kept = self.rare.kept.by_sequence.keys().map(|sequence| sequence >> PAGE_BITS);
        let numbers = self.by_number.keys().copied().chain(kept);
        let mut numbers: Vec<u64> = numbers.filter(|number| number << PAGE_BITS < end).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The number of the first page that may have orders from a sequence on.
    pub(crate) fn page_from(&self, sequence: u64) -> Option<u64> {
        let number = page_number(sequence);
        // Pages mostly follow each other. Only where they do not, all of them are looked at.
        let near = (number..=number + PAGES_NEAR).find(|near| self.by_number.contains_key(near));
        let numbers = self.by_number.keys().copied();
        let page = near.or_else(|| numbers.filter(|other| *other >= number).min());
        let kept = self.rare.kept.by_sequence.range(sequence..).next();
        page.into_iter().chain(kept.map(|(kept, _)| page_number(*kept))).min()
    }

    /// The orders of a page, by sequence, from a sequence on; those included that moved.
    pub(crate) fn of_page(&self, number: u64, from: u64) -> impl Iterator<Item = (u64, &Slot)> {
        let (first, end) = (number << PAGE_BITS, (number + 1) << PAGE_BITS);
        let page = self.by_number.get(&number).and_then(|index| self.page(*index));
        let in_page = (first..).zip(page.map_or(&[][..], |page| &page.slots));
        let mut in_page =
            in_page.filter(move |(it, slot)| *it >= from && !slot.is_vacant()).peekable();
        let moved = self.rare.kept.by_sequence.range(from.clamp(first, end)..end);
        let mut moved = moved.filter_map(|(it, at)| Some((*it, self.get(*at)?))).peekable();
        std::iter::from_fn(move || match (in_page.peek(), moved.peek()) {
            (Some((here, _)), Some((there, _))) if there < here => moved.next(),
            (None, _) => moved.next(),
            _ => in_page.next(),
        })
    }

    fn page(&self, index: u32) -> Option<&Page> {
        match index == self.newest_index {
            true => Some(&self.newest),
            false => self.pages.get(index as usize),
        }
    }

    fn page_mut(&mut self, index: u32) -> Option<&mut Page> {
        match index == self.newest_index {
            true => Some(&mut self.newest),
            false => self.pages.get_mut(index as usize),
        }
    }

    /// The index of a page that is not there; `None` when there are no more handles.
    fn free_index(&mut self) -> Option<u32> {
        if let Some(index) = self.rare.free_indices.pop() {
            return Some(index);
        }
        let index = u32::try_from(self.pages.len()).ok()?;
        if index >= 1 << (32 - PAGE_BITS) {
            return None;
        }
        self.pages.push(Page::default());
        Some(index)
    }

    /// Makes the page of the next sequence the newest one; `None` when there are no more handles.
    #[inline]
    fn turn_to_page(&mut self) -> Option<()> {
        let number = self.next_sequence >> PAGE_BITS;
        if self.newest.first_sequence == number << PAGE_BITS && self.newest_index != NO_PAGE {
            return Some(());
        }
        self.take_page(number)
    }

    #[cold]
    #[inline(never)]
    fn take_page(&mut self, number: u64) -> Option<()> {
        let index = self.free_index()?;
        self.by_number.insert(number, index);
        let newest = Page {
            first_sequence: number << PAGE_BITS,
            slots: self.rare.set_aside.pop().unwrap_or_else(|| Vec::with_capacity(PAGE_ORDERS)),
            ..Page::default()
        };
        let before = std::mem::replace(&mut self.newest, newest);
        let before_index = std::mem::replace(&mut self.newest_index, index);
        if let Some(place) = self.pages.get_mut(before_index as usize) {
            *place = before;
            self.release_if_empty(before_index);
            self.note_if_sparse(before_index);
        }
        Some(())
    }
}

/// The number of the page that has a sequence.
pub(crate) fn page_number(sequence: u64) -> u64 {
    sequence >> PAGE_BITS
}

/// The first sequence of a page.
pub(crate) fn first_sequence(number: u64) -> u64 {
    number << PAGE_BITS
}

fn handle(page: u32, sequence: u64) -> u32 {
    page << PAGE_BITS | place(sequence) as u32
}

fn place(sequence: u64) -> usize {
    sequence as usize & (PAGE_ORDERS - 1)
}

#[cfg(test)]
mod tests;
