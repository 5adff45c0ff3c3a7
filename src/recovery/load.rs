//! Loads a checkpoint into empty tables, its parts side by side.

use zerocopy::byteorder::little_endian::{U32, U64};

use crate::checkpoint::{
    AdjustedEntry, BuyerEntry, CHUNK_BYTES_MAX, CheckpointFile, ChunkKind, ChunkView, GapEntry,
    LineEntry, MerchantEntry, ORDER_DEFAULT_HOLD, ORDER_KEY_UUID_V7, ORDER_POLICY_SHIFT,
    OrderEntry, OrderParts, RefusalEntry, SaleEntry, SkuEntry, SwitchEntry, Unusable, WaitedEntry,
    ms_of_bytes,
};
use crate::ids::{BuyerId, KeyKind, MerchantId, RequestKey, SkuId};
use crate::log::rules_of_words;
use crate::order::{
    AdjustKind, CLASS_MAX, LIST_SEQUENCE_MAX, ListPlace, OrderState, Policy, Rate, RuleChanges,
    Switch, payload_digest,
};
use crate::partition::{
    BuyerCounts, Extra, MAPS, NewOrder, PartitionState, SPARSE_ORDERS, SkuUnits, Waited, map_of,
    page_number,
};
use crate::recovery::parallel::on_threads;
use crate::recovery::progress::Progress;
use crate::recovery::replay_lane::{AHEAD, Sums};
use crate::recovery::tables::{BuyerMarks, Misfit, Tables};
use crate::routing::partition_of;
use crate::stock::{AdjustEntry, MerchantState};
use crate::storage::AlignedBuffer;
use crate::sync::{AtomicUsize, Mutex, Ordering};

/// Loads all parts. When it fails, the tables are of no use.
pub(super) fn load(
    threads: usize,
    file: &CheckpointFile,
    tables: &Tables,
    states: &[Mutex<PartitionState>],
    progress: &Progress,
) -> Result<(), Unusable> {
    let parts = file.head.parts.len();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let work = || {
        let mut buffer = AlignedBuffer::zeroed(CHUNK_BYTES_MAX);
        loop {
            // The SKUs, last in the file, first: orders name them.
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= parts || failed.lock().is_some() {
                return;
            }
            let part = (nth + parts - 1) % parts;
            if let Err(unusable) = load_part(file, tables, states, part, &mut buffer, progress) {
                failed.lock().get_or_insert(unusable);
            }
        }
    };
    match threads {
        1 => work(),
        // While one waits for the disk, another works.
        threads => on_threads(2 * threads, work),
    }
    failed.into_inner().map_or(Ok(()), Err)
}

fn load_part(
    file: &CheckpointFile,
    tables: &Tables,
    states: &[Mutex<PartitionState>],
    part: usize,
    buffer: &mut AlignedBuffer,
    progress: &Progress,
) -> Result<(), Unusable> {
    let mut sums = Sums::new(tables);
    let mut cursor = file.chunks(part);
    let mut entries = 0;
    let mut state = states.get(part).map(Mutex::lock);
    while let Some(chunk) = file.next_chunk(&mut cursor, buffer)? {
        progress.add_checkpoint(chunk.bytes as u64, chunk.orders_in());
        let applied = match (chunk.about.kind, state.as_deref_mut()) {
            (ChunkKind::Orders, Some(state)) => {
                entries += u64::from(chunk.entries);
                orders(&mut sums, tables, part, state, &chunk)
            }
            (ChunkKind::Skus, None) => {
                entries += u64::from(chunk.entries);
                skus(tables, &chunk)
            }
            (ChunkKind::Merchants, None) => merchants(tables, &chunk),
            (ChunkKind::Switch, None) => switch(tables, &chunk),
            (ChunkKind::Gaps, Some(state)) => gaps(state, &chunk),
            (ChunkKind::Sales | ChunkKind::MoreSales, Some(state)) => {
                sales(tables, part, state, &chunk)
            }
            (ChunkKind::Buyers, Some(state)) => buyers(tables, part, state, &chunk),
            (ChunkKind::Refusals, Some(state)) => refusals(tables, part, state, &chunk),
            _ => Err("a chunk of a kind that does not belong here".into()),
        };
        applied.map_err(|misfit| match misfit {
            Misfit::Damage(damage) => Unusable::Damaged { offset: cursor.offset(), damage },
            Misfit::TooManySkus => Unusable::Refused(tables.too_many_skus()),
            Misfit::TooManyMerchants => Unusable::Refused(tables.too_many_merchants()),
        })?;
    }
    let expected = file.head.parts[part];
    if entries != expected.entries {
        let damage = format!("part {part} has {entries} entries, not {}", expected.entries);
        return Err(Unusable::Damaged { offset: cursor.offset(), damage });
    }
    if let Some(state) = state.as_deref_mut() {
        state.orders.restore_to(expected.next_sequence);
        state.retired_to_ms = expected.retired_to_ms;
        note_finished(state);
    }
    Ok(())
}

