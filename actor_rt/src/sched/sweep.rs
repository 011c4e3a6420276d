//! The sweep: rings of actors that were used once and then left alone go back to the slabs.
//!
//! Owns: when to look, and where the walk through the tree of actors has got to.
//! Does not know: how a ring is freed. The actor does that itself, in a turn that it is asked for, because
//! only an owner may (mailbox rule 8).
//!
//! A worker that finds nothing to do arms the sweep. It walks the tree in small pieces, on the clock's
//! thread, so that no list of children is locked for long. An idle actor whose mailbox has a ring is marked with
//! its epoch; one that still bears the mark at the next sweep has had no message since, and is asked to trim.
//! The sweep arms itself again only while it marks something.

use super::Runtime;
use crate::cell::{CellPtr, CellRef, control};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two sweeps: a ring is kept through one to two of these without a message.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two pieces of a sweep.
const PAUSE: Duration = Duration::from_millis(1);
/// Actors looked at under one lock.
const PIECE: usize = 256;

/// Families that the walk has room for from one sweep to the next.
const KEPT: usize = 1024;

/// Whether a sweep is planned or under way; if not, what the last one has left, so that once warm none allocates.
#[derive(Default)]
pub(super) struct Armed(AtomicBool, Mutex<Option<Walk>>);

impl Armed {
    fn walk(&self) -> MutexGuard<'_, Option<Walk>> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A walk through the tree.
struct Walk {
    /// Families still to be visited: the parent, or `None` for the system.
    families: Vec<Option<CellRef>>,
    /// The member of the last family that was visited last.
    after: Option<CellRef>,
    /// Actors marked so far.
    marked: usize,
    /// Of the piece that is looked at: who has children, and whom to ask.
    parents: Vec<Option<CellRef>>,
    resting: Vec<CellRef>,
}

/// Plans a sweep, unless there is one.
pub(super) fn arm(runtime: &'static Runtime) {
    // Relaxed: a hint; who comes second leaves it to the first.
    if runtime.sweep.0.load(Ordering::Relaxed) || runtime.sweep.0.swap(true, Ordering::Relaxed) {
        return;
    }
    let walk = runtime.sweep.walk().take();
    plan(runtime, PERIOD, walk.unwrap_or_else(Walk::new).again());
}

fn plan(runtime: &'static Runtime, delay: Duration, mut walk: Walk) {
    runtime.after(delay, move || {
        if runtime.is_closing() {
            return;
        }
        if walk.step(runtime) {
            plan(runtime, PAUSE, walk);
        } else if walk.marked > 0 {
            plan(runtime, PERIOD, walk.again());
        } else {
            *runtime.sweep.walk() = Some(walk);
            runtime.sweep.0.store(false, Ordering::Relaxed);
        }
    });
}

impl Walk {
    fn new() -> Self {
        Self {
            families: Vec::with_capacity(PIECE),
            after: None,
            marked: 0,
            parents: Vec::with_capacity(PIECE),
            resting: Vec::with_capacity(PIECE),
        }
    }

    /// From the beginning.
    fn again(mut self) -> Self {
        self.families.clear();
        self.families.shrink_to(KEPT);
        self.families.push(None);
        (self.after, self.marked) = (None, 0);
        self
    }

