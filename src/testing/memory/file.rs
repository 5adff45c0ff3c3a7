//! One file: what the disk has for certain, what reads back, and the writes between the two.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::image::{Image, PAGE_BYTES, Page, pages_of};

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// A write that no sync has made durable yet. The bytes are kept, since a crash may leave an older
/// of two writes to one place.
#[derive(Clone, Debug)]
struct Write {
    offset: u64,
    bytes: Vec<u8>,
}

/// A file without its name.
///
/// Invariants:
/// - `current` is `durable` with `unsynced` applied in order; a page that no unsynced write touches
///   is the same in both. Only the length of `current` may be ahead without a write.
/// - `lost` has pages that a failed sync left "clean": Linux shows them to reads through the page
///   cache, and forgets that the disk does not have them. No unsynced write touches such a page.
#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    durable: Image,
    current: Image,
    unsynced: Vec<Write>,
    lost: BTreeMap<u64, Arc<Page>>,
    /// Handles that are open: an unnamed file lives as long as one is.
    pub(super) handles: u32,
}

impl FileState {
    pub(super) fn len(&self) -> u64 {
        self.current.len()
    }

    /// Past the page cache. The kernel first writes the range's dirty pages, so this shows unsynced
    /// writes; it does not show lost ones.
    pub(super) fn read_direct(&self, buffer: &mut [u8], offset: u64) -> usize {
        self.current.read(buffer, offset)
    }

    /// Through the page cache.
    pub(super) fn read_cached(&self, buffer: &mut [u8], offset: u64) -> usize {
        let read = self.current.read(buffer, offset);
        let range = offset..offset.saturating_add(read as u64);
        for (number, page) in self.lost.range(pages_of(range.clone())) {
            let start = number * PAGE_BYTES as u64;
            let from = start.max(range.start);
            let until = (start + PAGE_BYTES as u64).min(range.end);
            buffer[(from - offset) as usize..(until - offset) as usize]
                .copy_from_slice(&page[(from - start) as usize..(until - start) as usize]);
        }
        read
    }

    /// Through the page cache. Writing into a lost page makes all of it dirty again, so the next
    /// sync takes its lost bytes along.
    pub(super) fn write_cached(&mut self, bytes: &[u8], offset: u64) {
        for number in self.lost_pages(bytes, offset) {
            if let Some(page) = self.lost.remove(&number) {
                let start = number * PAGE_BYTES as u64;
                let there = (self.len() - start).min(PAGE_BYTES as u64) as usize;
                self.write_unsynced(&page[..there], start);
            }
        }
        self.write_unsynced(bytes, offset);
    }

    /// Past the page cache, which forgets its pages of the range.
    pub(super) fn write_direct(&mut self, bytes: &[u8], offset: u64) {
        for number in self.lost_pages(bytes, offset) {
            self.lost.remove(&number);
        }
        self.write_unsynced(bytes, offset);
    }

    /// Past the page cache, and durable at once. Other unsynced writes stay unsynced.
    pub(super) fn write_direct_durable(&mut self, bytes: &[u8], offset: u64) {
        for number in self.lost_pages(bytes, offset) {
            self.lost.remove(&number);
        }
        // An older unsynced write must not come back over this one at a crash.
        self.forget_unsynced(offset..offset + bytes.len() as u64);
        self.current.write(bytes, offset);
        self.durable.write(bytes, offset);
    }

