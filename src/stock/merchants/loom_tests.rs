//! A token that comes back while others are taken: never more than the burst at one moment.

use std::sync::Arc;

use super::*;

struct Shared {
    bucket: Bucket,
    clock_ns: AtomicU64,
}

fn taken(bucket: &Bucket, pace: Pace, now_ns: u64) -> usize {
    (0..9).take_while(|_| bucket.take(pace, now_ns).is_ok()).count()
}

/// The bucket becomes full, and another request takes from it, while the clock for the token that comes back
/// is read.
#[test]
fn a_token_that_comes_back_late_does_not_add_to_the_burst() {
    const PACE: Pace = Pace { interval_ns: 5, burst: 1 };
    loom::model(|| {
        let shared = Shared { bucket: Bucket::default(), clock_ns: AtomicU64::new(10) };
        let token = shared.bucket.take(PACE, 10).expect("it is full");
        let shared = Arc::new(shared);
        let gives_back = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                let now_ns = || shared.clock_ns.load(Ordering::Acquire);
                shared.bucket.give_back(token, now_ns);
            }
        });
        shared.clock_ns.store(17, Ordering::Release);
        let first = taken(&shared.bucket, PACE, 17);
        gives_back.join().expect("no panic");
        assert_eq!(first + taken(&shared.bucket, PACE, 17), 1);
    });
}

/// One token is taken while another comes back: however the two meet, the first does not bring back what the
/// other did.
#[test]
fn what_came_back_before_is_not_given_back_again() {
    const PACE: Pace = Pace { interval_ns: 5, burst: 3 };
    loom::model(|| {
        let bucket = Arc::new(Bucket::default());
        let before = bucket.take(PACE, 10).expect("it is full");
        let gives_back = loom::thread::spawn({
            let bucket = bucket.clone();
            move || bucket.give_back(before, || 10)
        });
        let token = bucket.take(PACE, 10).expect("there are three");
        gives_back.join().expect("no panic");
        let first = usize::from(bucket.take(PACE, 15).is_ok());
        bucket.give_back(token, || 15);
        assert_eq!(first + taken(&bucket, PACE, 15), 3);
    });
}
