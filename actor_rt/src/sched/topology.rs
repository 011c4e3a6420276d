//! Where workers run: cores, shared caches, NUMA nodes.
//!
//! Owns: the plan from workers to cores, the order in which a worker robs the others, and where threads run that are
//! no workers.
//! Does not know: queues.
//! Invariant: whatever the machine refuses costs speed, never correctness. That workers cannot be pinned, or the topology
//! cannot be read, is said once.

use super::claims::{self, Claim};
use crate::slab::Node;
use core_affinity::CoreId;
#[cfg(target_os = "linux")]
use rustix::thread::CpuSet;
use std::collections::BTreeMap;
use std::num::NonZero;

/// Workers' cores and how far apart they are.
pub(super) struct Layout {
    /// Of each worker, if they are pinned.
    claims: Vec<Claim>,
    /// Of each worker, where known.
    places: Vec<Place>,
    /// Cores that this process may use.
    pub(super) cores_available: usize,
    /// Whether workers rob each other.
    pub(super) steals: bool,
}

/// Where a hardware thread is: numbers that two of them have in common if they share the thing.
#[derive(Clone, Copy, Default)]
struct Place {
    core: u32,
    /// The first cache that it shares with another one, be it only that of its core.
    near_cache: u32,
    /// The last cache.
    last_cache: u32,
    node: u32,
}

/// The cores that the maker of a system could use. A thread inherits the cores of who starts it: one that a pinned
/// worker starts would share that worker's core, with all others that were started there.
#[cfg(target_os = "linux")]
pub(super) struct Cores {
    all: Option<CpuSet>,
    /// Those that have workers.
    pins: Vec<usize>,
}

#[cfg(target_os = "linux")]
impl Cores {
    /// Those of the calling thread; `pins` will have workers.
    pub(super) fn of_this_thread(pins: Vec<usize>) -> Self {
        let all = rustix::thread::sched_getaffinity(None).ok();
        Self { all, pins }
    }

