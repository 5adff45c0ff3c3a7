use super::*;
use crate::ids::{BuyerId, MerchantId, Quantity};
use crate::log::record::waiting::Joins;
use crate::order::{
    Content, LIST_SEQUENCE_MAX, ListPlace, Policy, Rate, Refusal, Refused, RuleChanges, Scope,
    Switch,
};

fn round_trip(record: Record<'_>) -> usize {
    let mut bytes = vec![0xEE; 16];
    record.write(&mut bytes);
    let read: Vec<_> = records(&bytes[16..]).collect();
    assert_eq!(read, [Ok(record)]);
    assert_eq!(record_bytes(&bytes[16..]), bytes.len() - 16);
    bytes.len() - 16
}

fn place<'a>(lines: &'a [Line], payload: &'a [u8], key: RequestKey) -> Record<'a> {
    Record::Place(PlaceRecord {
        order: OrderId::from_u64(77),
        buyer: BuyerId::from_u64(5),
        key,
        time_low: 9,
        hold_ms: 900_000,
        default_hold: payload.is_empty(),
        policy: if payload == b"x" { Policy::Wait } else { Policy::AllOrNone },
        lines: LoggedLines::Memory(lines),
        parts: LoggedParts::None,
        joins: None,
        payload,
    })
}

#[test]
fn records_read_back_as_written() {
    let line = |sku, units| Line { sku: SkuId::new(sku), quantity: Quantity::new(units) };
    let mut v7 = [7; 16];
    (v7[0], v7[1], v7[6], v7[8]) = (1, 0x98, 0x70, 0x80);
    let v7 = RequestKey::uuid_v7(v7).expect("a UUID of version 7");
    assert_eq!(round_trip(place(&[line(1, 2)], b"", RequestKey::new(3))), 64);
    assert_eq!(round_trip(place(&[line(1, 2)], b"hello", v7)), 80);
    assert_eq!(
        round_trip(place(&[line(1, 2), line(3, 4)], b"x", v7)),
        place_bytes(2, false, false, 1)
    );
    for held in [&[line(1, 2), line(3, 4)][..], &[line(1, 2)]] {
        for (minimums, payload) in [(&[][..], &b""[..]), (&[2, 0], b"hello")] {
            let wanted = [line(1, 2), line(3, 9)];
            let parts = LoggedParts::Memory { wanted: &wanted[..held.len()], held, minimums };
            let Record::Place(record) = place(held, payload, v7) else { unreachable!() };
            let record = PlaceRecord { policy: Policy::Partial, parts, ..record };
            let bytes = place_bytes(held.len(), true, false, payload.len());
            assert_eq!(round_trip(Record::Place(record)), bytes);
        }
    }
    let order = OrderId::from_u64(1 << 60);
    for verb in [Verb::Confirm, Verb::Cancel, Verb::Fulfil, Verb::Expire] {
        for (list_sequence, bytes) in [(0, ORDER_BYTES), (1, LEAVE_BYTES)] {
            let record = OrderRecord { order, verb, time_low: 1, list_sequence };
            assert_eq!(round_trip(Record::Order(record)), bytes);
        }
    }
    let promoted = PromoteRecord { order, time_low: 1, list_sequence: LIST_SEQUENCE_MAX };
    assert_eq!(round_trip(Record::Promote(promoted)), PROMOTE_BYTES);
    for payload in [&b""[..], b"hello"] {
        let place_in_list = ListPlace { class: 7, arrival: 1 };
        let joins = Some(Joins { place: place_in_list, patience_ms: u32::MAX });
        let wanted = [line(1, 2)];
        let Record::Place(record) = place(&wanted, payload, v7) else { unreachable!() };
        let record = PlaceRecord { policy: Policy::Wait, joins, ..record };
        let bytes = place_bytes(1, false, true, payload.len());
        assert_eq!(round_trip(Record::Place(record)), bytes);
    }
    for kind in [AdjustKind::Add, AdjustKind::Take, AdjustKind::TakeUpTo, AdjustKind::Set] {
        let record = AdjustRecord {
            sku: SkuId::new(u64::MAX),
            key: v7,
            time_low: 0,
            kind,
            units: 7,
            expected: 8,
            delta: -3,
            reference: b"PO-7",
        };
        assert_eq!(round_trip(Record::Adjust(record)), AdjustRecord::bytes(4));
    }
    let orders = [OrderId::from_u64(7), OrderId::from_u64(u64::MAX)];
    for (orders, sums) in [(&orders[..], &[line(1, 2), line(3, 4)][..]), (&orders[..1], &[])] {
        let record = RetireRecord {
            time_low: 5,
            finished_ms: 1 << 40,
            orders: LoggedOrders::Memory(orders),
            sums: LoggedLines::Memory(sums),
        };
        let bytes = round_trip(Record::Retire(record));
        assert_eq!(bytes, retire_bytes(orders.len(), sums.len()));
    }
    for (nth, refusal) in every_refusal().into_iter().enumerate() {
        let content = Content {
            lines_digest: u64::MAX,
            payload_digest: nth as u64,
            hold_ms: 7,
            default_hold: nth % 2 == 0,
            policy: [Policy::AllOrNone, Policy::Partial, Policy::Wait][nth % 3],
        };
        let (buyer, key) = (BuyerId::from_u64(5), if nth % 2 == 0 { v7 } else { 9.into() });
        let refused = Refused { buyer, key, content, refusal, until_ms: 1 << 50 };
        let record = RefuseRecord { refused, time_low: 5 };
        assert_eq!(round_trip(Record::Refuse(record)), REFUSE_BYTES, "{refusal:?}");
    }
    let (sku, time_low) = (SkuId::new(4), 3);
    for counting in [Counting::Begins, Counting::Forgotten, Counting::GoesOn] {
        let record = BuyersRecord { sku, counting, time_low };
        assert_eq!(round_trip(Record::Buyers(record)), SKU_BYTES);
    }
    let counting = Counting::Ends { home_lsn: 1 << 40 };
    let record = BuyersRecord { sku, counting, time_low };
    assert_eq!(round_trip(Record::Buyers(record)), END_BUYERS_BYTES);
    assert_eq!(round_trip(Record::EndSale(EndSaleRecord { sku, time_low })), SKU_BYTES);
    for buyer_limit in [None, Some(0), Some(2)] {
        let changes = RuleChanges { buyer_limit, ..RuleChanges::default() };
        assert_eq!(round_trip(Record::Rules(RulesRecord { sku, time_low, changes })), 24);
        let changes = RuleChanges { opens_at_ms: Some(u64::MAX), merchant: Some(None), ..changes };
        assert_eq!(round_trip(Record::Rules(RulesRecord { sku, time_low, changes })), 40);
        let changes = every_rule(buyer_limit);
        let bytes = round_trip(Record::Rules(RulesRecord { sku, time_low, changes }));
        assert_eq!(bytes, RulesRecord::bytes(&changes));
        let words: Vec<_> = rule_words(&changes).into_iter().map(U64::new).collect();
        assert_eq!(rules_of_words(&words), Ok(changes));
        for cut in 1..words.len() {
            assert!(rules_of_words(&words[..cut]).is_err(), "cut at {cut}");
        }
    }
    for switch in [Switch::Open, Switch::NoNewHolds, Switch::Halted] {
        let record = SwitchRecord { time_low, switch };
        assert_eq!(round_trip(Record::Switch(record)), SwitchRecord::BYTES);
        for rate in [None, Some(Rate { orders_per_s: 7, burst: 1 })] {
            let merchant = MerchantId::new(u64::MAX);
            let record = MerchantRecord { merchant, time_low, switch, rate };
            assert_eq!(round_trip(Record::Merchant(record)), MerchantRecord::BYTES);
        }
    }
}

