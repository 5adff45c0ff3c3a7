//! A cart with several SKUs: all of its lines or none, or as much as is in stock.
//!
//! ```sh
//! cargo run --example cart
//! ```

use doorbuster::{Adjust, Engine, Fill, Options, Order, Placed, Refusal, RequestKey, SkuId};

const CAMERA: SkuId = SkuId::new(1);
const LENS: SkuId = SkuId::new(2);
const STRAP: SkuId = SkuId::new(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::open(Options::new(folder.path()).segment_bytes(1 << 20))?;
    for (sku, units) in [(CAMERA, 10), (LENS, 1), (STRAP, 10)] {
        engine.stock(sku, Adjust::add(units).key(RequestKey::from_text("delivery 1")))?.wait()?;
    }

    // By default a cart takes all of its lines or nothing. Its record is one, so no crash splits it.
    let kit = |buyer| {
        Order::new(buyer, RequestKey::from_text("checkout 1"))
            .line(CAMERA, 1)
            .line(LENS, 1)
            .line(STRAP, 2)
    };
    let Placed::Held(held) = engine.place(kit(1))?.wait()? else {
        return Err("everything is in stock".into());
    };
    println!("buyer 1 has the whole kit: order {}", held.order);

    // The only lens is gone. The second cart takes nothing, not even the camera.
    match engine.place(kit(2))?.wait()? {
        Placed::Refused(Refusal::SoldOut { sku, .. }) => {
            println!("buyer 2 gets nothing: SKU {} is sold out", sku.get());
        }
        other => return Err(format!("the lens is gone, and yet: {other:?}").into()),
    }
    let cameras = engine.levels(CAMERA).ok_or("the SKU is known")?;
    assert_eq!(cameras.available, 9, "a refused cart holds nothing");

    // Buyer 3 takes what is in stock, as long as a camera is among it.
    let partial = Order::new(3, RequestKey::from_text("checkout 1"))
        .line(CAMERA, 1)
        .line(LENS, 1)
        .min_quantity(CAMERA, 1)
        .fill(Fill::Partial);
    match engine.place(partial)?.wait()? {
        Placed::Partial(partly) => {
            println!("buyer 3 has order {}, without:", partly.held.order);
            for line in &partly.missing {
                println!("  SKU {}, {} missing", line.sku.get(), line.quantity.get());
            }
        }
        other => return Err(format!("the lens is missing, and yet: {other:?}").into()),
    }

    engine.close()?;
    Ok(())
}
