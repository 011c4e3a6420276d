//! What only some actors have: a name, watchers, a lane of their own, a limit to the restarts of their children, an exit
//! reason that says more than "stopped".
//!
//! Owns: the box that holds them, made when it is first needed; who is told of an end, and who no longer wants to be.
//! Does not know: why an actor ends.

use super::{CellPtr, CellRef, Header, control};
use crate::exit::{ExitReason, Failure};
use crate::mailbox::Own;
use crate::restart::{Allowance, Intensity};
use crate::timer::{self, Timer};
use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Instant;

/// See the module.
#[derive(Default)]
pub(super) struct News {
    name: Option<Arc<str>>,
    reason: Option<ExitReason>,
    failure: Option<ExitReason>,
    watchers: Vec<Watcher>,
    /// Tickets given out.
    tickets: u64,
    /// The length of `watchers` at which those that nobody wants any more are looked for.
    full_at: usize,
    /// The actor's own lane, of its type of message.
    lane: Option<Arc<dyn Any + Send + Sync>>,
    /// How often the children may restart, if that was said.
    allowance: Option<Box<Allowance>>,
}

impl News {
    /// What an actor has of it from the start, if anything.
    pub(super) fn at_start(
        name: Option<Arc<str>>,
        intensity: Option<Intensity>,
    ) -> Option<Box<Self>> {
        let is_needed = name.is_some() || intensity.is_some();
        is_needed.then(|| {
            Box::new(Self {
                name,
                allowance: intensity.map(|intensity| Box::new(Allowance::new(intensity))),
                ..Self::default()
            })
        })
    }
}

/// A future's place among those who wait for the end.
#[derive(Debug, Default)]
pub(crate) struct EndTicket(Option<u64>);

/// Watchers that are not worth a look at whether they are still wanted.
const FEW: usize = 16;

/// Who wants to know of the end.
enum Watcher {
    /// A future, under its ticket.
    Waits(u64, Waker),
    /// Something of the runtime's own.
    Calls(Box<dyn FnOnce(&ExitReason) + Send>),
    /// An actor's incarnation that monitors this one.
    Monitor(Monitor, Box<dyn FnOnce(&ExitReason) + Send>),
    /// An actor's incarnation that fails if this one ends badly.
    Link(CellRef, u32),
}

impl Watcher {
    /// Whether anybody would notice.
    fn is_wanted(&self) -> bool {
        match self {
            Self::Waits(..) | Self::Calls(_) => true,
            Self::Monitor(monitor, _) => monitor.is_wanted(),
            Self::Link(heir, incarnation) => heir.incarnation() == *incarnation,
        }
    }

    fn tell(self, reason: &ExitReason, label: &str) {
        match self {
            Self::Waits(_, waker) => waker.wake(),
            Self::Calls(call) => call(reason),
            Self::Monitor(monitor, call) if monitor.is_wanted() => call(reason),
            Self::Link(heir, incarnation) if heir.incarnation() == incarnation => {
                if reason.is_failure() || *reason == ExitReason::Killed {
                    let failure =
                        Failure::new(format_args!("the linked actor {label} ended: {reason}"));
                    heir.ptr().fail(ExitReason::Failed(failure));
                }
            }
            Self::Monitor(..) | Self::Link(..) => {}
        }
    }
}

/// A watch over another actor that was begun with [`Context::monitor`](crate::Context::monitor). Dropping it changes nothing;
/// [`Monitor::cancel`] ends the watch.
#[derive(Clone)]
pub struct Monitor {
    watcher: CellRef,
    incarnation: u32,
    /// A notice is put in as a due message is.
    timer: Timer,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("watcher", &self.watcher)
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

impl Monitor {
    pub(crate) fn new(watcher: CellRef) -> Self {
        Self {
            incarnation: watcher.incarnation(),
            timer: Timer::new(&watcher.runtime),
            watcher,
        }
    }

    /// Ends the watch. A message that is in the actor's lane already stays there.
    pub fn cancel(&self) {
        self.timer.cancel();
    }

