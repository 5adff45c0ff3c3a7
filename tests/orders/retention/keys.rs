//! Keys whose orders have left memory.

use doorbuster::{KeyKind, Options, Order, OrderState, Placed, Refusal, RequestKey};

use super::{plain, retired};
use crate::shop::{SKU, Shop};
use crate::{MS, RETENTION, S, one};

/// A UUID of version 7 with this time.
fn dated(unix_ms: u64, rest: u8) -> RequestKey {
    let mut bytes = [rest; 16];
    bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    (bytes[6], bytes[8]) = (0x70, 0x80);
    RequestKey::uuid_v7(bytes).expect("a UUID of version 7")
}

fn with_key(key: RequestKey) -> Order {
    Order::new(7, key).line(SKU, 1)
}

fn too_old(placed: &Placed) -> Option<(u64, u64)> {
    match placed {
        Placed::Refused(Refusal::KeyTooOld { key_ms, oldest_ms }) => Some((*key_ms, *oldest_ms)),
        _ => None,
    }
}

#[test]
fn an_opaque_key_past_retention_is_new() {
    let mut shop = Shop::of_two_skus(plain);
    let first = shop.order_in(7, 1, OrderState::Cancelled);
    shop.pass(RETENTION);
    let second = shop.hold(one(7, 1));
    assert_ne!(first, second);
    assert_eq!(shop.state(first), retired(first));
    shop.kill();
    let again = shop.place(one(7, 1));
    assert!(again.held().is_some_and(|held| held.replayed && held.order == second), "{again:?}");
    assert_eq!(shop.levels(SKU).held, 1, "no evicted key came back");
}

#[test]
fn a_dated_key_past_retention_is_refused() {
    let mut shop = Shop::of_two_skus(plain);
    let key = dated(shop.engine.now_ms(), 1);
    assert_eq!(key.kind(), KeyKind::UuidV7);
    let order = shop.hold(with_key(key));
    shop.settle(|engine| engine.cancel(order).expect("held"));
    shop.pass(RETENTION - MS);
    assert!(shop.place(with_key(key)).held().is_some_and(|held| held.order == order));
    shop.pass(MS);
    assert_eq!(shop.state(order), retired(order));
    for _ in 0..2 {
        let now_ms = shop.engine.now_ms();
        let (key_ms, oldest_ms) = too_old(&shop.place(with_key(key))).expect("too old");
        assert_eq!(key_ms, key.unix_ms().expect("dated"));
        assert_eq!(oldest_ms, now_ms - RETENTION.as_millis() as u64 + 1);
        // The bound is exact: a key of that time is accepted, a key of the millisecond before is not.
        assert!(too_old(&shop.place(with_key(dated(oldest_ms - 1, 2)))).is_some());
        let taken = shop.hold(with_key(dated(oldest_ms, 3)));
        shop.settle(|engine| engine.cancel(taken).expect("held"));
        shop.pass(RETENTION);
        shop.kill();
    }
    // The same bits as an opaque key have no age.
    let opaque = RequestKey::token(key.to_bytes());
    assert!(shop.place(with_key(opaque)).held().is_some());
}

/// Rule R1: a key that has an order is answered with that order, however old the key and the order are.
#[test]
fn a_dated_key_that_has_an_order_is_answered_with_it() {
    let mut shop = Shop::of_two_skus(plain);
    let key = dated(shop.engine.now_ms(), 1);
    let order = shop.hold(with_key(key));
    shop.settle(|engine| engine.confirm(order).expect("held"));
    shop.pass(10 * RETENTION);
    let again = shop.place(with_key(key));
    assert!(again.held().is_some_and(|held| held.replayed && held.order == order), "{again:?}");
    // The order's retention is over, and the timekeeper has not run.
    shop.settle(|engine| engine.cancel(order).expect("confirmed"));
    shop.clock.advance(2 * RETENTION);
    let again = shop.engine.place(with_key(key)).expect("an answer");
    assert!(again.peek().and_then(Placed::held).is_some_and(|held| held.order == order));
}

/// The story: a host keeps orders for a minute, and finds that too short. Orders that have left cannot return, so
/// the dated keys of that time stay refused.
#[test]
fn a_longer_retention_does_not_make_retired_keys_new() {
    let mut shop = Shop::of_two_skus(plain);
    let key = dated(shop.engine.now_ms(), 1);
    let order = shop.hold(with_key(key));
    shop.settle(|engine| engine.cancel(order).expect("held"));
    shop.pass(RETENTION);
    let longer = |options: Options| options.retention(100 * RETENTION);
    for _ in 0..2 {
        shop.kill_and_adapt(longer);
        let (key_ms, oldest_ms) = too_old(&shop.place(with_key(key))).expect("too old");
        assert!(key_ms < oldest_ms);
    }
    let now = dated(shop.engine.now_ms(), 1);
    assert!(shop.place(with_key(now)).held().is_some());
}

fn too_new(placed: &Placed) -> Option<(u64, u64)> {
    match placed {
        Placed::Refused(Refusal::KeyTooNew { key_ms, newest_ms }) => Some((*key_ms, *newest_ms)),
        _ => None,
    }
}

/// The last millisecond of the year 2099, the last time that a key may carry.
const LAST_DATED_MS: u64 = 4_102_444_799_999;

/// The story: a phone's clock is a year ahead. Its keys would count as new for a year after their orders
/// have left memory; a retry would make a second order.
#[test]
fn a_dated_key_from_too_far_ahead_is_refused() {
    let short = |options: Options| options.key_ahead_max(60 * S);
    let cases = [(plain as fn(Options) -> Options, 5 * 60 * 1000), (short, 60 * 1000)];
    for (adapt, ahead_ms) in cases {
        let mut shop = Shop::of_two_skus(adapt);
        let newest_ms = shop.engine.now_ms() + ahead_ms;
        for key_ms in [newest_ms + 1, newest_ms + (1 << 35), LAST_DATED_MS] {
            let placed = shop.place(with_key(dated(key_ms, 1)));
            assert_eq!(too_new(&placed), Some((key_ms, newest_ms)), "{placed:?}");
        }
        assert_eq!(shop.levels(SKU).held, 0);
        let last = with_key(dated(newest_ms, 1));
        let order = shop.hold(last.clone());
        // A key with an order is answered with that order, whatever the bound is now.
        shop.kill_and_adapt(|options| options.key_ahead_max(MS));
        assert!(shop.place(last).held().is_some_and(|held| held.replayed && held.order == order));
    }
}

/// The story: a machine booted with a clock that was an hour behind, and the clock was then set right. Engine time
/// follows slowly. Keys of the right time must not count as keys of the future.
#[test]
fn keys_of_the_wall_clocks_time_are_taken_while_engine_time_is_behind() {
    let mut shop = Shop::of_two_skus(plain);
    let wall_ms = shop.engine.now_ms() + 3_600_000;
    shop.clock.set_wall_ms(wall_ms);
    shop.hold(with_key(dated(wall_ms + 1, 1)));
    let placed = shop.place(with_key(dated(wall_ms + 5 * 60 * 1000 + 1, 2)));
    assert!(too_new(&placed).is_some(), "{placed:?}");
}
