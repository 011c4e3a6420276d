//! Asking for a cache line before it is needed.
//!
//! Owns: two instructions. A compare-exchange waits until earlier stores are done, so a producer that
//! meets each slot's line cold pays a transfer between cores per line; asked for in time it is there.
//! Does not know: what the line holds; a hint has no effect on what a program computes.
#![allow(unsafe_code)]

/// Asks for the line at `address`, to be written soon. Any address will do.
#[inline(always)]
pub(crate) fn for_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // By hand: for the plain x86-64 target the compiler turns the write prefetch into a read prefetch, after which
    // the store still has to ask for the line.
    // SAFETY: a hint that every x86-64 processor accepts, for any address: it neither reads, writes nor faults.
    unsafe {
        std::arch::asm!(
            "prefetchw [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = address;
}

/// Asks for the line at `address`, to be read soon. Any address will do.
#[inline(always)]
pub(crate) fn for_read<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    // SAFETY: a hint: it neither reads nor faults, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = address;
}
