//! What takes the place of workers and clock in a simulation.
//!
//! Owns: the random choices, all from one seed, virtual time, and the faults that are injected.
//! Does not know: actors; `Runtime::simulate_turn` asks it whom to run.

use crate::actor_ref::ActorRef;
use crate::cell::CellPtr;
use crate::clock::{Clock, later};
use crate::dead_letter::DeadReason;
use crate::payload::Due;
use crate::shell::bury;
use crate::tell_error::TellError;
use crate::testkit::faults::{Delivery, Fault, Rule};
use std::any::Any;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) struct Simulated {
    /// Alarms may outlive the simulation.
    pub(crate) clock: Arc<Clock>,
    /// Whether time has ended: nothing more is to come.
    over: AtomicBool,
    now: Mutex<Instant>,
    state: AtomicU64,
    /// Messages in a thousand whose handler panics.
    faults: AtomicU32,
    rule: Mutex<Option<Rule>>,
    delayed: AtomicU64,
}

impl Simulated {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            clock: Arc::default(),
            over: AtomicBool::new(false),
            now: Mutex::new(Instant::now()),
            state: AtomicU64::new(seed),
            faults: AtomicU32::new(0),
            rule: Mutex::new(None),
            delayed: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_now(&self, now: Instant) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(crate) fn later(&self, by: Duration) -> Instant {
        later(self.now(), by)
    }

    /// Runs a job after a delay.
    pub(super) fn after(&self, delay: Duration, job: impl Due) {
        if !self.over.load(Ordering::Relaxed) {
            self.clock.at(self.later(delay), job);
        }
    }

    /// Nothing more is to come: what was to is dropped, with the actors that it holds.
    pub(super) fn end_time(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.clock.clear();
    }

    pub(crate) fn set_faults(&self, per_mille: u32) {
        self.faults.store(per_mille, Ordering::Relaxed);
    }

    /// The next random number (SplitMix64, Steele et al. 2014).
    pub(crate) fn random(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self
            .state
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn set_rule(&self, rule: Option<Rule>) {
        *self.rule() = rule;
    }

    fn rule(&self) -> MutexGuard<'_, Option<Rule>> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages that a rule delayed and that are not back yet.
    pub(crate) fn delayed(&self) -> u64 {
        self.delayed.load(Ordering::Relaxed)
    }

    /// Does to a message what a fault says; panics if its handler shall.
    pub(crate) fn inject<M: Send + 'static>(&self, fault: Fault, actor: CellPtr, message: M) {
        match fault {
            Fault::None => {}
            Fault::Drop => bury(actor, message, DeadReason::Injected),
            Fault::Delay(by) => {
                self.delayed.fetch_add(1, Ordering::Relaxed);
                let target = ActorRef::from_cell(actor.to_ref());
                actor.runtime.after(by, move || come_back(target, message));
            }
            // Without the panic hook, which would fill the screen.
            Fault::Panic => resume_unwind(Box::new("a fault injected by the simulation")),
        }
    }

    /// What shall happen to a message instead of being handled.
    pub(crate) fn fault(&self, actor: CellPtr, message: &dyn Any) -> Fault {
        let delivery = Delivery {
            actor,
            message,
            random: &|| self.random(),
        };
        let fault = match &mut *self.rule() {
            Some(rule) => rule(&delivery),
            None => Fault::None,
        };
        let faults = self.faults.load(Ordering::Relaxed);
        if fault == Fault::None && faults > 0 && delivery.chance(faults) {
            return Fault::Panic;
        }
        fault
    }
}

/// How soon a message that was delayed is tried again when the mailbox is full.
const RETRY: Duration = Duration::from_millis(1);

/// Puts a message that was delayed back into its mailbox.
fn come_back<M: Send + 'static>(target: ActorRef<M>, message: M) {
    let actor = target.cell().ptr();
    match target.tell(message) {
        Ok(()) => {}
        Err(TellError::Closed(message)) => bury(actor, message, DeadReason::ActorEnded),
        Err(TellError::Full(message)) => {
            let again = target.clone();
            return actor
                .runtime
                .after(RETRY, move || come_back(again, message));
        }
    }
    if let Some(simulated) = &actor.runtime.simulated {
        simulated.delayed.fetch_sub(1, Ordering::Relaxed);
    }
}
