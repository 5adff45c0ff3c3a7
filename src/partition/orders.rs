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
//!   or not in this life of the engine, are vacant places.

use std::collections::HashMap;

use bytes::Bytes;

use crate::ids::{BuyerId, KeyKind, OrderId, RequestKey};
use crate::order::OrderState;
use crate::prefetch;

const PAGE_BITS: u32 = 10;
/// Orders to a page.
pub(crate) const PAGE_ORDERS: usize = 1 << PAGE_BITS;

/// One order in memory: 80 bytes, and a box for carts and payloads.
#[derive(Debug)]
pub(crate) struct Slot {
    buyer: BuyerId,
    key: [u8; 16],
    /// LSN of the order's last record: what a reply about it waits for (rule R2).
    pub(crate) last_lsn: u64,
    pub(crate) deadline_ms: u64,
    lines_digest: u64,
    extra: Option<Box<Extra>>,
    /// The SKU's index; unused for a cart.
    sku: u32,
    units: u32,
    pub(crate) hold_ms: u32,
    /// The order left its hold time to the engine.
    pub(crate) default_hold: bool,
    key_kind: KeyKind,
    /// `None`: vacant.
    state: Option<OrderState>,
}

const _: () = assert!(size_of::<Slot>() == 80);

/// What most orders do not have.
#[derive(Debug)]
pub(crate) struct Extra {
    /// All lines of a cart; empty for an order of one line.
    pub(crate) lines: Box<[SkuUnits]>,
    pub(crate) payload: Bytes,
    pub(crate) payload_digest: u64,
}

/// A line by the SKU's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SkuUnits {
    pub(crate) sku: u32,
    pub(crate) units: u32,
}

/// What an order is made of.
#[derive(Debug)]
pub(crate) struct NewOrder {
    pub(crate) buyer: BuyerId,
    pub(crate) key: RequestKey,
    pub(crate) hold_ms: u32,
    pub(crate) default_hold: bool,
    pub(crate) deadline_ms: u64,
    pub(crate) lines_digest: u64,
    /// The line, or of a cart the first one.
    pub(crate) first: SkuUnits,
    pub(crate) extra: Option<Box<Extra>>,
}

impl Slot {
    fn vacant() -> Self {
        Self {
            buyer: BuyerId::from_uuid_bytes([0; 16]),
            key: [0; 16],
            last_lsn: 0,
            deadline_ms: 0,
            lines_digest: 0,
            extra: None,
            sku: 0,
            units: 0,
            hold_ms: 0,
            default_hold: false,
            key_kind: KeyKind::Opaque,
            state: None,
        }
    }

    fn held(order: NewOrder, lsn: u64) -> Self {
        Self {
            buyer: order.buyer,
            key: order.key.to_bytes(),
            last_lsn: lsn,
            deadline_ms: order.deadline_ms,
            lines_digest: order.lines_digest,
            extra: order.extra,
            sku: order.first.sku,
            units: order.first.units,
            hold_ms: order.hold_ms,
            default_hold: order.default_hold,
            key_kind: order.key.kind(),
            state: Some(OrderState::Held),
        }
    }

    pub(crate) fn buyer(&self) -> BuyerId {
        self.buyer
    }

    pub(crate) fn key(&self) -> RequestKey {
        RequestKey::from_logged(self.key, self.key_kind)
    }

    /// Where the order stands. A handle from the tables never leads to a vacant place.
    pub(crate) fn state(&self) -> OrderState {
        self.state.unwrap_or(OrderState::Cancelled)
    }

    pub(crate) fn set_state(&mut self, state: OrderState) {
        self.state = Some(state);
    }

    pub(crate) fn lines_digest(&self) -> u64 {
        self.lines_digest
    }

    pub(crate) fn payload_digest(&self) -> u64 {
        self.extra.as_ref().map_or(0, |extra| extra.payload_digest)
    }

