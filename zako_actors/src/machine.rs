//! The machine and the defaults that follow from it (seed rows Z12 and M4).
//!
//! Owns the heuristics and their bounds. Does not know who uses them.

use std::fs;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What the machine offers to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that it may use.
    pub cpus: usize,
    /// Memory in bytes: the machine's, or the container's limit when that is less.
    pub memory_bytes: u64,
    /// NUMA nodes with memory.
    pub numa_nodes: usize,
}

/// Settings derived from a [`Machine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Steps at a time.
    pub jobs: usize,
    /// Workers that a pool keeps.
    pub min_workers: usize,
    /// Workers that a pool may grow to.
    pub max_workers: usize,
    /// How long a worker above the minimum may be idle.
    pub idle_timeout: Duration,
    /// Disk operations at a time.
    pub disk_jobs: usize,
    /// Network operations at a time.
    pub network_jobs: usize,
    /// Size of the store's memory tier in bytes.
    pub memory_tier_bytes: u64,
}

impl Machine {
    /// Looks at this machine.
    pub fn look() -> Self {
        let info = rustix::system::sysinfo();
        let physical = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
        let limit = fs::read_to_string("/sys/fs/cgroup/memory.max")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(u64::MAX);
        let nodes = fs::read_dir("/sys/devices/system/node")
            .into_iter()
            .flatten()
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| {
                    let name = entry.file_name();
                    let number = name.to_str().and_then(|name| name.strip_prefix("node"));
                    number.is_some_and(|number| number.parse::<u32>().is_ok())
                })
            });
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: physical.min(limit),
            numa_nodes: nodes.count().max(1),
        }
    }

    /// The settings for it: every one bounded both ways.
    pub fn defaults(&self) -> Defaults {
        let min_workers = (self.cpus / 2).max(1);
        Defaults {
            jobs: self.cpus,
            min_workers,
            max_workers: (self.cpus * 3 / 2).max(min_workers + 1),
            idle_timeout: Duration::from_secs(30),
            disk_jobs: (2 * self.cpus).max(4),
            network_jobs: (4 * self.cpus).max(8),
            memory_tier_bytes: (self.memory_bytes / 10).clamp(4 * MIB, 4 * GIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_bounded_both_ways() {
        let tiny = Machine {
            cpus: 1,
            memory_bytes: MIB,
            numa_nodes: 1,
        }
        .defaults();
        assert_eq!((tiny.min_workers, tiny.max_workers), (1, 2));
        assert_eq!((tiny.disk_jobs, tiny.network_jobs), (4, 8));
        assert_eq!(tiny.memory_tier_bytes, 4 * MIB);
        let huge = Machine {
            cpus: 64,
            memory_bytes: 512 * GIB,
            numa_nodes: 2,
        }
        .defaults();
        assert_eq!(
            (huge.min_workers, huge.max_workers, huge.disk_jobs),
            (32, 96, 128)
        );
        assert_eq!(huge.memory_tier_bytes, 4 * GIB);
    }

    #[test]
    fn this_machine_is_seen() {
        let machine = Machine::look();
        assert!(machine.cpus >= 1 && machine.memory_bytes > 16 * MIB && machine.numa_nodes >= 1);
    }
}
