//! A waiting list: the last unit is held, a second buyer waits, and receives it when the first cancels.
//!
//! ```sh
//! cargo run --example waiting_list
//! ```

use std::time::Duration;

use doorbuster::{
    Adjust, Engine, Fill, Options, Order, OrderState, Placed, Refusal, RequestKey, SaleRules, SkuId,
};

const SNEAKER: SkuId = SkuId::new(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(Options::new(folder.path()).segment_bytes(1 << 20))?;
    engine.stock(SNEAKER, Adjust::add(1).key(RequestKey::from_text("delivery 1")))?.wait()?;

    // Up to 1,000 orders may wait for this SKU.
    engine.rules(SNEAKER, SaleRules::new().waiting_max(1_000))?.wait()?;

    let first = Order::new(1, RequestKey::from_text("tap")).line(SNEAKER, 1);
    let Placed::Held(held) = engine.place(first)?.wait()? else {
        return Err("one unit is in stock".into());
    };

    // The second buyer waits for up to ten minutes.
    let patience = Duration::from_secs(600);
    let second =
        Order::new(2, RequestKey::from_text("tap")).line(SNEAKER, 1).fill(Fill::Wait { patience });
    let Placed::Waiting(waiting) = engine.place(second)?.wait()? else {
        return Err("the only unit is held, so the order waits".into());
    };
    let before = engine.position(waiting.order)?;
    println!("order {} waits; orders before it: {before:?}", waiting.order);

    // The first buyer changes their mind. The unit goes to the order that waits, and to no other.
    engine.cancel(held.order)?.wait()?;
    let served = engine.watch(waiting.order)?.wait()?; // or `.await`
    assert_eq!(served.state, OrderState::Held);
    println!("order {} is served and holds the unit", waiting.order);

    // An order that does not wait is refused: the unit is held again.
    let third = Order::new(3, RequestKey::from_text("tap")).line(SNEAKER, 1);
    match engine.place(third)?.wait()? {
        Placed::Refused(Refusal::SoldOut { .. }) => println!("a third buyer is refused"),
        other => return Err(format!("the unit is held, and yet: {other:?}").into()),
    }

    engine.close()?;

    // The log alone proves that no order was served out of turn.
    let turns = doorbuster::served_in_turn(folder.path())?;
    println!("checked against the log: {turns:?}");
    Ok(())
}
