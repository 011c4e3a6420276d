//! Cancellation with a reason, seen by code that polls, waits on file descriptors, or asks.
//!
//! Owns the signal: a pipe that nobody writes to and whose writing end is dropped to cancel, so
//! that any number of threads can wait for it together with their own events.
//! Does not know who is listening.
//! Invariant: the first reason stays.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, pipe};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why work is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// A person or the system asked (Ctrl-C, SIGTERM).
    Interrupted,
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupted => "interrupted",
        })
    }
}

/// The cancelling side and the listening side in one; clones share the signal.
#[derive(Clone)]
pub struct Cancel(Arc<Signal>);

struct Signal {
    reader: PipeReader,
    state: Mutex<State>,
}

enum State {
    Open {
        _writer: PipeWriter,
        /// Called once, by whoever cancels.
        then: Vec<Box<dyn FnOnce() + Send>>,
    },
    Cancelled(CancelReason),
}

impl Cancel {
    /// A signal that has not been given.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        let state = Mutex::new(State::Open {
            _writer: writer,
            then: Vec::new(),
        });
        Ok(Self(Arc::new(Signal { reader, state })))
    }

    /// Cancels, unless that happened already.
    pub fn cancel(&self, reason: CancelReason) {
        let before = {
            let mut state = self.lock();
            if matches!(*state, State::Cancelled(_)) {
                return;
            }
            // Dropping the writer hangs up the pipe: every poll on it returns.
            std::mem::replace(&mut *state, State::Cancelled(reason))
        };
        if let State::Open { then, .. } = before {
            then.into_iter().for_each(|call| call());
        }
    }

    /// Has `call` made once cancelled; at once when that is so already.
    pub fn then(&self, call: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        match &mut *state {
            State::Open { then, .. } => then.push(Box::new(call)),
            State::Cancelled(_) => {
                drop(state);
                call();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reason, once cancelled.
    pub fn reason(&self) -> Option<CancelReason> {
        match *self.lock() {
            State::Open { .. } => None,
            State::Cancelled(reason) => Some(reason),
        }
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
        self.0.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_wake_and_calls_are_made_once() {
        let cancel = Cancel::new().unwrap();
        let waiter = cancel.clone();
        let (tell, told) = std::sync::mpsc::channel();
        cancel.then({
            let tell = tell.clone();
            move || tell.send(1).unwrap()
        });
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
        cancel.then(move || tell.send(2).unwrap());
        assert_eq!(told.iter().collect::<Vec<i32>>(), [1, 2]);
    }
}
