//! An actor's life: starting, running, failing, restarting, ending.
//!
//! Owns: the phases and their order, for every kind of actor.
//! Does not know: how a message is handled (see `Behaviour`), threads, queues.
//!
//! # Rules
//! 1. An incarnation is made by the factory and then started; only then does it see messages.
//! 2. When an incarnation ends, for whatever reason, its children end first; then `stopped` runs, once;
//!    then its state is dropped. (`stopped_always_runs`, `children_end_before_their_parent`)
//! 3. A failure is judged by the restart policy, and by what the parent allows all its children together. A restart keeps
//!    mailbox and references and loses only the message that was being handled, and what the old incarnation had set going
//!    itself. Its children do not survive it.
//! 4. An actor that ends closes its mailbox before its children are told; what is left in it becomes
//!    dead letters.
//! 5. A panic never leaves this module.

use crate::cell::{ANYWHERE, CellPtr, Outcome, control};
use crate::dead_letter::{DeadLetter, DeadReason};
use crate::exit::{ExitReason, Failure};
use crate::family;
use crate::group_restart;
use crate::mailbox::{Drain, Settled};
use crate::restart::{Care, Verdict};
use crate::slab;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How a behaviour's turn ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Turn {
    /// Nothing more to read.
    Empty,
    /// Enough for now, or a control bit wants attention.
    Enough,
    /// A handler awaits something; its waker will call.
    Pending,
}

/// What differs between synchronous and asynchronous actors.
pub(crate) trait Behaviour: 'static {
    type Msg: Send + 'static;

    /// Whether its turns may end [`Turn::Pending`].
    const AWAITS: bool = false;

    /// Makes an incarnation and starts it.
    fn start(&mut self, cell: CellPtr) -> Result<(), Failure>;

    /// Handles messages.
    fn turn(&mut self, cell: CellPtr, drain: &mut Drain<'_, Self::Msg>) -> Turn;

    /// Ends the incarnation, if one was made: `stopped`, then drop.
    fn end(&mut self, reason: &ExitReason);
}

enum Phase {
    /// No incarnation yet.
    Fresh,
    Running,
    /// An incarnation ends.
    Unwinding {
        reason: ExitReason,
        next: Next,
    },
    /// Between a failure and the restart.
    Delayed,
    /// Waits for its turn in the restart of a group.
    Gathered,
    /// No incarnation any more; the mailbox is being emptied.
    Leaving {
        reason: ExitReason,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Leave,
    RestartAfter(Duration),
}

enum Step {
    Go,
    Done(Outcome),
}

/// The body of an actor cell. What every turn touches comes first; the header says, too, whether the phase is `Running`.
#[repr(C)]
pub(crate) struct Shell<B> {
    behaviour: Option<B>,
    phase: Phase,
    care: Care,
}

/// Turns in a row that may look at a claimed, unpublished slot before the actor goes to the back.
const LOOKS: u32 = 2;

impl<B: Behaviour> Shell<B> {
    pub(crate) fn new(behaviour: B, care: Care) -> Self {
        Self {
            behaviour: Some(behaviour),
            phase: Phase::Fresh,
            care,
        }
    }

    /// One turn. After [`Outcome::Released`] the cell may run elsewhere: nothing is touched.
    pub(crate) fn advance(&mut self, cell: CellPtr) -> Outcome {
        cell.begin();
        let mut looks = 0;
        loop {
            if cell.front().has_signal() {
                cell.front().take_signal();
            }
            let step = if cell.is_running() {
                self.run(cell, &mut looks)
            } else {
                self.change(cell)
            };
            if let Step::Done(outcome) = step {
                return outcome;
            }
        }
    }

    fn enter(&mut self, cell: CellPtr, phase: Phase) {
        cell.set_running(matches!(phase, Phase::Running));
        self.phase = phase;
    }

    #[cold]
    fn change(&mut self, cell: CellPtr) -> Step {
        match &self.phase {
            Phase::Running => Step::Go,
            Phase::Fresh => self.start(cell),
            Phase::Unwinding { .. } => self.unwind(cell),
            Phase::Delayed => self.wait(cell, || {
                let orders = cell.control.fetch_and(!control::RESUME, Ordering::AcqRel);
                (orders & control::RESUME != 0).then(|| restarted(cell))
            }),
            Phase::Gathered => self.wait(cell, || {
                group_restart::take_turn(cell).then_some(Phase::Fresh)
            }),
            Phase::Leaving { .. } => self.leave(cell),
        }
    }

