//! Asynchronous actors: one future per incarnation, polled by the workers.
//!
//! Owns: the future that runs `started` and then one handler after another, and the place where the
//! next message waits for it. The future is boxed once per incarnation; a message costs no allocation.
//! Does not know: what comes before and after a turn (see `shell`).
//! Invariants:
//! 1. The future borrows the actor and its context, which are boxed and outlive it: `end` drops the
//!    future first.
//! 2. `desk` is touched by the owner only: by `turn` while the future is not polled, and by the future
//!    while it is.
#![allow(unsafe_code)]

use crate::actor::AsyncActor;
use crate::cell::{CellPtr, control};
use crate::context::AsyncContext;
use crate::exit::{ExitReason, Failure};
use crate::mailbox::Drain;
use crate::observed::Observed;
use crate::sched::is_worker;
use crate::shell::{Behaviour, Turn};
use std::cell::UnsafeCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Instant;

/// Handlers that may finish in one turn, and before looks at the clock while they are quick.
const MOST: u32 = 1024;
const LOOK_EVERY: u32 = 16;
/// What a cell's `batch` says of quick handlers, and of those that are looked at one by one.
const QUICK: u16 = 64;
const SLOW: u16 = 1;

pub(crate) struct Awaiting<A: AsyncActor, F> {
    factory: F,
    life: Option<Life<A>>,
}

/// One incarnation. Fields drop in order: the future before what it borrows (invariant 1).
struct Life<A: AsyncActor> {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    parts: Box<Parts<A>>,
    waker: Waker,
}

struct Parts<A: AsyncActor> {
    actor: UnsafeCell<A>,
    context: UnsafeCell<AsyncContext<A>>,
    desk: UnsafeCell<Desk<A::Msg>>,
}

/// Where `turn` and the future meet.
struct Desk<M> {
    message: Option<M>,
    /// A handler (or `started`) is under way.
    busy: bool,
}

/// The parts as the future sees them.
struct Borrowed<A: AsyncActor>(*const Parts<A>);

// SAFETY: the actor, its context and its messages are `Send`; only one thread at a time polls.
unsafe impl<A: AsyncActor> Send for Borrowed<A> {}
// SAFETY: as above; the future alone looks through it.
unsafe impl<A: AsyncActor> Sync for Borrowed<A> {}

async fn live<A: AsyncActor>(cell: CellPtr, parts: Borrowed<A>) {
    // Through a reference, so that the whole of `parts`, which is `Send`, is captured.
    let borrowed = &parts;
    // SAFETY: invariant 1; nobody else touches these two while the future lives.
    let (actor, context) = unsafe {
        (
            &mut *(*borrowed.0).actor.get(),
            &mut *(*borrowed.0).context.get(),
        )
    };
    if let Err(failure) = actor.started(context).await {
        cell.leave_failure(ExitReason::Failed(failure));
        cell.control.fetch_or(control::FAIL, Ordering::AcqRel);
    } else {
        crate::group_restart::started(cell);
    }
    loop {
        let message = poll_fn(|_| {
            // SAFETY: polled, so it is our turn at the desk (invariant 2).
            let desk = unsafe { &mut *(*borrowed.0).desk.get() };
            desk.busy = desk.message.is_some();
            desk.message.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        actor.handle(message, context).await;
    }
}

impl<A: AsyncActor, F> Awaiting<A, F> {
    pub(crate) fn new(factory: F) -> Self {
        Self {
            factory,
            life: None,
        }
    }
}

impl<A: AsyncActor, F: FnMut() -> A + 'static> Behaviour for Awaiting<A, F> {
    type Msg = A::Msg;
    const AWAITS: bool = true;

    fn start(&mut self, cell: CellPtr) -> Result<(), Failure> {
        let parts = Box::new(Parts {
            actor: UnsafeCell::new((self.factory)()),
            context: UnsafeCell::new(AsyncContext::new(cell)),
            desk: UnsafeCell::new(Desk {
                message: None,
                busy: true,
            }),
        });
        let future = Box::pin(live(cell, Borrowed(&raw const *parts)));
        self.life = Some(Life {
            future: Some(future),
            parts,
            waker: cell.waker(),
        });
        Ok(())
    }

    fn turn(&mut self, cell: CellPtr, drain: &mut Drain<'_, A::Msg>) -> Turn {
        let Some(life) = &mut self.life else {
            return Turn::Empty;
        };
        let Some(future) = &mut life.future else {
            return Turn::Empty;
        };
        let io = cell.runtime.io();
        // A simulation may run on a worker's thread, too, namely within another system's actor.
        let is_simulated = cell.observed && cell.simulated().is_some();
        let _entered = if is_worker() && !is_simulated {
            io.enter_for_good();
            None
        } else {
            // A simulation runs on the test's thread.
            Some(io.handle().enter())
        };
        let mut watch = Observed::wanted(cell).then(|| Observed::new(cell));
        let mut task = TaskContext::from_waker(&life.waker);
        let is_slow = cell.batch.load(Ordering::Relaxed) == SLOW;
        let mut look_at = if is_slow { 1 } else { LOOK_EVERY };
        let mut began = is_slow.then(Instant::now);
        for done in 1..=MOST {
            if done == 2 {
                // Most turns have one message and need no clock.
                began.get_or_insert_with(Instant::now);
            }
            // SAFETY: the future is not being polled (invariant 2).
            let desk = unsafe { &mut *life.parts.desk.get() };
            if !desk.busy {
                if !drain.is_ready() {
                    return Turn::Empty;
                }
                let handled = cell.handled.load(Ordering::Relaxed);
                cell.handled.store(handled + 1, Ordering::Relaxed);
                if let Some(watch) = &mut watch {
                    if !watch.admits(cell, drain) {
                        cell.handled.store(handled, Ordering::Relaxed);
                        continue;
                    }
                    watch.begins();
                }
                desk.message = Some(drain.take());
                desk.busy = true;
            }
            // The loop in `live` never ends by itself.
            let _ = future.as_mut().poll(&mut task);
            // SAFETY: the future is not being polled any more.
            let busy = unsafe { (*life.parts.desk.get()).busy };
            if !busy && let Some(watch) = &watch {
                watch.ends();
            }
            if cell.control.load(Ordering::Relaxed)
                & (control::KILL | control::FAIL | control::REGROUP)
                != 0
            {
                return Turn::Enough;
            }
            if busy {
                return Turn::Pending;
            }
            // SAFETY: as above.
            if unsafe { (*life.parts.context.get()).wants_stop() } {
                return Turn::Enough;
            }
            if done >= look_at
                && let Some(began) = began
                && cell.runtime.simulated.is_none()
            {
                let (took, budget) = (began.elapsed(), cell.runtime.settings.turn_budget);
                if took > budget {
                    cell.batch.store(SLOW, Ordering::Relaxed);
                    return Turn::Enough;
                }
                if done == LOOK_EVERY {
                    cell.batch.store(QUICK, Ordering::Relaxed);
                }
                let step = if took < budget / 2 { LOOK_EVERY } else { 1 };
                look_at = if done < LOOK_EVERY {
                    done + 1
                } else {
                    done + step
                };
            }
        }
        Turn::Enough
    }

    fn end(&mut self, reason: &ExitReason) {
        let Some(mut life) = self.life.take() else {
            return;
        };
        // Invariant 1. Should it panic, unwinding drops the rest.
        life.future = None;
        life.parts.actor.get_mut().stopped(reason);
    }
}
