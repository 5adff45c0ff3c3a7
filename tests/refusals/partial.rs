//! Partial orders, one after the other.

use std::time::Duration;

use doorbuster::{
    Adjust, Commit, Fill, Held, Line, Options, Order, OrderState, PartlyHeld, Placed, Quantity,
    Refusal, RequestKey, SaleRules, SkuId,
};

use crate::shop::{SKU, Shop, settled};
use crate::{EMPTY, OTHER, plain};

fn partial(buyer: u64, lines: &[(SkuId, u32)]) -> Order {
    let order = Order::new(buyer, RequestKey::new(1)).fill(Fill::Partial);
    lines.iter().fold(order, |order, (sku, units)| order.line(*sku, *units))
}

fn lines(lines: &[(SkuId, u32)]) -> Vec<Line> {
    let line = |(sku, units): &(SkuId, u32)| Line { sku: *sku, quantity: Quantity::new(*units) };
    lines.iter().map(line).collect()
}

fn placed(shop: &mut Shop, order: &Order) -> Placed {
    let placed: Commit<Placed> = shop.engine.place(order).expect("an answer");
    shop.engine.run_until_idle();
    settled(placed)
}

/// Places an order that must receive everything but this.
fn partly(shop: &mut Shop, order: &Order, missing: &[(SkuId, u32)]) -> Held {
    match placed(shop, order) {
        Placed::Partial(PartlyHeld { held, missing: told }) => {
            assert_eq!(told, lines(missing), "{order:?}");
            held
        }
        other => panic!("partly held, not {other:?}"),
    }
}

fn levels(shop: &Shop, sku: SkuId) -> [i64; 4] {
    let levels = shop.engine.levels(sku).expect("known");
    assert!(levels.add_up(), "{levels:?}");
    [levels.available, levels.held, levels.sold, levels.returning]
}

/// Kills the process and opens the folder again, in life 1 from a checkpoint.
fn restart(shop: &mut Shop, life: usize) {
    if life == 1 {
        shop.checkpoint();
    }
    let (dump, time_ms) = (shop.engine.dump(), shop.engine.now_ms());
    shop.kill();
    assert_eq!(shop.engine.now_ms(), time_ms);
    let without_floor = |dump: String| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert_eq!(without_floor(shop.engine.dump()), without_floor(dump), "life {life}");
}

#[test]
fn a_partial_order_takes_what_there_is_and_receives_what_is_missing() {
    let mut shop = Shop::new(plain);
    let one = partly(&mut shop, &partial(1, &[(SKU, 101)]), &[(SKU, 1)]);
    assert_eq!(levels(&shop, SKU), [0, 100, 0, 0]);
    let wants = [(EMPTY, 2), (OTHER, 60), (SKU, 1)];
    let cart = partly(&mut shop, &partial(2, &wants), &[(SKU, 1), (EMPTY, 2)]);
    assert_eq!(levels(&shop, OTHER), [40, 60, 0, 0]);
    let all = placed(&mut shop, &partial(3, &[(OTHER, 40)]));
    assert!(matches!(all, Placed::Held(_)), "nothing is missing: {all:?}");
    let view = shop.engine.order(cart.order).expect("there").view().clone();
    assert_eq!(view.lines, lines(&[(SKU, 0), (OTHER, 60), (EMPTY, 0)]), "by SKU");
    assert_eq!(view.missing, lines(&[(SKU, 1), (EMPTY, 2)]));
    let view = shop.engine.order(one.order).expect("there").view().clone();
    assert_eq!((view.lines, view.missing), (lines(&[(SKU, 100)]), lines(&[(SKU, 1)])));
}