    fn is_wanted(&self) -> bool {
        !self.timer.is_cancelled() && self.watcher.incarnation() == self.incarnation
    }

    /// Sends the actor what `make` gives, if it wants it still.
    pub(crate) fn notify<M: Send + 'static>(&self, make: impl FnOnce() -> M) {
        let (watcher, timer) = (self.watcher.ptr(), self.timer.clone());
        timer::deliver_made(watcher, self.incarnation, timer, make);
    }
}

impl CellPtr {
    /// Makes the actor fail.
    pub(crate) fn fail(self, reason: ExitReason) {
        self.leave_failure(reason);
        self.order(control::FAIL);
    }
}

impl Header {
    fn with_news<R>(&self, access: impl FnOnce(&mut News) -> R) -> R {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        access(news.get_or_insert_default())
    }

    pub(crate) fn name(&self) -> Option<Arc<str>> {
        // Relaxed: set at creation. Most actors have no name, and then no lock is taken.
        if self.control.load(Ordering::Relaxed) & control::NAMED == 0 {
            return None;
        }
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.as_ref().and_then(|news| news.name.clone())
    }

    /// Takes note of a child that restarts at `now`, and says how often that is allowed if it is once too often.
    pub(crate) fn admit_restart(&self, now: Instant) -> Result<(), Intensity> {
        self.with_allowance(|allowance, incarnation| {
            let admits = allowance.admit(incarnation, now);
            admits.then_some(()).ok_or(allowance.intensity)
        })
        .unwrap_or(Ok(()))
    }

    /// How many restarts of its children count at `now`, and how many may, if that was said.
    pub(crate) fn restarts_of_children(&self, now: Instant) -> Option<(u32, Intensity)> {
        self.with_allowance(|allowance, incarnation| {
            (allowance.recent(incarnation, now), allowance.intensity)
        })
    }