fn every_refusal() -> Vec<Refusal> {
    let (sku, merchant, max) = (SkuId::new(u64::MAX), MerchantId::new(6), Quantity::new(u32::MAX));
    let switched = |scope| Refusal::Switched { scope, switch: Switch::Halted };
    vec![
        Refusal::SoldOut { sku, wanted: max, available: i64::MIN },
        Refusal::OthersWaiting { sku },
        Refusal::WaitingListFull { sku, waiting: u64::MAX, bound: 1 },
        Refusal::BuyerLimit { sku, wanted: max, taken: u64::MAX, limit: Quantity::new(3) },
        Refusal::NotOpen { sku, opens_at_ms: u64::MAX, now_ms: 4 },
        Refusal::Closed { sku, closed_at_ms: 5 },
        switched(Scope::Engine),
        switched(Scope::Merchant(merchant)),
        switched(Scope::Sku(sku)),
        Refusal::RateLimited { merchant, retry_after_ms: u64::MAX },
        Refusal::KeyTooOld { key_ms: 6, oldest_ms: u64::MAX },
        Refusal::KeyTooNew { key_ms: u64::MAX, newest_ms: 7 },
    ]
}

#[test]
fn refusals_that_nobody_knows_are_named_not_guessed() {
    let content = Content {
        lines_digest: 1,
        payload_digest: 2,
        hold_ms: 3,
        default_hold: false,
        policy: Policy::AllOrNone,
    };
    let (buyer, key) = (BuyerId::from_u64(5), RequestKey::new(6));
    let written = |refusal| {
        let refused = Refused { buyer, key, content, refusal, until_ms: 8 };
        let mut bytes = Vec::new();
        RefuseRecord { refused, time_low: 9 }.write(&mut bytes);
        bytes
    };
    let [sold_out, switched] = [0, 6].map(|nth| written(every_refusal()[nth]));
    // The words begin at byte 64; the kind is byte 92, flags with the policy follow.
    for (bytes, at, byte) in [
        (&sold_out, 92, 10),
        (&sold_out, 93, 3 << 2),
        (&sold_out, 64 + 8 + 4, 1),
        (&switched, 64, 3),
        (&switched, 64 + 16, 3),
    ] {
        let mut changed = bytes.clone();
        assert_ne!(changed[at], byte);
        changed[at] = byte;
        assert!(records(&changed).any(|record| record.is_err()), "byte {at}");
    }
}