    /// Makes every unsynced write and the length durable; what is lost stays so.
    pub(super) fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            for number in pages_of(write.range()) {
                self.durable.set_page(number, self.current.page(number).cloned());
            }
        }
        self.durable.set_len(self.current.len());
    }

    /// A sync that failed: nothing unsynced reached the disk, and the page cache calls it clean.
    /// The length stays grown until a crash.
    pub(super) fn fail_sync(&mut self) {
        for write in std::mem::take(&mut self.unsynced) {
            for number in pages_of(write.range()) {
                // A page of two writes is lost once: the first visit has already put it back.
                if let Some(page) = self.current.page(number).cloned() {
                    self.lost.entry(number).or_insert(page);
                }
                self.current.set_page(number, self.durable.page(number).cloned());
            }
        }
    }

    /// Damage at rest: changes what is durable and what reads back alike.
    pub(super) fn overwrite(&mut self, bytes: &[u8], offset: u64) {
        self.write_direct_durable(bytes, offset);
    }

    /// Damage at rest: cuts off or grows with zeros, durably.
    pub(super) fn truncate(&mut self, len: u64) {
        self.forget_unsynced(len..u64::MAX);
        self.lost.split_off(&len.div_ceil(PAGE_BYTES as u64));
        if let Some(last) = self.lost.get_mut(&(len / PAGE_BYTES as u64)) {
            Arc::make_mut(last)[(len % PAGE_BYTES as u64) as usize..].fill(0);
        }
        self.current.set_len(len);
        self.durable.set_len(len);
    }

    /// What a power loss leaves. Each unsynced write survives not at all (a draw of 0 below 3),
    /// whole (1), or sector by sector (2, then a draw below 2 each, 1 survives); a length that is
    /// ahead of what survived survives if a draw below 2 is 1, with zeros where bytes were lost.
    pub(super) fn after_power_loss(&self, draw: &mut dyn FnMut(u64) -> u64) -> Self {
        let mut image = self.durable.clone();
        for write in &self.unsynced {
            match draw(3) {
                0 => {}
                1 => image.write(&write.bytes, write.offset),
                _ => write.for_each_sector(|bytes, offset| {
                    if draw(2) == 1 {
                        image.write(bytes, offset)
                    }
                }),
            }
        }
        if image.len() < self.len() && draw(2) == 1 {
            image.grow(self.len());
        }
        Self { durable: image.clone(), current: image, ..Self::default() }
    }

    /// What a killed process leaves: everything, and no handle.
    pub(super) fn after_kill(&self) -> Self {
        Self { handles: 0, ..self.clone() }
    }

    fn write_unsynced(&mut self, bytes: &[u8], offset: u64) {
        if !bytes.is_empty() {
            self.current.write(bytes, offset);
            self.unsynced.push(Write { offset, bytes: bytes.to_vec() });
        }
    }

    /// Takes a range out of the unsynced writes, leaving what lies before and after it.
    fn forget_unsynced(&mut self, range: Range<u64>) {
        if !self.unsynced.iter().any(|write| write.overlaps(&range)) {
            return;
        }
        let mut kept = Vec::with_capacity(self.unsynced.len() + 1);
        for mut write in self.unsynced.drain(..) {
            if !write.overlaps(&range) {
                kept.push(write);
                continue;
            }
            let Range { start, end } = write.range();
            if range.end < end {
                let bytes = write.bytes[(range.end - start) as usize..].to_vec();
                kept.push(Write { offset: range.end, bytes });
            }
            if start < range.start {
                write.bytes.truncate((range.start - start) as usize);
                kept.push(write);
            }
        }
        self.unsynced = kept;
    }

    /// The lost pages that a write of `bytes` touches: almost always none.
    fn lost_pages(&self, bytes: &[u8], offset: u64) -> Vec<u64> {
        let pages = pages_of(offset..offset + bytes.len() as u64);
        self.lost.range(pages).map(|(number, _)| *number).collect()
    }
}

