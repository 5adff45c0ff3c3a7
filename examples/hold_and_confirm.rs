//! The shortest useful program: stock a SKU, hold a unit for a buyer, confirm the payment.
//!
//! ```sh
//! cargo run --example hold_and_confirm
//! ```

use std::time::Duration;

use doorbuster::{Adjust, Engine, Options, Order, Placed, Refusal, RequestKey, SkuId};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A service would use a folder of its own, such as "/var/lib/shop/sale".
    let folder = tempfile::tempdir()?;
    // A small segment keeps this example quick. A service leaves the default.
    let options = Options::new(folder.path()).segment_bytes(1 << 20);
    let engine = Engine::open(options)?;

    // Put two units into stock. The key makes a retry of this call harmless.
    let lamp = SkuId::new(42);
    engine.stock(lamp, Adjust::add(2).key(RequestKey::from_text("purchase order 7")))?.wait()?;

    // Buyer 1001 asks for one. The buyer's client chose the key, and sends it again when it retries.
    let order = Order::new(1001, RequestKey::from_text("tap 1"))
        .line(lamp, 1)
        .hold_for(Duration::from_secs(900));
    let Placed::Held(held) = engine.place(&order)?.wait()? else {
        return Err("two units are in stock".into());
    };
    println!("order {} holds a lamp for 15 minutes", held.order);

    // A retry makes no second order. It receives the first answer, marked as replayed.
    let Placed::Held(retry) = engine.place(&order)?.wait()? else {
        return Err("a retry receives the first answer".into());
    };
    assert!(retry.replayed && retry.order == held.order);

    // The buyer paid in time. The unit is sold.
    let confirmed = engine.confirm(held.order)?.wait()?;
    println!("payment: the order is now {:?}", confirmed.state());

    // One unit is left, so an order for two is refused. A refusal is a value, not an error.
    let greedy = Order::new(1002, RequestKey::from_text("tap 1")).line(lamp, 2);
    match engine.place(&greedy)?.wait()? {
        Placed::Refused(Refusal::SoldOut { available, .. }) => {
            println!("an order for two is refused: {available} left");
        }
        other => return Err(format!("one unit is left, and yet: {other:?}").into()),
    }

    engine.close()?;
    Ok(())
}
