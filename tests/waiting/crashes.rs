//! What a crash leaves of waiting lists.

use doorbuster::OrderState::{Held, Waiting};

use crate::bench::{Bench, buy, queue};

#[test]
fn a_restart_keeps_the_order_of_the_list() {
    let mut bench = Bench::new(0, 100);
    let orders: Vec<_> =
        (0..30_u64).map(|buyer| bench.wait(queue(buyer, 1).class((buyer % 3) as u8))).collect();
    let before: Vec<_> = orders.iter().map(|order| bench.position(*order)).collect();
    bench.kill();
    let after: Vec<_> = orders.iter().map(|order| bench.position(*order)).collect();
    assert_eq!(before, after);
    assert_eq!(bench.levels().waiting, 30);
    bench.restock(10);
    for (buyer, order) in orders.iter().enumerate() {
        assert_eq!(bench.state(*order), if buyer % 3 == 0 { Held } else { Waiting });
    }
}

/// The same from a checkpoint, and from a checkpoint with what came after it.
#[test]
fn a_checkpoint_keeps_the_list() {
    let mut bench = Bench::new(0, 100);
    let early: Vec<_> = (0..10).map(|buyer| bench.wait(queue(buyer, 2))).collect();
    bench.restock(4);
    let checkpoint = bench.engine.checkpoint().expect("open");
    bench.engine.run_until_idle();
    checkpoint.wait().expect("taken");
    let late: Vec<_> = (10..20).map(|buyer| bench.wait(queue(buyer, 2))).collect();
    bench.cancel(early[3]);
    bench.restock(2);
    let dump = bench.engine.dump();
    bench.kill();
    assert!(bench.engine.recovery().checkpoint.is_some());
    let without_floor = |dump: &str| dump.lines().skip(1).map(String::from).collect::<Vec<_>>();
    assert_eq!(without_floor(&bench.engine.dump()), without_floor(&dump));
    for (nth, order) in early.iter().chain(&late).enumerate() {
        // Three were served, and one left.
        let expected = (nth as u64).checked_sub(4);
        assert_eq!(bench.position(*order), expected, "the {nth}th");
    }
}

/// A crash between release and promotion neither loses nor doubles a unit: what came back goes to who
/// waits, before anyone else can ask.
#[test]
fn a_promotion_that_a_crash_took_is_made_again_before_the_first_call() {
    let mut bench = Bench::new(1, 10);
    let held = bench.hold(buy(1, 1));
    let waits = bench.wait(queue(2, 1));
    let cancelled = bench.engine.cancel(held).expect("held");
    while !cancelled.is_durable() {
        bench.step_writers();
    }
    // The promoter was asked, and the process dies before it comes; or before its record is durable.
    for promoted in [false, true] {
        if promoted {
            while bench.engine.step_timekeeper() {}
        }
        bench.reopen(bench.storage.crash(&mut |_| 0));
        assert_eq!(bench.state(waits), Held);
        assert_eq!((bench.levels().available, bench.levels().held), (0, 1));
        assert!(
            bench
                .engine
                .place(buy(3, 1))
                .expect("an answer")
                .peek()
                .expect("told")
                .held()
                .is_none()
        );
    }
    bench.engine.run_until_idle();
    bench.kill();
    assert_eq!((bench.state(waits), bench.levels().held), (Held, 1));
}

/// Numbers that were given go on behind the last one, so that nobody new comes before who waits.
#[test]
fn who_comes_after_a_restart_stands_behind() {
    let mut bench = Bench::new(0, 10);
    let first = bench.wait(queue(1, 1));
    bench.kill();
    let second = bench.wait(queue(2, 1));
    assert_eq!([first, second].map(|order| bench.position(order)), [Some(0), Some(1)]);
    bench.restock(2);
    bench.kill();
    let third = bench.wait(queue(3, 1));
    assert_eq!(bench.position(third), Some(0));
}
