//! One partial order after the other.

use std::time::Duration;

use doorbuster::{
    Adjust, Commit, Fill, Held, Line, Options, Order, OrderState, PartlyHeld, Placed, Quantity,
    Refusal, RequestKey, SaleRules, SkuId,
};

use crate::bench::{Bench, EMPTY, OTHER, SKU, settled};

fn partial(buyer: u64, lines: &[(SkuId, u32)]) -> Order {
    let order = Order::new(buyer, RequestKey::new(1)).fill(Fill::Partial);
    lines.iter().fold(order, |order, (sku, units)| order.line(*sku, *units))
}

fn lines(lines: &[(SkuId, u32)]) -> Vec<Line> {
    let line = |(sku, units): &(SkuId, u32)| Line { sku: *sku, quantity: Quantity::new(*units) };
    lines.iter().map(line).collect()
}

fn placed(bench: &mut Bench, order: &Order) -> Placed {
    let placed: Commit<Placed> = bench.engine.place(order).expect("an answer");
    bench.engine.run_until_idle();
    settled(placed)
}

/// Places an order that must get all but this.
fn partly(bench: &mut Bench, order: &Order, missing: &[(SkuId, u32)]) -> Held {
    match placed(bench, order) {
        Placed::Partial(PartlyHeld { held, missing: told }) => {
            assert_eq!(told, lines(missing), "{order:?}");
            held
        }
        other => panic!("partly held, not {other:?}"),
    }
}

fn levels(bench: &Bench, sku: SkuId) -> [i64; 4] {
    let levels = bench.engine.levels(sku).expect("known");
    assert!(levels.add_up(), "{levels:?}");
    [levels.available, levels.held, levels.sold, levels.returning]
}

/// Restarts behind a crash, and from a checkpoint.
fn restart(mut bench: Bench, life: usize, adapt: fn(Options) -> Options) -> Bench {
    if life == 1 {
        let taken = bench.engine.checkpoint().expect("takes one");
        bench.engine.run_until_idle();
        taken.wait().expect("taken");
    }
    let (dump, time_ms) = (bench.engine.dump(), bench.engine.now_ms());
    let bench = bench.restart(adapt);
    assert_eq!(bench.engine.now_ms(), time_ms);
    let without_floor = |dump: String| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert_eq!(without_floor(bench.engine.dump()), without_floor(dump), "life {life}");
    bench
}

#[test]
fn a_partial_order_takes_what_there_is_and_is_told_what_is_missing() {
    let mut bench = Bench::new(|options| options);
    let one = partly(&mut bench, &partial(1, &[(SKU, 101)]), &[(SKU, 1)]);
    assert_eq!(levels(&bench, SKU), [0, 100, 0, 0]);
    let wants = [(EMPTY, 2), (OTHER, 60), (SKU, 1)];
    let cart = partly(&mut bench, &partial(2, &wants), &[(SKU, 1), (EMPTY, 2)]);
    assert_eq!(levels(&bench, OTHER), [40, 60, 0, 0]);
    let all = placed(&mut bench, &partial(3, &[(OTHER, 40)]));
    assert!(matches!(all, Placed::Held(_)), "nothing is missing: {all:?}");
    let view = bench.engine.order(cart.order).expect("there").view().clone();
    assert_eq!(view.lines, lines(&[(SKU, 0), (OTHER, 60), (EMPTY, 0)]), "by SKU");
    assert_eq!(view.missing, lines(&[(SKU, 1), (EMPTY, 2)]));
    let view = bench.engine.order(one.order).expect("there").view().clone();
    assert_eq!((view.lines, view.missing), (lines(&[(SKU, 100)]), lines(&[(SKU, 1)])));
}

