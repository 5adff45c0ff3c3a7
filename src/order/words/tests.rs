use super::*;
use crate::ids::{MerchantId, OrderId, Quantity, SkuId};
use crate::order::Line;

const SKU: SkuId = SkuId::new(77);
const ORDER: OrderId = OrderId::from_u64(5);
const HELD: Held = Held { order: ORDER, deadline_ms: 1, state: OrderState::Held, replayed: false };

/// One after the other: a new variant does not compile without its place in the row.
fn refusal_after(last: Option<Refusal>) -> Option<Refusal> {
    let (sku, wanted) = (SKU, Quantity::new(3));
    Some(match last {
        None => Refusal::SoldOut { sku, wanted, available: 0 },
        Some(Refusal::SoldOut { available: 0, .. }) => {
            Refusal::SoldOut { sku, wanted, available: 2 }
        }
        Some(Refusal::SoldOut { .. }) => Refusal::OthersWaiting { sku },
        Some(Refusal::OthersWaiting { .. }) => {
            Refusal::WaitingListFull { sku, waiting: 9, bound: 9 }
        }
        Some(Refusal::WaitingListFull { .. }) => {
            Refusal::BuyerLimit { sku, wanted, taken: 1, limit: Quantity::new(2) }
        }
        Some(Refusal::BuyerLimit { .. }) => Refusal::NotOpen { sku, opens_at_ms: 150, now_ms: 100 },
        Some(Refusal::NotOpen { .. }) => Refusal::Closed { sku, closed_at_ms: 100 },
        Some(Refusal::Closed { .. }) => {
            Refusal::Switched { scope: Scope::Engine, switch: Switch::NoNewHolds }
        }
        Some(Refusal::Switched { .. }) => {
            Refusal::RateLimited { merchant: MerchantId::new(5), retry_after_ms: 20 }
        }
        Some(Refusal::RateLimited { .. }) => Refusal::KeyTooOld { key_ms: 1, oldest_ms: 2 },
        Some(Refusal::KeyTooOld { .. }) => Refusal::KeyTooNew { key_ms: 2, newest_ms: 1 },
        Some(Refusal::KeyTooNew { .. }) => return None,
    })
}

fn refusals() -> Vec<Refusal> {
    std::iter::successors(refusal_after(None), |last| refusal_after(Some(*last))).collect()
}

fn placed_after(last: Option<&Placed>) -> Option<Placed> {
    let refusal = Refusal::OthersWaiting { sku: SKU };
    let missing = [(77, 1), (78, 2)]
        .map(|(sku, units)| Line { sku: SkuId::new(sku), quantity: Quantity::new(units) });
    Some(match last {
        None => Placed::Held(HELD),
        Some(Placed::Held(Held { state: OrderState::Held, .. })) => {
            Placed::Held(Held { state: OrderState::Expired, replayed: true, ..HELD })
        }
        Some(Placed::Held(_)) => {
            Placed::Partial(PartlyHeld { held: HELD, missing: missing.to_vec() })
        }
        Some(Placed::Partial(_)) => {
            let state = OrderState::Waiting;
            Placed::Waiting(Waiting {
                order: ORDER,
                patience_ends_ms: 1,
                state,
                hold_ends_ms: None,
                replayed: true,
            })
        }
        Some(Placed::Waiting(_)) => Placed::Refused(refusal),
        Some(Placed::Refused(_)) => Placed::RefusedBefore(RefusedBefore { refusal, until_ms: 1 }),
        Some(Placed::RefusedBefore(_)) => {
            Placed::KeyReused(KeyReused { order: None, field: KeyField::Hold })
        }
        Some(Placed::KeyReused(KeyReused { order: None, .. })) => {
            Placed::KeyReused(KeyReused { order: Some(ORDER), field: KeyField::Payload })
        }
        Some(Placed::KeyReused(_)) => return None,
    })
}

fn transition_after(last: Option<Transition>) -> Option<Transition> {
    Some(match last {
        None => Transition::Done { state: OrderState::Confirmed },
        Some(Transition::Done { .. }) => Transition::AlreadyDone { state: OrderState::Cancelled },
        Some(Transition::AlreadyDone { .. }) => {
            Transition::NotAllowed { state: OrderState::Expired }
        }
        Some(Transition::NotAllowed { .. }) => {
            Transition::Halted { state: OrderState::Held, scope: Scope::Sku(SKU) }
        }
        Some(Transition::Halted { .. }) => return None,
    })
}

