//! Messages put aside until an actor is ready for them.
//!
//! Owns: a bounded queue. Does not know: when the actor is ready.

use std::collections::VecDeque;

/// Holds messages that an actor cannot handle yet.
///
/// ```
/// use actor_rt::{Actor, Context, Stash};
/// enum Msg { Ready, Job(u32) }
/// struct Worker { ready: bool, stash: Stash<Msg> }
/// impl Actor for Worker {
///     type Msg = Msg;
///     fn handle(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) {
///         match msg {
///             Msg::Job(_) if !self.ready => {
///                 if self.stash.put(msg).is_err() {
///                     eprintln!("too many jobs before the start: this one is dropped");
///                 }
///             }
///             Msg::Job(n) => println!("job {n}"),
///             Msg::Ready => {
///                 self.ready = true;
///                 for msg in self.stash.take_all() {
///                     self.handle(msg, ctx);
///                 }
///             }
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Stash<M> {
    bound: usize,
    messages: VecDeque<M>,
}

impl<M> Stash<M> {
    /// A stash for at most `bound` messages.
    #[must_use]
    pub const fn new(bound: usize) -> Self {
        Self {
            bound,
            messages: VecDeque::new(),
        }
    }

    /// Puts a message aside.
    ///
    /// # Errors
    /// Hands the message back if the stash is full.
    pub fn put(&mut self, message: M) -> Result<(), M> {
        if self.messages.len() >= self.bound {
            return Err(message);
        }
        self.messages.push_back(message);
        Ok(())
    }

    /// Everything put aside, oldest first; the stash is empty afterwards.
    pub fn take_all(&mut self) -> VecDeque<M> {
        std::mem::take(&mut self.messages)
    }

    /// The oldest message put aside.
    pub fn take_first(&mut self) -> Option<M> {
        self.messages.pop_front()
    }

    /// How many messages are put aside.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
