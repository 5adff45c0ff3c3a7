//! What a crash leaves of waiting lists.

use doorbuster::OrderState::{Held, Waiting};

use crate::shop::{SKU, Shop};
use crate::{buy, queue};

#[test]
fn a_restart_keeps_the_order_of_the_list() {
    let mut shop = Shop::new(0, 100);
    let orders: Vec<_> =
        (0..30_u64).map(|buyer| shop.wait(queue(buyer, 1).class((buyer % 3) as u8))).collect();
    let before: Vec<_> = orders.iter().map(|order| shop.position(*order)).collect();
    shop.kill();
    let after: Vec<_> = orders.iter().map(|order| shop.position(*order)).collect();
    assert_eq!(before, after);
    assert_eq!(shop.levels(SKU).waiting, 30);
    shop.restock(SKU, 10);
    for (buyer, order) in orders.iter().enumerate() {
        assert_eq!(shop.state(*order), if buyer % 3 == 0 { Held } else { Waiting });
    }
}

/// The same from a checkpoint, and from a checkpoint with what came after it.
#[test]
fn a_checkpoint_keeps_the_list() {
    let mut shop = Shop::new(0, 100);
    let early: Vec<_> = (0..10).map(|buyer| shop.wait(queue(buyer, 2))).collect();
    shop.restock(SKU, 4);
    shop.checkpoint();
    let late: Vec<_> = (10..20).map(|buyer| shop.wait(queue(buyer, 2))).collect();
    shop.cancel(early[3]);
    shop.restock(SKU, 2);
    let dump = shop.engine.dump();
    shop.kill();
    assert!(shop.engine.recovery().checkpoint.is_some());
    let without_floor = |dump: &str| dump.lines().skip(1).map(String::from).collect::<Vec<_>>();
    assert_eq!(without_floor(&shop.engine.dump()), without_floor(&dump));
    for (nth, order) in early.iter().chain(&late).enumerate() {
        // Three were served, and one left.
        let expected = (nth as u64).checked_sub(4);
        assert_eq!(shop.position(*order), expected, "the {nth}th");
    }
}

/// A crash between a release and the promotion neither loses nor doubles a unit. The returned unit goes to the
/// order that waits, before any new order can take it.
#[test]
fn a_promotion_that_a_crash_took_is_made_again_before_the_first_call() {
    let mut shop = Shop::new(1, 10);
    let held = shop.hold(buy(1, 1));
    let waits = shop.wait(queue(2, 1));
    let cancelled = shop.engine.cancel(held).expect("held");
    while !cancelled.is_durable() {
        shop.step_writers();
    }
    // The promoter was asked, and the process dies before it runs, or before its record is durable.
    for promoted in [false, true] {
        if promoted {
            while shop.engine.step_timekeeper() {}
        }
        shop.reopen(shop.storage.crash(&mut |_| 0));
        assert_eq!(shop.state(waits), Held);
        assert_eq!((shop.levels(SKU).available, shop.levels(SKU).held), (0, 1));
        assert!(
            shop.engine.place(buy(3, 1)).expect("an answer").peek().expect("told").held().is_none()
        );
    }
    shop.engine.run_until_idle();
    shop.kill();
    assert_eq!((shop.state(waits), shop.levels(SKU).held), (Held, 1));
}

/// Numbers continue after the last one that was used, so that no new order comes before one that waits.
#[test]
fn an_order_that_joins_after_a_restart_stands_last() {
    let mut shop = Shop::new(0, 10);
    let first = shop.wait(queue(1, 1));
    shop.kill();
    let second = shop.wait(queue(2, 1));
    assert_eq!([first, second].map(|order| shop.position(order)), [Some(0), Some(1)]);
    shop.restock(SKU, 2);
    shop.kill();
    let third = shop.wait(queue(3, 1));
    assert_eq!(shop.position(third), Some(0));
}
