//! A file's bytes, in pages that images share until one of them writes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The page cache's unit.
pub(super) const PAGE_BYTES: usize = 4096;

pub(super) type Page = [u8; PAGE_BYTES];

/// A sparse run of bytes. Copying one copies references to its pages.
///
/// Invariants: a page that is not there is all zeros; every byte at or past `len` is zero, so
/// growing needs no clearing.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

/// The numbers of the pages that a range of bytes touches.
pub(super) fn pages_of(range: Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64)
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn page(&self, number: u64) -> Option<&Arc<Page>> {
        self.pages.get(&number)
    }

    /// Replaces a page; `None` is all zeros. The caller keeps zeros past `len`.
    pub(super) fn set_page(&mut self, number: u64, page: Option<Arc<Page>>) {
        match page {
            Some(page) => self.pages.insert(number, page),
            None => self.pages.remove(&number),
        };
    }

    /// Grows with zeros, or does nothing.
    pub(super) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Cuts off, or grows with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE_BYTES as u64));
            if let Some(last) = self.pages.get_mut(&(len / PAGE_BYTES as u64)) {
                Arc::make_mut(last)[(len % PAGE_BYTES as u64) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// Copies bytes from `offset` on; how many there were.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let there = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..there];
        for_each_piece(offset, there, |number, within, piece| match self.pages.get(&number) {
            Some(page) => buffer[piece].copy_from_slice(&page[within]),
            None => buffer[piece].fill(0),
        });
        there
    }

    /// Writes bytes at `offset`, growing if need be. `offset + bytes.len()` must not overflow.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for_each_piece(offset, bytes.len(), |number, within, piece| {
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            match <&Page>::try_from(&bytes[piece.clone()]) {
                Ok(whole) if Arc::get_mut(page).is_none() => *page = Arc::new(*whole),
                _ => Arc::make_mut(page)[within].copy_from_slice(&bytes[piece]),
            }
        });
        if !bytes.is_empty() {
            self.grow(offset + bytes.len() as u64);
        }
    }
}

/// Parts `len` bytes at `offset` by page: number, range within the page, range within the bytes.
fn for_each_piece(offset: u64, len: usize, mut visit: impl FnMut(u64, Range<usize>, Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let within = (at % PAGE_BYTES as u64) as usize;
        let step = (PAGE_BYTES - within).min(len - done);
        visit(at / PAGE_BYTES as u64, within..within + step, done..done + step);
        done += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(image: &Image) -> Vec<u8> {
        let mut buffer = vec![9; image.len() as usize];
        assert_eq!(image.read(&mut buffer, 0), buffer.len());
        buffer
    }

    #[test]
    fn writes_across_pages_read_back_like_a_vector() {
        let mut image = Image::default();
        let mut model = Vec::new();
        for (step, (offset, len)) in
            [(5000, 10), (0, 4096), (4090, 9000), (1, 1), (20_000, 4096)].into_iter().enumerate()
        {
            let piece = vec![step as u8 + 1; len];
            image.write(&piece, offset);
            let (offset, end) = (offset as usize, offset as usize + len);
            model.resize(model.len().max(end), 0);
            model[offset..end].copy_from_slice(&piece);
            assert_eq!(bytes(&image), model);
        }
        let mut buffer = [0; 10];
        assert_eq!(image.read(&mut buffer, image.len() - 3), 3);
        assert_eq!(image.read(&mut buffer, u64::MAX), 0);
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut image = Image::default();
        image.write(&[1; 8192], 0);
        let copy = image.clone();
        image.write(&[2; 4096], 0);
        image.write(&[3; 1], 5000);
        assert_eq!(bytes(&copy), [1; 8192]);
        assert_eq!((bytes(&image)[0], bytes(&image)[5000]), (2, 3));
    }

    #[test]
    fn what_was_cut_off_grows_back_as_zeros() {
        let mut image = Image::default();
        image.write(&[1; 9000], 0);
        image.set_len(10);
        image.set_len(9000);
        assert_eq!(bytes(&image)[..10], [1; 10]);
        assert!(bytes(&image)[10..].iter().all(|byte| *byte == 0));
    }
}
