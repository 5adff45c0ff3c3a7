//! Input that no engine accepts: each error names the field, the value and the bound.

use std::time::Duration;

use doorbuster::error::{OrderError, PlaceError, StockError};
use doorbuster::{
    Adjust, Adjusted, BATCH_ORDERS_MAX, BatchError, CLASS_MAX, Fill, HOLD_MAX, KeyField,
    LINE_QUANTITY_MAX, LINES_MAX, Options, Order, OrderId, PAYLOAD_BYTES_MAX, Placed, Quantity,
    Refusal, RequestKey, STOCK_MAX, SaleRules,
};

use crate::shop::{SKU, Shop, settled};
use crate::{EMPTY, OTHER, UNKNOWN, order, plain};

const KEY: RequestKey = RequestKey::new(77);
const BUYER: u64 = 7;

fn bounded(options: Options) -> Options {
    options
        .lines_max(3)
        .payload_bytes_max(10)
        .hold_max(Duration::from_secs(60))
        .hold_default(Duration::from_secs(60))
        .patience_max(Duration::from_secs(5))
}

fn bare() -> Order {
    Order::new(BUYER, KEY)
}

#[test]
fn every_bad_order_is_named_and_changes_nothing() {
    let ms = Duration::from_millis;
    let hold = |hold_ms| PlaceError::HoldOutOfRange { hold_ms, min_ms: 1, max_ms: 60_000 };
    let large = |sku, units| PlaceError::QuantityTooLarge { sku, units, max: LINE_QUANTITY_MAX };
    let one = || bare().line(SKU, 1);
    let cases: Vec<(Order, PlaceError, &str)> = vec![
        (bare(), PlaceError::NoLines, "lines: 0 given, at least 1"),
        (
            one().line(OTHER, 1).line(SKU, 1).line(SKU, 1),
            PlaceError::TooManyLines { lines: 4, max: 3 },
            "lines: 4 given, at most 3",
        ),
        (bare().line(SKU, 0), PlaceError::ZeroQuantity { sku: SKU }, "SKU 1: 0 given"),
        (one().line(OTHER, 0), PlaceError::ZeroQuantity { sku: OTHER }, "SKU 2: 0 given"),
        (one().line(SKU, 0), PlaceError::ZeroQuantity { sku: SKU }, "at least 1"),
        (
            bare().line(SKU, LINE_QUANTITY_MAX + 1),
            large(SKU, 1_000_001),
            "SKU 1: 1000001 units wanted in all, at most 1000000",
        ),
        (
            one().line(OTHER, u32::MAX).line(OTHER, u32::MAX),
            large(OTHER, 8_589_934_590),
            "8589934590",
        ),
        (bare().line(SKU, LINE_QUANTITY_MAX).line(SKU, 1), large(SKU, 1_000_001), "1000000"),
        (one().hold_for(Duration::ZERO), hold(0), "hold: 0 ms given, 1 to 60000 ms"),
        (one().hold_for(ms(60_001)), hold(60_001), "hold: 60001 ms"),
        (one().hold_for(Duration::from_nanos(60_000_000_001)), hold(60_001), "60001"),
        (one().hold_for(Duration::MAX), hold(u64::MAX), "hold"),
        (
            one().payload(vec![0; 11]),
            PlaceError::PayloadTooLong { bytes: 11, max: 10 },
            "payload: 11 bytes given, at most 10",
        ),
        (bare().line(UNKNOWN, 1), PlaceError::UnknownSku { sku: UNKNOWN }, "SKU 99"),
        (one().line(UNKNOWN, 1), PlaceError::UnknownSku { sku: UNKNOWN }, "SKU 99"),
    ];
    for (bad, error, words) in cases {
        let mut shop = Shop::new(bounded);
        let before = shop.seen();
        assert_eq!(shop.engine.place(&bad).expect_err("bad"), error);
        assert!(error.to_string().contains(words), "{error}: no {words:?}");
        let batch =
            shop.engine.place_batch(std::slice::from_ref(&bad)).expect("a batch is accepted");
        assert_eq!(settled(batch), [Err(error)]);
        shop.engine.run_until_idle();
        assert_eq!(shop.seen(), before, "{bad:?}");
        shop.hold(&bare().line(OTHER, 2));
    }
}

