//! One face for every actor library, so that all run the very same actors.
//!
//! Owns: the messages and roles of the scenarios, and the interface that a library is put behind ([`Kit`], [`Ops`]).
//! Does not know: how a library delivers a message; each is used as its own documentation recommends.
#![forbid(unsafe_code)]

pub mod ours;
#[cfg(feature = "peers")]
pub mod peers;
mod role;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

pub use role::{Done, Play, Role, sent};

/// What the actors of all scenarios understand: at most 24 bytes, so inline in every library.
pub enum Msg<R> {
    /// A number to be summed.
    Item(u64),
    /// Start, or go on.
    Go,
    /// A token with the hops that remain.
    Token(u64),
    /// A ping from the actor with this index.
    Ping(u32),
    /// The answer to a ping.
    Pong,
    /// The actor to talk to.
    Wire(R),
    /// The actors to talk to.
    Wires(Arc<[R]>),
    /// Tell your number.
    Report(Done),
}

impl<R> std::fmt::Debug for Msg<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Msg")
    }
}

/// What an actor can do while it handles a message.
pub trait Ops<R> {
    /// Sends without waiting; gives the message back when a bounded mailbox is full.
    fn tell(&mut self, to: &R, msg: Msg<R>) -> Result<(), Msg<R>>;
    /// This actor.
    fn me(&mut self) -> R;
    /// A new actor, a child where the library has such.
    fn spawn(&mut self, role: Role<R>) -> R;
    /// Sends itself a message after a time.
    fn later(&mut self, after: Duration, msg: Msg<R>);
    /// Ends this actor.
    fn stop(&mut self);
}

/// How a library is started.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The core of each worker thread.
    pub cores: Vec<usize>,
    /// Messages that wait in the mailbox of an actor spawned from outside, where mailboxes are bounded.
    pub mailbox: usize,
}

/// A started actor library.
pub trait Kit: Sized + Sync + 'static {
    /// As it is printed.
    const NAME: &'static str;
    /// Whether its workers keep to their cores whatever others it may use.
    const PINS: bool = false;
    /// A reference to an actor.
    type Ref: Clone + Send + Sync + 'static;
    /// Starts with a worker thread for each core, pinned to it where the library allows. Unless it [pins](Self::PINS), the calling
    /// thread may use no other cores, nor may what it starts.
    fn start(setup: &Setup) -> Self;
    /// A new actor, from outside.
    fn spawn(&self, role: Role<Self::Ref>) -> Self::Ref;
    /// Sends from outside, waiting where the library has bounded mailboxes.
    fn tell(&self, to: &Self::Ref, msg: Msg<Self::Ref>);
    /// Sends the items `from..from + count` from outside, in the fastest way that is safe for memory.
    fn flood(&self, to: &Self::Ref, from: u64, count: u64) {
        (from..from + count).for_each(|item| self.tell(to, Msg::Item(item)));
    }
    /// The same in batches, where the library has such.
    fn flood_batches(&self, to: &Self::Ref, from: u64, count: u64, _batch: usize) {
        self.flood(to, from, count);
    }
    /// One actor asks another `count` times, one after another; the sum of the answers goes to `done`.
    fn ask(&self, count: u64, done: Sender<u64>);
    /// Ends everything.
    fn stop(self);
}