/// The story: a buyer receives a part, and the buyer's client asks again and again what became of it, while stock
/// is returned, the order moves through its states, and the process dies.
#[test]
fn a_repeat_always_receives_what_was_missing_at_first() {
    let order = || partial(1, &[(SKU, 150), (OTHER, 1), (EMPTY, 3)]).min_quantity(SKU, 100);
    let missing = [(SKU, 50), (EMPTY, 3)];
    for ending in 0..5 {
        let mut shop = Shop::new(plain);
        let held = partly(&mut shop, &order(), &missing);
        assert!(!held.replayed);
        shop.add(EMPTY, 10, 9);
        let engine = shop.engine.engine().clone();
        match ending {
            0 => {}
            1 => drop(engine.cancel(held.order)),
            2 => drop(engine.confirm(held.order)),
            3 => drop(engine.confirm(held.order).and_then(|_| engine.fulfil(held.order))),
            _ => shop.pass(Duration::from_secs(900)),
        }
        drop(engine);
        shop.engine.run_until_idle();
        let state = shop.engine.order(held.order).expect("it is there").state;
        for life in 0..3 {
            let again = partly(&mut shop, &order(), &missing);
            assert_eq!(again, Held { replayed: true, state, ..held });
            let batch = shop.engine.place_batch(&[order()]).expect("a batch is accepted");
            let batch = settled(batch).remove(0).expect("an answer");
            let Placed::Partial(told) = batch else { panic!("{batch:?}") };
            assert_eq!(told, PartlyHeld { held: again, missing: lines(&missing) });
            let view = shop.engine.order(held.order).expect("there").view().clone();
            assert_eq!(view.missing, lines(&missing));
            restart(&mut shop, life);
        }
    }
}

#[test]
fn a_verb_moves_what_a_partial_order_holds_and_no_more() {
    let adapt = |options: Options| options.retention(Duration::from_secs(60));
    let mut shop = Shop::new(adapt);
    let orders: Vec<_> = [(1, 70), (2, 70), (3, 1)]
        .iter()
        .map(|(buyer, units)| partial(*buyer, &[(SKU, *units), (EMPTY, 5), (OTHER, *units)]))
        .collect();
    let first = partly(&mut shop, &orders[0], &[(EMPTY, 5)]).order;
    let second = partly(&mut shop, &orders[1], &[(SKU, 40), (OTHER, 40), (EMPTY, 5)]).order;
    let refused = placed(&mut shop, &orders[2]);
    assert!(matches!(refused, Placed::Refused(Refusal::SoldOut { sku: SKU, .. })), "{refused:?}");
    drop(shop.engine.confirm(first).expect("confirms"));
    drop(shop.engine.cancel(second).expect("cancels"));
    assert_eq!(levels(&shop, SKU), [0, 0, 70, 30]);
    shop.engine.run_until_idle();
    assert_eq!(levels(&shop, SKU), [30, 0, 70, 0]);
    assert_eq!(levels(&shop, EMPTY), [0, 0, 0, 0]);
    drop(shop.engine.fulfil(first).expect("fulfils"));
    shop.engine.run_until_idle();
    for life in 0..3 {
        assert_eq!(levels(&shop, OTHER), [30, 0, 70, 0], "life {life}");
        restart(&mut shop, life);
        // Both leave memory in the second life.
        shop.pass(Duration::from_secs(if life == 0 { 0 } else { 61 }));
    }
    assert_eq!(shop.engine.stats().orders, 0, "retired");
    assert_eq!(levels(&shop, SKU), [30, 0, 70, 0]);
}

#[test]
fn a_line_below_its_minimum_returns_every_other_line() {
    let mut shop = Shop::new(plain);
    let before = shop.seen().0;
    let cart = || partial(1, &[(SKU, 10), (OTHER, 101), (EMPTY, 1)]);
    let cases = [
        (cart().min_quantity(OTHER, 101), OTHER, 101, 100),
        (cart().min_quantity(EMPTY, 1), EMPTY, 1, 0),
        (partial(1, &[(SKU, 200)]).min_quantity(SKU, 101), SKU, 101, 100),
        (partial(1, &[(EMPTY, 2)]), EMPTY, 1, 0),
    ];
    for (order, sku, wanted, available) in cases {
        let wanted = Quantity::new(wanted);
        let refused = Placed::Refused(Refusal::SoldOut { sku, wanted, available });
        assert_eq!(placed(&mut shop, &order), refused, "{order:?}");
        assert_eq!((shop.seen().0, shop.engine.stats().orders), (before.clone(), 0));
    }
    partly(&mut shop, &cart().min_quantity(OTHER, 100), &[(OTHER, 1), (EMPTY, 1)]);
}

