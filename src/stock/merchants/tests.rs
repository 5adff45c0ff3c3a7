//! The bucket against what it promises: at most rate and burst, however late tokens come back.

use super::*;
use crate::partition::random::Random;

const S: u64 = 1_000_000_000;

fn pace(orders_per_s: u32, burst: u32) -> Pace {
    Pace::of(Rate { orders_per_s, burst })
}

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    let (bucket, pace) = (Bucket::default(), pace(10, 3));
    let taken = |now_ns| (0..9).take_while(|_| bucket.take(pace, now_ns).is_ok()).count();
    assert_eq!(taken(100 * S), 3);
    assert_eq!(bucket.look(pace, 100 * S), Err(Empty { for_ns: S / 10 }));
    assert_eq!(taken(100 * S + S / 10 - 1), 0, "a nanosecond too early");
    assert_eq!(taken(100 * S + S / 10), 1);
    assert_eq!(taken(101 * S), 3, "no more than the burst after a pause");
}

#[test]
fn a_token_that_is_given_back_can_be_taken_again() {
    let (bucket, pace) = (Bucket::default(), pace(1, 2));
    for _ in 0..50 {
        let token = bucket.take(pace, 5 * S).expect("there are two");
        bucket.give_back(token, || 5 * S);
    }
    assert_eq!(taken(&bucket, pace, 5 * S), 2);
    assert_eq!(bucket.look(pace, 5 * S), Err(Empty { for_ns: S }));
}

#[test]
fn in_any_second_a_bucket_gives_at_most_rate_and_burst() {
    for (orders_per_s, burst) in [(1, 1), (3, 2), (7, 5), (1_000, 1), (999_983, 7)] {
        let (bucket, pace) = (Bucket::default(), pace(orders_per_s, burst));
        let mut taken = 0;
        let steps = u64::from(orders_per_s) * 4;
        for step in 0..=steps {
            taken += u32::from(bucket.take(pace, 7 * S + step * S / steps).is_ok());
        }
        assert!(taken <= orders_per_s + burst, "{taken} at {orders_per_s}, {burst}");
        assert!(taken >= orders_per_s.min(orders_per_s / 100 * 99 + burst), "{taken}");
    }
}

/// How many tokens can be taken now.
fn taken(bucket: &Bucket, pace: Pace, now_ns: u64) -> usize {
    (0..).take_while(|_| bucket.take(pace, now_ns).is_ok()).count()
}

/// A request takes the last token but fails seconds later, after the bucket was full without it.
#[test]
fn a_token_that_comes_back_late_lets_no_more_than_the_burst_through() {
    for burst in 1..4 {
        let (bucket, pace) = (Bucket::default(), pace(1, burst));
        let token = bucket.take(pace, 5 * S).expect("it is full");
        assert_eq!(taken(&bucket, pace, 15 * S), burst as usize);
        bucket.give_back(token, || 15 * S);
        assert_eq!(taken(&bucket, pace, 15 * S), 0);
        assert_eq!(taken(&bucket, pace, 16 * S), 1);
    }
}

/// One of two tokens comes back at once. So the bucket is full a second earlier, and the other one counts for
/// nothing by then.
#[test]
fn a_late_token_does_not_bring_back_what_another_one_did() {
    let (bucket, pace) = (Bucket::default(), pace(1, 3));
    let [first, second] = [(); 2].map(|()| bucket.take(pace, 10 * S).expect("there are three"));
    bucket.give_back(first, || 10 * S);
    let now_ns = 11 * S + S / 5;
    assert!(bucket.take(pace, now_ns).is_ok());
    bucket.give_back(second, || now_ns);
    assert_eq!(taken(&bucket, pace, now_ns), 2, "three at this moment");
    assert_eq!(taken(&bucket, pace, now_ns + S - 1), 0, "and the next one a second later");
    assert_eq!(taken(&bucket, pace, now_ns + S), 1);
}

/// Of requests that fail one at a time, none costs anything: whatever the bucket had before and however long it
/// takes, the bucket is as if they had not been.
#[test]
fn a_request_that_fails_alone_leaves_the_bucket_as_it_was() {
    for before in 0..5 {
        for late_ns in (0..40).map(|quarters| quarters * S / 4) {
            let (bucket, other, pace) = (Bucket::default(), Bucket::default(), pace(1, 6));
            for _ in 0..before {
                assert!(bucket.take(pace, 9 * S).is_ok() && other.take(pace, 9 * S).is_ok());
            }
            let token = bucket.take(pace, 9 * S).expect("there are six");
            let now_ns = 9 * S + late_ns;
            bucket.give_back(token, || now_ns);
            assert_eq!(
                taken(&bucket, pace, now_ns),
                taken(&other, pace, now_ns),
                "{before}, {late_ns}"
            );
        }
    }
}

/// Tokens are taken, kept and returned at random; then those that were kept are counted over every span.
#[test]
fn whatever_comes_back_what_is_kept_is_within_rate_and_burst() {
    let mut random = Random::new("whatever_comes_back_what_is_kept_is_within_rate_and_burst");
    for _ in 0..2_000 {
        let pace = Pace { interval_ns: 1 + random.below(50), burst: 1 + random.below(5) as u32 };
        let (bucket, mut now_ns) = (Bucket::default(), 1_000);
        // Taken at, and the token while it may come back.
        let mut tokens: Vec<(u64, Token)> = Vec::new();
        let (pause_max, returns) = (1 + random.below(2 * pace.interval_ns), random.below(100));
        for _ in 0..60 {
            now_ns += random.below(pause_max);
            match random.below(100) < returns && !tokens.is_empty() {
                true => {
                    let nth = random.below(tokens.len() as u64) as usize;
                    let (_, token) = tokens.swap_remove(nth);
                    bucket.give_back(token, || now_ns);
                }
                false => tokens.extend(bucket.take(pace, now_ns).map(|token| (now_ns, token))),
            }
        }
        let mut kept: Vec<u64> = tokens.iter().map(|(at_ns, _)| *at_ns).collect();
        kept.sort_unstable();
        for (nth, first_ns) in kept.iter().enumerate() {
            for (more, last_ns) in kept[nth..].iter().enumerate() {
                let most = u64::from(pace.burst) + (last_ns - first_ns) / pace.interval_ns;
                assert!((more as u64) < most, "{pace:?}: {kept:?}");
            }
        }
    }
}
