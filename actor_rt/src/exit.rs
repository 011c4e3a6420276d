//! Why actors end, and how they say that they failed.
//!
//! Owns: [`ExitReason`] and [`Failure`].
//! Does not know: who decides what happens next (see `restart` and `shell`).

use std::fmt;
use std::sync::Arc;

/// An actor's own word that it cannot go on: an error with a message, cheap to clone.
///
/// Any error turns into one with `?`; [`Failure::new`] takes plain text.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    message: Arc<str>,
}

impl Failure {
    /// A failure that says `message`.
    pub fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string().into(),
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({:?})", &*self.message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self {
            message: message.into(),
        }
    }
}

/// Why an actor (or one incarnation of it) ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// It was asked to stop, by itself, by a reference, by its parent or by the system.
    Stopped,
    /// It handled all that was queued and stopped, as asked.
    Drained,
    /// It was killed: stopped before the next message.
    Killed,
    /// It reported a failure: from `started`, or through its context.
    Failed(Failure),
    /// A handler panicked with this message.
    Panicked(Failure),
    /// A sibling failed, and the parent's strategy concerns both.
    SiblingFailed,
}

impl ExitReason {
    /// Whether this is a failure, which a restart policy looks at, rather than a wish.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_))
    }

    pub(crate) fn from_panic(payload: Box<dyn std::any::Any + Send>) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned());
        // A payload may itself panic when dropped.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload)));
        Self::Panicked(Failure::new(message))
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Drained => f.write_str("drained"),
            Self::Killed => f.write_str("killed"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Panicked(failure) => write!(f, "panicked: {failure}"),
            Self::SiblingFailed => f.write_str("ended together with a sibling that failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_its_whole_chain_of_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the plan")]
        struct Outer(#[source] std::num::ParseIntError);
        let inner = "x".parse::<u8>().expect_err("not a number");
        let text = inner.to_string();
        let failure = Failure::from(Outer(inner));
        assert_eq!(failure.message(), format!("cannot read the plan: {text}"));
    }

    #[test]
    fn panic_payloads_of_all_kinds_are_told() {
        for (payload, expected) in [
            (
                Box::new("plain") as Box<dyn std::any::Any + Send>,
                "panicked: plain",
            ),
            (Box::new("owned".to_owned()), "panicked: owned"),
            (Box::new(7_u8), "panicked: a panic without a message"),
        ] {
            assert_eq!(ExitReason::from_panic(payload).to_string(), expected);
        }
    }
}
