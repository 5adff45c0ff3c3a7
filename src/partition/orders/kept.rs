//! Orders that outlive their page.
//!
//! A page is kept as long as one of its orders is in memory, and an order that is never fulfilled stays forever. So
//! when few orders are left of a page, the unfinished ones move here, into places that are used again and again, and
//! the page goes with its last finished order. An open puts all orders here of which a checkpoint holds few of a
//! page: no page is made for them.

use std::collections::{BTreeMap, HashMap};

use crate::partition::orders::{OrderTable, PAGE_BITS, PAGE_ORDERS, Page, handle, place};
use crate::partition::slot::{NewOrder, Slot};

/// A page with this many orders left, or fewer, is given up: an order that is not finished takes the memory of eight
/// at most.
pub(crate) const SPARSE_ORDERS: usize = PAGE_ORDERS / 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) by_sequence: BTreeMap<u64, u32>,
    /// By page, the sequences at its places.
    sequences: HashMap<u32, Vec<u64>, ahash::RandomState>,
    /// Handles of places without an order or a timer.
    free: Vec<u32>,
    /// The page that is not full.
    filling: Option<u32>,
    /// Pages to be given up.
    sparse: Vec<u32>,
}

impl Kept {
    pub(super) fn sequence(&self, handle: u32) -> Option<u64> {
        self.sequences.get(&(handle >> PAGE_BITS))?.get(place(handle.into())).copied()
    }

    /// The place is free; nothing has its handle any more.
    pub(super) fn free(&mut self, handle: u32) {
        self.free.push(handle);
    }
}

impl OrderTable {
    /// Notes a page of which few orders are left.
    pub(super) fn note_if_sparse(&mut self, index: u32) {
        if index == self.newest_index {
            return;
        }
        let page = &mut self.pages[index as usize];
        let left = page.slots.len() - page.vacant as usize;
        if left > 0 && left <= SPARSE_ORDERS && !page.is_kept && !page.is_sparse {
            page.is_sparse = true;
            self.rare.kept.sparse.push(index);
        }
    }

    /// Whether orders are to move.
    pub(crate) fn has_sparse_page(&self) -> bool {
        !self.rare.kept.sparse.is_empty()
    }

    /// At most `count_max` orders that must move, by a page that is given up.
    pub(crate) fn orders_to_move(
        &mut self,
        orders_max: usize,
        is_to_move: impl Fn(&Slot) -> bool,
    ) -> Vec<u32> {
        let Some(index) = self.rare.kept.sparse.last().copied() else { return Vec::new() };
        let page = &mut self.pages[index as usize];
        let mut handles = Vec::new();
        // The page may have been emptied since.
        if page.is_sparse {
            let slots = (0_u64..).zip(&page.slots).filter(|(_, slot)| !slot.is_vacant());
            let to_move = slots.filter(|(_, slot)| is_to_move(slot));
            handles.extend(to_move.map(|(place, _)| handle(index, place)).take(orders_max));
        }
        if handles.len() < orders_max {
            self.rare.kept.sparse.pop();
        }
        handles
    }

    /// Moves an order out of its page. Returns its new handle, which no timer has; `None` when there are no more
    /// handles.
    pub(crate) fn keep(&mut self, from: u32) -> Option<u32> {
        let to = self.kept_place()?;
        let sequence = self.sequence(from);
        let mut slot = self.take(from)?;
        slot.clear_timed();
        self.put_kept(to, sequence, slot);
        Some(to)
    }

    /// Puts an order at a vacant place for those that outlive their page.
    fn put_kept(&mut self, to: u32, sequence: u64, slot: Slot) {
        let (page, place) = (to >> PAGE_BITS, place(to.into()));
        self.pages[page as usize].slots[place] = slot;
        if let Some(at) = self.rare.kept.sequences.get_mut(&page).and_then(|all| all.get_mut(place))
        {
            *at = sequence;
        }
        self.rare.kept.by_sequence.insert(sequence, to);
    }

    /// Puts an order that a checkpoint holds at the next sequence, away from its page. Returns its handle; `None`
    /// when there are no more handles.
    pub(crate) fn insert_kept(&mut self, order: NewOrder, lsn: u64) -> Option<u32> {
        let to = self.kept_place()?;
        self.put_kept(to, self.next_sequence, Slot::new(order, lsn));
        self.next_sequence += 1;
        self.len += 1;
        Some(to)
    }

    /// Whether there is a place for an order that moves.
    pub(crate) fn can_keep(&self) -> bool {
        let kept = &self.rare.kept;
        let filling = kept.filling.and_then(|index| self.page(index));
        !kept.free.is_empty()
            || filling.is_some_and(|page| page.slots.len() < PAGE_ORDERS)
            || !self.rare.free_indices.is_empty()
            || self.pages.len() < 1 << (u32::BITS - PAGE_BITS)
    }

    /// A vacant place for an order that moves.
    fn kept_place(&mut self) -> Option<u32> {
        if let Some(handle) = self.rare.kept.free.pop() {
            return Some(handle);
        }
        let index = match self.rare.kept.filling {
            Some(index) if self.pages[index as usize].slots.len() < PAGE_ORDERS => index,
            _ => {
                let index = self.free_index()?;
                let slots = self.rare.set_aside.pop();
                let slots = slots.unwrap_or_else(|| Vec::with_capacity(PAGE_ORDERS));
                self.pages[index as usize] = Page { slots, is_kept: true, ..Page::default() };
                self.rare.kept.sequences.insert(index, Vec::with_capacity(PAGE_ORDERS));
                self.rare.kept.filling = Some(index);
                index
            }
        };
        let slots = &mut self.pages[index as usize].slots;
        slots.push(Slot::vacant());
        let place = slots.len() as u64 - 1;
        self.rare.kept.sequences.entry(index).or_default().push(0);
        Some(handle(index, place))
    }
}