fn orders<'a>(
    sums: &mut Sums<'a>,
    tables: &'a Tables,
    partition: usize,
    state: &mut PartitionState,
    chunk: &ChunkView<'_>,
) -> Result<(), Misfit> {
    let prefetch = |state: &PartitionState, entry: Result<OrderParts<'_>, &str>| {
        if let Ok(OrderParts { order: entry, .. }) = entry {
            let hash = tables.hasher.hash(BuyerId::from_uuid_bytes(entry.buyer), key_of(entry));
            state.keys.shared().prefetch(hash);
        }
    };
    let page_of = |entry: OrderParts<'_>| page_number(entry.order.sequence.get());
    // More orders are to come to this one.
    let newest_page = page_number(tables.next_sequences[partition]);
    let mut ahead = chunk.orders();
    ahead.by_ref().take(AHEAD).for_each(|entry| prefetch(state, entry));
    let mut far_ahead = chunk.orders().skip(SPARSE_ORDERS);
    let (mut page, mut is_sparse) = (None, false);
    for entry in chunk.orders() {
        ahead.next().into_iter().for_each(|entry| prefetch(state, entry));
        let (entry, far_ahead) = (entry?, far_ahead.next().and_then(Result::ok).map(page_of));
        if page != Some(page_of(entry)) {
            page = Some(page_of(entry));
            is_sparse = page != far_ahead && page != Some(newest_page);
        }
        order(sums, tables, partition, state, entry, is_sparse)?;
    }
    Ok(())
}

fn key_of(entry: &OrderEntry) -> RequestKey {
    let kind = match entry.flags & ORDER_KEY_UUID_V7 {
        0 => KeyKind::Opaque,
        _ => KeyKind::UuidV7,
    };
    RequestKey::from_logged(entry.key, kind)
}

