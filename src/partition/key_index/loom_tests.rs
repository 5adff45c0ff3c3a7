//! One writer and one reader in every order, with segments of four entries.

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

#[test]
fn a_key_that_was_in_is_seen_through_a_split() {
    loom::model(|| {
        let mut index = of(4);
        let shared = Arc::clone(index.shared());
        let reader = loom::thread::spawn(move || {
            TAGS[..4].iter().for_each(|&tag| assert!(!shared.surely_absent(hash(tag))));
        });
        index.insert(hash(TAGS[4]), 4);
        assert_eq!(index.segments.len(), 2, "the fifth key splits");
        reader.join().expect("the reader did not panic");
    });
}

#[test]
fn a_key_is_seen_by_whoever_saw_what_came_after_it() {
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
            index.insert(hash(TAGS[nth as usize]), nth);
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
        index.insert(hash(TAGS[4]), 4);
        let next = loom::thread::spawn(move || {
            index.insert(hash(7), 7);
            index.remove(hash(7), 7);
        });
        next.join().expect("the writer did not panic");
        reader.join().expect("the reader did not panic");
    });
}
