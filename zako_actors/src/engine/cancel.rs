//! Cancellation with a reason, seen by code that polls, waits on file descriptors, or asks.
//!
//! Owns what a build adds to [`CancelToken`]: the reason, and a pipe that hangs up, so that any number
//! of threads can wait for it together with their own events. Does not know who is listening.
//! Invariants: the first reason stays; whoever sees the token cancelled finds the reason.

use std::fmt;
use std::io::{self, PipeReader, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use actor_rt::{CancelGuard, CancelToken};

/// Why work is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// A person or the system asked (Ctrl-C, SIGTERM).
    Interrupted,
    /// Another step of the build failed, and nobody asked to keep going.
    SiblingFailed,
    /// What it works on was edited.
    Invalidated,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupted => "interrupted",
            Self::SiblingFailed => "another step failed; -k lets it go on",
            Self::Invalidated => "what it reads was edited",
        })
    }
}

/// The cancelling side and the listening side in one; clones share the signal.
#[derive(Clone)]
pub struct Cancel(Arc<Signal>);

struct Signal {
    token: CancelToken,
    reason: OnceLock<CancelReason>,
    hangup: PipeReader,
    /// Hands on what a signal above this one says.
    above: OnceLock<CancelGuard>,
    /// Holds the pipe's other end until the token is cancelled.
    _writer: CancelGuard,
}

impl Cancel {
    /// A signal that has not been given.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let (hangup, writer) = pipe()?;
        let token = CancelToken::new();
        Ok(Self(Arc::new(Signal {
            _writer: token.on_cancel(move || drop(writer)),
            token,
            reason: OnceLock::new(),
            hangup,
            above: OnceLock::new(),
        })))
    }

    /// A signal below this one: given for its own reason, or with this one for this one's.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn below(&self) -> io::Result<Self> {
        let below = Self::new()?;
        let (from, to) = (Arc::downgrade(&self.0), Arc::downgrade(&below.0));
        let guard = self.token().on_cancel(move || {
            if let (Some(from), Some(to)) = (from.upgrade(), to.upgrade())
                && let Some(reason) = from.reason.get()
            {
                Self(to).cancel(*reason);
            }
        });
        // It is new: nothing is set.
        let _ = below.0.above.set(guard);
        Ok(below)
    }

    /// Cancels, unless that happened already.
    pub fn cancel(&self, reason: CancelReason) {
        if self.0.reason.set(reason).is_ok() {
            self.0.token.cancel();
        }
    }

    /// The signal without its reason, for work that takes no other.
    pub fn token(&self) -> &CancelToken {
        &self.0.token
    }

    /// The reason, once cancelled.
    pub fn reason(&self) -> Option<CancelReason> {
        self.0.reason.get().copied()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.reason()).finish()
    }
}

impl AsFd for Cancel {
    /// Hangs up once cancelled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.hangup.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_below_is_given_with_the_one_above_but_not_the_other_way() {
        let above = Cancel::new().unwrap();
        let (one, two) = (above.below().unwrap(), above.below().unwrap());
        one.cancel(CancelReason::Invalidated);
        assert_eq!((above.reason(), two.reason()), (None, None));
        above.cancel(CancelReason::Interrupted);
        assert_eq!(one.reason(), Some(CancelReason::Invalidated));
        assert_eq!(two.reason(), Some(CancelReason::Interrupted));
        let late = above.below().unwrap();
        assert_eq!(late.reason(), Some(CancelReason::Interrupted));
    }

    #[test]
    fn waiters_wake_and_calls_are_made_once() {
        let cancel = Cancel::new().unwrap();
        let waiter = cancel.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let first = tell.clone();
        let _first = cancel.token().on_cancel(move || first.send(1).unwrap());
        let thread = std::thread::spawn(move || {
            let mut fds = [rustix::event::PollFd::new(
                &waiter,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut fds, None).unwrap();
            waiter.reason()
        });
        cancel.cancel(CancelReason::Interrupted);
        cancel.cancel(CancelReason::Interrupted);
        assert_eq!(thread.join().unwrap(), Some(CancelReason::Interrupted));
        let _second = cancel.token().on_cancel(move || tell.send(2).unwrap());
        assert_eq!(told.iter().collect::<Vec<i32>>(), [1, 2]);
    }
}
