//! What a case is made of: a setup and a list of operations. There are few buyers, keys and SKUs, so that they meet
//! each other often.

use std::time::Duration;

use doorbuster::Durability;
use proptest::collection::vec;
use proptest::prelude::*;

/// Buyers are numbered from 0, keys too.
const BUYERS: u64 = 4;
const KEYS: u8 = 6;
/// SKUs are numbered from 1. The last one is seldom stocked, so that the cases ask for unknown SKUs too.
pub(crate) const SKUS: u64 = 4;

/// Longer than [`Setup::payload_bytes_max`] allows.
pub(crate) const PAYLOAD_TOO_LONG: usize = 6_001;
/// More lines than [`Setup::lines_max`] allows.
const LINES_TOO_MANY: usize = 5;

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) partitions: usize,
    pub(crate) shards: usize,
    /// The durability of the even and of the odd lives of the engine.
    pub(crate) durabilities: [Durability; 2],
    /// Whether the disk allows access past the page cache.
    pub(crate) direct: bool,
    /// Whether each partition's share of the log backlog holds only two large records.
    pub(crate) small_backlog: bool,
    pub(crate) orders_max: u64,
}

impl Setup {
    pub(crate) const LINES_MAX: usize = 4;
    pub(crate) const PAYLOAD_BYTES_MAX: usize = 6_000;
    pub(crate) const SEGMENT_BYTES: u64 = 32_768;
    pub(crate) const BLOCK_BYTES_MAX: usize = 16_384;
    pub(crate) const HOLD_DEFAULT: Duration = Duration::from_secs(900);
    pub(crate) const HOLD_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
    pub(crate) const PATIENCE_MAX: Duration = Duration::from_secs(3600);

