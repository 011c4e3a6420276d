//! A system whose every choice follows from a seed.
//!
//! Owns: driving a runtime without workers, on the test's thread.
//! Does not know: what is being tested.

use crate::sched::{Runtime, Settings, Simulated};
use crate::system::System;
use crate::testkit::faults::{Delivery, Fault};
use std::fmt;
use std::time::Duration;

/// A system without threads: each step runs one turn of one runnable actor, both chosen at random from
/// the seed, and time passes only when told to. The same seed gives the same run.
///
/// Actors started with `spawn_dedicated` and asynchronous actors that use real I/O or tokio's timers are
/// outside of it. `wait` on an answer only after [`Simulation::run`]: nobody else runs the actors.
///
/// Dropping it kills the actors, drops what timers hold, and waits up to five seconds for work that blocks. Its memory goes
/// with the last reference to it or to one of its actors.
///
/// ```
/// use actor_rt::{Actor, Context, Failure, testkit::{Probe, Simulation}};
/// use std::time::Duration;
/// struct Alarm(actor_rt::ActorRef<&'static str>);
/// impl Actor for Alarm {
///     type Msg = ();
///     fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
///         ctx.after(Duration::from_secs(3600), ());
///         Ok(())
///     }
///     fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
///         self.0.tell("an hour has passed").expect("room");
///     }
/// }
/// let simulation = Simulation::new(42);
/// let probe = Probe::new(simulation.system());
/// let target = probe.actor().clone();
/// simulation.system().spawn(move || Alarm(target.clone()));
/// simulation.advance(Duration::from_secs(3599));
/// assert_eq!(probe.received(), None);
/// simulation.advance(Duration::from_secs(1));
/// assert_eq!(probe.received(), Some("an hour has passed"));
/// ```
pub struct Simulation {
    system: System,
    seed: u64,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

impl Simulation {
    /// A simulation that follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let settings = Settings {
            workers: 0,
            pin: Some(false),
            steal: false,
            near: false,
            name: "simulated".into(),
            turn_budget: Duration::ZERO,
            metered: false,
            linger: Duration::ZERO,
        };
        let runtime = Runtime::simulated(settings, Simulated::new(seed));
        Self {
            system: System::simulated(runtime),
            seed,
        }
    }

    /// The system: start actors in it, tell them things.
    #[must_use]
    pub fn system(&self) -> &System {
        &self.system
    }

    /// The seed, for the message of a failing test.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A random number from the simulation's own source, for the test's choices.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.simulated().random()
    }

    /// Lets handlers panic at `per_mille` messages in a thousand, whatever the messages; see
    /// [`Simulation::on_delivery`] for a choice.
    pub fn inject_faults(&self, per_mille: u32) {
        self.simulated().set_faults(per_mille);
    }

    /// Judges every message before it is handled, until another rule takes over: it may be lost, delayed, or
    /// let its handler panic. The rule's own randomness comes from the seed, see [`Delivery::chance`].
    ///
    /// ```
    /// use actor_rt::testkit::{Fault, Probe, Simulation};
    /// use std::time::Duration;
    /// let simulation = Simulation::new(7);
    /// let probe = Probe::<u32>::new(simulation.system());
    /// simulation.on_delivery(|delivery| match delivery.message::<u32>() {
    ///     Some(2) => Fault::Drop,
    ///     Some(n) if *n > 2 && delivery.chance(500) => Fault::Delay(Duration::from_millis(10)),
    ///     _ => Fault::None,
    /// });
    /// (1..=3).for_each(|n| probe.actor().tell(n).expect("room"));
    /// simulation.advance(Duration::from_secs(1));
    /// assert_eq!((probe.received(), probe.received(), probe.received()), (Some(1), Some(3), None));
    /// assert_eq!(simulation.system().stats().dead_letters, 1);
    /// ```
    pub fn on_delivery(&self, rule: impl FnMut(&Delivery<'_>) -> Fault + Send + 'static) {
        self.simulated().set_rule(Some(Box::new(rule)));
    }

    /// How many messages a rule has delayed that are not back in their mailboxes yet.
    #[must_use]
    pub fn delayed(&self) -> u64 {
        self.simulated().delayed()
    }

    /// Runs one turn of one actor; `false` if none is runnable.
    pub fn step(&self) -> bool {
        self.system.runtime().simulate_turn()
    }

    /// Runs until no actor is runnable.
    pub fn run(&self) {
        while self.step() {}
    }

    /// Lets time pass: runs what is runnable, then each timer that comes due, in order, with all that
    /// follows from it.
    pub fn advance(&self, by: Duration) {
        let simulated = self.simulated();
        let end = simulated.later(by);
        self.run();
        // Jobs see the time at which they are due.
        while let Some(at) = simulated.clock.next_at().filter(|&at| at <= end) {
            simulated.set_now(at);
            simulated.clock.run_due(at);
            self.run();
        }
        simulated.set_now(end);
    }

    fn simulated(&self) -> &Simulated {
        match &self.system.runtime().simulated {
            Some(simulated) => simulated,
            None => unreachable!("made with it"),
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let runtime = self.system.runtime();
        runtime.end_simulation(self.simulated());
    }
}
