//! The watchdog: finds workers whose handler does not return.
//!
//! Owns: what was seen of each worker at the last look, and when that began.
//! Does not know: why a handler is stuck. It costs the workers nothing: they count their turns and say whose
//! turn it is anyway, and the process's clock looks at that now and then.
//! Invariant: an actor is only touched through a reference found in the tree of the living, never through
//! the worker's pointer, which may be of an actor that is gone by now.

use super::Runtime;
use crate::cell::{CellRef, Children};
use crate::clock::{clock, later};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A handler that holds its worker for longer than the watchdog allows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StuckHandler {
    /// The name of the actor, or its type if it has none.
    pub actor: String,
    /// The worker that it holds, counted from zero.
    pub worker: usize,
    /// For how long, at least.
    pub held_for: Duration,
}

/// Who is told of stuck handlers.
pub(crate) type StuckHook = Arc<dyn Fn(&StuckHandler) + Send + Sync>;

/// Looks per allowed time: a handler is reported at most a quarter late.
const LOOKS: u32 = 4;

struct Watchdog {
    runtime: &'static Runtime,
    allowed: Duration,
    hook: Option<StuckHook>,
    /// Per worker.
    seen: Vec<Seen>,
}

struct Seen {
    turns: u64,
    /// The address of the actor whose turn it was; zero for none.
    actor: usize,
    since: Instant,
    reported: bool,
}

/// Begins to look at a runtime's workers; ends with the runtime.
pub(crate) fn start(runtime: &'static Runtime, allowed: Duration, hook: Option<StuckHook>) {
    let now = Instant::now();
    let seen = runtime.workers.iter().map(|_| Seen {
        turns: 0,
        actor: 0,
        since: now,
        reported: false,
    });
    let watchdog = Watchdog {
        runtime,
        allowed,
        hook,
        seen: seen.collect(),
    };
    watchdog.look_later();
}

impl Watchdog {
    fn look_later(mut self) {
        let pause = (self.allowed / LOOKS).max(Duration::from_millis(1));
        clock().at(later(Instant::now(), pause), move || {
            if self.runtime.is_closing() && self.runtime.live() == 0 {
                return;
            }
            self.look();
            self.look_later();
        });
    }

    fn look(&mut self) {
        let now = Instant::now();
        for index in 0..self.seen.len() {
            let worker = &self.runtime.workers[index];
            // Acquire pairs with the Release of the worker: a turn's number is seen with its actor.
            let actor = worker.running();
            let turns = worker.turns();
            let seen = &mut self.seen[index];
            if actor == 0 || (seen.turns, seen.actor) != (turns, actor) {
                *seen = Seen {
                    turns,
                    actor,
                    since: now,
                    reported: false,
                };
                continue;
            }
            let held_for = now.duration_since(seen.since);
            if held_for < self.allowed || seen.reported {
                continue;
            }
            // Not among the living, or of another turn: this one is about to be over, or is.
            if let Some(found) = find(&self.runtime.roots, actor)
                && worker.turns() == turns
            {
                seen.reported = true;
                self.report(&StuckHandler {
                    actor: found.label(),
                    worker: index,
                    held_for,
                });
            }
        }
    }

    fn report(&self, stuck: &StuckHandler) {
        let counters = &self.runtime.counters;
        counters.stuck.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            actor = stuck.actor, worker = stuck.worker, held_for = ?stuck.held_for,
            "a handler does not return and holds its worker; \
             work that blocks or takes long belongs on a thread of its own"
        );
        if let Some(hook) = &self.hook {
            // A hook is a user's.
            let _ = catch_unwind(AssertUnwindSafe(|| hook(stuck)));
        }
    }
}

fn find(children: &Children, wanted: usize) -> Option<CellRef> {
    let mut members = Vec::new();
    children.for_each(|child| members.push(child.to_ref()));
    let found = members
        .iter()
        .find(|child| child.ptr().as_ptr().addr() == wanted);
    match found {
        Some(found) => Some(found.clone()),
        None => members
            .iter()
            .find_map(|child| find(&child.children, wanted)),
    }
}