fn adjusted_after(last: Option<&Adjusted>) -> Option<Adjusted> {
    let (three, replayed) = (Quantity::new(3), false);
    Some(match last {
        None => Adjusted::Done { delta: 5, stocked: 9, shortfall: Quantity::new(0), replayed },
        Some(Adjusted::Done { delta: 5, .. }) => {
            Adjusted::Done { delta: -2, stocked: 7, shortfall: three, replayed }
        }
        Some(Adjusted::Done { .. }) => Adjusted::TooFew { wanted: three, available: -1 },
        Some(Adjusted::TooFew { .. }) => Adjusted::Unexpected { expected: three, stocked: 4 },
        Some(Adjusted::Unexpected { .. }) => Adjusted::KeyReused { field: KeyField::Quantity },
        Some(Adjusted::KeyReused { .. }) => Adjusted::KeyTooOld { key_ms: 1, oldest_ms: 2 },
        Some(Adjusted::KeyTooOld { .. }) => Adjusted::KeyTooNew { key_ms: 2, newest_ms: 1 },
        Some(Adjusted::KeyTooNew { .. }) => return None,
    })
}

/// Neither the form of `Debug` nor names of the API.
fn assert_fit(text: &str) {
    for sign in ["{", "::", "`", "Some", "None", "Held", "_ms", "SKU SKU", "sku:", "  "] {
        assert!(!text.contains(sign), "{text}");
    }
    assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
}

#[test]
fn every_refusal_has_words_for_a_client() {
    let told: Vec<String> = refusals().iter().map(Refusal::to_string).collect();
    told.iter().for_each(|text| assert_fit(text));
    assert_eq!(
        told,
        [
            "SKU 77 is sold out",
            "SKU 77 has 2 left, 3 wanted",
            "others wait for SKU 77 and are served first",
            "the waiting list of SKU 77 is full: 9 wait, at most 9 may",
            "SKU 77 is limited to 2 for each buyer: 1 taken, 3 wanted",
            "SKU 77 opens in 50 ms",
            "the sale of SKU 77 is over",
            "all sales: no new orders are taken",
            "too many orders for merchant 5: try again in 20 ms",
            "the request key is too old: send a new one",
            "the time in the request key is ahead of now: check the clock",
        ]
    );
}

#[test]
fn a_refusal_that_says_when_to_come_again_is_retryable_and_not_remembered() {
    for refusal in refusals() {
        let waits = match refusal {
            Refusal::NotOpen { .. } => Some(Duration::from_millis(50)),
            Refusal::RateLimited { .. } => Some(Duration::from_millis(20)),
            _ => None,
        };
        assert_eq!(refusal.retry_after(), waits, "{refusal}");
        assert_eq!(refusal.is_retryable(), waits.is_some(), "{refusal}");
        assert!(!(refusal.is_retryable() && refusal.is_remembered()), "{refusal}");
    }
}

#[test]
fn every_answer_to_an_order_has_words_and_names_its_order() {
    let all = std::iter::successors(placed_after(None), |last| placed_after(Some(last)));
    let told: Vec<_> = all.map(|placed| (placed.to_string(), placed.order_id())).collect();
    told.iter().for_each(|(text, _)| assert_fit(text));
    let told: Vec<_> = told.iter().map(|(text, order)| (text.as_str(), *order)).collect();
    assert_eq!(
        told,
        [
            ("order ord_5 is held", Some(ORDER)),
            ("order ord_5 is expired", Some(ORDER)),
            ("order ord_5 is held in part; missing: 1 of SKU 77, 2 of SKU 78", Some(ORDER)),
            ("order ord_5 waits for stock", Some(ORDER)),
            ("others wait for SKU 77 and are served first", None),
            ("refused before: others wait for SKU 77 and are served first", None),
            ("the request key is that of a refused order, which has another hold time", None),
            ("the request key is that of order ord_5, which has another payload", Some(ORDER)),
        ]
    );
}

#[test]
fn every_other_answer_has_words() {
    let transitions =
        std::iter::successors(transition_after(None), |it| transition_after(Some(*it)));
    let transitions = transitions.map(|it| (it.to_string(), it.is_retryable()));
    let adjusted = std::iter::successors(adjusted_after(None), |it| adjusted_after(Some(it)));
    let told: Vec<_> = transitions.chain(adjusted.map(|it| (it.to_string(), false))).collect();
    told.iter().for_each(|(text, _)| assert_fit(text));
    let told: Vec<_> = told.iter().map(|(text, retry)| (text.as_str(), *retry)).collect();
    assert_eq!(
        told,
        [
            ("the order is confirmed", false),
            ("the order is cancelled already", false),
            ("not possible: the order is expired", false),
            ("SKU 77: halted for now; the order is still held", true),
            ("the stock changed by +5 to 9", false),
            ("the stock changed by -2 to 7, 3 fewer taken than wanted", false),
            ("3 wanted, -1 available", false),
            ("3 expected in stock, 4 found", false),
            ("the request key is that of an adjustment which has another quantity", false),
            ("the request key is too old: send a new one", false),
            ("the time in the request key is ahead of now: check the clock", false),
        ]
    );
}
