//! What happens to a message that finds a mailbox full.
//!
//! Owns: the choice. Does not know: how a mailbox is full (see `mailbox`).

use crate::actor_ref::ActorRef;
use crate::cell::CellRef;
use std::any::TypeId;
use std::fmt;

/// What `tell` does when the mailbox is full. The bound itself is never exceeded.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// `tell` hands the message back; `send` and `send_blocking` wait for space.
    #[default]
    Wait,
    /// `tell`, `send` and `send_blocking` hand the message back at once.
    Fail,
    /// The message being sent becomes a dead letter; the sender sees success.
    DropNewest,
    /// The oldest waiting message becomes a dead letter and makes room. Each message costs a lock, on
    /// both sides. If the oldest is just being written, the newest is dropped instead.
    DropOldest,
    /// The message goes to another actor, by that actor's own policy. See [`Overflow::fallback`].
    Fallback(Fallback),
}

impl Overflow {
    /// Hands what does not fit to `actor`.
    #[must_use]
    pub fn fallback<M: Send + 'static>(actor: &ActorRef<M>) -> Self {
        Self::Fallback(Fallback {
            cell: actor.cell().clone(),
        })
    }
}

impl fmt::Debug for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait => f.write_str("Wait"),
            Self::Fail => f.write_str("Fail"),
            Self::DropNewest => f.write_str("DropNewest"),
            Self::DropOldest => f.write_str("DropOldest"),
            Self::Fallback(fallback) => f.debug_tuple("Fallback").field(fallback).finish(),
        }
    }
}

/// The actor that takes what does not fit.
#[derive(Clone)]
pub struct Fallback {
    cell: CellRef,
}

impl Fallback {
    pub(crate) fn takes(&self, message: TypeId) -> bool {
        (self.cell.table.message)() == message
    }

    pub(crate) fn cell(&self) -> &CellRef {
        &self.cell
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cell.fmt(f)
    }
}
