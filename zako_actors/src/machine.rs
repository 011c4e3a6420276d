//! The machine and the defaults that follow from it (seed rows Z12 and M4).
//!
//! Owns the heuristics and their bounds. Does not know who uses them.

use std::fs;
use std::time::Duration;

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
    /// Workers of a pool.
    pub pool: PoolSize,
    /// Results handed on to a remote cache at a time.
    pub network_jobs: usize,
}

/// How large a pool of workers is, and how patient: isolates, transpilers, worker processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Workers kept even when there is nothing to do.
    pub min: usize,
    /// Most workers; at least one and at least `min`.
    pub max: usize,
    /// How long a worker above `min` may have nothing to do before it goes.
    pub idle: Duration,
}

impl PoolSize {
    /// `size` workers, no more and no less.
    pub fn fixed(size: usize) -> Self {
        Self {
            min: size.max(1),
            max: size.max(1),
            idle: Duration::from_secs(30),
        }
    }

    /// The same with at most `max` workers.
    #[must_use]
    pub fn at_most(self, max: usize) -> Self {
        let max = self.max.min(max).max(1);
        Self {
            min: self.min.min(max),
            max,
            ..self
        }
    }

    /// As the runtime's pools have it; `name` is for messages, and `backlog` jobs may wait.
    pub(crate) fn config(self, name: &str, backlog: usize) -> actor_rt::PoolConfig {
        actor_rt::PoolConfig {
            name: name.to_owned(),
            min: self.min,
            max: self.max,
            idle: self.idle,
            backlog,
            stack_bytes: None,
        }
    }
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
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
            cpus: cpus(),
            memory_bytes: physical.min(limit),
            numa_nodes: nodes.count().max(1),
        }
    }

    /// The settings for it: every one bounded both ways.
    pub fn defaults(&self) -> Defaults {
        let min_workers = (self.cpus / 2).max(1);
        Defaults {
            // One more than can compute: a process begins and ends with waiting for the disk and for
            // whoever started it.
            jobs: self.cpus + 1,
            pool: PoolSize {
                min: min_workers,
                max: (self.cpus * 3 / 2).max(min_workers + 1),
                idle: Duration::from_secs(30),
            },
            network_jobs: (4 * self.cpus).max(8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn defaults_are_bounded_both_ways() {
        let tiny = Machine {
            cpus: 1,
            memory_bytes: MIB,
            numa_nodes: 1,
        }
        .defaults();
        assert_eq!((tiny.pool.min, tiny.pool.max), (1, 2));
        assert_eq!((tiny.jobs, tiny.network_jobs), (2, 8));
        let huge = Machine {
            cpus: 64,
            memory_bytes: 512 * GIB,
            numa_nodes: 2,
        }
        .defaults();
        assert_eq!((huge.pool.min, huge.pool.max), (32, 96));
        assert_eq!(huge.network_jobs, 256);
        let four = huge.pool.at_most(4);
        assert_eq!((four.min, four.max), (4, 4));
    }

    #[test]
    fn this_machine_is_seen() {
        let machine = Machine::look();
        assert!(machine.cpus >= 1 && machine.memory_bytes > 16 * MIB && machine.numa_nodes >= 1);
    }
}