    /// What a partition's records may take while they wait.
    pub(crate) fn backlog_share(&self) -> u64 {
        match self.small_backlog {
            // The smallest that the options accept: twice the largest record.
            true => 2 * (248 + 20 * Self::LINES_MAX as u64 + Self::PAYLOAD_BYTES_MAX as u64),
            false => 1 << 20,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) buyer: u64,
    pub(crate) key: u8,
    /// The lines as the buyer sends them: the same SKU may stand on two lines.
    pub(crate) lines: Vec<(u64, u32)>,
    /// `None`: the default. In microseconds, since the engine rounds up to milliseconds.
    pub(crate) hold_us: Option<u64>,
    pub(crate) payload_bytes: usize,
    pub(crate) policy: Policy,
    pub(crate) class: u8,
}

/// What the order wants if there is less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    AllOrNone,
    /// With minimums as the buyer sends them: the last one of a SKU counts.
    Partial(Vec<(u64, u32)>),
    Wait {
        patience_us: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Confirm,
    Cancel,
    Fulfil,
}

/// One of the ids that were ever given out, including those lost in a crash, or an id that never was.
pub(crate) type Pick = u16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add(u32),
    Take(u32),
    TakeUpTo(u32),
    /// The figure, and how far off the expected old one is.
    Set(u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hands {
    Both,
    /// The wall clock stands still.
    BootOnly,
    /// The wall clock alone, backwards or forwards.
    WallBack,
    WallAhead,
}

/// How a life of the engine ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Close,
    /// The process is killed; what was written is in the page cache.
    Kill,
    /// The power goes; `seed` decides what survives of what was not synced.
    Power {
        seed: u64,
        /// Whether the clock shows it: another boot.
        reboot: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Place(Request),
    /// One of the requests that were sent, as it was.
    PlaceAgain(Pick),
    Batch(Vec<Request>),
    End(Verb, Pick),
    View(Pick),
    Adjust {
        sku: u64,
        key: u8,
        change: Change,
        reference_bytes: usize,
    },
    /// One of the adjustments that were sent, as it was.
    AdjustAgain(Pick),
    Limit {
        sku: u64,
        units: Option<u32>,
    },
    Pass {
        ms: u64,
        hands: Hands,
    },
    Writer(usize),
    Timekeeper,
    Segments,
    Idle,
    Reopen(Ending),
    /// The machine or the process stops in one of the next calls that change the disk.
    StopIn {
        calls: u64,
        ending: Ending,
    },
    /// The same in a reopening: after this ending, and after this number of calls of the next open.
    StopInOpen {
        ending: Ending,
        calls: u64,
        then: Ending,
    },
}

fn setup() -> impl Strategy<Value = Setup> {
    let durability = prop_oneof![3 => Just(Durability::Synced), 1 => Just(Durability::Written)];
    let durabilities = [durability.clone().boxed(), durability.boxed()];
    let orders_max = prop_oneof![4 => Just(1_000_000_u64), 1 => Just(6)];
    let shape = (0_u32..5, 1_usize..=4);
    (shape, durabilities, any::<bool>(), prop::bool::weighted(0.2), orders_max).prop_map(
        |((partition_bits, shards), durabilities, direct, small_backlog, orders_max)| Setup {
            partitions: 1 << partition_bits,
            shards: shards.min(1 << partition_bits),
            durabilities,
            direct,
            small_backlog,
            orders_max,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let sku = prop_oneof![12 => 1..SKUS, 1 => Just(SKUS)];
    let units = prop_oneof![6 => Just(1_u32), 4 => 2..5_u32, 1 => Just(0), 1 => Just(1_000_001)];
    // Mostly plain contents, so that a retry sometimes has the same content.
    let line = prop_oneof![3 => Just((1, 1)), 4 => (sku, units)];
    let lines = prop_oneof![
        30 => vec(line.clone(), 1..4),
        1 => Just(Vec::new()),
        1 => vec(line, LINES_TOO_MANY),
    ];
    let hold_us = prop_oneof![
        6 => Just(None),
        3 => Just(Some(20_000)),
        1 => Just(Some(1)),
        1 => Just(Some(1_500)),
        2 => Just(Some(60_000_000)),
        1 => Just(Some(Setup::HOLD_MAX.as_micros() as u64)),
        1 => Just(Some(Setup::HOLD_MAX.as_micros() as u64 + 1)),
        1 => Just(Some(0)),
    ];
    let payload_bytes =
        prop_oneof![6 => Just(0), 2 => Just(5), 2 => Just(5_000), 1 => Just(PAYLOAD_TOO_LONG)];
    let class = prop_oneof![8 => Just(0_u8), 2 => 1..8_u8, 1 => Just(8)];
    (0..BUYERS, 0..KEYS, lines, hold_us, payload_bytes, policy(), class).prop_map(
        |(buyer, key, lines, hold_us, payload_bytes, policy, class)| Request {
            buyer,
            key,
            lines,
            hold_us,
            payload_bytes,
            policy,
            class,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let minimum = (1..SKUS, prop_oneof![4 => Just(1_u32), 2 => 2..5_u32, 1 => Just(0)]);
    let patience_us = prop_oneof![
        8 => Just(60_000_000_u64),
        1 => Just(1),
        1 => Just(Setup::PATIENCE_MAX.as_micros() as u64),
        1 => Just(Setup::PATIENCE_MAX.as_micros() as u64 + 1),
        1 => Just(31 * 24 * 3_600_000_000),
        1 => Just(0),
    ];
    prop_oneof![
        5 => Just(Policy::AllOrNone),
        3 => Just(Policy::Partial(Vec::new())),
        2 => Just(Policy::Partial(vec![(1, 1)])),
        1 => vec(minimum, 1..LINES_TOO_MANY + 1).prop_map(Policy::Partial),
        1 => patience_us.prop_map(|patience_us| Policy::Wait { patience_us }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let units = prop_oneof![8 => 1..9_u32, 1 => Just(0)];
    prop_oneof![
        5 => units.clone().prop_map(Change::Add),
        1 => Just(Change::Add(u32::MAX)),
        2 => units.clone().prop_map(Change::Take),
        2 => units.prop_map(Change::TakeUpTo),
        3 => (0..9_u32, prop_oneof![4 => Just(0_u32), 1 => Just(1)])
            .prop_map(|(units, off)| Change::Set(units, off)),
    ]
}

fn adjust() -> impl Strategy<Value = Op> {
    let sku = prop_oneof![12 => 1..SKUS, 1 => Just(SKUS)];
    let reference_bytes = prop_oneof![6 => Just(0_usize), 2 => Just(4), 1 => Just(5_000), 1 => Just(PAYLOAD_TOO_LONG)];
    (sku, 0..KEYS, change(), reference_bytes).prop_map(|(sku, key, change, reference_bytes)| {
        Op::Adjust { sku, key, change, reference_bytes }
    })
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        1 => Just(Ending::Close),
        2 => Just(Ending::Kill),
        3 => (any::<u64>(), any::<bool>()).prop_map(|(seed, reboot)| Ending::Power { seed, reboot }),
    ]
}

fn pass() -> impl Strategy<Value = Op> {
    const HOUR: u64 = 3_600_000;
    let ms = prop_oneof![
        3 => Just(1_u64),
        3 => Just(5),
        3 => Just(19),
        2 => Just(60_000),
        1 => Just(HOUR / 4),
        1 => Just(24 * HOUR),
        1 => Just(5 * 24 * HOUR),
    ];
    let hands = prop_oneof![
        6 => Just(Hands::Both),
        1 => Just(Hands::BootOnly),
        1 => Just(Hands::WallBack),
        1 => Just(Hands::WallAhead),
    ];
    (ms, hands).prop_map(|(ms, hands)| Op::Pass { ms, hands })
}

fn op() -> impl Strategy<Value = Op> {
    let verb =
        prop_oneof![3 => Just(Verb::Confirm), 3 => Just(Verb::Cancel), 1 => Just(Verb::Fulfil)];
    prop_oneof![
        24 => request().prop_map(Op::Place),
        8 => any::<Pick>().prop_map(Op::PlaceAgain),
        4 => vec(request(), 0..6).prop_map(Op::Batch),
        14 => (verb, any::<Pick>()).prop_map(|(verb, pick)| Op::End(verb, pick)),
        3 => any::<Pick>().prop_map(Op::View),
        10 => adjust(),
        4 => any::<Pick>().prop_map(Op::AdjustAgain),
        3 => (1..=SKUS, prop::option::weighted(0.9, 0..5_u32))
            .prop_map(|(sku, units)| Op::Limit { sku, units }),
        6 => pass(),
        16 => (0..4_usize).prop_map(Op::Writer),
        3 => Just(Op::Timekeeper),
        2 => Just(Op::Segments),
        2 => Just(Op::Idle),
        4 => ending().prop_map(Op::Reopen),
        3 => (0..6_u64, ending()).prop_map(|(calls, ending)| Op::StopIn { calls, ending }),
        2 => (ending(), 0..24_u64, ending())
            .prop_map(|(ending, calls, then)| Op::StopInOpen { ending, calls, then }),
    ]
}

/// A case. It begins with some stock, because without stock nothing else can happen.
pub(crate) fn case() -> impl Strategy<Value = (Setup, Vec<Op>)> {
    let stocked = vec((1..SKUS, 3..12_u32), 2..5).prop_map(|skus| {
        let add = |(nth, (sku, units)): (usize, (u64, u32))| {
            let (key, change) = (100 + nth as u8, Change::Add(units));
            Op::Adjust { sku, key, change, reference_bytes: 0 }
        };
        let adds = skus.into_iter().enumerate().map(add);
        adds.chain([Op::Idle]).collect::<Vec<_>>()
    });
    (setup(), stocked, vec(op(), 1..90))
        .prop_map(|(setup, first, rest)| (setup, first.into_iter().chain(rest).collect()))
}