#[test]
fn a_limit_is_to_a_line_what_the_stock_is() {
    let mut shop = Shop::new(plain);
    for sku in [SKU, OTHER] {
        drop(shop.engine.rules(sku, SaleRules::new().buyer_limit(3)).expect("accepted"));
    }
    shop.engine.run_until_idle();
    let key = |order: Order, key: u128| {
        let mut again = Order::new(order.buyer(), RequestKey::new(key)).fill(Fill::Partial);
        for line in order.lines() {
            again = again.line(line.sku, line.quantity);
        }
        again
    };
    let wants = [(SKU, 2), (OTHER, 5), (EMPTY, 1)];
    let first = partly(&mut shop, &partial(1, &wants), &[(OTHER, 2), (EMPTY, 1)]);
    // One more unit of the one SKU, none of the other.
    partly(&mut shop, &key(partial(1, &wants), 2), &[(SKU, 1), (OTHER, 5), (EMPTY, 1)]);
    let over = |sku, wanted, taken| {
        let (wanted, limit) = (Quantity::new(wanted), Quantity::new(3));
        Placed::Refused(Refusal::BuyerLimit { sku, wanted, taken, limit })
    };
    let both = || key(partial(1, &[(SKU, 2), (OTHER, 2)]), 3);
    assert_eq!(placed(&mut shop, &both()), over(SKU, 1, 3), "nothing is left of any line");
    let minimum = key(partial(1, &[(OTHER, 2)]), 3).line(EMPTY, 1).min_quantity(OTHER, 2);
    assert_eq!(placed(&mut shop, &minimum), over(OTHER, 2, 3));
    // Nothing is left of the limit, and nothing of the stock.
    let sold_out = placed(&mut shop, &key(partial(1, &[(OTHER, 2), (EMPTY, 7)]), 3));
    let wanted = Quantity::new(1);
    let empty = Refusal::SoldOut { sku: EMPTY, wanted, available: 0 };
    assert_eq!(sold_out, Placed::Refused(empty));
    for life in 0..3 {
        assert_eq!(placed(&mut shop, &both()), over(SKU, 1, 3), "life {life}");
        restart(&mut shop, life);
    }
    drop(shop.engine.cancel(first.order).expect("cancels"));
    shop.engine.run_until_idle();
    let again = placed(&mut shop, &both());
    assert!(matches!(again, Placed::Held(_)), "it returned what it had: {again:?}");
}

/// The story: the buyer's earlier hold is over, and no call has looked at it since. It must not make the buyer's
/// next order smaller.
#[test]
fn a_hold_that_is_over_leaves_its_share_of_the_limit_to_the_next_order() {
    let mut shop = Shop::new(plain);
    drop(shop.engine.rules(SKU, SaleRules::new().buyer_limit(3)).expect("accepted"));
    shop.engine.run_until_idle();
    let hold = Duration::from_secs(1);
    let first = placed(&mut shop, &partial(1, &[(SKU, 2)]).hold_for(hold));
    assert!(matches!(first, Placed::Held(_)));
    shop.clock.advance(hold);
    let next = Order::new(1, RequestKey::new(2)).line(SKU, 4).fill(Fill::Partial);
    partly(&mut shop, &next, &[(SKU, 1)]);
}

