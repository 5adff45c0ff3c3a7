//! Blocks that are applied one at a time to the tables of an engine that runs.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::ids::MerchantId;
use crate::log::{LogPosition, Manifest, Reader};
use crate::options::Options;
use crate::order::{Adjust, Fill, MerchantRules, Order, SaleRules, Switch};
use crate::recovery::folder::Folder;
use crate::recovery::replay::Replay;
use crate::recovery::replay_lane::Sums;
use crate::recovery::segments::look_at;
use crate::recovery::tables::Tables;
use crate::testing::{ManualClock, MemoryStorage, SteppedEngine, dump};

const SHARDS: usize = 2;

fn options(storage: &MemoryStorage, clock: &Arc<ManualClock>) -> Options {
    Options::on_storage(Arc::new(storage.clone()))
        .clock(clock.clone())
        .partitions(4)
        .log_shards(SHARDS)
        .block_bytes_max(1 << 14)
        .segment_bytes(1 << 16)
        .lines_max(4)
        .payload_bytes_max(64)
}

/// A dump without its first line: an open raises the floor of order ids, and a replay does not.
fn known(engine: &Engine) -> String {
    let dump = dump(engine);
    dump.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_string())
}

/// A copy in whose engine no order ids are reserved, so that it takes those of the other engine.
fn without_floor(storage: &MemoryStorage) -> MemoryStorage {
    let copy = storage.deep_copy();
    let manifest = Manifest::read(&copy).expect("reads").expect("is there");
    Manifest { sequence_floor: 0, ..manifest }.write(&copy).expect("writes");
    copy
}

/// Reads what its log has more than before, and applies it to an engine that is open for reading.
struct Follower {
    engine: Engine,
    replay: Replay,
    positions: [LogPosition; SHARDS],
}

impl Follower {
    fn new(options: Options) -> Self {
        let engine = Engine::open_read_only(options).expect("opens");
        let core = engine.core();
        let tables = Tables::of_running(
            core.skus.clone(),
            core.switches.clone(),
            core.hasher.clone(),
            core.partitions.len(),
            core.shards.len(),
        );
        let replay = Replay::new(tables, core.bounds.adjust_retention_ms);
        Self { engine, replay, positions: Default::default() }
    }

    fn follow(&mut self, storage: &MemoryStorage) {
        let folder = Folder::read_only(&(Arc::new(storage.clone()) as _)).expect("is there");
        let (manifest, files) = look_at(&folder).expect("is whole");
        let core = self.engine.core().clone();
        for (shard, ordinals) in (0..).zip(files) {
            let from = self.positions[usize::from(shard)];
            let expected = manifest.expected(shard, false);
            let mut reader =
                Reader::new(folder.storage(), expected, from, ordinals).expect("reads");
            while let Some(block) = reader.next_block().expect("is whole") {
                let mark = block.mark;
                let mut sums = Sums::new(&self.replay.tables);
                let applied = self.replay.block(&core.partitions[..], shard, &block, &mut sums);
                applied.unwrap_or_else(|misfit| {
                    panic!("block {} of shard {shard}: {misfit:?}", block.number)
                });
                drop(sums);
                let (ordinal, offset) = reader.place();
                self.positions[usize::from(shard)] = LogPosition { mark, ordinal, offset };
            }
        }
        self.replay.add_up(&core.partitions[..], &folder).expect("adds up");
        for partition in &core.partitions {
            self.replay.settle_sales(&mut partition.state.lock());
        }
    }
}

/// Some of everything that a log can hold, a few records at a time.
fn act(engine: &mut SteppedEngine, round: u64) {
    // Too little from the fourth round on, so that orders wait.
    let units = if round < 3 { 5 } else { 1 };
    let stock = engine.stock(round % 3, Adjust::add(units).key(u128::from(round)));
    drop(stock.expect("takes it"));
    if round == 2 {
        let rules = SaleRules::new().waiting_max(8).buyer_limit(6).merchant(MerchantId::new(7));
        drop(engine.rules(0, rules).expect("takes them"));
        drop(engine.merchant(7, MerchantRules::new().rate(1000, 1000)).expect("takes them"));
    }
    if round == 9 {
        drop(engine.switch(Switch::NoNewHolds).expect("takes it"));
        drop(engine.end_sale(0).expect("ends"));
    }
    if round == 10 {
        drop(engine.switch(Switch::Open).expect("takes it"));
    }
    for buyer in 0..6_u64 {
        let order = Order::new(buyer, u128::from(round)).line(round % 3, 1 + (buyer % 3) as u32);
        let order = match buyer {
            1 if round > 2 => Order::new(100 + round, 0)
                .line(0, 3)
                .fill(Fill::Wait { patience: Duration::from_secs(60) }),
            2 if round > 2 => order.line((round + 1) % 3, 2).fill(Fill::Partial),
            3 => order.payload(b"a gift".to_vec()),
            _ => order,
        };
        drop(engine.place(&order));
    }
    let orders: Vec<_> = engine.orders(None).map(|order| order.order).collect();
    for (nth, order) in orders.into_iter().enumerate() {
        let verb = nth as u64 + round;
        let ended = match verb % 5 {
            0 => engine.cancel(order),
            1 => engine.confirm(order),
            2 => engine.fulfil(order),
            _ => continue,
        };
        drop(ended.expect("is there"));
    }
}

#[test]
fn a_running_engine_that_follows_block_by_block_knows_what_an_open_knows() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let storage = MemoryStorage::new();
    let mut engine = SteppedEngine::open(options(&storage, &clock)).expect("opens");
    let mut follower = Follower::new(options(&without_floor(&storage), &clock));
    let mut rounds_with_waiters = 0;
    for round in 0..12 {
        act(&mut engine, round);
        // One shard after the other, so that the follower sees states in between.
        for shard in 0..SHARDS {
            while engine.step_writer(shard) == crate::testing::Step::Wrote {}
        }
        engine.run_until_idle();
        let copy = storage.deep_copy();
        follower.follow(&copy);
        let opened = Engine::open_read_only(options(&copy, &clock)).expect("opens");
        let (followed, read) = (known(&follower.engine), known(&opened));
        let differing = followed.lines().zip(read.lines()).find(|(a, b)| a != b);
        assert_eq!(differing, None, "after round {round}");
        assert_eq!(followed.lines().count(), read.lines().count(), "after round {round}");
        rounds_with_waiters += u32::from(known(&opened).contains("\nwaits "));
    }
    assert!(rounds_with_waiters > 0, "orders wait");
    assert!(known(&follower.engine).lines().count() > 100, "there is something to compare");
}
