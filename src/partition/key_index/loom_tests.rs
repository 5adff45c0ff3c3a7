//! One writer and one reader in every order, with segments of four entries.

use super::segment::home_of;
use super::*;

/// A hash whose tag is this one.
fn hash(tag: u32) -> u64 {
    u64::from(tag) << 32
}

/// Tags below and above the first split's point, at both home lines.
const TAGS: [u32; 6] = [1, 1 << 31 | 1, 3, 1 << 31 | 3, 5, 1 << 31 | 5];

fn of(keys: usize) -> KeyIndexWriter {
    let mut index = KeyIndexWriter::with_capacity(1);
    (0..keys).for_each(|nth| index.insert(hash(TAGS[nth]), nth as u32));
    index
}

impl KeyIndexWriter {
    /// Adds a pair as the straight path does.
    fn add(&mut self, hash: u64, handle: u32) {
        let vacancy = self.find_or_vacancy(hash, |_| false).expect_err("it is not in");
        self.occupy(vacancy, handle);
    }
}

#[test]
fn a_key_that_was_in_is_seen_through_a_split() {
    loom::model(|| {
        let mut index = of(4);
        let shared = Arc::clone(index.shared());
        let reader = loom::thread::spawn(move || {
            TAGS[..4].iter().for_each(|&tag| assert!(!shared.surely_absent(hash(tag))));
        });
        index.add(hash(TAGS[4]), 4);
        assert_eq!(index.segments.len(), 2, "the fifth key splits");
        reader.join().expect("the reader did not panic");
    });
}

#[test]
fn a_key_is_seen_by_a_thread_that_saw_what_came_after_it() {
    loom::model(|| {
        let mut index = of(3);
        let (shared, told) = (Arc::clone(index.shared()), Arc::new(AtomicU32::new(3)));
        let reader = loom::thread::spawn({
            let told = Arc::clone(&told);
            move || {
                let told = told.load(Ordering::Acquire) as usize;
                assert!(!shared.surely_absent(hash(TAGS[told - 1])));
            }
        });
        for nth in 3..5 {
            index.add(hash(TAGS[nth as usize]), nth);
            told.store(nth + 1, Ordering::Release);
        }
        reader.join().expect("the reader did not panic");
    });
}

/// A slot that a split vacated is taken and vacated by another thread, which the reader may see
/// alone.
#[test]
fn a_write_by_another_thread_tells_of_the_split_before_it() {
    loom::model(|| {
        let mut index = of(4);
        let shared = Arc::clone(index.shared());
        let reader = loom::thread::spawn(move || {
            assert!(!shared.surely_absent(hash(TAGS[3])));
        });
        index.add(hash(TAGS[4]), 4);
        let next = loom::thread::spawn(move || {
            index.add(hash(7), 7);
            index.remove(hash(7), 7);
        });
        next.join().expect("the writer did not panic");
        reader.join().expect("the reader did not panic");
    });
}

/// A key and what the writer does to it, or beside it, while it is in.
struct Case {
    what: &'static str,
    /// The tags that are in at first; the handle of each is its number.
    tags: &'static [u32],
    key: u32,
    change: fn(&mut KeyIndexWriter),
}

/// Tags of the first home line: two of them fill it, and the next ones pass it.
const FIRST_LINE: [u32; 6] = [1, 5, 9, 13, 17, 21];
/// On the other side of the first split.
const FAR: u32 = 1 << 31;

const fn case(
    what: &'static str,
    tags: &'static [u32],
    key: u32,
    change: fn(&mut KeyIndexWriter),
) -> Case {
    Case { what, tags, key, change }
}

/// Every operation of the writer, to the key itself and to those beside it, before it and on the list.
const CASES: [Case; 16] = [
    case("its handle is replaced, with a vacant place before it", &[1, 5], 5, |index| {
        index.remove(hash(1), 0);
        index.replace(hash(5), 1, 9);
    }),
    case("its handle is replaced beyond its home line", &[1, 5, 9], 9, |index| {
        index.remove(hash(1), 0);
        index.replace(hash(9), 2, 9);
        index.replace(hash(9), 9, 2);
    }),
    case("its handle is replaced on the list", &[1, 5, 9, 13, 17], 17, |index| {
        assert_eq!(index.list.len(), 1, "the fifth key of a line is on the list");
        index.replace(hash(17), 4, 9);
    }),
    case("a handle beside it is replaced", &[1, 5], 5, |index| {
        index.replace(hash(1), 0, 9);
    }),
    case("others come after it and go", &[1], 1, |index| {
        index.add(hash(5), 1);
        index.add(hash(9), 2);
        index.remove(hash(5), 1);
        index.remove(hash(9), 2);
    }),
    case("those of the line that it passed go", &[1, 5, 9], 9, |index| {
        index.remove(hash(1), 0);
        index.remove(hash(5), 1);
    }),
    case("one that passed its home line before it goes", &[1, 5, 9, 13], 13, |index| {
        index.remove(hash(9), 2);
    }),
    case("one that passed its home line after it goes", &[1, 5, 9, 13], 9, |index| {
        index.remove(hash(13), 3);
    }),
    case("a place before it is vacated and taken anew", &[1, 5, 9], 9, |index| {
        index.remove(hash(1), 0);
        index.add(hash(13), 3);
    }),
    case("another key of the same tag is claimed and refused", &[1], 1, |index| {
        index.add(hash(1), 9);
        index.remove(hash(1), 9);
    }),
    case("another key of the same tag goes", &[1, 1], 1, |index| {
        index.remove(hash(1), 0);
    }),
    case("another key of the same tag moves", &[1, 1, 1], 1, |index| {
        index.remove(hash(1), 0);
        index.replace(hash(1), 1, 9);
    }),
    case(
        "its segment splits, and what left is used again",
        &[1, FAR | 1, 3, FAR | 3],
        3,
        |index| {
            index.add(hash(5), 4);
            index.add(hash(7), 5);
            index.remove(hash(5), 4);
        },
    ),
    case("it leaves in a split and moves", &[1, FAR | 1, 3, FAR | 3], FAR | 3, |index| {
        index.add(hash(5), 4);
        index.replace(hash(FAR | 3), 3, 9);
    }),
    case("another key goes to the list", &[1, 5, 9, 13], 9, |index| {
        index.add(hash(17), 4);
        assert_eq!(index.list.len(), 1);
    }),
    case("another key of the list goes", &[1, 5, 9, 13, 17, 21], 17, |index| {
        assert_eq!(index.list.len(), 2);
        index.remove(hash(21), 5);
    }),
];

/// What a look promises is about the key, not about a pair of key and handle.
#[test]
fn a_key_that_is_in_is_seen_whatever_the_writer_does() {
    assert!(FIRST_LINE.iter().all(|tag| home_of(*tag) == 0));
    // Each race needs one switch, of the reader or of the writer; with three, the splits take minutes.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(1);
    for Case { what, tags, key, change } in CASES {
        model.check(move || {
            let mut index = KeyIndexWriter::with_capacity(1);
            (0..).zip(tags).for_each(|(nth, tag)| index.add(hash(*tag), nth));
            let shared = Arc::clone(index.shared());
            let reader = loom::thread::spawn(move || {
                assert!(!shared.surely_absent(hash(key)), "{what}");
            });
            change(&mut index);
            reader.join().expect("the reader did not panic");
        });
    }
}
