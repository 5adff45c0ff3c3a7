use super::*;
use crate::order::Policy;
use crate::partition::SkuUnits;

fn order(number: u64) -> NewOrder {
    NewOrder {
        buyer: BuyerId::from_u64(number),
        key: RequestKey::new(u128::from(number)),
        hold_ms: 1,
        default_hold: false,
        policy: Policy::AllOrNone,
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

fn fill(table: &mut OrderTable, orders: u64) -> Vec<u32> {
    (0..orders).map(|number| table.insert(order(number), 1).expect("room")).collect()
}

#[test]
fn a_page_whose_orders_are_gone_is_used_again_once_no_timer_has_a_handle_of_it() {
    let mut table = OrderTable::new(0, 0);
    let handles = fill(&mut table, 3 * PAGE_ORDERS as u64);
    let memory_bytes = table.memory_bytes();
    for handle in &handles[..PAGE_ORDERS] {
        assert!(table.remove(*handle).is_some());
        assert_eq!(table.get(*handle).map(Slot::buyer), None);
    }
    // The memory is free, the handles are not: their timers are still to fire.
    let next = fill(&mut table, PAGE_ORDERS as u64);
    assert_eq!(table.memory_bytes(), memory_bytes);
    assert!(handles.iter().all(|handle| !next.contains(handle)));
    handles[..PAGE_ORDERS].iter().for_each(|handle| table.timer_gone(*handle));
    let next = fill(&mut table, PAGE_ORDERS as u64);
    assert!(next.iter().all(|handle| handles[..PAGE_ORDERS].contains(handle)));
    let sequences = 4 * PAGE_ORDERS as u64..5 * PAGE_ORDERS as u64;
    assert!(next.iter().map(|handle| table.sequence(*handle)).eq(sequences));
}

#[test]
fn the_newest_page_stays_while_it_fills_though_all_its_orders_are_gone() {
    let mut table = OrderTable::new(0, 5);
    for number in 0..3 * PAGE_ORDERS as u64 {
        let handle = table.insert(order(number), 1).expect("room");
        assert_eq!(table.find(5 + number), Some(handle));
        table.timer_gone(handle);
        table.remove(handle);
    }
    assert_eq!((table.len(), table.iter().count()), (0, 0));
    let pages = table.memory_bytes() / (80 * PAGE_ORDERS as u64);
    assert!(pages <= 2, "{pages} pages for no orders");
}

#[test]
fn a_sequence_was_given_unless_it_was_skipped() {
    let mut table = OrderTable::new(0, 0);
    fill(&mut table, 2);
    table.skip_to(10);
    table.skip_to(20);
    fill(&mut table, 1);
    table.skip_to(30);
    let given: Vec<u64> = (0..40).filter(|sequence| table.was_given(*sequence)).collect();
    assert_eq!(given, [0, 1, 20]);
    assert_eq!(table.rare.gaps.len(), 2);
}

#[test]
fn orders_that_outlive_their_page_move_and_are_found_as_before() {
    let mut table = OrderTable::new(0, 0);
    let mut memory_bytes = 0;
    let mut kept: Vec<u64> = Vec::new();
    // One order in a thousand stays forever.
    for page in 0..200 {
        let handles = fill(&mut table, PAGE_ORDERS as u64);
        handles.iter().for_each(|handle| table.timer_gone(*handle));
        for (nth, handle) in handles.into_iter().enumerate() {
            match nth {
                7 => kept.push(table.sequence(handle)),
                _ => assert!(table.remove(handle).is_some()),
            }
        }
        fill(&mut table, 1);
        let last = table.next_sequence() - 1;
        for from in table.orders_to_move(PAGE_ORDERS, |_| true) {
            let sequence = table.sequence(from);
            let to = table.keep(from).expect("room");
            assert_eq!(table.find(sequence), Some(to));
            assert_eq!((table.sequence(to), table.get(from).is_none()), (sequence, true));
        }
        let newest = table.find(last).expect("there");
        table.timer_gone(newest);
        table.remove(newest);
        if page == 20 {
            memory_bytes = table.memory_bytes();
        }
    }
    assert_eq!(table.memory_bytes(), memory_bytes, "there is one page of those that stay");
    assert_eq!((table.len(), table.iter().count()), (200, 200));
    let pages = table.pages_below(u64::MAX);
    let all = pages.iter().flat_map(|page| table.of_page(*page, 0));
    assert!(all.map(|(sequence, _)| sequence).eq(kept.iter().copied()));
    for sequence in &kept {
        let handle = table.find(*sequence).expect("there");
        assert!(table.remove(handle).is_some());
        assert_eq!(table.find(*sequence), None);
    }
    assert_eq!(table.oldest_sequence(), table.next_sequence() >> PAGE_BITS << PAGE_BITS);
}

#[test]
fn orders_that_a_checkpoint_holds_of_sparse_pages_take_no_page() {
    let mut table = OrderTable::new(0, 0);
    let all: Vec<u64> = (0..300).map(|nth| nth * PAGE_ORDERS as u64 + nth).collect();
    for sequence in &all {
        table.restore_to(*sequence);
        let handle = table.insert_kept(order(*sequence), 1).expect("room");
        assert_eq!((table.sequence(handle), table.find(*sequence)), (*sequence, Some(handle)));
    }
    // The page goes on of which the last one is.
    let next = *all.last().expect("some") + 1;
    let (reserved, id) = (table.reserve().expect("room"), table.next_id());
    assert_eq!(table.insert(order(next), 2), Some(reserved));
    assert_eq!((id.sequence(), table.len()), (next, 301));
    assert_eq!(table.memory_bytes(), 2 * 80 * PAGE_ORDERS as u64);
    let pages = table.pages_below(u64::MAX);
    let read = pages.iter().flat_map(|page| table.of_page(*page, 0)).map(|(sequence, _)| sequence);
    assert!(read.eq(all.iter().copied().chain([next])));
}

#[test]
fn a_page_reads_in_order_though_some_of_its_orders_moved() {
    let mut table = OrderTable::new(0, 0);
    let handles = fill(&mut table, PAGE_ORDERS as u64 + 1);
    for (nth, handle) in handles.iter().enumerate().take(PAGE_ORDERS) {
        if nth % 10 != 0 {
            table.remove(*handle);
        }
    }
    let moved = table.orders_to_move(1000, |slot| slot.deadline_ms() % 20 == 0);
    assert_eq!(moved.len(), 52);
    moved.into_iter().for_each(|from| assert!(table.keep(from).is_some()));
    let read: Vec<u64> = table.of_page(0, 15).map(|(sequence, _)| sequence).collect();
    assert!(read.iter().copied().eq((20..1024).step_by(10)), "{read:?}");
}

#[test]
fn timers_of_orders_that_ended_are_counted() {
    let mut table = OrderTable::new(0, 0);
    let handles = fill(&mut table, 10_000);
    assert!(!table.has_stale_timers(10_000));
    for handle in &handles[..6_000] {
        table.change(*handle, OrderState::Cancelled, 1, 1);
    }
    assert!(table.has_stale_timers(10_000));
    assert_eq!(handles.iter().filter(|it| table.timer_deadline(**it).is_some()).count(), 4_000);
    assert_eq!(table.stale_timers, 0);
}
