//! For tests of programs made of actors: probes, and a deterministic scheduler with virtual time.
//!
//! Owns: [`Probe`], [`Simulation`], faults and seeds.
//! Does not know: test frameworks; what fails, panics.

pub(crate) mod faults;
mod seeds;
mod simulation;

use crate::actor::Actor;
use crate::actor_ref::ActorRef;
use crate::context::Context;
use crate::system::System;
pub use faults::{Delivery, Fault};
pub use seeds::each_seed;
pub use simulation::Simulation;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long [`Probe::expect`] waits: long enough for any machine, since a passing test never does.
const PATIENCE: Duration = Duration::from_secs(30);

/// An actor that hands what it gets to the test.
///
/// ```
/// use actor_rt::{System, testkit::Probe};
/// let system = System::new()?;
/// let probe = Probe::new(&system);
/// probe.actor().tell(7).expect("room");
/// assert_eq!(probe.expect(), 7);
/// assert_eq!(probe.received(), None);
/// # Ok::<(), actor_rt::StartError>(())
/// ```
pub struct Probe<M> {
    actor: ActorRef<M>,
    messages: Receiver<M>,
}

struct Forward<M>(Sender<M>);

impl<M: Send + 'static> Actor for Forward<M> {
    type Msg = M;
    fn handle(&mut self, message: M, _ctx: &mut Context<'_, Self>) {
        // The test may have dropped its probe.
        let _ = self.0.send(message);
    }
}

impl<M: Send + 'static> Probe<M> {
    /// Starts a probe.
    #[must_use]
    pub fn new(system: &System) -> Self {
        let (sender, messages) = channel();
        Self {
            actor: system.spawn(move || Forward(sender.clone())),
            messages,
        }
    }

    /// The reference to give to the actors under test.
    #[must_use]
    pub fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }

    /// The next message. In a simulation, run it first.
    ///
    /// # Panics
    /// If none comes within half a minute.
    pub fn expect(&self) -> M {
        match self.messages.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(_) => panic!("no message of type {} came", std::any::type_name::<M>()),
        }
    }

    /// The next message, if one is there.
    pub fn received(&self) -> Option<M> {
        self.messages.try_recv().ok()
    }
}

impl<M> fmt::Debug for Probe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Probe<{}>", std::any::type_name::<M>())
    }
}
