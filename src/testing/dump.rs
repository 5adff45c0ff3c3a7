//! A canonical dump of what an engine knows.
//!
//! It is text in UTF-8, one fact a line, in this order:
//!
//! ```text
//! floor SEQUENCE                            below it no order id is given any more, in any partition
//! given PARTITION FIRST END                 sequences that orders got; by partition, ascending
//! retired PARTITION MS                      when the last order finished that has left memory
//! switch LOGGED acting ACTING               the engine's, if it is not open
//! merchant ID LOGGED acting ACTING          by id; his rules as logged and as they act, if he has any
//! order ID buyer=HEX key=HEX/KIND ...       by id; all that a reply about the order may show or rest on
//! digests LINES PAYLOAD                     by which a repeat of its key is compared
//! line SKU UNITS                            of the order before it, in the order in which it was placed
//! missing SKU UNITS                         what it did not get, of a partial order
//! waited CLASS ARRIVAL ENDS_MS served=BOOL  where it stands or stood in a list, until when, and whether it was served
//! leads ID                                  where the order's key leads: to the order itself
//! refused HEX HEX/KIND until=MS ...         by buyer and key; what is remembered of a refusal
//! sku ID stocked=N ... limit=N acting=N     by id; its terms, its rule as logged and as it acts
//! rules LOGGED acting ACTING                of the SKU before it, if there are others than the limit
//! list NUMBER                               of the SKU before it, if anyone waited: its last number
//! waits ID UNITS                            who waits, in the order in which they are served
//! buyer HEX UNITS                           of the SKU before it, by buyer; what counts towards its limit
//! adjust HEX/KIND kind=N units=N ...        of the SKU before it, by key
//! ```
//!
//! It says nothing about memory (indices, handles, hash seeds), about places in the log, or about what is
//! only of the process's life (counters). So two engines that must answer every future call alike, the
//! clock being equal, have the same dump: one that was stepped until it was idle and the same folder
//! reopened after a clean close, or after a crash that lost nothing (but for the floor, which a crash
//! raises); a log replayed from its beginning and a checkpoint with the rest of it.
//!
//! It changes nothing: a hold that is over and whose expiry is not logged yet is shown as held. What is not
//! remembered any more is not shown, whether or not it is still in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::engine::Engine;
use crate::ids::{BuyerId, KeyKind, OrderId, RequestKey};
use crate::order::{ListPlace, Refused, Rules, Switch};
use crate::partition::{PartitionState, Slot, Waited};
use crate::stock::{Merchant, MerchantState, Sku, Switches};
use crate::sync::Ordering;

/// What each buyer has of a SKU whose buyers are counted.
type Buyers = BTreeMap<BuyerId, u32>;

/// Returns what [`SteppedEngine::dump`](super::SteppedEngine::dump) returns, for any engine: for example for one
/// that was [opened for reading only](Engine::open_read_only).
#[must_use]
pub fn dump(engine: &Engine) -> String {
    let core = engine.core();
    let mut floor = 0;
    let mut orders: BTreeMap<OrderId, String> = BTreeMap::new();
    let mut buyers: BTreeMap<u32, Buyers> = BTreeMap::new();
    let mut given = String::new();
    let mut refused = BTreeSet::new();
    let now_ms = engine.now_ms();
    for (number, partition) in core.partitions.iter().enumerate() {
        let mut state = partition.state.lock();
        core.settle_ends(&mut state);
        floor = floor.max(state.orders.next_sequence());
        for (first, end) in state.orders.given() {
            push(&mut given, format_args!("given {number} {first} {end}"));
        }
        if state.retired_to_ms > 0 {
            push(&mut given, format_args!("retired {number} {}", state.retired_to_ms));
        }
        let remembered = state.refusals.iter().flat_map(|refusals| refusals.behind(0));
        refused.extend(
            remembered
                .map(|entry| entry.refused)
                .filter(|it| it.until_ms > now_ms)
                .map(refused_line),
        );
        for (sku, buyer, units) in state.limits.iter() {
            buyers.entry(sku).or_default().insert(buyer, units);
        }
        for (handle, slot) in state.orders.iter() {
            let hash = core.hasher.hash(slot.buyer(), slot.key());
            let order = state.orders.id(handle);
            orders.insert(order, order_lines(engine, &state, slot, order, hash));
        }
    }
    let mut skus: Vec<&Sku> = core.skus.iter().filter(|sku| sku.is_known()).collect();
    skus.sort_unstable_by_key(|sku| sku.id);

    let mut dump = format!("floor {floor}\n{given}");
    write_switches(&mut dump, &core.switches);
    dump.extend(orders.into_values());
    dump.extend(refused);
    for sku in skus {
        let kept = (now_ms, core.bounds.adjust_retention_ms);
        write_sku(&mut dump, sku, buyers.get(&sku.index), kept);
    }
    dump
}

