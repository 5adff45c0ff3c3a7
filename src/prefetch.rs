//! Asks the processor to load a cache line that will be needed soon.
//!
//! This module has `unsafe` code: the processors' prefetch instructions have no safe form. It pays: on
//! the machine of `benches/README.md` a line that is not in the cache costs 100 to 300 ns, as much as
//! the rest of a `place`, and a plain early load would be waited for at the next locked instruction.
#![allow(unsafe_code)]

/// The line at `target` will be written.
#[inline(always)]
pub(crate) fn for_write<T: ?Sized>(target: &T) {
    let address = std::ptr::from_ref(target).cast::<i8>();
    // SAFETY: a prefetch reads nothing and writes nothing that the program can see, and never faults;
    // every address is allowed, and this one comes from a reference. Where the processor has no
    // prefetch for writing, the instruction does nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_ET0 }>(address);
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
