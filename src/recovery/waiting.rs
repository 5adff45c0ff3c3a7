//! Waiting lists: made anew from the orders that wait.

use crate::ids::OrderId;
use crate::order::{ListPlace, OrderState};
use crate::partition::PartitionState;
use crate::recovery::tables::States;
use crate::stock::Registry;

/// An order that waits, by the index of its SKU.
type Waits = (u32, ListPlace, OrderId, u32);

/// Puts every order that waits in its place, whatever stood in the lists before. Fails with a SKU's index and an
/// order whose place is taken.
pub(super) fn fill(
    skus: &Registry,
    states: &(impl States + ?Sized),
    partitions: usize,
) -> Result<(), (u32, OrderId)> {
    for list in skus.iter().filter_map(|sku| sku.list()) {
        list.lock().clear();
    }
    let mut waits: Vec<Waits> = Vec::new();
    for partition in 0..partitions {
        waits.extend(waiting(&states.state(partition)));
    }
    waits.sort_unstable();
    for same in waits.chunk_by(|a, b| a.0 == b.0) {
        let sku = skus.get(same[0].0);
        let mut list = sku.list_or_new().lock();
        let mut last = None;
        for (_, place, order, units) in same {
            if last == Some(*place) {
                return Err((sku.index, *order));
            }
            last = Some(*place);
            list.push(*place, *order, *units);
        }
        sku.hot.available.restore_waiting();
    }
    Ok(())
}

fn waiting(state: &PartitionState) -> impl Iterator<Item = Waits> + '_ {
    state.orders.iter().filter_map(|(handle, slot)| {
        let waited = slot.waited().filter(|_| slot.state() == OrderState::Waiting)?;
        let line = slot.lines().next()?;
        Some((line.sku, waited.place, state.orders.id(handle), line.units))
    })
}