#[test]
fn every_bad_fill_policy_is_named_and_changes_nothing() {
    let one = || bare().line(SKU, 2);
    let partial = || one().fill(Fill::Partial);
    let wait = |patience| one().fill(Fill::Wait { patience });
    let patience =
        |patience_ms| PlaceError::PatienceOutOfRange { patience_ms, min_ms: 1, max_ms: 5000 };
    let seconds = Duration::from_secs;
    let cases: Vec<(Order, PlaceError, &str)> = vec![
        (
            one().min_quantity(SKU, 1),
            PlaceError::MinimumWithoutPartial { sku: SKU, minimum: 1 },
            "minimum of SKU 1: 1 given; only a partial order",
        ),
        (
            wait(seconds(1)).min_quantity(SKU, 0),
            PlaceError::MinimumWithoutPartial { sku: SKU, minimum: 0 },
            "SKU 1",
        ),
        (
            partial().min_quantity(OTHER, 1),
            PlaceError::MinimumWithoutLine { sku: OTHER, minimum: 1 },
            "minimum of SKU 2: 1 given, but no line",
        ),
        (
            partial().line(UNKNOWN, 1).min_quantity(OTHER, 0),
            PlaceError::MinimumWithoutLine { sku: OTHER, minimum: 0 },
            "SKU 2",
        ),
        (
            partial().line(SKU, 1).min_quantity(SKU, 4),
            PlaceError::MinimumTooLarge { sku: SKU, minimum: 4, quantity: 3 },
            "minimum of SKU 1: 4 given, at most the quantity, 3",
        ),
        (
            partial().min_quantity(SKU, 1).min_quantity(SKU, u32::MAX),
            PlaceError::MinimumTooLarge { sku: SKU, minimum: u32::MAX, quantity: 2 },
            "4294967295",
        ),
        (
            (0..4).fold(partial(), |order, minimum| order.min_quantity(SKU, minimum % 2)),
            PlaceError::TooManyLines { lines: 4, max: 3 },
            "lines: 4 given, at most 3",
        ),
        (
            wait(seconds(1)).line(OTHER, 1),
            PlaceError::WaitWithSeveralLines { lines: 2 },
            "lines: 2 SKUs given, an order that may wait has 1",
        ),
        (wait(Duration::ZERO), patience(0), "patience: 0 ms given, 1 to 5000 ms"),
        (wait(Duration::from_nanos(5_000_000_001)), patience(5001), "5001"),
        (wait(Duration::MAX), patience(u64::MAX), "patience"),
        (
            one().class(CLASS_MAX + 1),
            PlaceError::ClassOutOfRange { class: 8, max: 7 },
            "class: 8 given, 0 to 7",
        ),
    ];
    for (bad, error, words) in cases {
        let mut shop = Shop::new(bounded);
        let before = shop.seen();
        assert_eq!(shop.engine.place(&bad).expect_err("bad"), error, "{bad:?}");
        assert!(error.to_string().contains(words), "{error}: no {words:?}");
        let batch =
            shop.engine.place_batch(std::slice::from_ref(&bad)).expect("a batch is accepted");
        assert_eq!(settled(batch), [Err(error)]);
        shop.engine.run_until_idle();
        assert_eq!(shop.seen(), before, "{bad:?}");
        shop.hold(&bare().line(OTHER, 2));
    }
}

#[test]
fn policies_just_within_their_bounds_are_taken() {
    let mut shop = Shop::new(bounded);
    shop.add(SKU, 50, 1);
    let partial = |buyer| order(buyer, 1).line(SKU, 1).fill(Fill::Partial);
    let wait = |patience| Fill::Wait { patience };
    let good = [
        order(1, 1).fill(wait(Duration::from_secs(5))),
        order(2, 1).line(SKU, 1).fill(wait(Duration::from_nanos(1))).class(CLASS_MAX),
        partial(3).min_quantity(SKU, 2),
        partial(4).min_quantity(SKU, 9).min_quantity(SKU, 0).line(OTHER, 1),
    ];
    for order in &good {
        shop.hold(order);
    }
    shop.engine.run_until_idle();
}

