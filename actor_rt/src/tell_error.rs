//! Why a message was not accepted.
//!
//! Owns: [`TellError`], which hands it back. Does not know: who decides.

use crate::ask::AskError;
use std::fmt;

/// A message that was not accepted, handed back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TellError<M> {
    /// The mailbox is full: try later, or wait with [`ActorRef::send`](crate::ActorRef::send).
    Full(M),
    /// The actor has ended, or is about to: it will take no further message.
    Closed(M),
}

impl<M> TellError<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }

    /// What this means to who asked.
    pub(crate) const fn no_answer(&self) -> AskError {
        match self {
            Self::Full(_) => AskError::Full,
            Self::Closed(_) => AskError::Closed,
        }
    }

    /// Whether trying again may help.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl<M> fmt::Debug for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() {
            "Full(..)"
        } else {
            "Closed(..)"
        })
    }
}

impl<M> fmt::Display for TellError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() {
            "the actor's mailbox is full"
        } else {
            "the actor takes no more messages: it has ended or is ending"
        })
    }
}

impl<M> std::error::Error for TellError<M> {}