fn every_rule(buyer_limit: Option<u32>) -> RuleChanges {
    RuleChanges {
        buyer_limit,
        opens_at_ms: Some(1),
        closes_at_ms: Some(u64::MAX),
        hold_ms: Some(3),
        safety_stock: Some(u32::MAX),
        waiting_max: Some(5),
        waiting_passes: Some(true),
        switch: Some(Switch::NoNewHolds),
        merchant: Some(Some(MerchantId::new(8))),
        early_ms: std::array::from_fn(|class| Some(class as u32)),
    }
}

#[test]
fn rules_that_nobody_knows_are_named_not_guessed() {
    let mut bytes = Vec::new();
    let changes = every_rule(None);
    RulesRecord { sku: SkuId::new(4), time_low: 3, changes }.write(&mut bytes);
    // Which rules they are is in bytes 16 to 19, the switch is the seventh value behind byte 24.
    for (at, byte) in [(19, 1), (16, 0), (24 + 6 * 8, 9), (24 + 2 * 8 + 5, 1)] {
        let mut changed = bytes.clone();
        assert_ne!(changed[at], byte);
        changed[at] = byte;
        assert!(records(&changed).any(|record| record.is_err()), "byte {at}");
    }
}

#[test]
fn a_time_is_the_latest_with_its_low_bits_before_the_block() {
    let block_ms = (5 << 32) + 10;
    assert_eq!(full_time_ms(10, block_ms), block_ms);
    assert_eq!(full_time_ms(u32::MAX, block_ms), (5 << 32) - 1);
    assert_eq!(full_time_ms(11, block_ms), (4 << 32) + 11);
}

#[test]
fn any_bytes_give_records_or_a_named_error() {
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..96)
            .map(|_| {
                state = crate::routing::mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
                if state & 0x700 == 0 { state as u8 } else { (state & 7) as u8 }
            })
            .collect();
        for record in records(&bytes).flatten() {
            if let Record::Place(place) = record {
                assert!(place.lines.iter().count() <= bytes.len());
            }
        }
    }
}
