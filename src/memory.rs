//! Memory in huge pages.
//!
//! A look for a key goes to a random line of tens of megabytes. In pages of 4 KiB the processor has to walk
//! the page tables for it first, twice over in a virtual machine, which takes as long as the load itself;
//! and each page costs 9 to 16 us when it is touched for the first time.
//!
//! This module has `unsafe` code: the kernel has to be told, and that has no safe form.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use rustix::mm::{Advice, madvise};

const HUGE_PAGE_BYTES: usize = 2 << 20;

/// An empty vector with room for `len`, in huge pages where the system has them to give. Nothing of it is
/// touched yet.
pub(crate) fn vec_in_huge_pages<T>(len: usize) -> Vec<T> {
    let mut vec = Vec::with_capacity(len);
    advise(vec.spare_capacity_mut());
    vec
}

/// Whether the system would let the process have `bytes` more bytes. They are asked for at once and returned
/// untouched.
pub(crate) fn would_get(bytes: u64) -> bool {
    usize::try_from(bytes).is_ok_and(|bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok())
}

/// Asks for huge pages behind `memory`, as far as it spans whole ones.
fn advise<T>(memory: &mut [MaybeUninit<T>]) {
    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(HUGE_PAGE_BYTES);
    let advised = bytes.saturating_sub(skipped) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if advised > 0 {
        // SAFETY: the range lies within `memory`, which is borrowed for writing and not initialised. The
        // advice changes how the kernel backs it, never what it holds, and stays harmless when the memory
        // goes back to the allocator.
        let _ = unsafe { madvise(start.add(skipped).cast(), advised, Advice::LinuxHugepage) };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_has_room_for_what_was_asked_for_whatever_the_size() {
        for len in [0, 1, 1000, HUGE_PAGE_BYTES / 8, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 1] {
            let mut vec = vec_in_huge_pages::<u64>(len);
            assert!(vec.is_empty() && vec.capacity() >= len);
            vec.extend(0..len as u64);
            assert!(vec.iter().zip(0..).all(|(found, number)| *found == number));
        }
    }
}
