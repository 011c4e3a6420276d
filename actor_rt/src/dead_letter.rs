//! Dead letters: messages that were accepted, or meant to be, and never handled.
//!
//! Owns: what the hook is told.
//! Does not know: the messages themselves; they are dropped.

use std::sync::Arc;

/// Why a message was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// The actor ended before it came to this message.
    ActorEnded,
    /// What the actor had set going itself, a timer say, was due, and the incarnation ended before it came to it.
    Silenced,
    /// The mailbox was full and its policy drops the newest.
    DroppedNewest,
    /// The mailbox was full and its policy drops the oldest.
    DroppedOldest,
    /// The mailbox was full, and so was its fallback, or it was closed.
    FallbackRefused,
    /// A test wanted it to be lost, see [`Fault::Drop`](crate::testkit::Fault::Drop).
    Injected,
}

/// News of one lost message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The name of the actor it was for, or the type of the actor if it has none.
    pub actor: String,
    /// The type of the message.
    pub message_type: &'static str,
    /// Why it was not handled.
    pub reason: DeadReason,
}

#[derive(Clone)]
pub(crate) struct DeadLetterHook(Arc<dyn Fn(&DeadLetter) + Send + Sync>);

impl DeadLetterHook {
    pub(crate) fn new(hook: impl Fn(&DeadLetter) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(crate) fn call(&self, letter: &DeadLetter) {
        (self.0)(letter);
    }
}