/// The story: a buyer takes a part, and his client asks again and again what became of it, while stock
/// comes back, the order goes on, and the process dies.
#[test]
fn a_repeat_hears_what_was_missing_at_first_for_ever() {
    let order = || partial(1, &[(SKU, 150), (OTHER, 1), (EMPTY, 3)]).min_quantity(SKU, 100);
    let missing = [(SKU, 50), (EMPTY, 3)];
    for ending in 0..5 {
        let mut bench = Bench::new(|options| options);
        let held = partly(&mut bench, &order(), &missing);
        assert!(!held.replayed);
        bench.add(EMPTY, 10, 9);
        let engine = bench.engine.engine().clone();
        match ending {
            0 => {}
            1 => drop(engine.cancel(held.order)),
            2 => drop(engine.confirm(held.order)),
            3 => drop(engine.confirm(held.order).and_then(|_| engine.fulfil(held.order))),
            _ => bench.advance(Duration::from_secs(900)),
        }
        drop(engine);
        bench.engine.run_until_idle();
        let state = bench.engine.order(held.order).expect("it is there").state;
        for life in 0..3 {
            let again = partly(&mut bench, &order(), &missing);
            assert_eq!(again, Held { replayed: true, state, ..held });
            let batch = bench.engine.place_batch(&[order()]).expect("takes batches");
            let batch = settled(batch).remove(0).expect("an answer");
            let Placed::Partial(told) = batch else { panic!("{batch:?}") };
            assert_eq!(told, PartlyHeld { held: again, missing: lines(&missing) });
            let view = bench.engine.order(held.order).expect("there").view().clone();
            assert_eq!(view.missing, lines(&missing));
            bench = restart(bench, life, |options| options);
        }
    }
}

#[test]
fn a_verb_moves_what_a_partial_order_holds_and_no_more() {
    let adapt = |options: Options| options.retention(Duration::from_secs(60));
    let mut bench = Bench::new(adapt);
    let orders: Vec<_> = [(1, 70), (2, 70), (3, 1)]
        .iter()
        .map(|(buyer, units)| partial(*buyer, &[(SKU, *units), (EMPTY, 5), (OTHER, *units)]))
        .collect();
    let first = partly(&mut bench, &orders[0], &[(EMPTY, 5)]).order;
    let second = partly(&mut bench, &orders[1], &[(SKU, 40), (OTHER, 40), (EMPTY, 5)]).order;
    let refused = placed(&mut bench, &orders[2]);
    assert!(matches!(refused, Placed::Refused(Refusal::SoldOut { sku: SKU, .. })), "{refused:?}");
    drop(bench.engine.confirm(first).expect("confirms"));
    drop(bench.engine.cancel(second).expect("cancels"));
    assert_eq!(levels(&bench, SKU), [0, 0, 70, 30]);
    bench.engine.run_until_idle();
    assert_eq!(levels(&bench, SKU), [30, 0, 70, 0]);
    assert_eq!(levels(&bench, EMPTY), [0, 0, 0, 0]);
    drop(bench.engine.fulfil(first).expect("fulfils"));
    bench.engine.run_until_idle();
    for life in 0..3 {
        assert_eq!(levels(&bench, OTHER), [30, 0, 70, 0], "life {life}");
        bench = restart(bench, life, adapt);
        // Both leave memory in the second life.
        bench.advance(Duration::from_secs(if life == 0 { 0 } else { 61 }));
    }
    assert_eq!(bench.engine.stats().orders, 0, "retired");
    assert_eq!(levels(&bench, SKU), [30, 0, 70, 0]);
}

#[test]
fn a_line_below_its_minimum_gives_every_other_line_back() {
    let mut bench = Bench::new(|options| options);
    let before = bench.seen().0;
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
        assert_eq!(placed(&mut bench, &order), refused, "{order:?}");
        assert_eq!((bench.seen().0, bench.engine.stats().orders), (before.clone(), 0));
    }
    partly(&mut bench, &cart().min_quantity(OTHER, 100), &[(OTHER, 1), (EMPTY, 1)]);
}