fn order<'a>(
    sums: &mut Sums<'a>,
    tables: &'a Tables,
    partition: usize,
    state: &mut PartitionState,
    parts: OrderParts<'_>,
    is_kept: bool,
) -> Result<(), Misfit> {
    let OrderParts { order: entry, lines, missing, waited, payload } = parts;
    let policy = Policy::from_bits(entry.flags >> ORDER_POLICY_SHIFT)?;
    let (sequence, buyer) = (entry.sequence.get(), BuyerId::from_uuid_bytes(entry.buyer));
    let standing = OrderState::from_code(entry.state).ok_or("an order in an unknown state")?;
    let waited = waited
        .map(|waited| waited_of(waited, entry, standing, tables.checkpoint_ms))
        .transpose()?;
    if sequence < state.orders.next_sequence()
        || sequence >= tables.next_sequences[partition]
        || partition_of(buyer, tables.partitions) != partition
        || entry.last_lsn.get() > tables.marks[partition].end_lsn
        || standing == OrderState::Waiting && waited.is_none()
        || waited.is_some() && !lines.is_empty()
    {
        return Err(Misfit::Damage(format!("order {sequence} does not fit its partition")));
    }
    let Units { first, cart, missing } = units(sums, standing, entry, lines, missing)?;
    if standing == OrderState::Waiting {
        tables.somebody_waits.store(true, Ordering::Relaxed);
    }
    let is_plain = lines.is_empty() && missing.is_empty() && payload.is_empty() && waited.is_none();
    let extra = (!is_plain).then(|| {
        Box::new(Extra {
            lines: cart,
            missing,
            payload: bytes::Bytes::copy_from_slice(payload),
            payload_digest: payload_digest(payload),
            waited,
        })
    });
    let key = key_of(entry);
    let new = NewOrder {
        buyer,
        key,
        hold_ms: entry.hold_ms.get(),
        default_hold: entry.flags & ORDER_DEFAULT_HOLD != 0,
        policy,
        deadline_ms: entry.deadline_ms.get(),
        lines_digest: entry.lines_digest.get(),
        first,
        extra,
    };
    state.orders.restore_to(sequence);
    let lsn = entry.last_lsn.get();
    let handle = match is_kept {
        true => state.orders.insert_kept(new, lsn),
        false => state.orders.insert(new, lsn),
    };
    let handle = handle.ok_or("more orders than handles")?;
    if let Some(slot) = state.orders.get_mut(handle) {
        slot.restore(standing, entry.changed_ms.get());
    }
    state.keys.insert(tables.hasher.hash(buyer, key), handle);
    Ok(())
}

/// What an order has.
struct Units {
    first: SkuUnits,
    /// Empty for an order of one line.
    cart: Box<[SkuUnits]>,
    /// What a partial order lacks.
    missing: Box<[SkuUnits]>,
}

/// Adds what an order has to the sums.
fn units(
    sums: &mut Sums<'_>,
    standing: OrderState,
    entry: &OrderEntry,
    lines: &[LineEntry],
    missing: &[U32],
) -> Result<Units, Misfit> {
    let mut has = |sku: SkuId, units: u32| -> Result<SkuUnits, Misfit> {
        let sku = sums.find(sku)?;
        let (held, sold) = match standing {
            OrderState::Held => (units, 0),
            OrderState::Confirmed | OrderState::Fulfilled => (0, units),
            OrderState::Waiting | OrderState::Cancelled | OrderState::Expired => (0, 0),
        };
        sums.add(sku, held.into(), sold.into());
        Ok(SkuUnits { sku: sku.index, units })
    };
    let cart = lines.iter().map(|line| has(line.sku.get().into(), line.units.get()));
    let cart: Box<[_]> = cart.collect::<Result<_, _>>()?;
    let first = match cart.first() {
        Some(first) => *first,
        None => has(entry.sku.get().into(), entry.units.get())?,
    };
    let held = if cart.is_empty() { std::slice::from_ref(&first) } else { &cart };
    let missing = (held.iter().zip(missing))
        .filter(|(_, missing)| missing.get() > 0)
        .map(|(held, missing)| SkuUnits { sku: held.sku, units: missing.get() })
        .collect();
    Ok(Units { first, cart, missing })
}

fn waited_of(
    entry: &WaitedEntry,
    order: &OrderEntry,
    standing: OrderState,
    checkpoint_ms: u64,
) -> Result<Waited, &'static str> {
    let place = ListPlace { class: entry.class, arrival: entry.arrival.get() };
    if place.class > CLASS_MAX || place.arrival > LIST_SEQUENCE_MAX {
        return Err("an order at a place that no list has");
    }
    let (patience_ends_ms, patience_ms) = (entry.patience_ends_ms.get(), entry.patience_ms.get());
    if patience_ms > 0 {
        let served = entry.served != 0;
        return Ok(Waited { place, patience_ends_ms, patience_ms, served });
    }
    // An entry of the time when checkpoints kept neither the patience nor whether the order was served. A promotion
    // moves the deadline away from the end of the patience. The order was placed at this time or earlier.
    let (deadline_ms, changed_ms) = (order.deadline_ms.get(), order.changed_ms.get());
    let served = standing != OrderState::Waiting && deadline_ms != patience_ends_ms;
    let held_from_ms = deadline_ms.saturating_sub(order.hold_ms.get().into());
    let known = [(served, held_from_ms), (changed_ms > 0, changed_ms), (true, checkpoint_ms)];
    let known = known.into_iter().filter_map(|(is_known, ms)| is_known.then_some(ms));
    let placed_ms = known.min().unwrap_or(patience_ends_ms);
    let patience_ms = patience_ends_ms.saturating_sub(placed_ms).max(1) as u32;
    Ok(Waited { place, patience_ends_ms, patience_ms, served })
}