    /// Lets the calling thread run on all of them, if it is held to one core that is a worker's.
    pub(super) fn enter(&self) {
        let (Some(cores), Ok(held)) = (&self.all, rustix::thread::sched_getaffinity(None)) else {
            return;
        };
        let mut held_to = (0..CpuSet::MAX_CPU).filter(|&core| held.is_set(core));
        if let (Some(core), None) = (held_to.next(), held_to.next())
            && self.pins.contains(&core)
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
    pub(super) fn of_this_thread(_pins: Vec<usize>) -> Self {
        Self
    }

    pub(super) fn enter(&self) {}
}

/// Places `workers` on the cores that this process may use, those first that no other system has. With `near`, workers prefer to rob those
/// that share a cache or a NUMA node; that takes pinned workers and the `topology` feature.
pub(super) fn plan(workers: usize, pin: Option<bool>, near: bool) -> Layout {
    let available = core_affinity::get_core_ids().unwrap_or_default();
    let cores_available = available.len().max(1);
    let pin = pin.unwrap_or_else(|| {
        // Also told of a quota of time.
        let parallelism = std::thread::available_parallelism().map_or(1, NonZero::get);
        may_keep_cores(parallelism, cores_available)
    });
    let pin = pin && workers <= cores_available && !available.is_empty();
    let available: Vec<_> = available.into_iter().map(|core| core.id).collect();
    let claims = if pin {
        claims::take(&available, workers, || siblings(known_places()))
    } else {
        Vec::new()
    };
    // Among two workers there is no choice to make, and reading the topology takes milliseconds.
    let known = if near && pin && workers > 2 {
        known_places()
    } else {
        &[]
    };
    let place_of = |worker: usize| {
        let core = claims.get(worker)?.core;
        let (_, place) = known.iter().find(|(id, _)| *id == core)?;
        Some(*place)
    };
    let places = (0..workers).map(|worker| place_of(worker).unwrap_or_default());
    Layout {
        places: places.collect(),
        claims,
        cores_available,
        steals: true,
    }
}

/// The other threads of each one's core.
fn siblings(known: &[(usize, Place)]) -> BTreeMap<usize, Vec<usize>> {
    let others = |(me, mine): &(usize, Place)| {
        let others = known.iter().filter(|(other, _)| other != me);
        let others = others.filter(|(_, place)| place.core == mine.core);
        (*me, others.map(|(other, _)| *other).collect())
    };
    known.iter().map(others).collect()
}

/// Whether a process that has time for so many cores may keep its workers to the first of those that it may use.
fn may_keep_cores(parallelism: usize, cores_available: usize) -> bool {
    parallelism >= cores_available
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

/// Every hardware thread by its number and place, read once per process.
#[cfg(feature = "topology")]
fn known_places() -> &'static [(usize, Place)] {
    static PLACES: std::sync::OnceLock<Vec<(usize, Place)>> = std::sync::OnceLock::new();
    PLACES.get_or_init(|| match hwlocality::Topology::new() {
        Ok(topology) => places_of(&topology),
        Err(error) => {
            tracing::warn!(%error, "cannot read the machine's topology; all cores count as near");
            Vec::new()
        }
    })
}

#[cfg(feature = "topology")]
fn places_of(topology: &hwlocality::Topology) -> Vec<(usize, Place)> {
    use hwlocality::object::TopologyObject;
    use hwlocality::object::types::ObjectType;
    let number = |object: Option<&TopologyObject>| {
        let number = object.map_or(0, TopologyObject::logical_index);
        u32::try_from(number).ok()
    };
    let place = |thread: &TopologyObject| {
        let caches = thread
            .ancestors()
            .filter(|above| above.object_type().is_cpu_data_cache());
        let node = thread
            .nodeset()
            .and_then(|nodes| nodes.first_set())
            .map_or(0, usize::from);
        let core = thread
            .ancestors()
            .find(|above| above.object_type() == ObjectType::Core);
        let place = Place {
            core: number(core)?,
            near_cache: number(thread.first_shared_cache())?,
            last_cache: number(caches.last())?,
            node: u32::try_from(node).ok()?,
        };
        Some((thread.os_index()?, place))
    };
    topology
        .objects_with_type(ObjectType::PU)
        .filter_map(place)
        .collect()
}

#[cfg(not(feature = "topology"))]
fn known_places() -> &'static [(usize, Place)] {
    &[]
}

impl Layout {
    pub(super) fn core_of(&self, worker: usize) -> Option<CoreId> {
        let id = self.claims.get(worker)?.core;
        Some(CoreId { id })
    }

    /// The workers' hold on their cores, each to be kept for as long as it runs.
    pub(super) fn take_claims(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.claims)
    }

    pub(super) fn node_of(&self, worker: usize) -> u32 {
        self.places[worker].node
    }

    /// Where the memory of a worker's actors shall be: on its node, if the workers are on several.
    pub(super) fn memory_of(&self, worker: usize) -> Node {
        let node = self.node_of(worker);
        let is_other = |place: &Place| place.node != node;
        if self.places.iter().any(is_other) {
            Node::numbered(node)
        } else {
            Node::NONE
        }
    }

    /// Every other worker, if workers rob each other: first those that share the first cache that is shared at all, then the last one, then the node.
    pub(super) fn victims_of(&self, worker: usize) -> Box<[usize]> {
        if !self.steals {
            return Box::default();
        }
        let count = self.places.len();
        let me = self.places[worker];
        let mut others: Vec<_> = (1..count).map(|step| (worker + step) % count).collect();
        others.sort_by_key(|&other| {
            let other = self.places[other];
            (
                other.node != me.node,
                other.last_cache != me.last_cache,
                other.near_cache != me.near_cache,
            )
        });
        others.into()
    }
}

