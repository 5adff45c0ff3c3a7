//! What a view and a repeat show of an order: when it was placed and changed, its class, its hold, whether it was
//! served from a list. They show the same after a recovery from the log and from a checkpoint.

use doorbuster::{
    Adjust, Fill, Held, Order, OrderId, OrderState, OrderView, Placed, RequestKey, SaleRules,
    SkuId, Waiting,
};

use crate::shop::{SKU, Shop};
use crate::{S, one};

const AWAITED: SkuId = SkuId::new(2);

/// An order that waits for up to 80 s, and is then held for 30 s.
fn in_line(buyer: u64) -> Order {
    let order = Order::new(buyer, RequestKey::new(7)).line(AWAITED, 1).class(buyer as u8);
    order.fill(Fill::Wait { patience: S * 80 }).hold_for(S * 30)
}

fn settle_order(shop: &mut Shop, order: &Order) -> OrderId {
    match shop.settle(|engine| engine.place(order).expect("there is room")) {
        Placed::Waiting(waiting) => waiting.order,
        placed => placed.held().expect("held").order,
    }
}

/// What a view must show of an order besides its content. Of each time, the seconds since the first.
fn told(
    shop: &Shop,
    order: OrderId,
    from_ms: u64,
) -> (OrderState, [u64; 3], u32, Option<u8>, bool) {
    let view = shop.engine.orders(None).find(|view| view.order == order).expect("it is there");
    let OrderView { state, placed_ms, changed_ms, deadline_ms, hold_ms, class, .. } = view;
    let times = [placed_ms, changed_ms, deadline_ms].map(|ms| (ms - from_ms) / 1_000);
    (state, times, hold_ms / 1_000, class, view.served_from_list)
}

#[test]
fn a_view_tells_when_its_order_was_placed_and_changed_after_every_recovery() {
    use OrderState::{Cancelled, Confirmed, Expired, Held, Waiting};
    let mut shop = Shop::of_partitions(4);
    shop.settle(|engine| {
        engine.stock(AWAITED, Adjust::set(0).expect(0).key(1)).expect("there is room")
    });
    shop.settle(|engine| engine.rules(AWAITED, SaleRules::new().waiting_max(10)).expect("known"));
    let from_ms = shop.engine.now_ms();
    let waits = [1, 2, 3, 4].map(|buyer| settle_order(&mut shop, &in_line(buyer)));
    let plain =
        [1, 2, 3].map(|buyer| settle_order(&mut shop, &one(buyer, 1).class(3).hold_for(S * 20)));
    shop.pass(S * 10);
    // The first two are served, and one of them is cancelled; the third leaves its list.
    shop.settle(|engine| engine.stock(AWAITED, Adjust::add(2).key(2)).expect("there is room"));
    shop.engine.run_until_idle();
    shop.pass(S * 5);
    for order in [waits[2], waits[1]] {
        shop.settle(|engine| engine.cancel(order).expect("it may be cancelled"));
    }
    shop.settle(|engine| engine.confirm(plain[1]).expect("held"));
    // The returned unit goes to the fourth order, at 15 s.
    shop.engine.run_until_idle();
    shop.pass(S * 5);
    let expected = [
        (waits[0], (Held, [0, 10, 40], 30, Some(1), true)),
        (waits[1], (Cancelled, [0, 15, 40], 30, Some(2), true)),
        (waits[2], (Cancelled, [0, 15, 80], 30, Some(3), false)),
        (waits[3], (Held, [0, 15, 45], 30, Some(4), true)),
        (plain[0], (Expired, [0, 20, 20], 20, None, false)),
        (plain[1], (Confirmed, [0, 15, 20], 20, None, false)),
    ];
    let check = |shop: &Shop| {
        for (order, expected) in &expected {
            assert_eq!(told(shop, *order, from_ms), *expected);
            let view = shop.engine.order(*order).expect("there").view().clone();
            assert!(shop.engine.orders(None).any(|other| other == view));
        }
    };
    check(&shop);
    let waiting = settle_order(&mut shop, &in_line(5));
    assert_eq!(told(&shop, waiting, from_ms), (Waiting, [20, 20, 100], 30, Some(5), false));
    shop.kill();
    check(&shop);
    shop.checkpoint();
    shop.kill();
    assert!(shop.engine.recovery().checkpoint.is_some());
    check(&shop);
    assert_eq!(told(&shop, waiting, from_ms), (Waiting, [20, 20, 100], 30, Some(5), false));
    assert_eq!(shop.engine.levels(SKU).expect("known").held, 0);
}

#[test]
fn a_repeat_tells_where_the_order_stands_beside_its_first_outcome() {
    let mut shop = Shop::of_partitions(2);
    let order = one(1, 1).hold_for(S * 20);
    let id = settle_order(&mut shop, &order);
    let repeat = |shop: &mut Shop, order: &Order| {
        shop.settle(|engine| engine.place(order).expect("there is room"))
    };
    let deadline_ms = shop.engine.now_ms() + 20_000;
    let expected = |state| Placed::Held(Held { order: id, deadline_ms, replayed: true, state });
    assert_eq!(repeat(&mut shop, &order), expected(OrderState::Held));
    shop.settle(|engine| engine.confirm(id).expect("held"));
    assert_eq!(repeat(&mut shop, &order), expected(OrderState::Confirmed));
    shop.settle(|engine| engine.cancel(id).expect("confirmed"));
    assert_eq!(repeat(&mut shop, &order), expected(OrderState::Cancelled));
    shop.kill();
    assert_eq!(repeat(&mut shop, &order), expected(OrderState::Cancelled));
}

#[test]
fn a_repeat_of_a_served_order_tells_that_it_is_held_and_until_when() {
    let mut shop = Shop::of_partitions(2);
    shop.settle(|engine| {
        engine.stock(AWAITED, Adjust::set(0).expect(0).key(1)).expect("there is room")
    });
    shop.settle(|engine| engine.rules(AWAITED, SaleRules::new().waiting_max(10)).expect("known"));
    let id = settle_order(&mut shop, &in_line(1));
    let patience_ends_ms = shop.engine.now_ms() + 80_000;
    let repeat =
        |shop: &mut Shop| shop.settle(|engine| engine.place(in_line(1)).expect("there is room"));
    let expected = |state, hold_ends_ms| {
        let replayed = true;
        Placed::Waiting(Waiting { order: id, patience_ends_ms, replayed, state, hold_ends_ms })
    };
    assert_eq!(repeat(&mut shop), expected(OrderState::Waiting, None));
    shop.pass(S * 10);
    shop.settle(|engine| engine.stock(AWAITED, Adjust::add(1).key(2)).expect("there is room"));
    shop.engine.run_until_idle();
    let hold_ends_ms = Some(shop.engine.now_ms() + 30_000);
    assert_eq!(repeat(&mut shop), expected(OrderState::Held, hold_ends_ms));
    shop.pass(S * 30);
    assert_eq!(repeat(&mut shop), expected(OrderState::Expired, hold_ends_ms));
    shop.kill();
    assert_eq!(repeat(&mut shop), expected(OrderState::Expired, hold_ends_ms));
}
