//! Options that contradict each other are refused by name.

use std::sync::Arc;
use std::time::Duration;

use doorbuster::testing::{MemoryStorage, SteppedEngine};
use doorbuster::{LOG_RETENTION_MAX, OpenError, Options, RETENTION_DEFAULT, RETENTION_MAX};

fn refused(adapt: impl Fn(Options) -> Options) -> (&'static str, String, String) {
    let storage = MemoryStorage::new();
    let options = Options::on_storage(Arc::new(storage.clone())).segment_bytes(1 << 20);
    match SteppedEngine::open(adapt(options)) {
        Err(OpenError::InvalidOption { field, value, bound }) => (field, value, bound),
        other => panic!("a refusal, not {other:?}"),
    }
}

#[test]
fn a_retention_out_of_range_or_at_odds_with_another_is_a_named_error() {
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
    let (field, value, bound) = refused(|options| options.retention(Duration::ZERO));
    assert_eq!((field, &*value), ("retention", "0ns"));
    assert!(bound.contains("1ms") && bound.contains("31622400s"), "{bound}");
    let (field, ..) =
        refused(|options| options.retention(RETENTION_MAX + Duration::from_millis(1)));
    assert_eq!(field, "retention");
    let (field, ..) = refused(|options| options.retention(Duration::from_micros(1500)));
    assert_eq!(field, "retention");
    let (field, value, bound) = refused(|options| options.retention(day).returns_window(hour));
    assert_eq!((field, &*value), ("returns_window", "3600s"));
    assert!(bound.contains("86400s"), "{bound}");
    // Nor below the default retention.
    let (field, ..) = refused(|options| options.returns_window(RETENTION_DEFAULT - day));
    assert_eq!(field, "returns_window");
    let (field, value, _) = refused(|options| options.buyers_tracked_max(0));
    assert_eq!((field, &*value), ("buyers_tracked_max", "0"));
}

#[test]
fn a_log_retention_out_of_range_is_a_named_error() {
    for wrong in [Duration::ZERO, LOG_RETENTION_MAX + Duration::from_millis(1)] {
        let (field, value, bound) = refused(|options| options.log_retention(wrong));
        assert_eq!((field, value), ("log_retention", format!("{wrong:?}")));
        assert!(bound.contains("1ms") && bound.contains("315619200s"), "{bound}");
    }
    let (field, ..) = refused(|options| options.log_retention(Duration::from_micros(1500)));
    assert_eq!(field, "log_retention");
}

#[test]
fn a_key_may_not_be_ahead_by_nothing_or_for_ever() {
    for wrong in [Duration::ZERO, RETENTION_MAX + Duration::from_millis(1)] {
        let (field, value, _) = refused(|options| options.adjust_retention(wrong));
        assert_eq!((field, value), ("adjust_retention", format!("{wrong:?}")));
        let (field, value, _) = refused(|options| options.key_ahead_max(wrong));
        assert_eq!((field, value), ("key_ahead_max", format!("{wrong:?}")));
    }
}