fn write_switches(dump: &mut String, switches: &Switches) {
    let logged = switches.ledger.lock().logged;
    if logged != Switch::Open || switches.engine() != Switch::Open {
        push(dump, format_args!("switch {logged:?} acting {:?}", switches.engine()));
    }
    let mut merchants: Vec<&Merchant> = switches.merchants.iter().collect();
    merchants.sort_unstable_by_key(|merchant| merchant.id);
    for merchant in merchants {
        let logged = merchant.ledger.lock().logged;
        if logged != MerchantState::default() || merchant.switch() != Switch::Open {
            let (id, acting, pace) = (merchant.id.get(), merchant.switch(), merchant.pace());
            push(dump, format_args!("merchant {id} {logged:?} acting {acting:?} {pace:?}"));
        }
    }
}

fn order_lines(
    engine: &Engine,
    state: &PartitionState,
    slot: &Slot,
    order: OrderId,
    hash: u64,
) -> String {
    let mut text = format!(
        "order {} buyer={} key={} state={:?} placed_ms={} changed_ms={} deadline_ms={} hold_ms={} default_hold={} policy={:?} payload={}\n",
        order.get(),
        hex(&slot.buyer().to_bytes()),
        key_text(slot.key()),
        slot.state(),
        slot.placed_ms(),
        slot.in_state_from_ms(),
        slot.deadline_ms(),
        slot.hold_ms(),
        slot.default_hold(),
        slot.policy(),
        hex(&slot.payload()),
    );
    push(&mut text, format_args!("digests {} {}", slot.lines_digest(), slot.payload_digest()));
    for line in slot.lines() {
        let sku = engine.core().skus.get(line.sku).id.get();
        push(&mut text, format_args!("line {sku} {}", line.units));
    }
    for missing in slot.missing() {
        let sku = engine.core().skus.get(missing.sku).id.get();
        push(&mut text, format_args!("missing {sku} {}", missing.units));
    }
    if let Some(Waited { place, patience_ends_ms, served, .. }) = slot.waited() {
        let ListPlace { class, arrival } = place;
        push(
            &mut text,
            format_args!("waited {class} {arrival} {patience_ends_ms} served={served}"),
        );
    }
    let (buyer, key) = (slot.buyer(), slot.key());
    let led = state.keys.find(hash, |handle| state.orders.is_of(handle, buyer, key));
    match led.map(|handle| state.orders.id(handle).get()) {
        Some(led) => push(&mut text, format_args!("leads {led}")),
        None => push(&mut text, format_args!("leads nowhere")),
    }
    text
}

fn refused_line(refused: Refused) -> String {
    let Refused { buyer, key, content, refusal, until_ms } = refused;
    let (buyer, key) = (hex(&buyer.to_bytes()), key_text(key));
    format!("refused {buyer} {key} until={until_ms} {refusal:?} {content:?}\n")
}

