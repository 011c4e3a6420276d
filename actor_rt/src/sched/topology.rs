//! Where workers run: cores, shared caches, NUMA nodes.
//!
//! Owns: the plan from workers to cores, the order in which a worker robs the others, and where threads run that are
//! no workers.
//! Does not know: queues.
//! Invariant: whatever the machine refuses costs speed, never correctness. That workers cannot be pinned, or the topology
//! cannot be read, is said once.

use core_affinity::CoreId;
#[cfg(target_os = "linux")]
use rustix::thread::CpuSet;

/// Workers' cores and how far apart they are.
pub(super) struct Layout {
    cores: Vec<Option<CoreId>>,
    /// (cache, node) of each worker, where known.
    places: Vec<(u32, u32)>,
    /// Cores that this process may use.
    pub(super) cores_available: usize,
}

/// The cores that the maker of a system could use. A thread inherits the cores of who starts it: one that a pinned
/// worker starts would share that worker's core, with all others that were started there.
#[cfg(target_os = "linux")]
pub(super) struct Cores(Option<CpuSet>);

#[cfg(target_os = "linux")]
impl Cores {
    /// Those of the calling thread.
    pub(super) fn of_this_thread() -> Self {
        Self(rustix::thread::sched_getaffinity(None).ok())
    }

    /// Lets the calling thread run on all of them, if it is held to one core that is a worker's.
    pub(super) fn enter_from(&self, is_of_worker: impl Fn(usize) -> bool) {
        let (Some(cores), Ok(held)) = (&self.0, rustix::thread::sched_getaffinity(None)) else {
            return;
        };
        let mut held_to = (0..CpuSet::MAX_CPU).filter(|&core| held.is_set(core));
        if let (Some(core), None) = (held_to.next(), held_to.next())
            && is_of_worker(core)
        {
            // Refused: it stays where it is.
            let _ = rustix::thread::sched_setaffinity(None, cores);
        }
    }
}

/// Elsewhere a thread stays where it was started: on macOS and Windows it inherits no pin, on the others it costs speed.
#[cfg(not(target_os = "linux"))]
pub(super) struct Cores;

#[cfg(not(target_os = "linux"))]
impl Cores {
    pub(super) fn of_this_thread() -> Self {
        Self
    }

    pub(super) fn enter_from(&self, _is_of_worker: impl Fn(usize) -> bool) {}
}

/// Places `workers` on the cores that this process may use. With `near`, workers prefer to rob those
/// that share a cache or a NUMA node; that takes pinned workers and the `topology` feature.
pub(super) fn plan(workers: usize, pin: bool, near: bool) -> Layout {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    let cores_available = available.len().max(1);
    let pin = pin && workers <= cores_available && !available.is_empty();
    let cores: Vec<_> = (0..workers)
        .map(|index| pin.then(|| available[index % available.len()]))
        .collect();
    // Among two workers there is no choice to make, and reading the topology takes milliseconds.
    let known = if near && pin && workers > 2 {
        known_places()
    } else {
        &[]
    };
    let place_of = |core: &Option<CoreId>| {
        let place = core.and_then(|core| known.iter().find(|place| place.0 == core.id));
        place.map_or((0, 0), |&(_, cache, node)| (cache, node))
    };
    let places = cores.iter().map(place_of).collect();
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

/// (core, cache, node) of every core, read once per process.
#[cfg(feature = "topology")]
fn known_places() -> &'static [(usize, u32, u32)] {
    use hwlocality::Topology;
    use hwlocality::object::TopologyObject;
    use hwlocality::object::types::ObjectType;
    static PLACES: std::sync::OnceLock<Vec<(usize, u32, u32)>> = std::sync::OnceLock::new();
    PLACES.get_or_init(|| {
        let topology = match Topology::new() {
            Ok(topology) => topology,
            Err(error) => {
                tracing::warn!(%error, "cannot read the machine's topology; all cores count as near");
                return Vec::new();
            }
        };
        let place = |core: &TopologyObject| {
            let id = core.os_index()?;
            let cache = core.first_shared_cache().map_or(0, TopologyObject::logical_index);
            let node = core.nodeset().and_then(|nodes| nodes.first_set()).map_or(0, usize::from);
            Some((id, u32::try_from(cache).ok()?, u32::try_from(node).ok()?))
        };
        topology.objects_with_type(ObjectType::PU).filter_map(place).collect()
    })
}

#[cfg(not(feature = "topology"))]
fn known_places() -> &'static [(usize, u32, u32)] {
    &[]
}

impl Layout {
    pub(super) fn core_of(&self, worker: usize) -> Option<CoreId> {
        self.cores[worker]
    }

    pub(super) fn node_of(&self, worker: usize) -> u32 {
        self.places[worker].1
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
    fn every_core_of_this_machine_has_a_place() {
        let layout = plan(3, true, true);
        assert_eq!(layout.victims_of(1).len(), 2);
        if cfg!(feature = "topology") {
            let cores = core_affinity::get_core_ids().unwrap_or_default();
            let known = known_places();
            assert!(
                cores
                    .iter()
                    .all(|core| known.iter().any(|place| place.0 == core.id))
            );
        }
    }

    #[test]
    fn a_refused_pin_leaves_the_worker_where_it_is() {
        let before = core_affinity::get_core_ids();
        // A core that no machine has: the system call fails as it does without permission.
        pin(CoreId { id: 1023 });
        assert_eq!(core_affinity::get_core_ids(), before);
    }

    #[test]
    fn more_workers_than_cores_are_not_pinned() {
        let layout = plan(10_000, true, true);
        assert!((0..10_000).all(|worker| layout.core_of(worker).is_none()));
        assert_eq!(layout.victims_of(0).len(), 9_999);
    }
}
