//! What the file system says about a file.
//!
//! Owns how stamps are compared, and when one can be trusted. Does not know contents.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Coarse file timestamps step once per kernel tick, at most 10 ms; twice that is safe.
const TICK_NS: i64 = 20_000_000;
/// So many ms the clock of files may stand still; longer only one that was set back.
const TICK_MS: u32 = 100;

/// What the file system says about a file. Equal stamps mean equal content, once settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Last change of the content, ns since 1970.
    pub mtime_ns: i64,
    /// Last change of content or attributes, ns since 1970.
    pub ctime_ns: i64,
    /// Inode number.
    pub inode: u64,
    /// Type and permission bits.
    pub mode: u32,
}

impl Stamp {
    /// The stamp inside `metadata`.
    pub fn of(metadata: &Metadata) -> Self {
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size_bytes: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            mode: metadata.mode(),
        }
    }

    /// The stamp inside `stat`.
    pub(super) fn of_stat(stat: &Stat) -> Self {
        let ns = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size_bytes: stat.st_size as u64,
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
            inode: stat.st_ino,
            mode: stat.st_mode,
        }
    }

    /// Whether a change after `now_ns` would certainly show.
    pub fn is_settled(&self, now_ns: i64) -> bool {
        self.mtime_ns.max(self.ctime_ns).saturating_add(TICK_NS) < now_ns
    }

    /// Whether the owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }

    /// What is kept of its permissions.
    pub fn kept_mode(&self) -> u32 {
        kept_mode(self.mode)
    }
}

/// The permission bits that zako gives a copy of a file that has these: all that is kept of them is whether its owner may execute
/// it, since the rest is a matter of who made it, and of no key.
pub fn kept_mode(mode: u32) -> u32 {
    if mode & 0o100 == 0 { 0o644 } else { 0o755 }
}

/// The wall clock in ns since 1970, the scale of file times.
pub fn now_ns() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| i64::try_from(elapsed.as_nanos()).ok())
        .unwrap_or(i64::MAX)
}

/// What a file is stamped with at least that changes now, ns since 1970.
pub fn file_clock_ns() -> i64 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    now.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(now.tv_nsec)
}

/// Waits until the clock of files has moved on from `then_ns`, a few ms: before that a change would have the same stamp as one
/// that was made then.
pub fn await_tick(then_ns: i64) {
    for _ in 0..TICK_MS {
        if file_clock_ns() > then_ns {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_this_very_tick_is_read_again() {
        let stamp = Stamp {
            size_bytes: 1,
            mtime_ns: 5,
            ctime_ns: 1_000_000_000,
            inode: 1,
            mode: 0,
        };
        assert!(!stamp.is_settled(1_000_000_000));
        assert!(!stamp.is_settled(1_000_000_000 + TICK_NS));
        assert!(stamp.is_settled(1_000_000_001 + TICK_NS));
    }
}