    pub(crate) fn payload(&self) -> Bytes {
        self.extra.as_ref().map(|extra| extra.payload.clone()).unwrap_or_default()
    }

    /// The lines, in the order in which they were placed.
    pub(crate) fn lines(&self) -> impl Iterator<Item = SkuUnits> + '_ {
        let cart = self.extra.as_ref().map_or(&[][..], |extra| &extra.lines);
        let single = cart.is_empty().then_some(SkuUnits { sku: self.sku, units: self.units });
        single.into_iter().chain(cart.iter().copied())
    }

    fn is_of(&self, buyer: BuyerId, key: RequestKey) -> bool {
        self.buyer == buyer
            && self.key == key.to_bytes()
            && self.key_kind == key.kind()
            && self.state.is_some()
    }
}

#[derive(Debug, Default)]
struct Page {
    first_sequence: u64,
    slots: Vec<Slot>,
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
    /// Pages whose memory has been touched.
    set_aside: Vec<Vec<Slot>>,
}

/// No page has this index.
const NO_PAGE: u32 = u32::MAX;

impl OrderTable {
    pub(crate) fn new(partition: usize, first_sequence: u64) -> Self {
        Self {
            next_sequence: first_sequence,
            len: 0,
            newest: Page::default(),
            newest_index: NO_PAGE,
            partition: partition as u32,
            pages: Vec::new(),
            by_number: HashMap::default(),
            set_aside: Vec::new(),
        }
    }

