//! Actors with a thread of their own: for state that is not `Send`, and handlers that block.
//!
//! Owns: the thread and how it is woken.
//! Does not know: what a turn does; it runs the same shell as the workers.
//! Invariant: `port` is written before the cell is shared and only read afterwards, so that senders may
//! look at it while the thread has the shell to itself.
#![allow(unsafe_code)]

use crate::actor::Actor;
use crate::cell::{CellPtr, CellRef, Outcome, Table, control};
use crate::exit::{ExitReason, Failure};
use crate::meter::Meter;
use crate::plain::Plain;
use crate::sched::{is_worker, mark_thread, run_turn};
use crate::shell::Shell;
use std::any::{TypeId, type_name};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

struct Port {
    scheduled: AtomicBool,
    thread: OnceLock<std::thread::Thread>,
    meter: Option<Meter>,
}

/// The body of a dedicated actor's cell.
pub(crate) struct Dedicated<A, F> {
    port: Arc<Port>,
    shell: Shell<Plain<A, F>>,
}

struct DedicatedTable<A, F>(PhantomData<(A, F)>);

impl<A: Actor, F: FnMut() -> A + 'static> DedicatedTable<A, F> {
    const TABLE: Table = Table::new::<Dedicated<A, F>>(
        Self::run,
        Self::schedule,
        type_name::<A>,
        TypeId::of::<A::Msg>,
        false,
    );
    const METERED: Table = Self::TABLE.with_meter(Self::meter);

    fn meter(cell: CellPtr) -> *const Meter {
        // SAFETY: the port is only read once the cell is shared.
        let port = unsafe { &(*cell.body_ptr::<Dedicated<A, F>>()).port };
        port.meter.as_ref().map_or(std::ptr::null(), |meter| meter)
    }

    /// # Safety
    /// Owner only, on the actor's thread.
    unsafe fn run(cell: CellPtr) -> Outcome {
        // SAFETY: the owner; nobody else borrows the shell.
        let shell = unsafe { &mut (*cell.body_ptr::<Dedicated<A, F>>()).shell };
        shell.advance(cell)
    }

    fn schedule(cell: CellPtr) {
        // SAFETY: the port is only read once the cell is shared.
        let port = unsafe { &(*cell.body_ptr::<Dedicated<A, F>>()).port };
        // The actor may end as soon as it is scheduled.
        let port = Arc::clone(port);
        if let Some(meter) = &port.meter {
            meter.scheduled();
        }
        // Release pairs with the Acquire in `live`.
        port.scheduled.store(true, Ordering::Release);
        if let Some(thread) = port.thread.get() {
            thread.unpark();
        }
    }
}

/// The table for dedicated actors.
pub(crate) fn table<A: Actor, F: FnMut() -> A + 'static>(metered: bool) -> &'static Table {
    if metered {
        &DedicatedTable::<A, F>::METERED
    } else {
        &DedicatedTable::<A, F>::TABLE
    }
}

impl<A: Actor, F: FnMut() -> A + 'static> Dedicated<A, F> {
    pub(crate) fn new(shell: Shell<Plain<A, F>>, meter: Option<Meter>) -> Self {
        let port = Port {
            scheduled: AtomicBool::new(true),
            thread: OnceLock::new(),
            meter,
        };
        Self {
            port: Arc::new(port),
            shell,
        }
    }
}

/// Starts the thread of a new actor. If there is none to be had, the actor ends with that failure.
pub(crate) fn launch<A, F>(actor: &CellRef, stack_bytes: Option<usize>)
where
    A: Actor,
    F: FnMut() -> A + Send + 'static,
{
    let runtime = &actor.runtime;
    let cell = actor.ptr();
    // SAFETY: only read from here on.
    let port = unsafe { Arc::clone(&(*cell.body_ptr::<Dedicated<A, F>>()).port) };
    let number = runtime.next_dedicated();
    let name = format!("{}-own-{number}", runtime.settings.name);
    let by_worker = is_worker();
    let start = |stack_bytes: Option<usize>| {
        let mut thread = std::thread::Builder::new().name(name.clone());
        if let Some(bytes) = stack_bytes {
            thread = thread.stack_size(bytes);
        }
        let port = Arc::clone(&port);
        thread.spawn(move || {
            if by_worker {
                cell.runtime.leave_core();
            }
            live(cell, &port, number);
        })
    };
    // Where there is no address space for such a stack, the usual one has to do.
    let wanted = start(stack_bytes);
    let spawned = wanted.or_else(|error| stack_bytes.map_or(Err(error), |_| start(None)));
    match spawned {
        Ok(thread) => runtime.adopt_thread(thread),
        Err(error) => {
            cell.leave_failure(ExitReason::Failed(Failure::new(format_args!(
                "cannot start a thread for the actor: {error}"
            ))));
            cell.order(control::KILL);
            run_to_end(cell);
        }
    }
}

/// The thread's loop. The reference of being alive keeps the cell until `actor_ended`.
fn live(cell: CellPtr, port: &Port, number: u64) {
    // Set once, by this thread alone.
    let _ = port.thread.set(std::thread::current());
    mark_thread();
    loop {
        // Acquire pairs with the Release of `schedule`.
        while !port.scheduled.swap(false, Ordering::AcqRel) {
            std::thread::park();
        }
        loop {
            cell.runtime.depths.count(number, cell.waiting());
            // SAFETY: scheduled, so we own the actor until it is released.
            match unsafe { run_turn(cell) } {
                Outcome::Again => {}
                Outcome::Released => break,
                Outcome::Ended => return end(cell),
            }
        }
    }
}

/// Runs an actor that has been told to end, and was never scheduled, to its end.
pub(crate) fn run_to_end(cell: CellPtr) {
    loop {
        // SAFETY: never scheduled, so its maker owns it; killed before its start, it never waits.
        let outcome = unsafe { (cell.table.run)(cell) };
        if outcome == Outcome::Ended {
            return end(cell);
        }
        std::thread::yield_now();
    }
}

/// The actor's last turn is over.
fn end(cell: CellPtr) {
    // The cell's may be the last reference to a simulation.
    let runtime = cell.runtime.clone();
    runtime.actor_ended(cell);
}