fn gaps(state: &mut PartitionState, chunk: &ChunkView<'_>) -> Result<(), Misfit> {
    for gap in chunk.fixed::<GapEntry>()? {
        let (first, end) = (gap.first.get(), gap.end.get());
        let before = state.orders.gaps().last().map_or(0, |(_, end)| *end);
        if first < before || first >= end {
            return Err("gaps that do not follow each other".into());
        }
        state.orders.note_gap(first, end);
    }
    Ok(())
}

fn sales(
    tables: &Tables,
    partition: usize,
    state: &mut PartitionState,
    chunk: &ChunkView<'_>,
) -> Result<(), Misfit> {
    let mut marks = tables.buyer_marks[partition].lock();
    if chunk.about.kind == ChunkKind::Sales {
        state.limits = BuyerCounts::default();
        *marks = BuyerMarks { sales_lsn: chunk.about.lsn, maps: [chunk.about.lsn; MAPS] };
    }
    for sale in chunk.fixed::<SaleEntry>()? {
        let sku = tables.sku(sale.sku.get().into())?;
        sku.set_counts_buyers();
        state.limits.restore_sale(sku.index, sale.first_sequence.get(), sale.counted != 0);
    }
    Ok(())
}

fn buyers(
    tables: &Tables,
    partition: usize,
    state: &mut PartitionState,
    chunk: &ChunkView<'_>,
) -> Result<(), Misfit> {
    let [first, end] = chunk.about.maps.map(usize::from);
    let mut marks = tables.buyer_marks[partition].lock();
    let maps = marks.maps.get_mut(first..end).ok_or("maps of buyers that are not there")?;
    maps.fill(chunk.about.lsn);
    for entry in chunk.fixed::<BuyerEntry>()? {
        let (buyer, sku) =
            (BuyerId::from_uuid_bytes(entry.buyer), tables.sku(entry.sku.get().into())?);
        let is_new = state.limits.units(buyer, sku.index) == 0;
        if !is_new || !state.limits.counts(sku.index) || !(first..end).contains(&map_of(buyer)) {
            return Err("a buyer's count that does not fit".into());
        }
        state.limits.add(buyer, sku.index, entry.units.get());
    }
    Ok(())
}

fn refusals(
    tables: &Tables,
    partition: usize,
    state: &mut PartitionState,
    chunk: &ChunkView<'_>,
) -> Result<(), Misfit> {
    let mut last_lsn = state.refusals.as_ref().map_or(0, |refusals| refusals.last_lsn());
    for entry in chunk.fixed::<RefusalEntry>()? {
        let (refused, lsn) = (entry.refused.read()?, entry.lsn.get());
        let is_here = partition_of(refused.buyer, tables.partitions) == partition;
        if !is_here || lsn <= last_lsn || lsn > tables.marks[partition].begin_lsn {
            return Err("a refusal that does not fit its partition".into());
        }
        last_lsn = lsn;
        state.restore_refusal(refused, lsn, &tables.hasher);
    }
    Ok(())
}

/// Orders leave memory in the order in which they finished, which is not that of their ids.
fn note_finished(state: &mut PartitionState) {
    let keep = state.finished.keep();
    let finished = state.orders.iter().filter(|(_, slot)| keep.of(slot.state()).is_some());
    let mut finished: Vec<_> = finished.map(|(handle, slot)| (slot.changed_ms(), handle)).collect();
    finished.sort_unstable();
    for (_, handle) in finished {
        state.note_change(handle);
    }
}