    #[cold]
    fn start(&mut self, cell: CellPtr) -> Step {
        if let Some(reason) = asked_to_end(cell) {
            return self.begin_end(cell, reason);
        }
        if group_restart::concerns(cell) {
            self.phase = restarted(cell);
            return Step::Go;
        }
        let Some(behaviour) = &mut self.behaviour else {
            return Step::Done(Outcome::Ended);
        };
        cell.front().memory.set(slab::here());
        match catch_unwind(AssertUnwindSafe(|| behaviour.start(cell))) {
            Ok(Ok(())) => {
                self.enter(cell, Phase::Running);
                if !B::AWAITS {
                    group_restart::started(cell);
                }
                Step::Go
            }
            Ok(Err(failure)) => self.fail(cell, ExitReason::Failed(failure)),
            Err(payload) => self.fail(cell, ExitReason::from_panic(payload)),
        }
    }

    #[inline]
    fn run(&mut self, cell: CellPtr, looks: &mut u32) -> Step {
        let orders = cell.control();
        if orders & (control::KILL | control::STOP | control::FAIL | control::REGROUP) != 0 {
            return self.obey(cell);
        }
        if orders & (control::YIELD | control::TRIM) != 0 {
            // It did yield; and it will trim, unless there is something to do after all.
            let done = control::YIELD | control::TRIM;
            cell.control.fetch_and(!done, Ordering::Relaxed);
        }
        let Some(behaviour) = &mut self.behaviour else {
            return Step::Done(Outcome::Ended);
        };
        let mut drain = owned_drain::<B>(cell);
        if orders & control::OWN != 0 {
            cell.control.fetch_and(!control::OWN, Ordering::Relaxed);
            drain.attach(cell.own_lane());
        }
        // A sender of a drop-oldest mailbox may still hold its lock when the actor is released.
        let _kept = drain.is_shared().then(|| cell.to_ref());
        let turn = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let turn = behaviour.turn(cell, &mut drain);
                if turn != Turn::Empty || !linger(cell, &mut drain) {
                    return turn;
                }
            }
        }));
        if drain.has_own() {
            cell.control.fetch_or(control::OWN, Ordering::Relaxed);
        }
        match turn {
            Ok(Turn::Empty) => {
                // What it waits for elsewhere is answered through its own lane.
                // An answer that came during the turn is seen once its errand is gone.
                let drains = cell.control() & control::DRAIN != 0 && drain.is_empty();
                let news = control::OWN | control::FAIL;
                if drains && !family::has_errands(cell) && cell.control() & news == 0 {
                    drop(drain);
                    return self.begin_end(cell, ExitReason::Drained);
                }
                if drain.is_large() || orders & control::TRIM != 0 {
                    drain.trim();
                }
                match drain.settle() {
                    Settled::Idle => Step::Done(Outcome::Released),
                    Settled::Signalled => Step::Go,
                    Settled::Claimed => {
                        *looks += 1;
                        if *looks < LOOKS {
                            Step::Go
                        } else {
                            Step::Done(Outcome::Again)
                        }
                    }
                }
            }
            Ok(Turn::Enough) => {
                drain.publish_and_wake();
                Step::Done(Outcome::Again)
            }
            Ok(Turn::Pending) => {
                drain.publish_and_wake();
                drop(drain);
                Step::Done(if cell.try_wait() {
                    Outcome::Released
                } else {
                    Outcome::Again
                })
            }
            Err(payload) => {
                drop(drain);
                self.fail(cell, ExitReason::from_panic(payload))
            }
        }
    }

    #[cold]
    fn obey(&mut self, cell: CellPtr) -> Step {
        match asked_to_end(cell) {
            Some(reason) => self.begin_end(cell, reason),
            None => match take_failure(cell) {
                Some(reason) => self.fail(cell, reason),
                None if group_restart::concerns(cell) => self.regroup(cell),
                None => Step::Go, // What it was to fail of was found with an earlier order.
            },
        }
    }

    /// Restarts because a sibling does.
    #[cold]
    fn regroup(&mut self, cell: CellPtr) -> Step {
        if !self.care.restarts() {
            return self.begin_end(cell, ExitReason::SiblingFailed);
        }
        cell.children.for_each(|child| child.order(control::KILL));
        let next = Next::RestartAfter(Duration::ZERO);
        let reason = ExitReason::SiblingFailed;
        self.enter(cell, Phase::Unwinding { reason, next });
        Step::Go
    }

    /// Judges a failure and begins to end the incarnation.
    #[cold]
    fn fail(&mut self, cell: CellPtr, reason: ExitReason) -> Step {
        let runtime = &cell.runtime;
        runtime.counters.failures.fetch_add(1, Ordering::Relaxed);
        if matches!(reason, ExitReason::Panicked(_)) {
            runtime.counters.panics.fetch_add(1, Ordering::Relaxed);
        }
        let verdict = if runtime.is_closing() {
            Verdict::GiveUp
        } else {
            self.care.judge(runtime.now())
        };
        let next = match verdict {
            // It will end all the same, which concerns nobody else.
            Verdict::RestartAfter(_) if asked_to_end(cell).is_some() => {
                tracing::warn!(actor = cell.label(), %reason, "actor failed when it was to end");
                cell.front().close();
                Next::RestartAfter(Duration::ZERO)
            }
            Verdict::RestartAfter(delay) if family::admits_restart(cell, &reason) => {
                tracing::warn!(actor = cell.label(), %reason, ?delay, "actor failed and restarts");
                group_restart::begin(cell);
                Next::RestartAfter(delay)
            }
            Verdict::RestartAfter(_) | Verdict::GiveUp => {
                tracing::error!(actor = cell.label(), %reason, "actor failed and ends");
                cell.front().close();
                Next::Leave
            }
        };
        cell.children.for_each(|child| child.order(control::KILL));
        self.enter(cell, Phase::Unwinding { reason, next });
        Step::Go
    }

    #[cold]
    fn begin_end(&mut self, cell: CellPtr, reason: ExitReason) -> Step {
        cell.front().close();
        match reason {
            ExitReason::Killed => cell.children.for_each(|child| child.order(control::KILL)),
            ExitReason::Drained => cell.children.for_each(CellPtr::drain),
            _ => cell.children.for_each(|child| child.order(control::STOP)),
        }
        let next = Next::Leave;
        self.enter(cell, Phase::Unwinding { reason, next });
        Step::Go
    }

    #[cold]
    fn unwind(&mut self, cell: CellPtr) -> Step {
        // Orders that came meanwhile concern the children too.
        let orders = cell.control() & (control::KILL | control::STOP);
        if orders != 0 {
            cell.children.for_each(|child| child.order(orders));
        }
        let await_children = || {
            cell.control
                .fetch_or(control::AWAIT_CHILDREN, Ordering::AcqRel);
        };
        if cell.children.if_any(await_children) {
            let waits = cell.try_wait();
            return if waits {
                Step::Done(Outcome::Released)
            } else {
                Step::Go
            };
        }
        cell.control
            .fetch_and(!control::AWAIT_CHILDREN, Ordering::AcqRel);
        let Phase::Unwinding { reason, next } = std::mem::replace(&mut self.phase, Phase::Fresh)
        else {
            return Step::Go;
        };
        self.end_incarnation(cell, &reason);
        // Whatever was asked of the old incarnation by a failing child went with it.
        take_failure(cell);
        self.phase = match (next, asked_to_end(cell)) {
            (Next::Leave, _) => Phase::Leaving { reason },
            (Next::RestartAfter(_), Some(asked)) => Phase::Leaving { reason: asked },
            (Next::RestartAfter(delay), None) => {
                cell.runtime
                    .counters
                    .restarts
                    .fetch_add(1, Ordering::Relaxed);
                if delay.is_zero() {
                    restarted(cell)
                } else {
                    let waiting = cell.to_ref();
                    cell.runtime
                        .after(delay, move || waiting.ptr().order(control::RESUME));
                    Phase::Delayed
                }
            }
        };
        Step::Go
    }

    fn end_incarnation(&mut self, cell: CellPtr, reason: &ExitReason) {
        cell.end_incarnation();
        if cell.control() & control::HAS_LANE != 0 {
            let lane = cell.own_lane::<B::Msg>();
            // They may have run; the clock looks.
            cell.runtime.note_unwanted(lane.take_timers());
            for message in lane.clear() {
                bury(cell, message, DeadReason::Silenced);
            }
        }
        let Some(behaviour) = &mut self.behaviour else {
            return;
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| behaviour.end(reason))) {
            let reason = ExitReason::from_panic(payload);
            tracing::error!(actor = cell.label(), %reason, "the stopped hook failed");
        }
    }

    /// Between two incarnations, until `next` says what follows.
    #[cold]
    fn wait(&mut self, cell: CellPtr, next: impl FnOnce() -> Option<Phase>) -> Step {
        let asked = asked_to_end(cell).map(|reason| Phase::Leaving { reason });
        if let Some(phase) = asked.or_else(next) {
            self.phase = phase;
            return Step::Go;
        }
        if cell.try_wait() {
            Step::Done(Outcome::Released)
        } else {
            Step::Go
        }
    }

    #[cold]
    fn leave(&mut self, cell: CellPtr) -> Step {
        cell.front().close();
        let mut drain = owned_drain::<B>(cell);
        let finished = drain.finish(|message| bury(cell, message, DeadReason::ActorEnded));
        drop(drain);
        if !finished {
            return Step::Done(Outcome::Again);
        }
        let Phase::Leaving { reason } = std::mem::replace(&mut self.phase, Phase::Fresh) else {
            return Step::Go;
        };
        let factory = self.behaviour.take();
        // What the factory captured is a user's, and so is its drop.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(factory)));
        let escalates = reason.is_failure() && self.care.escalates();
        family::depart(cell, reason, escalates);
        Step::Done(Outcome::Ended)
    }
}

