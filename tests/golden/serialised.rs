//! What a host stores, sends and configures, written as JSON and read back.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{ManualClock, MemoryStorage, SteppedEngine};
use doorbuster::{
    Adjust, BuyerId, Fill, LINES_MAX, MerchantId, MerchantRules, Options, Order, OrderId,
    OrderView, PAYLOAD_BYTES_MAX, Placed, Quantity, RequestKey, SaleRules, SkuId, Stats,
    StockLevels, Switch, Unavailable,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const SKU: SkuId = SkuId::new(42);

/// Writes the value as text and reads it back. Writing it again makes the same text.
fn again<T: Serialize + DeserializeOwned>(value: &T) -> (T, Value) {
    let text = serde_json::to_string(value).expect("it is written");
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(serde_json::to_string(&read).expect("it is written"), text);
    (read, serde_json::from_str(&text).expect("JSON"))
}

fn refused<T: DeserializeOwned>(value: Value, named: &str) {
    let text = value.to_string();
    let error = serde_json::from_value::<T>(value).err().unwrap_or_else(|| panic!("taken: {text}"));
    assert!(error.to_string().contains(named), "{text}: {error}");
}

#[test]
fn ids_are_text_that_javascript_does_not_round() {
    let order = OrderId::from_u64((1 << 53) - 1);
    assert_eq!(again(&order), (order, json!("ord_7zzzzzzzzzz")));
    let key = RequestKey::from_text("01981cf8-6d2b-7c4f-a1d2-0123456789ab");
    assert_eq!(again(&key), (key, json!("key7:01981cf86d2b7c4fa1d20123456789ab")));
    let key = RequestKey::token(key.to_bytes());
    assert_eq!(again(&key), (key, json!("key:01981cf86d2b7c4fa1d20123456789ab")));
    let buyer = BuyerId::from_u64(7);
    assert_eq!(again(&buyer), (buyer, json!("buyer:07000000000000000000000000000000")));
    for (number, written) in [
        (42, json!(42)),
        ((1 << 53) - 1, json!(9_007_199_254_740_991_u64)),
        (1 << 53, json!("9007199254740992")),
        (u64::MAX, json!("18446744073709551615")),
    ] {
        assert_eq!(again(&SkuId::new(number)), (SkuId::new(number), written.clone()));
        assert_eq!(again(&MerchantId::new(number)), (MerchantId::new(number), written));
    }
    refused::<OrderId>(json!(5), "an order id as text");
    refused::<OrderId>(json!("5"), "ord_");
    refused::<RequestKey>(json!("01981cf8-6d2b-7c4f-a1d2-0123456789ab"), "key:");
    refused::<BuyerId>(json!("buyer:7"), "32");
    refused::<SkuId>(json!("18446744073709551616"), "64 bits");
    refused::<SkuId>(json!("+5"), "64 bits");
    refused::<SkuId>(json!(-1), "64 bits");
}

#[test]
fn orders_are_read_as_they_were_written_and_held_to_their_bounds() {
    let plain = Order::new(7, 1).line(SKU, 1);
    let (_, written) = again(&plain);
    let expected = json!({
        "buyer": "buyer:07000000000000000000000000000000",
        "key": "key:01000000000000000000000000000000",
        "lines": [{"sku": 42, "quantity": 1}],
        "hold_ms": null, "fill": "AllOrNone", "min_quantities": [], "class": 0, "payload": ""
    });
    assert_eq!(written, expected);
    let full = Order::new(7, 1)
        .line(SKU, 3)
        .line(43, 2)
        .hold_for(Duration::from_micros(1500))
        .fill(Fill::Partial)
        .min_quantity(SKU, 2)
        .class(7)
        .payload(vec![0, 0x7f, 0xff]);
    let (_, written) = again(&full);
    assert_eq!((&written["hold_ms"], &written["payload"]), (&json!(2), &json!("007fff")));
    let patient = Fill::Wait { patience: Duration::from_secs(60) };
    let (_, written) = again(&plain.clone().fill(patient));
    assert_eq!(written["fill"], json!({"Wait": {"patience_ms": 60_000}}));

    let with = |field: &str, value: Value| {
        let mut order = expected.clone();
        order[field] = value;
        order
    };
    refused::<Order>(with("lines", json!([])), "lines");
    refused::<Order>(with("lines", json!([{"sku": 42, "quantity": 0}])), "quantity of SKU 42");
    refused::<Order>(with("lines", json!([{"sku": 42, "quantity": 4_000_000}])), "4000000");
    refused::<Order>(with("lines", json!([{"sku": 42, "quantity": 1, "price": 1}])), "price");
    refused::<Order>(
        with("lines", json!(vec![expected["lines"][0].clone(); LINES_MAX + 1])),
        "lines",
    );
    refused::<Order>(with("hold_ms", json!(0)), "hold");
    refused::<Order>(with("hold_ms", json!(1_u64 << 40)), "hold");
    refused::<Order>(with("class", json!(8)), "class");
    refused::<Order>(with("payload", json!("0")), "payload");
    refused::<Order>(with("payload", json!("0g")), "payload");
    refused::<Order>(with("payload", json!("00".repeat(PAYLOAD_BYTES_MAX + 1))), "payload");
    refused::<Order>(with("min_quantities", json!([{"sku": 42, "quantity": 1}])), "minimum");
    refused::<Order>(with("fill", json!({"Wait": {"patience_ms": 0}})), "patience");
    refused::<Order>(with("klass", json!(1)), "klass");
}

#[test]
fn adjustments_are_held_to_their_bounds() {
    let (_, written) = again(&Adjust::set(5).expect(3).key(1).reference("PO-7"));
    let expected = json!({
        "adjust": "set", "units": 5, "expected": 3,
        "key": "key:01000000000000000000000000000000", "reference": "PO-7"
    });
    assert_eq!(written, expected);
    for adjust in [Adjust::add(1), Adjust::take(2), Adjust::take_up_to(3)] {
        let _ = again(&adjust.key(1));
    }
    let with = |field: &str, value: Value| {
        let mut adjust = expected.clone();
        adjust[field] = value;
        adjust
    };
    refused::<Adjust>(with("key", Value::Null), "key");
    refused::<Adjust>(with("expected", Value::Null), "expected");
    refused::<Adjust>(with("adjust", json!("add")), "expected");
    refused::<Adjust>(with("adjust", json!("drop")), "drop");
    refused::<Adjust>(with("reference", json!("x".repeat(PAYLOAD_BYTES_MAX + 1))), "reference");
    refused::<Adjust>(
        json!({"adjust": "add", "units": 0, "key": "key:01000000000000000000000000000000"}),
        "units",
    );
}

#[test]
fn rules_that_stay_are_left_out() {
    let (read, written) = again(&SaleRules::new());
    assert_eq!((read, written), (SaleRules::new(), json!({})));
    let rules = SaleRules::new()
        .buyer_limit(2)
        .opens_at_ms(1_800_000_000_000)
        .closes_at_ms(u64::MAX)
        .early_access(0, Duration::from_secs(60))
        .hold_for(None)
        .safety_stock(20)
        .waiting_max(10)
        .waiting_passes(true)
        .switch(Switch::NoNewHolds)
        .merchant(None);
    let (read, written) = again(&rules);
    assert_eq!(read, rules);
    let expected = json!({
        "buyer_limit": 2, "opens_at_ms": 1_800_000_000_000_u64, "closes_at_ms": null,
        "early_access": [{"class": 0, "before_ms": 60_000}], "hold_ms": null, "safety_stock": 20,
        "waiting_max": 10, "waiting_passes": true, "switch": "NoNewHolds", "merchant": null
    });
    assert_eq!(written, expected);
    let rules = SaleRules::new().merchant(MerchantId::new(7)).hold_for(Duration::from_secs(1));
    let (read, written) = again(&rules);
    assert_eq!((read, written), (rules, json!({"hold_ms": 1000, "merchant": 7})));
    refused::<SaleRules>(json!({"buyer_limits": 2}), "buyer_limits");

    for rules in [
        MerchantRules::new(),
        MerchantRules::new().no_rate(),
        MerchantRules::new().rate(100, 20).switch(Switch::Halted),
    ] {
        assert_eq!(again(&rules).0, rules);
    }
    refused::<MerchantRules>(json!({"rate": {"orders_per_s": 1}}), "burst");
}

#[test]
fn options_are_a_configuration_whose_faults_are_named() {
    let written = again(&Options::new("sale")).1;
    let expected =
        again(&serde_json::from_value::<Options>(json!({"folder": "sale"})).expect("defaults"));
    assert_eq!(written, expected.1, "what is left out has its default");
    // Every option, each with a value other than its default.
    let all = json!({
        "folder": "/sale", "durability": "Written", "partitions": 8, "log_shards": 4,
        "segment_bytes": 1 << 20, "block_bytes_max": 128 << 10, "log_backlog_bytes_max": 32 << 20,
        "checkpoint_bytes": 1 << 20, "log_retention_ms": 1000, "orders_max": 1000,
        "orders_reserved": 10, "skus_max": 10, "merchants_max": 10, "buyers_tracked_max": 10,
        "lines_max": 10, "payload_bytes_max": 10, "hold_default_ms": 10, "hold_max_ms": 1000,
        "patience_max_ms": 1000, "retention_ms": 1000, "returns_window_ms": 2000, "adjust_retention_ms": 1000,
        "finish_on_confirm": true, "key_ahead_max_ms": 1000,
        "remember_refusals": {"duration_ms": 1000, "count_max": 10}, "clock_jump_max_ms": 1000,
        "accept_clock_jump": true, "cut_after_power_loss": true
    });
    let options: Options = serde_json::from_value(all.clone()).expect("valid");
    assert_eq!(again(&options).1, all);
    for (field, value) in all.as_object().expect("an object") {
        assert_ne!(&written[field], value, "{field} should not be its default");
    }
    assert_eq!(all.as_object().map(|it| it.len()), written.as_object().map(|it| it.len()));
    refused::<Options>(json!({}), "folder");
    refused::<Options>(json!({"folder": "sale", "log_shard": 2}), "log_shard");
    for (field, value) in [
        ("partitions", json!(3)),
        ("lines_max", json!(0)),
        ("retention_ms", json!(0)),
        ("orders_max", json!(-1)),
        ("hold_max_ms", json!(u64::MAX)),
        ("remember_refusals", json!({"duration_ms": 1, "count_max": 0})),
    ] {
        let named = if field == "orders_max" { "-1" } else { field.trim_end_matches("_ms") };
        refused::<Options>(json!({"folder": "sale", (field): value}), named);
    }
}

#[test]
fn what_an_engine_answers_is_read_as_it_was_written() {
    let storage = MemoryStorage::new();
    let options = Options::on_storage(Arc::new(storage))
        .clock(Arc::new(ManualClock::default()))
        .segment_bytes(1 << 20);
    let mut engine = SteppedEngine::open(options).expect("opens");
    let added = engine.stock(SKU, Adjust::add(10).key(1)).expect("there is room");
    engine.run_until_idle();
    let _ = again(&added.wait().expect("durable"));
    let placed =
        engine.place(Order::new(7, 1).line(SKU, 2).payload(vec![1, 2])).expect("there is room");
    engine.run_until_idle();
    let placed: Placed = placed.wait().expect("durable");
    assert_eq!(again(&placed).0, placed);
    let order = placed.order_id().expect("held");
    let view: OrderView = engine.order(order).expect("known").view().clone();
    let (read, written) = again(&view);
    assert_eq!(read, view);
    assert_eq!(
        (&written["payload"], &written["order"]),
        (&json!("0102"), &json!(order.to_string()))
    );
    let levels: StockLevels = engine.levels(SKU).expect("known");
    assert_eq!(again(&levels).0, levels);
    let stats: Stats = engine.stats();
    assert_eq!(again(&stats).0, stats);
    let _ = again(&engine.recovery());
    let refused = engine.place(Order::new(8, 1).line(SKU, 100)).expect("an answer");
    let _ = again(refused.peek().expect("at once"));
    let unknown = engine.place(Order::new(8, 1).line(1, 1)).expect_err("not known");
    let written = serde_json::to_value(&unknown).expect("written");
    let expected =
        json!({"kind": "NotFound", "message": "SKU 1 is not known", "retry_after_ms": null});
    assert_eq!(written, expected);
    let busy = serde_json::to_value(Unavailable::Backlogged { bytes: 9, max: 8 }).expect("written");
    assert_eq!((&busy["kind"], &busy["retry_after_ms"]), (&json!("Busy"), &json!(10)));
    // A quantity of 0 can be written as JSON; no verb takes it.
    assert_eq!(again(&Quantity::new(0)).0, Quantity::new(0));
}
