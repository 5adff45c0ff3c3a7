//! Adjustments' keys are kept for a time, and their number is bounded within it.

use std::time::Duration;

use doorbuster::{Adjust, Adjusted, Options, RequestKey};

use super::plain;
use crate::shop::{SKU, Shop};

const KEPT: Duration = Duration::from_secs(1_000);
const MS: Duration = Duration::from_millis(1);

fn kept(options: Options) -> Options {
    plain(options).adjust_retention(KEPT)
}

fn adjust(shop: &mut Shop, key: RequestKey) -> Adjusted {
    let adjusted = shop.engine.stock(SKU, Adjust::add(1).key(key)).expect("there is room");
    shop.engine.run_until_idle();
    assert!(adjusted.is_durable());
    adjusted.wait().expect("durable")
}

fn is_replayed(adjusted: &Adjusted) -> bool {
    match adjusted {
        Adjusted::Done { replayed, .. } => *replayed,
        other => panic!("{other:?}"),
    }
}

fn dated(ms: u64) -> RequestKey {
    let key = (u128::from(ms) << 80) | (7 << 76) | (2 << 62) | 5;
    RequestKey::uuid_v7(key.to_be_bytes()).expect("a version 7")
}

fn adjust_lines(shop: &Shop) -> usize {
    shop.engine.dump().lines().filter(|line| line.starts_with("adjust")).count()
}

/// The story: a SKU that was adjusted a million times could never be adjusted again, after a restart either.
#[test]
fn a_key_is_answered_the_same_for_its_retention_and_then_counts_as_new() {
    let mut shop = Shop::of_two_skus(kept);
    let key = RequestKey::new(0xabc);
    assert!(!is_replayed(&adjust(&mut shop, key)));
    shop.clock.advance(KEPT - MS);
    for _ in 0..2 {
        assert!(is_replayed(&adjust(&mut shop, key)));
        shop.kill();
    }
    shop.clock.advance(MS);
    for life in 0..3 {
        shop.kill();
        assert_eq!(is_replayed(&adjust(&mut shop, key)), life > 0, "life {life}");
    }
}

#[test]
fn a_dated_key_that_is_past_it_is_too_old() {
    let mut shop = Shop::of_two_skus(kept);
    let now_ms = shop.engine.now_ms();
    let (first, second) = (dated(now_ms), dated(now_ms + 9));
    assert!(!is_replayed(&adjust(&mut shop, first)));
    assert!(!is_replayed(&adjust(&mut shop, second)));
    shop.clock.advance(KEPT);
    let oldest_ms = shop.engine.now_ms() + 1 - 1_000_000;
    for life in 0..3 {
        let too_old = Adjusted::KeyTooOld { key_ms: now_ms, oldest_ms };
        assert_eq!(adjust(&mut shop, first), too_old, "life {life}");
        assert!(is_replayed(&adjust(&mut shop, second)), "as if it had come at its own time");
        shop.kill();
    }
    let ahead_ms = shop.engine.now_ms() + 86_400_000;
    let told = adjust(&mut shop, dated(ahead_ms));
    assert!(matches!(told, Adjusted::KeyTooNew { key_ms, .. } if key_ms == ahead_ms), "{told:?}");
}

/// The story: the retention was a second, and is a year now. A key that was forgotten does not count as new.
#[test]
fn a_longer_retention_does_not_take_forgotten_dated_keys_for_new() {
    fn short(options: Options) -> Options {
        plain(options).adjust_retention(MS)
    }
    let mut shop = Shop::of_two_skus(short);
    let key = dated(shop.engine.now_ms());
    assert!(!is_replayed(&adjust(&mut shop, key)));
    shop.clock.advance(9 * MS);
    // These adjustments make the engine forget it.
    for nth in 0..4 {
        adjust(&mut shop, RequestKey::new(900 + nth));
    }
    for _ in 0..2 {
        shop.checkpoint();
    }
    shop.kill_and_adapt(kept);
    let told = adjust(&mut shop, key);
    assert!(matches!(told, Adjusted::KeyTooOld { .. }) || is_replayed(&told), "{told:?}");
}

#[test]
fn what_is_kept_is_the_same_after_a_restart_and_from_a_checkpoint() {
    let mut shop = Shop::of_two_skus(kept);
    let before = adjust_lines(&shop);
    for nth in 0..40_u128 {
        adjust(&mut shop, RequestKey::new(100 + nth));
        shop.clock.advance(KEPT / 20);
    }
    let lines = adjust_lines(&shop);
    assert!((19..=20).contains(&lines), "{lines} after {before}");
    let without_floor = |dump: String| dump.split_once('\n').map(|(_, rest)| rest.to_owned());
    let dump = without_floor(shop.engine.dump());
    for checkpoint in [false, true, false] {
        if checkpoint {
            shop.checkpoint();
        }
        shop.kill();
        assert_eq!(without_floor(shop.engine.dump()), dump, "checkpoint: {checkpoint}");
    }
}