/// What comes after an incarnation and its back-off: the next one, or the turn in a group.
fn restarted(cell: CellPtr) -> Phase {
    if group_restart::concerns(cell) {
        group_restart::gather(cell);
        Phase::Gathered
    } else {
        Phase::Fresh
    }
}

/// Waits a while for the next message, if it may come from another thread: where it comes from an actor on
/// this worker there is nothing to wait for, and what an idle actor is sent runs where its sender runs.
#[inline]
fn linger<M>(cell: CellPtr, drain: &mut Drain<'_, M>) -> bool {
    if drain.is_shared() || !(drain.is_from_outside() || cell.home != ANYWHERE) {
        return false;
    }
    drain.publish();
    let ordered = || cell.control.load(Ordering::Relaxed) & !control::LASTING != 0;
    if ordered() {
        return false;
    }
    let called = || ordered() || cell.is_called();
    match crate::sched::linger(cell, || drain.has_next(), called) {
        Some(looks) => {
            drain.waited(looks);
            true
        }
        None => false,
    }
}

/// A stop or kill order, as an exit reason.
fn asked_to_end(cell: CellPtr) -> Option<ExitReason> {
    let control = cell.control();
    if control & control::KILL != 0 {
        Some(ExitReason::Killed)
    } else if control & control::STOP != 0 {
        Some(ExitReason::Stopped)
    } else {
        None
    }
}

fn take_failure(cell: CellPtr) -> Option<ExitReason> {
    let before = cell.control.fetch_and(!control::FAIL, Ordering::AcqRel);
    (before & control::FAIL != 0)
        .then(|| cell.take_failure())
        .flatten()
}

/// Drops a message that nobody will handle.
pub(crate) fn bury<M>(cell: CellPtr, message: M, reason: DeadReason) {
    // A message's drop is a user's.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(message))) {
        let panic = ExitReason::from_panic(payload);
        tracing::error!(actor = cell.label(), %panic, "dropping an unhandled message failed");
    }
    cell.runtime.dead_letter(|| DeadLetter {
        actor: cell.label(),
        message_type: std::any::type_name::<M>(),
        reason,
    });
}

#[allow(unsafe_code)]
#[inline]
fn owned_drain<'a, B: Behaviour>(cell: CellPtr) -> Drain<'a, B::Msg> {
    // SAFETY: only the owner runs a shell, and the cell was made for this behaviour's messages.
    unsafe { cell.mailbox::<B::Msg>().drain() }
}
