//! Cancellation with a reason, seen by code that polls, waits on file descriptors, or asks.
//!
//! Owns the signal: a pipe that nobody writes to and whose writing end is dropped to cancel, so
//! that any number of threads can wait for it together with their own events.
//! Does not know who is listening.
//! Invariant: the first reason stays.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Why work is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// A person or the system asked (Ctrl-C, SIGTERM).
    Interrupted,
    /// Another step failed and the build does not keep going.
    SiblingFailed,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupted => "interrupted",
            Self::SiblingFailed => "another step failed",
        })
    }
}

/// The cancelling side and the listening side in one; clones share the signal.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Signal>);

#[derive(Debug)]
struct Signal {
    reader: PipeReader,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open { _writer: PipeWriter },
    Cancelled(CancelReason),
}

impl Cancel {
    /// A signal that has not been given.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        let state = Mutex::new(State::Open { _writer: writer });
        Ok(Self(Arc::new(Signal { reader, state })))
    }

    /// Cancels, unless that happened already.
    pub fn cancel(&self, reason: CancelReason) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Open { .. }) {
            // Dropping the writer hangs up the pipe: every poll on it returns.
            *state = State::Cancelled(reason);
        }
    }

    /// The reason, once cancelled.
    pub fn reason(&self) -> Option<CancelReason> {
        match *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Open { .. } => None,
            State::Cancelled(reason) => Some(reason),
        }
    }
}

impl AsFd for Cancel {
    /// Hangs up once cancelled.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_waiters_wake() {
        let cancel = Cancel::new().unwrap();
        let waiter = cancel.clone();
        let thread = std::thread::spawn(move || {
            let mut fds = [rustix::event::PollFd::new(
                &waiter,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut fds, None).unwrap();
            waiter.reason()
        });
        cancel.cancel(CancelReason::Interrupted);
        cancel.cancel(CancelReason::SiblingFailed);
        assert_eq!(thread.join().unwrap(), Some(CancelReason::Interrupted));
    }
}
