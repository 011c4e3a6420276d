//! Faults on chosen messages.
//!
//! Owns: what a rule sees of a message and what it may do to it.
//! Does not know: how it is done (see `sched::simulated`).

use crate::actor_ref::ActorRef;
use crate::cell::CellPtr;
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// What happens to a message instead of being handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: it is handled.
    None,
    /// It is lost, and counts as a dead letter.
    Drop,
    /// It comes again after this time, behind what was sent meanwhile. It is then judged again.
    Delay(Duration),
    /// Its handler panics.
    Panic,
}

/// A message about to be handled, as a rule of
/// [`Simulation::on_delivery`](crate::testkit::Simulation::on_delivery) sees it.
pub struct Delivery<'a> {
    pub(crate) actor: CellPtr,
    pub(crate) message: &'a dyn Any,
    pub(crate) random: &'a dyn Fn() -> u64,
}

impl Delivery<'_> {
    /// The message, if it is of this type.
    #[must_use]
    pub fn message<M: 'static>(&self) -> Option<&M> {
        self.message.downcast_ref()
    }

    /// Whether it is for this actor.
    #[must_use]
    pub fn is_for<M: Send + 'static>(&self, actor: &ActorRef<M>) -> bool {
        actor.cell().ptr() == self.actor
    }

    /// The name of the actor that it is for, or its type if it has none.
    #[must_use]
    pub fn actor(&self) -> String {
        self.actor.label()
    }

    /// True for so many in a thousand, by the simulation's seed.
    #[must_use]
    pub fn chance(&self, per_mille: u32) -> bool {
        (self.random)() % 1000 < u64::from(per_mille)
    }
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery(to {})", self.actor())
    }
}

/// Judges each message of a simulation.
pub(crate) type Rule = Box<dyn FnMut(&Delivery<'_>) -> Fault + Send>;
