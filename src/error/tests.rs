use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::ids::MerchantId;

const SKU: SkuId = SkuId::new(77);

/// One after the other: a new variant does not compile without its place in the row.
fn unavailable_after(last: Option<&Unavailable>) -> Option<Unavailable> {
    let at_capacity = |what| Unavailable::AtCapacity { what, bound: 9 };
    Some(match last {
        None => Unavailable::Backlogged { bytes: 9, max: 8 },
        Some(Unavailable::Backlogged { .. }) => at_capacity(Capacity::Orders),
        Some(Unavailable::AtCapacity { what, .. }) => match what {
            Capacity::Orders => at_capacity(Capacity::Skus),
            Capacity::Skus => at_capacity(Capacity::Merchants),
            Capacity::Merchants => at_capacity(Capacity::BuyersTracked),
            Capacity::BuyersTracked => at_capacity(Capacity::OrderIds),
            Capacity::OrderIds => at_capacity(Capacity::AdjustKeys),
            Capacity::AdjustKeys => at_capacity(Capacity::RulesInFlight),
            Capacity::RulesInFlight => Unavailable::DiskFull { segment_bytes: 9 },
        },
        Some(Unavailable::DiskFull { .. }) => Unavailable::SystemShort { segment_bytes: 9 },
        Some(Unavailable::SystemShort { .. }) => Unavailable::ReadOnly,
        Some(Unavailable::ReadOnly) => {
            Unavailable::Latched { operation: "sync", detail: "log/0: failed".into() }
        }
        Some(Unavailable::Latched { .. }) => Unavailable::Closed,
        Some(Unavailable::Closed) => Unavailable::Forked,
        Some(Unavailable::Forked) => return None,
    })
}

fn all_unavailable() -> Vec<Unavailable> {
    std::iter::successors(unavailable_after(None), |last| unavailable_after(Some(last))).collect()
}

#[test]
fn what_passes_by_itself_is_retryable_and_nothing_else() {
    use ErrorKind::{AtCapacity, Busy, Closed, DiskFull, Latched, ReadOnly, SystemShort};
    let told: Vec<_> = all_unavailable().iter().map(|it| (it.kind(), it.is_retryable())).collect();
    let expected = [
        (Busy, true),
        (AtCapacity, true),
        (AtCapacity, false),
        (AtCapacity, false),
        (AtCapacity, false),
        (AtCapacity, true),
        (AtCapacity, true),
        (AtCapacity, true),
        (DiskFull, true),
        (SystemShort, true),
        (ReadOnly, false),
        (Latched, false),
        (Closed, false),
        (Closed, false),
    ];
    assert_eq!(told, expected);
    for unavailable in all_unavailable() {
        assert_eq!(unavailable.retry_after().is_some(), unavailable.is_retryable());
        // An error that only passes it on says the same.
        let whole: [(ErrorKind, Option<Duration>); 5] = [
            {
                let it = PlaceError::from(unavailable.clone());
                (it.kind(), it.retry_after())
            },
            {
                let it = OrderError::from(unavailable.clone());
                (it.kind(), it.retry_after())
            },
            {
                let it = BatchError::from(unavailable.clone());
                (it.kind(), it.retry_after())
            },
            {
                let it = StockError::from(unavailable.clone());
                (it.kind(), it.retry_after())
            },
            {
                let it = MerchantError::from(unavailable.clone());
                (it.kind(), it.retry_after())
            },
        ];
        for told in whole {
            assert_eq!(told, (unavailable.kind(), unavailable.retry_after()));
        }
    }
}

#[test]
fn a_request_that_breaks_a_bound_is_never_retryable_and_its_field_is_named_once() {
    let (sku, merchant) = (SKU, MerchantId::new(5));
    let errors = [
        PlaceError::NoLines,
        PlaceError::TooManyLines { lines: 9, max: 8 },
        PlaceError::ZeroQuantity { sku },
        PlaceError::QuantityTooLarge { sku, units: 9, max: 8 },
        PlaceError::HoldOutOfRange { hold_ms: 0, min_ms: 1, max_ms: 8 },
        PlaceError::PatienceOutOfRange { patience_ms: 0, min_ms: 1, max_ms: 8 },
        PlaceError::WaitWithSeveralLines { lines: 2 },
        PlaceError::MinimumWithoutPartial { sku, minimum: 1 },
        PlaceError::MinimumWithoutLine { sku, minimum: 1 },
        PlaceError::MinimumTooLarge { sku, minimum: 2, quantity: 1 },
        PlaceError::ClassOutOfRange { class: 9, max: 7 },
        PlaceError::PayloadTooLong { bytes: 9, max: 8 },
    ];
    for error in &errors {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidInput, false));
    }
    let rate = MerchantError::RateOutOfRange { merchant, field: "burst", value: 0, min: 1, max: 8 };
    assert_eq!(rate.kind(), ErrorKind::InvalidInput);
    let texts = errors.iter().map(ToString::to_string).chain([rate.to_string()]);
    for text in texts.chain(known_texts()) {
        for twice in ["sku: SKU", "SKU SKU", "merchant merchant", "order order", "order: ord", "`"]
        {
            assert!(!text.contains(twice), "{text}");
        }
    }
}

fn known_texts() -> impl Iterator<Item = String> {
    let (sku, order) = (SKU, OrderId::from_u64(5));
    let unknown = PlaceError::UnknownSku { sku };
    assert_eq!(unknown.to_string(), "SKU 77 is not known");
    assert_eq!((unknown.kind(), unknown.is_retryable()), (ErrorKind::NotFound, false));
    let contended = PlaceError::Contended { sku, tries: 64 };
    assert_eq!((contended.kind(), contended.is_retryable()), (ErrorKind::Busy, true));
    let lost = OrderError::UnknownOrder { order };
    assert_eq!(lost.to_string(), "order ord_5 is not known");
    assert_eq!(lost.kind(), ErrorKind::NotFound);
    let retired = OrderError::Retired { order };
    assert_eq!((retired.kind(), retired.is_retryable()), (ErrorKind::Gone, false));
    let stock = StockError::UnknownSku { sku };
    assert_eq!((stock.kind(), stock.is_retryable()), (ErrorKind::NotFound, false));
    [unknown.to_string(), contended.to_string(), lost.to_string(), retired.to_string()]
        .into_iter()
        .chain([stock.to_string()])
}

#[test]
fn an_open_is_retryable_when_time_alone_may_help() {
    let path = PathBuf::from("sale");
    let in_use = OpenError::InUse { path: path.clone() };
    assert_eq!((in_use.kind(), in_use.is_retryable()), (ErrorKind::InUse, true));
    let full = OpenError::io("create", &path, io::ErrorKind::StorageFull.into());
    assert_eq!((full.kind(), full.is_retryable()), (ErrorKind::DiskFull, true));
    let newer = OpenError::NewerFormat { path, found: 9, known: 1 };
    assert_eq!((newer.kind(), newer.is_retryable()), (ErrorKind::WrongFolder, false));
    let backup = BackupError::Failed(newer);
    assert_eq!((backup.kind(), backup.is_retryable()), (ErrorKind::WrongFolder, false));
    let unknown = WatchError::Commit(CommitError::Unknown);
    assert_eq!((unknown.kind(), unknown.is_retryable()), (ErrorKind::Unknown, false));
}