impl Write {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes.len() as u64
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        self.offset < range.end && range.start < self.offset + self.bytes.len() as u64
    }

    /// Parts the write at multiples of [`SECTOR_BYTES`] in the file.
    fn for_each_sector(&self, mut visit: impl FnMut(&[u8], u64)) {
        let Range { start: mut at, end } = self.range();
        while at < end {
            let until = (at - at % SECTOR_BYTES + SECTOR_BYTES).min(end);
            visit(&self.bytes[(at - self.offset) as usize..(until - self.offset) as usize], at);
            at = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(file: &FileState) -> Vec<u8> {
        let mut buffer = vec![0; file.len() as usize];
        file.read_cached(&mut buffer, 0);
        buffer
    }

    fn direct(file: &FileState) -> Vec<u8> {
        let mut buffer = vec![0; file.len() as usize];
        file.read_direct(&mut buffer, 0);
        buffer
    }

    fn lose(file: &FileState) -> Vec<u8> {
        direct(&file.after_power_loss(&mut |_| 0))
    }

    fn keep(file: &FileState) -> Vec<u8> {
        direct(&file.after_power_loss(&mut |_| 1))
    }

    /// A file of `len` durable ones.
    fn ones(len: usize) -> FileState {
        let mut file = FileState::default();
        file.write_cached(&vec![1; len], 0);
        file.sync();
        file
    }

    #[test]
    fn an_unsynced_write_reads_back_and_may_be_lost() {
        let mut file = ones(4096);
        file.write_cached(&[2; 10], 4090);
        assert_eq!(cached(&file), direct(&file));
        assert_eq!(cached(&file)[4090..], [2; 10]);
        assert_eq!(lose(&file), [1; 4096]);
        assert_eq!(keep(&file), cached(&file));
        file.sync();
        assert_eq!(lose(&file), cached(&file));
    }

    #[test]
    fn sectors_survive_one_by_one_in_any_order() {
        let mut file = ones(4096);
        file.write_cached(&[2; 1200], 100);
        let mut second_sector_only = [2, 0, 1, 0].into_iter();
        let after = file.after_power_loss(&mut |_| second_sector_only.next().unwrap_or(9));
        let after = direct(&after);
        assert_eq!(after[..512], [1; 512]);
        assert_eq!(after[512..1024], [2; 512]);
        assert_eq!(after[1024..], [1; 3072]);
    }

    #[test]
    fn of_two_writes_to_one_place_either_may_survive() {
        let mut file = ones(512);
        file.write_cached(&[2; 512], 0);
        file.write_cached(&[3; 512], 0);
        for (draws, survivor) in [([0, 0], 1), ([1, 0], 2), ([0, 1], 3), ([1, 1], 3)] {
            let mut draws = draws.into_iter();
            let after = file.after_power_loss(&mut |_| draws.next().unwrap_or(0));
            assert_eq!(direct(&after), [survivor; 512]);
        }
    }

    #[test]
    fn a_length_may_survive_without_its_bytes() {
        let mut file = ones(10);
        file.write_cached(&[2; 10], 10);
        let mut draws = [0, 1].into_iter();
        let after = file.after_power_loss(&mut |_| draws.next().unwrap_or(0));
        assert_eq!(direct(&after), [[1; 10], [0; 10]].concat());
        assert_eq!(lose(&file), [1; 10]);
    }

    #[test]
    fn after_a_failed_sync_the_page_cache_shows_what_the_disk_lacks() {
        let mut file = ones(8192);
        file.write_cached(&[2; 10], 0);
        file.write_cached(&[3; 10], 10);
        file.fail_sync();
        assert_eq!(cached(&file)[..20], [[2; 10], [3; 10]].concat());
        assert_eq!(direct(&file), [1; 8192]);
        assert_eq!(keep(&file), [1; 8192], "lost whatever is drawn");
        file.sync();
        assert_eq!(keep(&file), [1; 8192], "the next sync says yes and writes nothing");
        assert_eq!(cached(&file.after_kill())[..10], [2; 10], "another process is shown it too");
    }

    #[test]
    fn a_failed_sync_of_a_grown_file_keeps_the_length_until_the_crash() {
        let mut file = ones(10);
        file.write_cached(&[2; 5000], 10);
        file.fail_sync();
        assert_eq!(cached(&file)[10..], [2; 5000]);
        assert_eq!(direct(&file)[10..], [0; 5000]);
        assert_eq!(lose(&file), [1; 10]);
    }

    #[test]
    fn a_cached_write_makes_a_lost_page_dirty_again_and_a_direct_one_drops_it() {
        let mut file = ones(4096);
        file.write_cached(&[2; 10], 0);
        file.fail_sync();
        let mut dropped = file.clone();
        dropped.write_direct_durable(&[4; 4096], 0);
        assert_eq!(cached(&dropped), [4; 4096]);
        file.write_cached(&[3; 10], 100);
        file.sync();
        assert_eq!(lose(&file)[..10], [2; 10]);
        assert_eq!(lose(&file)[100..110], [3; 10]);
    }

    #[test]
    fn a_durable_write_is_not_undone_by_an_older_unsynced_one() {
        let mut file = ones(16384);
        file.write_direct(&[2; 12288], 0);
        file.write_direct_durable(&[3; 4096], 4096);
        assert_eq!(keep(&file)[..4096], [2; 4096]);
        assert_eq!(keep(&file)[4096..8192], [3; 4096]);
        assert_eq!(keep(&file)[8192..12288], [2; 4096]);
        assert_eq!(lose(&file)[..4096], [1; 4096]);
        assert_eq!(lose(&file)[4096..8192], [3; 4096]);
    }

    #[test]
    fn damage_changes_what_is_durable_and_what_reads_back() {
        let mut file = ones(5000);
        file.write_cached(&[2; 5000], 0);
        file.overwrite(&[7; 3], 4095);
        for bytes in [cached(&file), direct(&file), lose(&file), keep(&file)] {
            assert_eq!(bytes[4095..4098], [7; 3]);
        }
        file.truncate(4096);
        for bytes in [cached(&file), direct(&file), lose(&file), keep(&file)] {
            assert_eq!((bytes.len(), bytes[4095]), (4096, 7));
        }
        file.truncate(4098);
        assert_eq!(keep(&file)[4096..], [0; 2]);
    }
}
