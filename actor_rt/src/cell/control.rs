//! Bits of `Header::control`: what an actor was ordered to do, and what it has become.
//!
//! Owns: their names. Does not know: who sets them; the owner of an actor acts on them between messages.

/// Stop after the current batch.
pub(crate) const STOP: u32 = 1;
/// Stop when all that is queued has been handled.
pub(crate) const DRAIN: u32 = 1 << 1;
/// Stop before the next message.
pub(crate) const KILL: u32 = 1 << 2;
/// A child gave up and wants this actor to fail, or a handler called `fail`.
pub(crate) const FAIL: u32 = 1 << 3;
/// Tell this actor when its last child has gone.
pub(crate) const AWAIT_CHILDREN: u32 = 1 << 4;
/// A sibling restarts, and this actor with it: until its incarnation has ended.
pub(crate) const REGROUP: u32 = 1 << 8;
/// The delay before a restart is over.
pub(crate) const RESUME: u32 = 1 << 5;
/// End the turn after the current message: the actor met a full mailbox.
pub(crate) const YIELD: u32 = 1 << 7;
/// The actor has ended; its exit reason is readable.
pub(crate) const ENDED: u32 = 1 << 6;
/// The actor was given a name.
pub(crate) const NAMED: u32 = 1 << 9;
/// Give the ring back: nothing came for a while.
pub(crate) const TRIM: u32 = 1 << 10;
/// There is something in the actor's own lane.
pub(crate) const OWN: u32 = 1 << 11;
/// The actor has a lane of its own.
pub(crate) const HAS_LANE: u32 = 1 << 12;
/// The actor is work that its parent waits for, and nobody's sibling.
pub(crate) const ERRAND: u32 = 1 << 13;
/// The incarnation has ended for the restart of a group, and its turn to start again has not come.
pub(crate) const GATHERED: u32 = 1 << 14;
/// It is the turn of a gathered actor.
pub(crate) const TURN: u32 = 1 << 15;
/// A gathered actor starts again: those that were started after it wait.
pub(crate) const STARTS: u32 = 1 << 16;
/// The actor was started while siblings restarted as a group, and their turns have not passed it.
pub(crate) const LATE: u32 = 1 << 17;
/// What an actor is, not what it is told.
pub(crate) const LASTING: u32 = NAMED | HAS_LANE | ERRAND | LATE;
