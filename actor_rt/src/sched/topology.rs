//! Where workers run: cores, shared caches, NUMA nodes.
//!
//! Owns: the plan from workers to cores and the order in which a worker robs the others.
//! Does not know: queues.
//! Invariant: whatever the machine refuses (pinning, topology) costs speed, never correctness, and is
//! said once.

use core_affinity::CoreId;

/// Workers' cores and how far apart they are.
pub(super) struct Layout {
    cores: Vec<Option<CoreId>>,
    /// (cache, node) of each worker, where known.
    places: Vec<(u32, u32)>,
    /// Cores that this process may use.
    pub(super) cores_available: usize,
}

/// Places `workers` on the cores that this process may use.
pub(super) fn plan(workers: usize, pin: bool) -> Layout {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    let cores_available = available.len().max(1);
    let pin = pin && workers <= cores_available && !available.is_empty();
    let cores: Vec<_> = (0..workers)
        .map(|index| pin.then(|| available[index % available.len()]))
        .collect();
    let places = cores
        .iter()
        .map(|core| core.map_or((0, 0), place_of))
        .collect();
    Layout {
        cores,
        places,
        cores_available,
    }
}

/// Pins the calling thread; says so once if it may not.
pub(super) fn pin(core: CoreId) {
    static SAID: std::sync::Once = std::sync::Once::new();
    if !core_affinity::set_for_current(core) {
        SAID.call_once(|| {
            tracing::warn!(
                core = core.id,
                "cannot pin workers to cores; the system runs unpinned"
            );
        });
    }
}

fn place_of(_core: CoreId) -> (u32, u32) {
    (0, 0)
}

impl Layout {
    pub(super) fn core_of(&self, worker: usize) -> Option<CoreId> {
        self.cores[worker]
    }

    /// Every other worker: those that share a cache first, then those of the same node.
    pub(super) fn victims_of(&self, worker: usize) -> Box<[usize]> {
        let count = self.places.len();
        let (cache, node) = self.places[worker];
        let mut others: Vec<_> = (1..count).map(|step| (worker + step) % count).collect();
        others.sort_by_key(|&other| {
            let (other_cache, other_node) = self.places[other];
            (other_node != node, other_cache != cache)
        });
        others.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_robbed_first() {
        let layout = Layout {
            cores: vec![None; 5],
            places: vec![(0, 0), (1, 0), (0, 0), (2, 1), (1, 0)],
            cores_available: 5,
        };
        assert_eq!(*layout.victims_of(0), [2, 1, 4, 3]);
        assert_eq!(*layout.victims_of(3), [4, 0, 1, 2]);
    }

    #[test]
    fn more_workers_than_cores_are_not_pinned() {
        let layout = plan(10_000, true);
        assert!((0..10_000).all(|worker| layout.core_of(worker).is_none()));
        assert_eq!(layout.victims_of(0).len(), 9_999);
    }
}
