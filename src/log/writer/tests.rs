use super::*;
use crate::clock::EngineTime;
use crate::log::archive::Archive;
use crate::log::effect::EffectKind;
use crate::log::latch::Latch;
use crate::log::segment::FoundSegments;
use crate::storage::{Access, Storage};
use crate::testing::{ManualClock, MemoryStorage};

/// A shard of one lane, and its writer, which tells what it does to each effect.
fn writer(marks: &Arc<Marks>, give_back: GiveBack) -> (Writer, Arc<Lane>) {
    let storage = MemoryStorage::new();
    storage.create_root().expect("new");
    storage.create_folder("log/00").expect("new");
    let lock = Arc::from(storage.lock().expect("new").expect("free"));
    let clock = Arc::new(ManualClock::default());
    let time = Arc::new(EngineTime::start(clock, None, None).expect("no log"));
    let unparker = Parker::new().unparker().clone();
    let shard = Arc::new(Shard::new(0, Arc::new(Latch::default()), unparker, 64 << 10));
    let lane = Arc::new(Lane::new(0, shard.clone(), 1 << 20, 0));
    let segments = Arc::new(Segments::new(
        Arc::new(storage),
        shard.clone(),
        Access::Direct,
        64 << 10,
        vec![lane.clone()],
        FoundSegments { spares: Vec::new(), oldest_ordinal: 0, next_ordinal: 0 },
        Archive::new(None, time.clone()),
    ));
    let first = segments.take().expect("room");
    let writer = Writer::new(WriterStart {
        shard,
        lanes: vec![lane.clone()],
        marks: marks.clone(),
        segments,
        active: Some((first, 0)),
        identity: Identity { engine_id: [1; 16], epoch: 1, shards: 1, synced: true },
        time,
        give_back,
        activity: Arc::default(),
        counters: Arc::default(),
        previous: BlockMark::default(),
        block_bytes_max: 16 << 10,
        lock: Some(lock),
    });
    (writer, lane)
}

/// Rule R12: an order that uses what a block permits must name the block. So the mark says that it is durable before
/// any effect is applied, and no caller is woken before it is.
#[test]
fn the_mark_comes_before_what_is_given_back_and_that_before_the_answer() {
    let marks = Arc::new(Marks::new([LogPosition::default()]));
    let seen = Arc::new(crate::sync::Mutex::new(Vec::new()));
    let (in_between, looks_at) = (seen.clone(), marks.clone());
    let lane: Arc<crate::sync::Mutex<Option<Arc<Lane>>>> = Arc::default();
    let answers = lane.clone();
    let (mut writer, own) = writer(
        &marks,
        Box::new(move |effect| {
            let blocks = looks_at.positions()[0].mark.blocks;
            let answered = answers.lock().as_ref().is_some_and(|it| it.is_durable(effect.lsn));
            in_between.lock().push((effect.lsn, blocks, answered));
        }),
    );
    *lane.lock() = Some(own.clone());
    for block in 1..=3 {
        let gives_back = [(7, EffectKind::Return { units: 1 })];
        let lsn = own.append(|bytes| bytes.extend([0; 16]), gives_back.into_iter());
        assert_eq!(writer.step(false), WriterStep::Wrote);
        assert!(own.is_durable(lsn));
        assert_eq!(*seen.lock(), [(lsn, block, false)], "blocks named, answered");
        seen.lock().clear();
    }
}