fn write_sku(
    dump: &mut String,
    sku: &Sku,
    buyers: Option<&Buyers>,
    (now_ms, adjust_retention_ms): (u64, u64),
) {
    let levels = sku.levels();
    let ledger = sku.ledger.lock();
    push(
        dump,
        format_args!(
            "sku {} stocked={} logged={} available={} held={} sold={} retired={} returning={} limit={} acting={}",
            sku.id.get(),
            levels.stocked,
            ledger.stocked,
            levels.available,
            levels.held,
            levels.sold,
            sku.retired.load(Ordering::Relaxed),
            levels.returning,
            ledger.rules().buyer_limit,
            sku.buyer_limit().unwrap_or(0),
        ),
    );
    let others = |rules| Rules { buyer_limit: 0, ..rules };
    let (logged, acting) = (others(ledger.rules()), others(ledger.acting_rules()));
    if logged != Rules::default() || acting != logged {
        push(dump, format_args!("rules {logged:?} acting {acting:?}"));
    }
    if let Some(list) = sku.list().map(|list| list.lock()).filter(|list| list.last_sequence() > 0) {
        push(dump, format_args!("list {}", list.last_sequence()));
        for waiter in list.iter() {
            push(dump, format_args!("waits {} {}", waiter.order.get(), waiter.units));
        }
    }
    for (buyer, units) in buyers.into_iter().flatten() {
        push(dump, format_args!("buyer {} {units}", hex(&buyer.to_bytes())));
    }
    let kept = ledger
        .adjusts
        .iter()
        .filter(|(key, entry)| !entry.is_over(*key, now_ms, adjust_retention_ms));
    let adjusts: BTreeMap<String, _> = kept.map(|(key, entry)| (key_text(key), entry)).collect();
    for (key, entry) in adjusts {
        push(
            dump,
            format_args!(
                "adjust {key} kind={:?} units={} expected={} reference={} delta={} stocked={}",
                entry.kind,
                entry.units,
                entry.expected,
                entry.reference_digest,
                entry.delta,
                entry.stocked,
            ),
        );
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a `String` never fails.
    let _ = writeln!(text, "{line}");
}

fn key_text(key: RequestKey) -> String {
    let kind = match key.kind() {
        KeyKind::Opaque => "opaque",
        KeyKind::UuidV7 => "v7",
    };
    format!("{}/{kind}", hex(&key.to_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::testing::{ManualClock, MemoryStorage, SteppedEngine};
    use crate::{Adjust, Options, Order, OrderId, RequestKey, SaleRules, SkuId};

    fn open(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> SteppedEngine {
        let options = Options::on_storage(Arc::new(storage.clone()))
            .clock(clock.clone())
            .partitions(4)
            .segment_bytes(1 << 20);
        SteppedEngine::open(options).expect("opens")
    }

    /// Places, ends and limits a little of everything; all durable at the end.
    fn sell(engine: &mut SteppedEngine, clock: &ManualClock) {
        let skus = [SkuId::new(9), SkuId::new(3)];
        for sku in skus {
            drop(engine.stock(sku, Adjust::add(50).key(RequestKey::new(1))).expect("adds"));
        }
        engine.run_until_idle();
        drop(engine.rules(skus[0], SaleRules::new().buyer_limit(4)).expect("limits"));
        let mut orders: Vec<OrderId> = Vec::new();
        for buyer in 0..12_u64 {
            let order = Order::new(buyer, RequestKey::new(7))
                .line(skus[(buyer % 2) as usize], 2)
                .hold_for(Duration::from_millis(10 * (buyer + 1)))
                .payload(vec![buyer as u8; (buyer % 3) as usize]);
            let order = if buyer % 5 == 0 { order.line(skus[1], 1) } else { order };
            let placed = engine.place(order).expect("places");
            orders.extend(placed.peek().and_then(|placed| placed.held()).map(|held| held.order));
        }
        for (nth, order) in orders.into_iter().enumerate().filter(|(nth, _)| nth % 3 > 0) {
            let ended = if nth % 3 == 1 { engine.confirm(order) } else { engine.cancel(order) };
            drop(ended.expect("ends"));
        }
        clock.advance(Duration::from_millis(45));
        engine.run_until_idle();
    }

    #[test]
    fn a_clean_close_and_a_crash_that_lost_nothing_leave_the_same_dump() {
        let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
        let mut engine = open(&storage, &clock);
        sell(&mut engine, &clock);
        let before = engine.dump();
        assert!(before.contains("state=Expired") && before.contains("\nbuyer "), "{before}");
        engine.close().expect("closes");
        let engine = open(&storage, &clock);
        assert_eq!(engine.dump(), before);
        drop(engine);
        let engine = open(&storage.crash(&mut |_| 0), &clock);
        let without_floor = |dump: &str| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
        assert_eq!(without_floor(&engine.dump()), without_floor(&before));
    }

    #[test]
    fn what_happened_in_another_order_to_the_same_end_reads_the_same() {
        let dump = |skus: [u64; 2]| {
            let (storage, clock) = (MemoryStorage::new(), Arc::new(ManualClock::default()));
            let mut engine = open(&storage, &clock);
            for sku in skus {
                let add = Adjust::add(5).key(RequestKey::new(sku.into()));
                drop(engine.stock(SkuId::new(sku), add).expect("adds"));
            }
            engine.run_until_idle();
            engine.dump()
        };
        assert_eq!(dump([1, 2]), dump([2, 1]));
        assert_ne!(dump([1, 2]), dump([1, 3]));
    }
}
