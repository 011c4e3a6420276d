//! Synchronous actors: the turn that hands messages to a plain function.
//!
//! Owns: the incarnation's state, how many messages a turn handles.
//! Does not know: what comes before and after a turn (see `shell`).

use crate::actor::Actor;
use crate::cell::{CellPtr, control};
use crate::context::Context;
use crate::exit::{ExitReason, Failure};
use crate::mailbox::Drain;
use crate::observed::Observed;
use crate::shell::{Behaviour, Turn};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Fewest and most messages of a turn.
const FEWEST: u16 = 16;
const MOST: u16 = 1024;
/// Messages between looks at the clock, and before the first one; where they have taken but a small part of the budget until
/// then, more of them. A turn of fewer is measured from its start.
const LOOK_EVERY: u32 = 32;
const LOOK_SELDOM: u32 = 128;
const SMALL_PART: u32 = 8;
/// Bits that end a turn after the current message.
const INTERRUPTS: u32 = control::KILL | control::FAIL | control::REGROUP | control::YIELD;

/// What every turn touches comes first.
#[repr(C)]
pub(crate) struct Plain<A, F> {
    actor: Option<A>,
    factory: F,
}

impl<A, F> Plain<A, F> {
    pub(crate) fn new(factory: F) -> Self {
        Self {
            factory,
            actor: None,
        }
    }
}

/// Adds to the actor's count of handled messages, also when a handler panics.
struct Count<'a> {
    cell: &'a CellPtr,
    handled: u32,
}

impl Drop for Count<'_> {
    #[inline]
    fn drop(&mut self) {
        // Only the owner writes: no read-modify-write needed.
        let before = self.cell.handled.load(Ordering::Relaxed);
        self.cell
            .handled
            .store(before + u64::from(self.handled), Ordering::Relaxed);
    }
}

/// After how many messages of its turn an actor looks at the clock again.
#[inline]
fn next_look(handled: u32, limit: u32, is_quick: bool) -> u32 {
    let step = match is_quick {
        _ if limit == u32::from(FEWEST) => 1,
        true => LOOK_SELDOM,
        false => LOOK_EVERY,
    };
    (handled + step).min(limit)
}

impl<A: Actor, F: FnMut() -> A + 'static> Behaviour for Plain<A, F> {
    type Msg = A::Msg;

    fn start(&mut self, cell: CellPtr) -> Result<(), Failure> {
        let actor = self.actor.insert((self.factory)());
        actor.started(&mut Context::new(cell))
    }

    #[inline]
    fn turn(&mut self, cell: CellPtr, drain: &mut Drain<'_, A::Msg>) -> Turn {
        let Some(actor) = &mut self.actor else {
            return Turn::Empty;
        };
        // One loop for both: a second one would be a second caller of the handler, which then is no longer
        // inlined into the first (seen: a sixth slower).
        let mut observed = Observed::wanted(cell).then(|| Observed::new(cell));
        let limit = cell.batch.load(Ordering::Relaxed);
        let mut context = Context::new(cell);
        let mut count = Count {
            cell: &cell,
            handled: 0,
        };
        let mut began = (u32::from(limit) <= LOOK_EVERY).then(Instant::now);
        // Handlers that were slow are looked at after each message.
        let mut look_at = if limit == FEWEST { 1 } else { LOOK_EVERY };
        loop {
            if !drain.is_ready() {
                return Turn::Empty;
            }
            count.handled += 1;
            // In its slot still.
            if let Some(observed) = &mut observed
                && !observed.admits(cell, drain)
            {
                count.handled -= 1;
                continue;
            }
            drain.hand_over(|message| actor.handle(message, &mut context));
            let ends = observed.as_mut().and_then(Observed::handled);
            if cell.control.load(Ordering::Relaxed) & INTERRUPTS != 0 || context.wants_stop() {
                return Turn::Enough;
            }
            match ends {
                Some(true) => return Turn::Enough,
                Some(false) => continue,
                None => {}
            }
            if count.handled >= look_at {
                let budget = cell.runtime.settings.turn_budget;
                let now = Instant::now();
                let took = now - *began.get_or_insert(now);
                if took > budget {
                    cell.batch.store((limit / 2).max(FEWEST), Ordering::Relaxed);
                    return Turn::Enough;
                }
                let limit = u32::from(limit);
                if count.handled >= limit {
                    if took < budget / 2 {
                        let more = (2 * limit).min(u32::from(MOST));
                        cell.batch.store(more as u16, Ordering::Relaxed);
                    }
                    return Turn::Enough;
                }
                // The first look may be the one that time is counted from.
                let is_quick = !took.is_zero() && took < budget / SMALL_PART;
                look_at = next_look(count.handled, limit, is_quick);
            }
        }
    }

    fn end(&mut self, reason: &ExitReason) {
        if let Some(mut actor) = self.actor.take() {
            // Should the hook panic, the state is dropped by unwinding.
            actor.stopped(reason);
        }
    }
}
