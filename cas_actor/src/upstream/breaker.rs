//! Leaves a server alone that does not answer.
//!
//! Owns: when it is asked again.
//! Does not know: what is asked; the time is given by the caller.
//! Invariant: while it is open, one call at a time is let through to see whether the server is
//! back, at most one in every pause.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES: u32 = 3;
/// The first pause; it doubles with every call that fails in vain,
const PAUSE: Duration = Duration::from_secs(1);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

/// A circuit breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

impl Breaker {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be made.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                // This one goes; others wait for what it finds.
                state.open_until = Some(now + pause(state.failures));
                true
            }
        }
    }

    /// Whether calls are held back.
    pub(crate) fn is_open(&self) -> bool {
        self.state().open_until.is_some()
    }

    /// A call was answered.
    pub(crate) fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// A call was not answered; says whether that opened the breaker.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return false;
        }
        let was_open = state.open_until.is_some();
        state.open_until = Some(now + pause(state.failures));
        !was_open
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = failures.saturating_sub(FAILURES).min(16);
    LONGEST_PAUSE.min(PAUSE * 2u32.pow(doubled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_some_failures_and_tries_now_and_then() {
        let breaker = Breaker::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!breaker.failed(start) && !breaker.failed(start));
        breaker.succeeded();
        assert!(!breaker.failed(start) && !breaker.failed(start) && breaker.allows(start));
        assert!(breaker.failed(start), "the third in a row");
        assert!(breaker.is_open() && !breaker.allows(start));
        assert!(breaker.allows(at(1)), "one call to see");
        assert!(!breaker.allows(at(1)), "not two");
        assert!(!breaker.failed(at(1)), "it was open");
        assert!(
            !breaker.allows(at(2)) && breaker.allows(at(3)),
            "two seconds now"
        );
        breaker.succeeded();
        assert!(breaker.allows(at(3)) && !breaker.is_open());
    }

    #[test]
    fn pauses_are_bounded() {
        assert_eq!(pause(FAILURES), PAUSE);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
