//! The look without a lock at a buyer's key, while the partition moves, ends, forgets and adds orders: the key
//! of an order that is in memory is never absent (rule R1).

use super::*;
use crate::order::{ListPlace, OrderState, Policy};
use crate::partition::orders::PAGE_ORDERS;

const KEEP: Keep = Keep { retention_ms: 1, returns_window_ms: 1, finish_on_confirm: false };
/// When the patience of an order that waits is over.
const PATIENCE_ENDS_MS: u64 = 1_000;

struct Bench {
    state: PartitionState,
    hasher: KeyHasher,
    /// The order that stays, and one whose key lies before its key.
    kept: u32,
    before: u32,
    /// Orders that fill the page of the two; no request looks for their keys.
    others: Vec<u32>,
}

impl Bench {
    fn new() -> Self {
        // The same in every run of a model.
        let hasher = KeyHasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        let keys = KeyIndexWriter::many(1, 1).remove(0);
        let state = PartitionState::new(0, 0, keys, KEEP);
        let mut bench = Self { state, hasher, kept: 0, before: 0, others: Vec::new() };
        let [before, kept] = bench.buyers();
        bench.before = bench.place(before);
        bench.kept = bench.place(kept);
        bench
    }

    /// Two whose keys have one home line.
    fn buyers(&self) -> [u64; 2] {
        let line = |buyer: &u64| self.hash(*buyer) >> 33 & 1;
        let other = (2..).find(|buyer| line(buyer) == line(&1));
        [1, other.expect("one of many")]
    }

    fn hash(&self, buyer: u64) -> u64 {
        self.hasher.hash(BuyerId::from_u64(buyer), RequestKey::new(1))
    }

    fn new_order(&mut self, buyer: u64) -> u32 {
        let place = ListPlace { class: 0, arrival: 1 };
        let extra = Extra {
            lines: Box::default(),
            missing: Box::default(),
            payload: bytes::Bytes::new(),
            payload_digest: 0,
            waited: Some(Waited {
                place,
                patience_ends_ms: PATIENCE_ENDS_MS,
                patience_ms: PATIENCE_ENDS_MS as u32,
                served: false,
            }),
        };
        let order = NewOrder {
            buyer: BuyerId::from_u64(buyer),
            key: RequestKey::new(1),
            hold_ms: 1,
            default_hold: false,
            policy: Policy::Wait,
            deadline_ms: PATIENCE_ENDS_MS,
            lines_digest: 0,
            first: SkuUnits { sku: 0, units: 1 },
            extra: Some(Box::new(extra)),
        };
        self.state.orders.insert(order, 1).expect("a handle")
    }

    /// As a request does: the key, and then the order.
    fn place(&mut self, buyer: u64) -> u32 {
        let handle = self.state.orders.reserve().expect("a handle");
        self.state.keys.insert(self.hash(buyer), handle);
        self.new_order(buyer)
    }

    fn retire(&mut self, handle: u32) {
        self.state.orders.change(handle, OrderState::Cancelled, 2, 1);
        let slot = self.state.orders.get(handle).expect("in memory");
        let hash = self.hasher.hash(slot.buyer(), slot.key());
        self.state.retire(handle, hash).expect("in memory");
    }

    /// Fills the page of the two, so that the next order begins another one.
    fn fill_page(mut self) -> Self {
        for nth in 2..=PAGE_ORDERS as u64 {
            let handle = self.new_order(1_000 + nth);
            self.others.push(handle);
        }
        self
    }

    /// Leaves one order of the first page.
    fn make_sparse(&mut self) {
        self.retire(self.before);
        self.others.pop();
        for other in std::mem::take(&mut self.others) {
            self.state.orders.remove(other).expect("in memory");
        }
        assert!(self.state.orders.has_sparse_page());
    }

    fn has_moved(&self) -> bool {
        self.state.orders.get(self.kept).is_none()
    }
}

/// A retry looks for the key of the order that stays while the writer, under the lock, makes this change.
fn is_seen_while(bench: fn() -> Bench, change: fn(&mut Bench)) {
    loom::model(move || {
        let mut bench = bench();
        let slot = bench.state.orders.get(bench.kept).expect("in memory");
        let hash = bench.hasher.hash(slot.buyer(), slot.key());
        let keys = bench.state.keys.shared().clone();
        let retry = loom::thread::spawn(move || assert!(!keys.surely_absent(hash)));
        change(&mut bench);
        retry.join().expect("the key is seen");
        assert!(!bench.state.keys.shared().surely_absent(hash));
    });
}

#[test]
fn a_key_is_seen_while_its_order_outlives_its_page() {
    is_seen_while(
        || Bench::new().fill_page(),
        |bench| {
            bench.make_sparse();
            bench.state.tidy(PAGE_ORDERS, &bench.hasher);
            assert!(bench.has_moved());
        },
    );
}

#[test]
fn a_key_is_seen_while_its_order_is_served_and_moves_to_another_timer() {
    is_seen_while(Bench::new, |bench| {
        bench.retire(bench.before);
        let deadline_ms = bench.state.promote(bench.kept, 3, 1, &bench.hasher);
        assert_eq!((deadline_ms, bench.has_moved()), (Some(2), true));
    });
}

/// An open does it before anyone can ask; it holds even so.
#[test]
fn a_key_is_seen_while_a_replayed_log_is_tidied() {
    is_seen_while(
        || Bench::new().fill_page(),
        |bench| {
            bench.make_sparse();
            bench.state.tidy_replayed(&bench.hasher);
            assert!(bench.has_moved());
        },
    );
}

#[test]
fn a_key_is_seen_while_others_leave_memory_and_are_refused() {
    is_seen_while(Bench::new, |bench| {
        let refused = bench.state.orders.reserve().expect("a handle");
        let hash = bench.hash(7);
        bench.state.keys.insert(hash, refused);
        bench.state.keys.remove(hash, refused);
        bench.retire(bench.before);
        bench.place(8);
    });
}

#[test]
fn a_key_is_seen_while_the_index_grows_and_its_order_moves() {
    is_seen_while(
        || {
            let mut bench = Bench::new();
            for buyer in 20..22 {
                bench.place(buyer);
            }
            bench
        },
        |bench| {
            bench.place(22);
            bench.state.promote(bench.kept, 3, 1, &bench.hasher).expect("in memory");
        },
    );
}