    /// Visits the next piece; `false` when there is none left.
    fn step(&mut self, runtime: &Runtime) -> bool {
        let Some(parent) = self.families.last().cloned() else {
            return false;
        };
        let family = parent.as_ref().map_or(&runtime.roots, |it| &it.children);
        let (parents, resting) = (&mut self.parents, &mut self.resting);
        self.after = family.for_some(self.after.as_ref(), PIECE, |child| {
            if child.children.count() > 0 {
                parents.push(Some(child.to_ref()));
            }
            match look(child) {
                Look::Busy => {}
                Look::Marked => self.marked += 1,
                Look::Resting => resting.push(child.to_ref()),
            }
        });
        // Outside the lock: the order wakes a worker.
        resting
            .drain(..)
            .for_each(|actor| actor.ptr().order(control::TRIM));
        if self.after.is_none() {
            self.families.pop();
        }
        // In front of the family that is under way, which has the last place.
        let place = self.families.len().saturating_sub(1);
        self.families.splice(place..place, self.parents.drain(..));
        !self.families.is_empty()
    }
}

enum Look {
    /// Not idle, or without a ring.
    Busy,
    Marked,
    /// Idle since it was marked.
    Resting,
}

fn look(actor: CellPtr) -> Look {
    let Some(mark) = actor.front().rest() else {
        return Look::Busy;
    };
    // Relaxed: only the sweep uses it.
    if actor.mark.swap(mark, Ordering::Relaxed) == mark {
        Look::Resting
    } else {
        Look::Marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, ActorRef, Context, Reply, System};

    struct Parent(Vec<ActorRef<Reply<u64>>>);
    struct Child(u64);

    impl Actor for Child {
        type Msg = Reply<u64>;
        fn handle(&mut self, reply: Reply<u64>, _ctx: &mut Context<'_, Self>) {
            self.0 += 1;
            reply.send(self.0);
        }
    }

    impl Actor for Parent {
        type Msg = Reply<Vec<ActorRef<Reply<u64>>>>;
        fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
            self.0 = (0..2 * PIECE as u64 + 7)
                .map(|_| ctx.spawn(|| Child(0)))
                .collect();
            reply.send(self.0.clone());
        }
    }

    /// One whole sweep; how many were marked.
    fn sweep(runtime: &Runtime) -> usize {
        let mut walk = Walk::new().again();
        while walk.step(runtime) {}
        walk.marked
    }

    #[test]
    fn the_next_sweep_needs_no_more_room() {
        let system = System::builder().workers(1).build().expect("threads");
        let parent = system.spawn(|| Parent(Vec::new()));
        let children = parent.ask(|reply| reply).wait().expect("children");
        for child in &children {
            assert_eq!(child.ask(|reply| reply).wait(), Ok(1));
        }
        let mut walk = Walk::new();
        let room = |walk: &Walk| {
            let lists = [&walk.families, &walk.parents].map(Vec::as_ptr);
            (lists, walk.resting.as_ptr())
        };
        let before = room(&walk);
        for _ in 0..3 {
            walk = walk.again();
            while walk.step(&parent.cell().runtime) {}
            assert_eq!(room(&walk), before);
        }
        system
            .shutdown(Duration::from_secs(60))
            .expect("everything ends");
    }

    #[test]
    fn a_ring_that_rests_through_two_sweeps_goes_back_and_comes_again() {
        let system = System::builder().workers(2).build().expect("threads");
        let parent = system.spawn(|| Parent(Vec::new()));
        let children = parent.ask(|reply| reply).wait().expect("children");
        let runtime = &parent.cell().runtime;
        let rings = || {
            let rings = children.iter().filter(|it| it.cell().front().has_ring());
            rings.count()
        };
        assert_eq!(rings(), 0, "nobody was sent anything");
        for round in 1..=2 {
            for child in &children {
                assert_eq!(child.ask(|reply| reply).wait(), Ok(round));
            }
            assert_eq!(rings(), children.len());
            // Those whose turn ended in time are marked by the first sweep, and all by some sweep.
            while rings() > 0 {
                sweep(runtime);
                std::thread::yield_now();
            }
            while parent.cell().front().has_ring() {
                sweep(runtime);
                std::thread::yield_now();
            }
            assert_eq!(sweep(runtime), 0, "nothing is left to mark");
        }
        system
            .shutdown(Duration::from_secs(60))
            .expect("everything ends");
    }

    #[test]
    fn an_actor_that_is_used_between_sweeps_keeps_its_ring() {
        let system = System::builder().workers(1).build().expect("threads");
        let child = system.spawn(|| Child(0));
        let runtime = &child.cell().runtime;
        for round in 1..=20 {
            assert_eq!(child.ask(|reply| reply).wait(), Ok(round));
            while child.cell().front().rest().is_none() {
                std::thread::yield_now();
            }
            assert_eq!(sweep(runtime), 1, "used since the last sweep");
        }
        assert!(child.cell().front().has_ring());
        system
            .shutdown(Duration::from_secs(60))
            .expect("everything ends");
    }
}