#[test]
fn what_is_just_within_its_bound_is_taken() {
    let ms = Duration::from_millis;
    let mut shop = Shop::new(bounded);
    shop.add(SKU, 2 * LINE_QUANTITY_MAX, 1);
    let half = LINE_QUANTITY_MAX / 2;
    let good = [
        order(1, 1).line(OTHER, 1).line(SKU, 1),
        Order::new(2, RequestKey::new(1)).line(SKU, half).line(SKU, half),
        order(3, 1).hold_for(ms(60_000)),
        order(4, 1).hold_for(Duration::from_nanos(1)),
        order(5, 1).payload(vec![0; 10]),
    ];
    let now_ms = shop.engine.now_ms();
    let deadlines: Vec<u64> =
        good.iter().map(|order| shop.hold(order).deadline_ms - now_ms).collect();
    assert_eq!(deadlines, [60_000, 60_000, 60_000, 1, 60_000], "a hold is rounded up");

    let mut shop = Shop::new(|options| {
        options.payload_bytes_max(PAYLOAD_BYTES_MAX).log_backlog_bytes_max(2 << 20)
    });
    let mut largest = bare().payload(vec![1; PAYLOAD_BYTES_MAX]).hold_for(HOLD_MAX);
    for sku in 1_000..1_000 + LINES_MAX as u64 {
        drop(shop.engine.stock(sku, Adjust::add(1).key(1)).expect("accepted"));
        largest = largest.line(sku, 1);
        if sku % 256 == 0 {
            shop.engine.run_until_idle();
        }
    }
    shop.engine.run_until_idle();
    let held = shop.hold(&largest);
    assert_eq!(held.deadline_ms, shop.engine.now_ms() + 30 * 24 * 3_600_000);
    let one_more = largest.line(5_096, 1);
    let error = shop.engine.place(one_more).expect_err("4,097 lines");
    assert_eq!(error, PlaceError::TooManyLines { lines: 4097, max: 4096 });
    shop.kill_and_adapt(|options| {
        options.payload_bytes_max(PAYLOAD_BYTES_MAX).log_backlog_bytes_max(2 << 20)
    });
    let view = shop.engine.order(held.order).expect("there");
    assert_eq!((view.lines.len(), view.payload.len()), (LINES_MAX, PAYLOAD_BYTES_MAX));
    assert_eq!(view.deadline_ms, held.deadline_ms);
}

#[test]
fn every_bad_adjustment_is_named_and_changes_nothing() {
    let key = |adjust: Adjust| adjust.key(KEY);
    let cases: Vec<(u64, Adjust, StockError, &str)> = vec![
        (1, Adjust::add(1), StockError::MissingKey { sku: SKU }, "key"),
        (1, key(Adjust::set(1)), StockError::MissingExpected { sku: SKU }, "expected figure"),
        (
            1,
            key(Adjust::add(1).expect(100)),
            StockError::ExpectedWithoutSet { sku: SKU, expected: 100 },
            "100 given; only a set",
        ),
        (1, key(Adjust::add(0)), StockError::ZeroQuantity { sku: SKU }, "0 given, at least 1"),
        (1, key(Adjust::take(0)), StockError::ZeroQuantity { sku: SKU }, "SKU 1"),
        (1, key(Adjust::take_up_to(0)), StockError::ZeroQuantity { sku: SKU }, "SKU 1"),
        (
            1,
            key(Adjust::add(1).reference("elevenbytes")),
            StockError::ReferenceTooLong { bytes: 11, max: 10 },
            "reference: 11 bytes given, at most 10",
        ),
        (
            1,
            key(Adjust::add(STOCK_MAX - 99)),
            StockError::StockTooLarge { sku: SKU, units: 1 << 32, max: STOCK_MAX },
            "4294967296 units in all, at most 4294967295",
        ),
        (99, key(Adjust::take(1)), StockError::UnknownSku { sku: UNKNOWN }, "SKU 99"),
        (99, key(Adjust::take_up_to(1)), StockError::UnknownSku { sku: UNKNOWN }, "SKU 99"),
        (99, Adjust::add(1), StockError::MissingKey { sku: UNKNOWN }, "SKU 99"),
    ];
    for (sku, bad, error, words) in cases {
        let mut shop = Shop::new(bounded);
        let before = shop.seen();
        assert_eq!(shop.engine.stock(sku, bad.clone()).expect_err("bad"), error, "{bad:?}");
        assert!(error.to_string().contains(words), "{error}: no {words:?}");
        shop.engine.run_until_idle();
        assert_eq!(shop.seen(), before, "{bad:?}");
        shop.add(SKU, 1, 77);
    }
    let shop = Shop::new(bounded);
    let error = shop.engine.rules(UNKNOWN, SaleRules::new().buyer_limit(1)).expect_err("unknown");
    assert_eq!(error, StockError::UnknownSku { sku: UNKNOWN });
}