    fn with_allowance<R>(&self, access: impl FnOnce(&mut Allowance, u32) -> R) -> Option<R> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = news.as_mut()?.allowance.as_mut()?;
        Some(access(allowance, self.incarnation()))
    }

    /// For messages to people: the name, or else the actor's type.
    pub(crate) fn label(&self) -> String {
        self.name()
            .map_or_else(|| (self.table.actor)().to_owned(), |name| name.to_string())
    }

    /// Leaves word of a failure that the owner shall act upon.
    pub(crate) fn leave_failure(&self, reason: ExitReason) {
        self.with_news(|news| news.failure.get_or_insert(reason).is_failure());
    }

    pub(crate) fn take_failure(&self) -> Option<ExitReason> {
        self.with_news(|news| news.failure.take())
    }

    /// Publishes the end and wakes everybody who waits for it.
    pub(crate) fn announce_end(&self, reason: ExitReason) {
        let watchers = {
            let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            if reason != ExitReason::Stopped {
                news.get_or_insert_default().reason = Some(reason.clone());
            }
            // Release pairs with the Acquire of `control`: whoever sees the end sees its reason.
            self.control.fetch_or(control::ENDED, Ordering::Release);
            news.as_mut()
                .map(|news| std::mem::take(&mut news.watchers))
                .unwrap_or_default()
        };
        if watchers.is_empty() {
            return;
        }
        let label = self.label();
        for watcher in watchers {
            // A waker is a user's.
            let told = catch_unwind(AssertUnwindSafe(|| watcher.tell(&reason, &label)));
            if let Err(payload) = told {
                let panic = ExitReason::from_panic(payload);
                tracing::error!(actor = label, %panic, "telling somebody of the end failed");
            }
        }
    }

    /// The exit reason, or `None` while the actor lives, in which case `waker` is kept under the ticket until
    /// [`Header::stop_waiting_for_end`].
    pub(crate) fn poll_end(&self, ticket: &mut EndTicket, waker: &Waker) -> Option<ExitReason> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_ended() {
            let reason = news.as_ref().and_then(|news| news.reason.clone());
            return Some(reason.unwrap_or(ExitReason::Stopped));
        }
        let news = news.get_or_insert_default();
        let known = news.watchers.iter_mut().find_map(|watcher| match watcher {
            Watcher::Waits(number, known) if ticket.0 == Some(*number) => Some(known),
            _ => None,
        });
        if let Some(known) = known {
            known.clone_from(waker);
        } else {
            news.tickets += 1;
            ticket.0 = Some(news.tickets);
            let waits = Watcher::Waits(news.tickets, waker.clone());
            news.watchers.push(waits);
        }
        None
    }

    /// Nobody waits under the ticket any more.
    pub(crate) fn stop_waiting_for_end(&self, ticket: &EndTicket) {
        if let Some(ticket) = ticket.0
            && !self.is_ended()
        {
            let is_it = |watcher: &Watcher| matches!(watcher, Watcher::Waits(number, _) if *number == ticket);
            self.forget(is_it);
        }
    }

    /// Calls back with the exit reason, at once if the actor has ended.
    pub(crate) fn on_end(&self, call: impl FnOnce(&ExitReason) + Send + 'static) {
        self.watch(Watcher::Calls(Box::new(call)));
    }

    /// The same, while the monitor is wanted.
    pub(crate) fn monitor(
        &self,
        monitor: Monitor,
        call: impl FnOnce(&ExitReason) + Send + 'static,
    ) {
        self.watch(Watcher::Monitor(monitor, Box::new(call)));
    }

    /// Lets this incarnation of `heir` fail when the actor ends badly, at once if it has.
    pub(crate) fn bequeath(&self, heir: CellRef) {
        let incarnation = heir.incarnation();
        self.watch(Watcher::Link(heir, incarnation));
    }

    /// Takes [`Header::bequeath`] back.
    pub(crate) fn disinherit(&self, heir: CellPtr) {
        self.forget(|watcher| matches!(watcher, Watcher::Link(known, _) if known.ptr() == heir));
    }

    fn watch(&self, watcher: Watcher) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_ended() {
            let reason = news.as_ref().and_then(|news| news.reason.clone());
            drop(news);
            let label = self.label();
            return watcher.tell(&reason.unwrap_or(ExitReason::Stopped), &label);
        }
        let news_of = news.get_or_insert_default();
        let is_full = news_of.watchers.len() >= news_of.full_at.max(FEW);
        news_of.watchers.push(watcher);
        drop(news);
        if is_full {
            // An actor that outlives a million watchers does not remember them all.
            self.forget(|watcher| !watcher.is_wanted());
        }
    }

    /// Drops watchers, outside the lock: a user's is among what they hold.
    fn forget(&self, is_meant: impl Fn(&Watcher) -> bool) {
        let gone: Vec<_> = self.with_news(|news| {
            let gone = news.watchers.extract_if(.., |watcher| is_meant(watcher));
            let gone = gone.collect();
            news.full_at = 2 * news.watchers.len();
            gone
        });
        drop(gone);
    }

    /// The actor's own lane, made when it is first asked for. `M` is the actor's type of message.
    pub(crate) fn own_lane<M: Send + 'static>(&self) -> Arc<Own<M>> {
        let lane = self.with_news(|news| {
            let lane = news.lane.get_or_insert_with(|| {
                self.control.fetch_or(control::HAS_LANE, Ordering::Release);
                Arc::new(Own::<M>::new())
            });
            Arc::clone(lane)
        });
        match lane.downcast() {
            Ok(lane) => lane,
            Err(_) => unreachable!("an actor has one type of message"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Simulation;
    use crate::{Actor, Context};

    struct Idle;
    impl Actor for Idle {
        type Msg = ();
        fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
    }

    /// Of two failures at a time the word of the first is kept, and the order of the second may come after that was acted upon.
    #[test]
    fn an_order_to_fail_without_a_word_is_none() {
        let simulation = Simulation::new(1);
        let actor = simulation.system().spawn(|| Idle);
        simulation.run();
        let incarnation = actor.cell().incarnation();
        actor.cell().ptr().order(control::FAIL);
        simulation.run();
        assert_eq!(actor.cell().incarnation(), incarnation);
        assert!(!actor.is_closed());
    }
}
