//! Actors that change their behaviour: one handler function per state.
//!
//! Owns: [`Machine`], the handler that is in force and those below it.
//! Does not know: what the handlers do.

use crate::actor::Actor;
use crate::context::Context;
use crate::exit::ExitReason;
use std::fmt;

/// A behaviour: handles a message and says what handles the next one.
pub type Handler<S, M> = fn(&mut S, M, &mut Context<'_, Machine<S, M>>) -> Next<S, M>;

/// What handles the next message.
pub enum Next<S: 'static, M: Send + 'static> {
    /// The same behaviour.
    Same,
    /// Another behaviour in place of this one.
    Become(Handler<S, M>),
    /// Another behaviour on top of this one, until it says [`Next::Back`].
    Push(Handler<S, M>),
    /// The behaviour below this one; the same if there is none.
    Back,
}

impl<S: 'static, M: Send + 'static> fmt::Debug for Next<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "Same",
            Self::Become(_) => "Become(..)",
            Self::Push(_) => "Push(..)",
            Self::Back => "Back",
        })
    }
}

/// An actor made of a state and behaviours that take turns. A restart begins with the first one again.
///
/// ```
/// use actor_rt::{Context, Machine, Next, Reply, System};
///
/// enum Msg { Coin, Push(Reply<bool>) }
/// type Turnstile = Machine<u32, Msg>;                  // the state: coins taken
///
/// fn locked(coins: &mut u32, msg: Msg, _ctx: &mut Context<'_, Turnstile>) -> Next<u32, Msg> {
///     match msg {
///         Msg::Coin => { *coins += 1; Next::Become(unlocked) }
///         Msg::Push(reply) => { reply.send(false); Next::Same }
///     }
/// }
/// fn unlocked(coins: &mut u32, msg: Msg, _ctx: &mut Context<'_, Turnstile>) -> Next<u32, Msg> {
///     match msg {
///         Msg::Coin => { *coins += 1; Next::Same }
///         Msg::Push(reply) => { reply.send(true); Next::Become(locked) }
///     }
/// }
///
/// let system = System::new()?;
/// let turnstile = system.spawn(|| Machine::new(0, locked));
/// assert!(!turnstile.ask(Msg::Push).wait()?);
/// turnstile.tell(Msg::Coin).expect("room");
/// assert!(turnstile.ask(Msg::Push).wait()?);
/// assert!(!turnstile.ask(Msg::Push).wait()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Machine<S: 'static, M: Send + 'static> {
    state: S,
    now: Handler<S, M>,
    below: Vec<Handler<S, M>>,
    stopped: Option<fn(&mut S, &ExitReason)>,
}

impl<S: 'static, M: Send + 'static> Machine<S, M> {
    /// A machine that begins with `first`.
    pub const fn new(state: S, first: Handler<S, M>) -> Self {
        Self {
            state,
            now: first,
            below: Vec::new(),
            stopped: None,
        }
    }

    /// What runs when the incarnation ends, see [`Actor::stopped`].
    #[must_use]
    pub fn on_stop(mut self, hook: fn(&mut S, &ExitReason)) -> Self {
        self.stopped = Some(hook);
        self
    }
}

impl<S: 'static, M: Send + 'static> fmt::Debug for Machine<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("below", &self.below.len())
            .finish_non_exhaustive()
    }
}

impl<S: 'static, M: Send + 'static> Actor for Machine<S, M> {
    type Msg = M;

    fn handle(&mut self, msg: M, ctx: &mut Context<'_, Self>) {
        match (self.now)(&mut self.state, msg, ctx) {
            Next::Same => {}
            Next::Become(next) => self.now = next,
            Next::Push(next) => self.below.push(std::mem::replace(&mut self.now, next)),
            Next::Back => self.now = self.below.pop().unwrap_or(self.now),
        }
    }

    fn stopped(&mut self, reason: &ExitReason) {
        if let Some(hook) = self.stopped {
            hook(&mut self.state, reason);
        }
    }
}
