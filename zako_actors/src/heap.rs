//! How the process's allocator keeps memory.
//!
//! Owns its settings for a command that works in a workspace. Does not know who takes memory, nor what for.
//! Invariant: they are set before the command has a second thread.
//!
//! As glibc has it, each thread takes from an arena of its own, of which there are up to eight for each CPU, and what one
//! has free the others do not see; and once a large block was given back, all up to its size lie among the small ones. Of
//! what a build of 10,000 targets took, a fifth was that.
#![allow(unsafe_code)]

/// Blocks from this size on are mapped, each by itself, and go back to the system when they are free: tables and lists of
/// large workspaces. Smaller ones would cost more in page faults than they are worth.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM_BYTES: i32 = 1 << 20;

/// What may lie free at the end of the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE_AT_END_BYTES: i32 = 4 << 20;

/// Has the allocator keep together what is small, and give back what is large. Does nothing where it is another one than
/// glibc's, nor with what `MALLOC_ARENA_MAX` has said already.
pub(crate) fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Threads of steps and shards allocate little at a time, most of it from what they keep for themselves. With a
        // single arena they waited for each other, though: a fortieth of the time of 10,000 small steps.
        let arenas = 2 + crate::machine::cpus() / 8;
        let settings = [
            (libc::M_ARENA_MAX, i32::try_from(arenas).unwrap_or(i32::MAX)),
            (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
            (libc::M_TRIM_THRESHOLD, FREE_AT_END_BYTES),
        ];
        let is_said = std::env::var_os("MALLOC_ARENA_MAX").is_some();
        for (setting, value) in settings.into_iter().skip(usize::from(is_said)) {
            // SAFETY: `mallopt` takes any number, and refuses by its result what it cannot use.
            let taken = unsafe { libc::mallopt(setting, value) };
            if taken == 0 {
                tracing::debug!("the allocator does not take setting {setting}");
            }
        }
    }
}