/// A `set` of an unknown SKU that expects too much is refused. So the SKU stays unknown, and does not take the
/// place of a SKU that the host really has.
#[test]
fn a_refused_adjustment_makes_no_sku() {
    let mut shop = Shop::new(|options| options.skus_max(4));
    let before = shop.seen();
    let refused = shop.engine.stock(UNKNOWN, Adjust::set(5).expect(3).key(1)).expect("an answer");
    let expected = Adjusted::Unexpected { expected: Quantity::new(3), stocked: 0 };
    assert_eq!(settled(refused), expected);
    assert_eq!(shop.seen(), before, "nothing changed");
    shop.add(doorbuster::SkuId::new(4), 1, 1);
}

#[test]
fn adjustments_that_do_not_fit_the_stock_are_values_and_leave_the_key_free() {
    let mut shop = Shop::new(plain);
    shop.hold(&Order::new(1_u64, KEY).line(SKU, 40));
    let before = shop.seen();
    let too_few = shop.engine.stock(SKU, Adjust::take(61).key(KEY)).expect("an answer");
    let wanted = Quantity::new(61);
    assert_eq!(settled(too_few), Adjusted::TooFew { wanted, available: 60 });
    let unexpected = shop.engine.stock(SKU, Adjust::set(1).expect(60).key(KEY));
    let answer = Adjusted::Unexpected { expected: Quantity::new(60), stocked: 100 };
    assert_eq!(settled(unexpected.expect("an answer")), answer, "stocked, not available");
    shop.engine.run_until_idle();
    assert_eq!(shop.seen(), before);

    let taken = shop.engine.stock(SKU, Adjust::take(60).key(KEY)).expect("an answer");
    shop.engine.run_until_idle();
    let done = |delta, stocked, shortfall, replayed| Adjusted::Done {
        delta,
        stocked,
        shortfall: Quantity::new(shortfall),
        replayed,
    };
    assert_eq!(settled(taken), done(-60, 40, 0, false));
    let nothing = shop.engine.stock(SKU, Adjust::take_up_to(5).key(78)).expect("an answer");
    shop.engine.run_until_idle();
    assert_eq!(settled(nothing), done(0, 40, 5, false));
    shop.add(SKU, 3, 79);
    let some = shop.engine.stock(SKU, Adjust::take_up_to(5).key(80)).expect("an answer");
    shop.engine.run_until_idle();
    assert_eq!(settled(some), done(-3, 40, 2, false));
    shop.add(SKU, 50, 81);
    for (key, first) in [(77, (60, -60, 40, 0)), (78, (5, 0, 40, 5)), (80, (5, -3, 40, 2))] {
        let (units, delta, stocked, shortfall) = first;
        let again = match key {
            77 => Adjust::take(units),
            _ => Adjust::take_up_to(units),
        };
        let again = shop.engine.stock(SKU, again.key(key)).expect("an answer");
        assert_eq!(settled(again), done(delta, stocked, shortfall, true), "key {key}");
    }
}

#[test]
fn a_key_that_comes_with_other_content_names_the_field_and_changes_nothing() {
    let hold = Duration::from_secs;
    let first = order(1, 1).line(OTHER, 2).hold_for(hold(100)).payload(&b"door"[..]);
    let same = [
        first.clone(),
        Order::new(1, 1).line(OTHER, 1).line(SKU, 1).line(OTHER, 1).hold_for(hold(100)),
        order(1, 1).line(OTHER, 2).hold_for(hold(100) - Duration::from_micros(999)),
    ]
    .map(|order| order.payload(&b"door"[..]));
    let others = [
        (KeyField::Lines, order(1, 1).line(OTHER, 3).hold_for(hold(100))),
        (KeyField::Lines, order(1, 1).line(EMPTY, 2).hold_for(hold(100))),
        (KeyField::Lines, order(1, 1).hold_for(hold(1))),
        (KeyField::Hold, order(1, 1).line(OTHER, 2).hold_for(hold(101))),
        (KeyField::Hold, order(1, 1).line(OTHER, 2)),
    ]
    .map(|(field, order)| (field, order.payload(&b"door"[..])));
    let payloads = [&b""[..], b"doors", b"boor", b"door\0"].map(|payload| {
        let order = order(1, 1).line(OTHER, 2).hold_for(hold(100)).payload(payload);
        (KeyField::Payload, order)
    });
    let mut shop = Shop::new(plain);
    let held = shop.hold(&first);
    for restart in [false, true] {
        if restart {
            shop.kill();
        }
        for again in &same {
            let again = settled(shop.engine.place(again).expect("an answer"));
            assert_eq!(crate::replayed(&again), Some(held.order), "{again:?}");
        }
        for (field, other) in others.iter().chain(&payloads) {
            let before = (shop.seen().0, shop.engine.stats().placed);
            match settled(shop.engine.place(other).expect("an answer")) {
                Placed::KeyReused(reused) => {
                    assert_eq!(
                        (reused.order, reused.field),
                        (Some(held.order), *field),
                        "{other:?}"
                    );
                }
                // Of other SKUs, of which one is sold out.
                Placed::Refused(Refusal::SoldOut { sku: EMPTY, .. }) => {}
                answer => panic!("{other:?}: {answer:?}"),
            }
            assert_eq!((shop.seen().0, shop.engine.stats().placed), before);
        }
    }
    // The scope is the buyer.
    shop.hold(&order(2, 1).line(OTHER, 2).payload(&b"else"[..]));
}