/// The story: a cart wants a new SKU of which nothing is there yet, and the cart is durable before the delivery
/// that made the SKU known. The process dies in between. Every later open was refused.
#[test]
fn a_sku_whose_delivery_is_lost_is_known_to_the_order_that_lacks_it() {
    for sku in (1_000..1_020).map(SkuId::new) {
        let mut shop = Shop::new(plain);
        drop(shop.engine.stock(sku, Adjust::add(5).key(1)).expect("accepted"));
        let order = partial(1, &[(SKU, 1), (sku, 2)]);
        let first = shop.engine.place(&order).expect("an answer");
        // The order is in one of two shards. Of some SKUs the delivery is in the other one.
        for shard in 0..shop.engine.shards() {
            if !first.is_durable() {
                let _ = shop.engine.step_writer(shard);
            }
        }
        let Placed::Partial(first) = settled(first) else { panic!("partly held") };
        shop.kill();
        let Placed::Partial(again) = placed(&mut shop, &order) else { panic!("partly held") };
        assert_eq!((again.held.order, &again.missing), (first.held.order, &first.missing));
        assert_eq!(levels(&shop, sku)[1..], [0, 0, 0]);
        shop.add(SKU, 5, 9);
    }
}

/// The story: the largest order there is, in which every line falls short, with a payload, in the smallest block
/// that can take it. It is written, replayed, and copied into a checkpoint.
#[test]
fn the_largest_partial_order_is_kept() {
    let adapt = |options: Options| options.partitions(1).log_shards(1).block_bytes_max(96 << 10);
    let mut shop = Shop::new(adapt);
    let mut order = partial(1, &[]).payload(vec![3; 4096]);
    for sku in 1_000..1_000 + doorbuster::LINES_MAX as u64 {
        drop(shop.engine.stock(sku, Adjust::add(1).key(1)).expect("accepted"));
        order = order.line(sku, 2).min_quantity(sku, 1);
        if sku % 256 == 0 {
            shop.engine.run_until_idle();
        }
    }
    shop.engine.run_until_idle();
    let first = placed(&mut shop, &order);
    let Placed::Partial(told) = &first else { panic!("{first:?}") };
    assert_eq!(told.missing.len(), doorbuster::LINES_MAX);
    for life in 0..3 {
        let again = placed(&mut shop, &order);
        let Placed::Partial(again) = again else { panic!("{again:?}") };
        assert_eq!(again.missing, told.missing);
        let view = shop.engine.order(told.held.order).expect("there");
        assert_eq!((view.state, view.lines.len()), (OrderState::Held, doorbuster::LINES_MAX));
        drop(view);
        if life == 1 {
            shop.checkpoint();
        }
        shop.kill();
    }
}

/// The story: a cart wants an old SKU and one that was stocked a moment ago, of which it receives nothing yet. The
/// crash keeps the cart, which is in one shard, and not the delivery, which is in another.
#[test]
fn an_order_that_got_nothing_of_a_sku_outlives_the_record_that_made_it_known() {
    let adapt = |options: Options| options.partitions(2).log_shards(2);
    let mut outlived = 0;
    for shard in 0..2 {
        let mut shop = Shop::new(adapt);
        let new = SkuId::new(77);
        drop(shop.engine.stock(new, Adjust::add(5).key(1)).expect("accepted"));
        let mut placed = Vec::new();
        for buyer in 1..=8 {
            let order = partial(buyer, &[(SKU, 1), (new, 2)]);
            let told = shop.engine.place(&order).expect("an answer");
            let Some(Placed::Partial(told)) = told.peek().cloned() else { panic!("{told:?}") };
            assert_eq!(told.missing, lines(&[(new, 2)]), "the delivery is not durable");
            placed.push((order, told.held.order));
        }
        shop.engine.step_writer(shard);
        shop.kill();
        for (order, id) in placed {
            let Ok(view) = shop.engine.order(id) else { continue };
            assert_eq!(view.missing, lines(&[(new, 2)]));
            outlived += u32::from(shop.engine.levels(new).is_some_and(|it| it.stocked == 0));
            assert!(matches!(shop.engine.place(&order).expect("an answer").peek(),
                Some(Placed::Partial(again)) if again.held.order == id));
        }
        restart(&mut shop, 1);
        shop.add(new, 5, 2);
        assert!(levels(&shop, new)[0] >= 5);
    }
    assert!(outlived > 0, "no order outlived the delivery");
}