#[cfg(test)]
impl Layout {
    /// Workers on these nodes, unpinned.
    pub(super) fn on_nodes(nodes: &[u32]) -> Self {
        let place = |&node| Place {
            node,
            ..Place::default()
        };
        Self {
            claims: Vec::new(),
            places: nodes.iter().map(place).collect(),
            cores_available: nodes.len(),
            steals: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_by_nodes_where_there_are_several() {
        let several = Layout::on_nodes(&[0, 2, 0]);
        assert_eq!(several.memory_of(0), Node::numbered(0));
        assert_eq!(several.memory_of(1), Node::numbered(2));
        let one = Layout::on_nodes(&[2, 2]);
        assert_eq!(one.memory_of(1), Node::NONE);
        // As it is with `near_first` off, whatever the machine.
        let unknown = plan(1, Some(true), false);
        assert_eq!(unknown.memory_of(0), Node::NONE);
    }

    #[test]
    fn neighbours_are_robbed_first() {
        let layout = Layout {
            claims: Vec::new(),
            places: [(0, 0), (1, 0), (0, 0), (2, 1), (1, 0)]
                .map(|(last_cache, node)| Place {
                    core: last_cache,
                    near_cache: last_cache,
                    last_cache,
                    node,
                })
                .into(),
            cores_available: 5,
            steals: true,
        };
        assert_eq!(*layout.victims_of(0), [2, 1, 4, 3]);
        assert_eq!(*layout.victims_of(3), [4, 0, 1, 2]);
    }

    #[test]
    fn every_core_of_this_machine_has_a_place() {
        let layout = plan(3, Some(true), true);
        assert_eq!(layout.victims_of(1).len(), 2);
        if cfg!(feature = "topology") {
            let cores = core_affinity::get_core_ids().unwrap_or_default();
            let known = known_places();
            assert!(
                cores
                    .iter()
                    .all(|core| known.iter().any(|(id, _)| *id == core.id))
            );
        }
    }

    /// Two nodes of two last caches of two cores of two threads.
    #[test]
    #[cfg(feature = "topology")]
    fn threads_of_one_core_come_before_those_of_its_last_cache_and_these_before_its_node() {
        let topology = hwlocality::topology::builder::TopologyBuilder::new()
            .from_synthetic("node:2 l3:2 l2:2 core:1 pu:2")
            .expect("hwloc's own notation")
            .build()
            .expect("a machine that could be");
        let known = places_of(&topology);
        assert_eq!(known.len(), 16);
        let layout = Layout {
            claims: Vec::new(),
            places: known.iter().map(|(_, place)| *place).collect(),
            cores_available: known.len(),
            steals: true,
        };
        let pairs = siblings(&known);
        assert_eq!((&pairs[&4], &pairs[&5]), (&vec![5], &vec![4]));
        let victims = layout.victims_of(5);
        let sorted = |from: usize, to: usize| {
            let mut part = victims[from..to].to_vec();
            part.sort_unstable();
            part
        };
        assert_eq!(victims[0], 4, "its core");
        assert_eq!(sorted(1, 3), [6, 7], "its last cache");
        assert_eq!(sorted(3, 7), [0, 1, 2, 3], "its node");
        assert_eq!(sorted(7, 15), [8, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn a_refused_pin_leaves_the_worker_where_it_is() {
        let before = core_affinity::get_core_ids();
        // A core that no machine has: the system call fails as it does without permission.
        pin(CoreId { id: 1023 });
        assert_eq!(core_affinity::get_core_ids(), before);
    }

    /// Two processes with a quota of two cores each, on a machine of eight, would both choose the first two.
    #[test]
    fn a_quota_leaves_workers_unpinned_unless_told() {
        assert!(may_keep_cores(8, 8) && !may_keep_cores(2, 8));
        assert!(plan(1, Some(true), false).core_of(0).is_some());
        assert!(plan(1, Some(false), false).core_of(0).is_none());
    }

    #[test]
    fn more_workers_than_cores_are_not_pinned() {
        let layout = plan(10_000, Some(true), true);
        assert!((0..10_000).all(|worker| layout.core_of(worker).is_none()));
        assert_eq!(layout.victims_of(0).len(), 9_999);
    }
}