    /// Takes memory for so many orders and touches it.
    pub(crate) fn set_aside(&mut self, orders: usize) {
        self.set_aside.resize_with(orders.div_ceil(PAGE_ORDERS), || {
            let mut slots = Vec::with_capacity(PAGE_ORDERS);
            slots.resize_with(PAGE_ORDERS, Slot::vacant);
            slots.clear();
            slots
        });
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Sequences below this one are never given again (rule R3).
    pub(crate) fn skip_to(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence);
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
    pub(crate) fn insert(&mut self, order: NewOrder, lsn: u64) -> Option<u32> {
        let sequence = self.next_sequence;
        self.turn_to_page()?;
        let slots = &mut self.newest.slots;
        let place = place(sequence);
        // Only after a start of the sequence within a page are there places to skip.
        while slots.len() < place {
            slots.push(Slot::vacant());
        }
        slots.push(Slot::held(order, lsn));
        // The next order's place is memory that nobody has touched for long.
        if let Some(next) = slots.spare_capacity_mut().first() {
            prefetch::lines_for_write(next, 2);
        }
        self.next_sequence += 1;
        self.len += 1;
        Some(handle(self.newest_index, sequence))
    }

    /// The handle of an order by its sequence number.
    pub(crate) fn find(&self, sequence: u64) -> Option<u32> {
        let page = *self.by_number.get(&(sequence >> PAGE_BITS))?;
        let handle = handle(page, sequence);
        self.get(handle).map(|_| handle)
    }

    /// The order at a handle; `None` when its place is vacant or not filled yet.
    pub(crate) fn get(&self, handle: u32) -> Option<&Slot> {
        let page = self.page(handle >> PAGE_BITS)?;
        page.slots.get(handle as usize & (PAGE_ORDERS - 1)).filter(|slot| slot.state.is_some())
    }

    pub(crate) fn get_mut(&mut self, handle: u32) -> Option<&mut Slot> {
        let index = handle >> PAGE_BITS;
        let page = match index == self.newest_index {
            true => &mut self.newest,
            false => self.pages.get_mut(index as usize)?,
        };
        page.slots.get_mut(handle as usize & (PAGE_ORDERS - 1)).filter(|slot| slot.state.is_some())
    }

    /// Whether the order at a handle was made by this key of this buyer.
    pub(crate) fn is_of(&self, handle: u32, buyer: BuyerId, key: RequestKey) -> bool {
        self.get(handle).is_some_and(|slot| slot.is_of(buyer, key))
    }

    /// The id of the order at a handle.
    pub(crate) fn id(&self, handle: u32) -> OrderId {
        let first_sequence = self.page(handle >> PAGE_BITS).map_or(0, |page| page.first_sequence);
        let sequence = first_sequence + u64::from(handle & (PAGE_ORDERS as u32 - 1));
        OrderId::from_parts(self.partition as usize, sequence)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let pages =
            (0..self.pages.len() as u32).filter_map(|index| Some((index, self.page(index)?)));
        pages.flat_map(|(index, page)| {
            let slots = (0_u64..).zip(&page.slots).filter(|(_, slot)| slot.state.is_some());
            slots.map(move |(place, slot)| (handle(index, place), slot))
        })
    }

    fn page(&self, index: u32) -> Option<&Page> {
        match index == self.newest_index {
            true => Some(&self.newest),
            false => self.pages.get(index as usize),
        }
    }

    /// Makes the page of the next sequence the newest one; `None` when there are no more handles.
    fn turn_to_page(&mut self) -> Option<()> {
        let number = self.next_sequence >> PAGE_BITS;
        if self.newest.first_sequence == number << PAGE_BITS && self.newest_index != NO_PAGE {
            return Some(());
        }
        let index = match self.by_number.get(&number) {
            Some(index) => *index,
            None => {
                let index = u32::try_from(self.pages.len()).ok()?;
                if index >= 1 << (32 - PAGE_BITS) {
                    return None;
                }
                self.pages.push(Page {
                    first_sequence: number << PAGE_BITS,
                    slots: self.set_aside.pop().unwrap_or_else(|| Vec::with_capacity(PAGE_ORDERS)),
                });
                self.by_number.insert(number, index);
                index
            }
        };
        let newest = std::mem::take(&mut self.pages[index as usize]);
        let before = std::mem::replace(&mut self.newest, newest);
        if let Some(place) = self.pages.get_mut(self.newest_index as usize) {
            *place = before;
        }
        self.newest_index = index;
        Some(())
    }
}

fn handle(page: u32, sequence: u64) -> u32 {
    page << PAGE_BITS | place(sequence) as u32
}

fn place(sequence: u64) -> usize {
    sequence as usize & (PAGE_ORDERS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64) -> NewOrder {
        NewOrder {
            buyer: BuyerId::from_u64(number),
            key: RequestKey::new(u128::from(number)),
            hold_ms: 1,
            default_hold: false,
            deadline_ms: number,
            lines_digest: number,
            first: SkuUnits { sku: 7, units: 2 },
            extra: None,
        }
    }

    #[test]
    fn an_order_is_found_by_handle_and_by_sequence_across_pages_and_gaps() {
        let mut table = OrderTable::new(3, 1000);
        let mut made = Vec::new();
        for number in 0..3000 {
            if number == 1500 {
                table.skip_to(1 << 32);
            }
            let (reserved, id) = (table.reserve().expect("room"), table.next_id());
            assert_eq!(table.get(reserved).map(Slot::buyer), None, "not there before it is made");
            let handle = table.insert(order(number), number).expect("room");
            assert_eq!((handle, table.id(handle)), (reserved, id));
            made.push((number, handle, id));
        }
        for (number, handle, id) in made {
            assert_eq!(id.partition(), 3);
            assert_eq!(table.find(id.sequence()), Some(handle));
            let (buyer, key) = (BuyerId::from_u64(number), RequestKey::new(u128::from(number)));
            assert!(table.is_of(handle, buyer, key));
            assert!(!table.is_of(handle, buyer, RequestKey::new(u128::MAX)));
        }
        assert_eq!(table.find(999), None);
        assert_eq!(table.find(2500), None, "never given");
        assert_eq!(table.find((1 << 32) + 1500), None);
        assert_eq!((table.len(), table.iter().count()), (3000, 3000));
    }
}