#[test]
fn an_adjustment_key_that_comes_with_other_content_names_the_field() {
    let add = |units: u32| Adjust::add(units).key(5).reference("PO-7");
    let set = |units: u32, expected: u32| Adjust::set(units).expect(expected).key(6);
    let mut shop = Shop::new(plain);
    for first in [add(10), set(50, 110)] {
        drop(shop.engine.stock(SKU, first).expect("accepted"));
        shop.engine.run_until_idle();
    }
    let cases = [
        (add(10), None),
        (set(50, 110), None),
        (Adjust::take(10).key(5).reference("PO-7"), Some(KeyField::Adjustment)),
        (Adjust::take_up_to(10).key(5).reference("PO-7"), Some(KeyField::Adjustment)),
        (set(10, 50).key(5).reference("PO-7"), Some(KeyField::Adjustment)),
        (add(11), Some(KeyField::Quantity)),
        (set(51, 110), Some(KeyField::Quantity)),
        (set(50, 50), Some(KeyField::Expected)),
        (add(10).reference("PO-8"), Some(KeyField::Payload)),
        (add(10).reference(""), Some(KeyField::Payload)),
    ];
    for restart in [false, true] {
        if restart {
            shop.kill();
        }
        for (again, field) in &cases {
            let before = shop.seen();
            let answer = settled(shop.engine.stock(SKU, again.clone()).expect("an answer"));
            match field {
                Some(field) => assert_eq!(answer, Adjusted::KeyReused { field: *field }),
                None => assert!(matches!(answer, Adjusted::Done { replayed: true, .. })),
            }
            assert_eq!(shop.seen(), before, "{again:?}");
        }
    }
    shop.add(OTHER, 11, 5);
}

#[test]
fn an_order_id_that_was_never_given_is_named() {
    let mut shop = Shop::new(plain);
    let held = shop.hold(&order(1, 1)).order.get();
    let partitions = 1 << 10;
    let foreign =
        [0, u64::MAX, held + 1, held ^ 1, held + partitions, held | 0x3ff, held << 20, 1 << 63];
    let before = shop.seen();
    for id in foreign.map(OrderId::from_u64).into_iter().filter(|id| id.get() != held) {
        let unknown = OrderError::UnknownOrder { order: id };
        assert!(unknown.to_string().contains(&id.to_string()), "{unknown}");
        assert_eq!(shop.engine.confirm(id).expect_err("unknown"), unknown);
        assert_eq!(shop.engine.cancel(id).expect_err("unknown"), unknown);
        assert_eq!(shop.engine.fulfil(id).expect_err("unknown"), unknown);
        assert_eq!(shop.engine.order(id).expect_err("unknown"), unknown);
    }
    assert_eq!(shop.seen(), before);
}

#[test]
fn a_batch_over_its_bound_is_refused_as_a_whole() {
    let shop = Shop::new(plain);
    let before = shop.seen();
    let mut orders: Vec<_> = (0..=BATCH_ORDERS_MAX as u64).map(|buyer| order(buyer, 1)).collect();
    let refused = shop.engine.place_batch(&orders).expect_err("one too many");
    assert_eq!(refused, BatchError::TooManyOrders { orders: orders.len(), max: BATCH_ORDERS_MAX });
    assert_eq!(shop.seen(), before);
    orders.pop();
    let answers = shop.engine.place_batch(&orders).expect("as many as there may be");
    assert_eq!(answers.peek().map(Vec::len), Some(BATCH_ORDERS_MAX));
    assert_eq!(shop.engine.levels(SKU).expect("known").held, 100, "all that there are");
}
