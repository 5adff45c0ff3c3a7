//! Asks the processor to load a cache line that will be needed soon.
//!
//! This module has `unsafe` code: the processors' prefetch instructions have no safe form. It pays: on
//! the machine of `benches/README.md` a line that is not in the cache costs 100 to 300 ns, as much as
//! the rest of a `place`, and a plain early load would be waited for at the next locked instruction.
#![allow(unsafe_code)]

/// The line at `target` will be written.
#[inline(always)]
pub(crate) fn for_write<T>(target: &T) {
    for_write_at(std::ptr::from_ref(target).cast::<u8>());
}

/// The line at `target` will be read.
#[inline(always)]
pub(crate) fn for_read<T>(target: &T) {
    let address = std::ptr::from_ref(target).cast::<u8>();
    // SAFETY: as in `for_write_at`.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "prefetcht0 [{0}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    // SAFETY: as in `for_write_at`.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{0}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}

#[inline(always)]
fn for_write_at(address: *const u8) {
    // SAFETY: a prefetch reads nothing and writes nothing that the program can see, and never faults; every address
    // is allowed. Processors of this architecture that do not know the instruction treat it as one that does nothing.
    // (The compiler's intrinsic emits the form for reading unless it builds for a newer processor.)
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "prefetchw [{0}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    // SAFETY: as above; the instruction changes no register and no memory.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "prfm pstl1keep, [{0}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
}

/// Prefetches the first `lines` lines of `target` for writing; it may start anywhere in a line.
#[inline(always)]
pub(crate) fn lines_for_write<T>(target: &T, lines: usize) {
    const LINE_BYTES: usize = 64;
    let start = std::ptr::from_ref(target).cast::<u8>();
    for line in 0..lines {
        // An address, not an access.
        for_write_at(start.wrapping_add(line * LINE_BYTES));
    }
}