fn skus(tables: &Tables, chunk: &ChunkView<'_>) -> Result<(), Misfit> {
    for entry in chunk.skus() {
        let (entry, rules, adjusts) = entry?;
        sku(tables, entry, rules, adjusts)?;
    }
    Ok(())
}

fn merchants(tables: &Tables, chunk: &ChunkView<'_>) -> Result<(), Misfit> {
    for entry in chunk.fixed::<MerchantEntry>()? {
        let merchant = tables.merchant(MerchantId::new(entry.merchant.get()))?;
        let mut ledger = merchant.ledger.lock();
        let (orders_per_s, burst) = (entry.orders_per_s.get(), entry.burst.get());
        let rate = (orders_per_s > 0).then_some(Rate { orders_per_s, burst });
        let switch = Switch::from_code(entry.switch.into()).ok_or("an unknown switch")?;
        ledger.logged = MerchantState { switch, rate };
        ledger.last_lsn = entry.last_lsn.get();
    }
    Ok(())
}

fn switch(tables: &Tables, chunk: &ChunkView<'_>) -> Result<(), Misfit> {
    for entry in chunk.fixed::<SwitchEntry>()? {
        let mut ledger = tables.switches.ledger.lock();
        ledger.logged = Switch::from_code(entry.switch.into()).ok_or("an unknown switch")?;
        ledger.last_lsn = entry.last_lsn.get();
    }
    Ok(())
}

/// Entries of one SKU say the same of it; each brings some of its adjustments.
fn sku(
    tables: &Tables,
    entry: &SkuEntry,
    rules: &[U64],
    adjusts: &[AdjustedEntry],
) -> Result<(), Misfit> {
    let sku = tables.sku(entry.sku.get().into())?;
    let mut ledger = sku.ledger.lock();
    if entry.stocked.get() < 0 || entry.retired.get() < 0 {
        return Err(Misfit::Damage(format!("{} has or sold less than nothing", sku.id)));
    }
    // An earlier entry of the same SKU said the same.
    let retired = entry.retired.get();
    let before = sku.retired.swap(retired, Ordering::Relaxed);
    sku.sold.fetch_add(retired - before, Ordering::Relaxed);
    ledger.stocked = entry.stocked.get();
    ledger.last_lsn = entry.last_lsn.get();
    ledger.adjusts.forgotten_ms = ms_of_bytes(entry.forgotten_ms);
    let limit = Some(entry.buyer_limit.get()).filter(|limit| *limit > 0);
    let changes = RuleChanges { buyer_limit: limit, ..rules_of_words(rules)? };
    if changes != RuleChanges::default() {
        ledger.replay_rules(&changes);
    }
    if entry.list_sequence.get() > LIST_SEQUENCE_MAX {
        return Err(Misfit::Damage(format!("{}'s list has a number out of range", sku.id)));
    }
    if entry.list_sequence.get() > 0 {
        sku.skip_list_to(entry.list_sequence.get());
    }
    sku.stocked.store(ledger.stocked, Ordering::Relaxed);
    if entry.known != 0 {
        sku.known.store(true, Ordering::Release);
    }
    for adjusted in adjusts {
        let kind = match adjusted.key_kind {
            0 => KeyKind::Opaque,
            _ => KeyKind::UuidV7,
        };
        let key = RequestKey::from_logged(adjusted.key, kind);
        let of_kind = AdjustKind::from_code(adjusted.kind);
        let done = AdjustEntry {
            kind: of_kind.ok_or("an adjustment of an unknown kind")?,
            units: adjusted.units.get(),
            expected: adjusted.expected.get(),
            reference_digest: adjusted.reference_digest.get(),
            delta: adjusted.delta.get(),
            stocked: adjusted.stocked.get(),
            lsn: adjusted.lsn.get(),
            at_ms: Some(ms_of_bytes(adjusted.at_ms))
                .filter(|at_ms| *at_ms > 0)
                .unwrap_or(tables.checkpoint_ms),
        };
        ledger.adjusts.insert(key, done);
    }
    Ok(())
}
