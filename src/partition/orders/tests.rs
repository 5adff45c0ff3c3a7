use super::*;
use crate::partition::SkuUnits;

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
    assert_eq!(table.gaps.len(), 2);
}
