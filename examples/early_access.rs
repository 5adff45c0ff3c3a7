//! The rules of a sale: members buy before everyone else, each buyer at most two units, some stock kept back.
//!
//! ```sh
//! cargo run --example early_access
//! ```

use std::time::Duration;

use doorbuster::{
    Adjust, Engine, MerchantId, Options, Order, Placed, Refusal, RequestKey, SaleRules, SkuId,
    Switch,
};

const CONSOLE: SkuId = SkuId::new(1);
const MEMBERS: u8 = 0;
const EVERYONE: u8 = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(Options::new(folder.path()).segment_bytes(1 << 20))?;
    engine.stock(CONSOLE, Adjust::add(100).key(RequestKey::from_text("delivery 1")))?.wait()?;

    // The sale opens in ten minutes, for members now. Times are in engine time, in milliseconds.
    let ten_minutes = Duration::from_secs(600);
    let rules = SaleRules::new()
        .opens_at_ms(engine.now_ms() + 600_000)
        .early_access(MEMBERS, ten_minutes)
        .buyer_limit(2)
        .safety_stock(5)
        .merchant(MerchantId::new(7));
    engine.rules(CONSOLE, rules)?.wait()?;
    println!("for sale: {:?}", engine.levels(CONSOLE).map(|levels| levels.available));

    let order = |buyer: u64, key: &str, class, units: u32| {
        Order::new(buyer, RequestKey::from_text(key)).line(CONSOLE, units).class(class)
    };

    // Everyone else waits for the opening.
    match engine.place(order(1, "tap 1", EVERYONE, 1))?.wait()? {
        Placed::Refused(Refusal::NotOpen { opens_at_ms, now_ms, .. }) => {
            println!("not a member: opens in {} s", (opens_at_ms - now_ms).div_ceil(1_000));
        }
        other => return Err(format!("the sale is not open, and yet: {other:?}").into()),
    }

    // A member buys two. A third is over the limit.
    let placed = engine.place(order(2, "tap 1", MEMBERS, 2))?.wait()?;
    println!("a member holds two: {}", placed.held().is_some());
    match engine.place(order(2, "tap 2", MEMBERS, 1))?.wait()? {
        Placed::Refused(Refusal::BuyerLimit { taken, limit, .. }) => {
            println!("a third is refused: {taken} of {} taken", limit.get());
        }
        other => return Err(format!("the limit is two, and yet: {other:?}").into()),
    }

    // Something is wrong with the listing: stop new holds. What is held can still be paid for.
    engine.rules(CONSOLE, SaleRules::new().switch(Switch::NoNewHolds))?.wait()?;
    match engine.place(order(3, "tap 1", MEMBERS, 1))?.wait()? {
        Placed::Refused(Refusal::Switched { switch, .. }) => println!("switched: {switch:?}"),
        other => return Err(format!("new holds are stopped, and yet: {other:?}").into()),
    }
    if let Some(held) = placed.held() {
        println!("the member pays: {:?}", engine.confirm(held.order)?.wait()?);
    }

    engine.close()?;
    Ok(())
}