#[test]
fn a_limit_is_to_a_line_what_the_stock_is() {
    let mut bench = Bench::new(|options| options);
    for sku in [SKU, OTHER] {
        drop(bench.engine.rules(sku, SaleRules::new().buyer_limit(3)).expect("takes it"));
    }
    bench.engine.run_until_idle();
    let key = |order: Order, key: u128| {
        let mut again = Order::new(order.buyer(), RequestKey::new(key)).fill(Fill::Partial);
        for line in order.lines() {
            again = again.line(line.sku, line.quantity);
        }
        again
    };
    let wants = [(SKU, 2), (OTHER, 5), (EMPTY, 1)];
    let first = partly(&mut bench, &partial(1, &wants), &[(OTHER, 2), (EMPTY, 1)]);
    // One more of the one, none of the other.
    partly(&mut bench, &key(partial(1, &wants), 2), &[(SKU, 1), (OTHER, 5), (EMPTY, 1)]);
    let over = |sku, wanted, taken| {
        let (wanted, limit) = (Quantity::new(wanted), Quantity::new(3));
        Placed::Refused(Refusal::BuyerLimit { sku, wanted, taken, limit })
    };
    let both = || key(partial(1, &[(SKU, 2), (OTHER, 2)]), 3);
    assert_eq!(placed(&mut bench, &both()), over(SKU, 1, 3), "nothing is left of any line");
    let minimum = key(partial(1, &[(OTHER, 2)]), 3).line(EMPTY, 1).min_quantity(OTHER, 2);
    assert_eq!(placed(&mut bench, &minimum), over(OTHER, 2, 3));
    // What is left of the limit is nothing, and what is left of the stock.
    let sold_out = placed(&mut bench, &key(partial(1, &[(OTHER, 2), (EMPTY, 7)]), 3));
    let wanted = Quantity::new(1);
    let empty = Refusal::SoldOut { sku: EMPTY, wanted, available: 0 };
    assert_eq!(sold_out, Placed::Refused(empty));
    for life in 0..3 {
        assert_eq!(placed(&mut bench, &both()), over(SKU, 1, 3), "life {life}");
        bench = restart(bench, life, |options| options);
    }
    drop(bench.engine.cancel(first.order).expect("cancels"));
    bench.engine.run_until_idle();
    let again = placed(&mut bench, &both());
    assert!(matches!(again, Placed::Held(_)), "it gave back what it had: {again:?}");
}

/// The story: the buyer's earlier hold is over, and nobody has come by to say so. It must not make his
/// next order smaller.
#[test]
fn a_hold_that_is_over_leaves_its_share_of_the_limit_to_the_next_order() {
    let mut bench = Bench::new(|options| options);
    drop(bench.engine.rules(SKU, SaleRules::new().buyer_limit(3)).expect("takes it"));
    bench.engine.run_until_idle();
    let hold = Duration::from_secs(1);
    let first = placed(&mut bench, &partial(1, &[(SKU, 2)]).hold_for(hold));
    assert!(matches!(first, Placed::Held(_)));
    bench.clock.advance(hold);
    let next = Order::new(1, RequestKey::new(2)).line(SKU, 4).fill(Fill::Partial);
    partly(&mut bench, &next, &[(SKU, 1)]);
}

/// The story: a cart wants a new SKU of which nothing is there yet, and is durable before the delivery that
/// made it known. The process dies in between: every later open was refused.
#[test]
fn a_sku_whose_delivery_is_lost_is_known_to_the_order_that_lacks_it() {
    for sku in (1_000..1_020).map(SkuId::new) {
        let mut bench = Bench::new(|options| options);
        drop(bench.engine.stock(sku, Adjust::add(5).key(1)).expect("takes it"));
        let order = partial(1, &[(SKU, 1), (sku, 2)]);
        let first = bench.engine.place(&order).expect("an answer");
        // Of two shards the one that has the order: of some SKUs it is the other one that has the delivery.
        for shard in 0..bench.engine.shards() {
            if !first.is_durable() {
                let _ = bench.engine.step_writer(shard);
            }
        }
        let Placed::Partial(first) = settled(first) else { panic!("partly held") };
        let mut bench = bench.restart(|options| options);
        let Placed::Partial(again) = placed(&mut bench, &order) else { panic!("partly held") };
        assert_eq!((again.held.order, &again.missing), (first.held.order, &first.missing));
        assert_eq!(levels(&bench, sku)[1..], [0, 0, 0]);
        bench.add(SKU, 5, 9);
    }
}

