//! What a thread knows of itself: the worker that it is, and the actor whose turn it runs.
//!
//! Owns: the thread-local that says so, and what senders, askers and handlers do by it.
//! Does not know: what a turn does, nor how a worker finds the next one.
#![allow(unsafe_code)]

use super::Runtime;
use super::simulated::Simulated;
use super::worker::Worker;
use crate::cell::{ANYWHERE, CellPtr, Header, Outcome, control};
use std::cell::Cell;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering;
use std::task::Waker;

/// What a worker's thread knows about itself.
struct Here {
    runtime: Cell<*const Runtime>,
    worker: Cell<*const Worker>,
    /// The actor whose turn it is.
    running: Cell<*mut Header>,
}

thread_local! {
    static HERE: Here = const { Here { runtime: Cell::new(null()), worker: Cell::new(null()), running: Cell::new(null_mut()) } };
}

/// Runs the loop of `worker` on the calling thread, which says for as long that it is it.
pub(super) fn enter(runtime: &'static Runtime, worker: &Worker, work: impl FnOnce()) {
    HERE.with(|here| {
        here.runtime.set(runtime);
        here.worker.set(worker);
        work();
        here.runtime.set(null());
        here.worker.set(null());
    });
}

/// Whether the calling thread is a worker, of any system.
#[inline]
pub(crate) fn is_worker() -> bool {
    HERE.try_with(|here| !here.worker.get().is_null())
        .unwrap_or(false)
}

/// A waker of the actor that runs on the calling thread, if it is one that awaits.
#[inline]
pub(crate) fn waker_of_running() -> Option<Waker> {
    let running = HERE.try_with(|here| here.running.get()).ok()?;
    // SAFETY: set while the actor's turn lasts, on this very thread.
    let actor = unsafe { CellPtr::from_ptr(running) }?;
    actor.table.awaits.then(|| actor.waker())
}

/// Looks at what takes the place of the clock where an actor of a simulation runs on the calling thread.
#[cold]
pub(crate) fn simulated_here<R>(look: impl FnOnce(&Simulated) -> R) -> Option<R> {
    let running = HERE.try_with(|here| here.running.get()).ok()?;
    // SAFETY: as above.
    let actor = unsafe { CellPtr::from_ptr(running) }?;
    actor.runtime.simulated.as_ref().map(look)
}

/// Ends the process where a panic leaves a turn. All that is a user's is caught before, so it is the runtime's own, and a worker
/// that ended silently would leave its actors waiting for ever.
struct Mistake;

impl Drop for Mistake {
    fn drop(&mut self) {
        tracing::error!("a panic of the runtime itself; this is a mistake in actor_rt");
        std::process::abort();
    }
}

/// Runs a turn; what leaves it other than by returning ends the process.
///
/// # Safety
/// The caller owns the actor.
#[inline]
pub(crate) unsafe fn run_turn(actor: CellPtr) -> Outcome {
    let mistake = Mistake;
    // SAFETY: the caller's promise.
    let outcome = unsafe { (actor.table.run)(actor) };
    std::mem::forget(mistake);
    outcome
}

/// Runs one turn of an actor that the caller has dequeued.
#[inline]
pub(super) fn turn(actor: CellPtr) -> Outcome {
    HERE.with(|here| {
        // A handler may run a simulation.
        let outer = here.running.replace(actor.as_ptr());
        // SAFETY: whoever dequeues an actor owns it.
        let outcome = unsafe { run_turn(actor) };
        here.running.set(outer);
        outcome
    })
}

/// Waits a while for the next message of the actor that runs on the calling worker; see `linger`. `None` at
/// once where the caller is no worker, or the sender may need the worker's core.
#[inline]
pub(crate) fn linger(
    actor: CellPtr,
    ready: impl FnMut() -> bool,
    called: impl FnMut() -> bool,
) -> Option<u32> {
    let runtime = &*actor.runtime;
    let patience = runtime.settings.linger;
    HERE.try_with(|here| {
        if patience.is_zero() || !std::ptr::eq(here.runtime.get(), runtime) {
            return None;
        }
        // SAFETY: set by `enter` for as long as the worker's loop runs on this thread.
        let worker = unsafe { &*here.worker.get() };
        if !super::linger::may_linger(runtime, actor.home != ANYWHERE) {
            return None;
        }
        let came = super::linger::linger(runtime, worker, patience, ready, called);
        if came.is_some() {
            // As good as a new turn: the handler did return.
            worker.begin_turn();
        }
        came
    })
    .unwrap_or(None)
}

/// Ends the turn of the actor that runs on the calling worker after its current message: it met a full
/// mailbox, and whoever is to empty it may need this worker.
#[cold]
pub(crate) fn yield_turn() {
    let running = HERE
        .try_with(|here| here.running.get())
        .unwrap_or(null_mut());
    // SAFETY: set while the actor's turn lasts, on this very thread.
    if let Some(actor) = unsafe { CellPtr::from_ptr(running) } {
        actor.control.fetch_or(control::YIELD, Ordering::Relaxed);
    }
}

/// Queues the actor on the calling worker; `false` if the caller is none, or not the right one.
#[inline]
pub(super) fn schedule_here(runtime: &Runtime, actor: CellPtr) -> bool {
    on_worker(runtime, |worker| worker.push_next(runtime, actor))
}

/// Queues a new actor on the calling worker; `false` as above.
#[inline]
pub(super) fn start_here(runtime: &Runtime, actor: CellPtr) -> bool {
    on_worker(runtime, |worker| worker.push_new(runtime, actor))
}

/// What `queue` says of the calling worker; `false` if the caller is none of this system.
#[inline]
fn on_worker(runtime: &Runtime, queue: impl FnOnce(&Worker) -> bool) -> bool {
    HERE.try_with(|here| {
        if !std::ptr::eq(here.runtime.get(), runtime) {
            return false;
        }
        // SAFETY: set by `enter` for as long as the worker's loop runs on this thread.
        queue(unsafe { &*here.worker.get() })
    })
    .unwrap_or(false)
}
