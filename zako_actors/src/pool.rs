//! A fixed set of equal actors that share the work.
//!
//! Owns: the choice of the next member.
//! Does not know: what the members do.
//! Invariant: there is at least one member.

use std::sync::atomic::{AtomicUsize, Ordering};

use actor_rt::ActorRef;

/// Actors that understand the same messages.
pub(crate) struct Pool<M> {
    members: Vec<ActorRef<M>>,
    cursor: AtomicUsize,
}

impl<M: Send + 'static> Pool<M> {
    /// `size` members (at least one), made by `spawn`, which gets their index.
    pub fn new(size: usize, spawn: impl FnMut(usize) -> ActorRef<M>) -> Self {
        Self {
            members: (0..size.max(1)).map(spawn).collect(),
            cursor: AtomicUsize::new(0),
        }
    }

    /// The member with the shortest queue; among equals the one that waited longest for a turn.
    pub fn next(&self) -> &ActorRef<M> {
        // Relaxed: only the spread matters.
        let start = self.cursor.fetch_add(1, Ordering::Relaxed) % self.members.len();
        let mut best = &self.members[start];
        let mut shortest = best.queued();
        for offset in 1..self.members.len() {
            if shortest == 0 {
                break;
            }
            let member = &self.members[(start + offset) % self.members.len()];
            let queued = member.queued();
            if queued < shortest {
                (best, shortest) = (member, queued);
            }
        }
        best
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = &ActorRef<M>> {
        self.members.iter()
    }
}