/// The story: the largest order there is, none of its lines to be had in full, with a payload, in the
/// smallest block that takes it; written, replayed, copied into a checkpoint.
#[test]
fn the_largest_partial_order_is_kept() {
    let adapt = |options: Options| options.partitions(1).log_shards(1).block_bytes_max(96 << 10);
    let mut bench = Bench::new(adapt);
    let mut order = partial(1, &[]).payload(vec![3; 4096]);
    for sku in 1_000..1_000 + doorbuster::LINES_MAX as u64 {
        drop(bench.engine.stock(sku, Adjust::add(1).key(1)).expect("takes it"));
        order = order.line(sku, 2).min_quantity(sku, 1);
        if sku % 256 == 0 {
            bench.engine.run_until_idle();
        }
    }
    bench.engine.run_until_idle();
    let first = placed(&mut bench, &order);
    let Placed::Partial(told) = &first else { panic!("{first:?}") };
    assert_eq!(told.missing.len(), doorbuster::LINES_MAX);
    for life in 0..3 {
        let again = placed(&mut bench, &order);
        let Placed::Partial(again) = again else { panic!("{again:?}") };
        assert_eq!(again.missing, told.missing);
        let view = bench.engine.order(told.held.order).expect("there");
        assert_eq!((view.state, view.lines.len()), (OrderState::Held, doorbuster::LINES_MAX));
        drop(view);
        if life == 1 {
            let taken = bench.engine.checkpoint().expect("takes one");
            bench.engine.run_until_idle();
            taken.wait().expect("taken");
        }
        bench = bench.restart(adapt);
    }
}

/// The story: a cart wants something old and something that was put into stock a moment ago, of which it gets
/// nothing yet. The crash keeps the cart, which is in one shard, and not the delivery, which is in another.
#[test]
fn an_order_that_got_nothing_of_a_sku_outlives_the_record_that_made_it_known() {
    let adapt = |options: Options| options.partitions(2).log_shards(2);
    let mut outlived = 0;
    for shard in 0..2 {
        let mut bench = Bench::new(adapt);
        let new = SkuId::new(77);
        drop(bench.engine.stock(new, Adjust::add(5).key(1)).expect("takes it"));
        let mut placed = Vec::new();
        for buyer in 1..=8 {
            let order = partial(buyer, &[(SKU, 1), (new, 2)]);
            let told = bench.engine.place(&order).expect("an answer");
            let Some(Placed::Partial(told)) = told.peek().cloned() else { panic!("{told:?}") };
            assert_eq!(told.missing, lines(&[(new, 2)]), "the delivery is not durable");
            placed.push((order, told.held.order));
        }
        bench.engine.step_writer(shard);
        let mut bench = bench.restart(adapt);
        for (order, id) in placed {
            let Ok(view) = bench.engine.order(id) else { continue };
            assert_eq!(view.missing, lines(&[(new, 2)]));
            outlived += u32::from(bench.engine.levels(new).is_some_and(|it| it.stocked == 0));
            assert!(matches!(bench.engine.place(&order).expect("an answer").peek(),
                Some(Placed::Partial(again)) if again.held.order == id));
        }
        bench = restart(bench, 1, adapt);
        bench.add(new, 5, 2);
        assert!(levels(&bench, new)[0] >= 5);
    }
    assert!(outlived > 0, "no order outlived the delivery");
}
