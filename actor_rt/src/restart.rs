//! Restart policy: whether, how often and how soon a failed actor starts again.
//!
//! Owns: [`Restart`], [`Strategy`], the record of recent restarts, how little of it an actor holds ([`Care`]), and what it
//! allows its children all together ([`Allowance`]).
//! Does not know: how an incarnation is made or ended (see `shell`).

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// What happens when an actor fails: one-for-one supervision of that actor.
///
/// A restart makes a new incarnation with the factory; mailbox and references stay. The message that
/// was being handled is lost, the rest is not.
///
/// ```
/// use actor_rt::Restart;
/// use std::time::Duration;
/// let policy = Restart::on_failure()
///     .at_most(3, Duration::from_secs(10))
///     .backoff(Duration::from_millis(10), Duration::from_secs(1))
///     .or_escalate();
/// # let _ = policy;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    enabled: bool,
    intensity: Intensity,
    first_delay: Duration,
    longest_delay: Duration,
    escalate: bool,
}

impl Default for Restart {
    /// [`Restart::on_failure`].
    fn default() -> Self {
        Self::on_failure()
    }
}

impl Restart {
    /// Restart after a failure, at most 5 times in 10 s; the first time at once, then after 10 ms,
    /// doubling up to 1 s.
    #[must_use]
    pub const fn on_failure() -> Self {
        Self {
            enabled: true,
            intensity: Intensity {
                limit: 5,
                window: Duration::from_secs(10),
            },
            first_delay: Duration::from_millis(10),
            longest_delay: Duration::from_secs(1),
            escalate: false,
        }
    }

    /// Never restart: the first failure ends the actor.
    #[must_use]
    pub const fn never() -> Self {
        let mut policy = Self::on_failure();
        policy.enabled = false;
        policy
    }

    /// Give up at the failure that follows `limit` restarts within `window`.
    #[must_use]
    pub const fn at_most(mut self, limit: u32, window: Duration) -> Self {
        self.intensity = Intensity { limit, window };
        self
    }

    /// Wait before the second restart within the window, twice as long before each further one, never
    /// longer than `longest`. The first restart is immediate.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_delay = first;
        self.longest_delay = longest;
        self
    }

    /// When giving up, let the parent fail too, for its own policy to deal with.
    #[must_use]
    pub const fn or_escalate(mut self) -> Self {
        self.escalate = true;
        self
    }

    pub(crate) fn escalates(&self) -> bool {
        self.escalate
    }
}

/// What the restart of one child means for the other children of the same parent.
///
/// Those that are concerned all end their incarnations, and then start again one after another, in the order in which they were
/// started at first; a back-off of the one that failed holds up all of them. A child that never restarts ([`Restart::never`])
/// ends instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// Nothing: only the child that failed restarts.
    #[default]
    OneForOne,
    /// Every child restarts.
    OneForAll,
    /// The children that were started after it restart too.
    RestForOne,
}

/// So many restarts at most within a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Intensity {
    pub(crate) limit: u32,
    pub(crate) window: Duration,
}

impl fmt::Display for Intensity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.limit, self.window)
    }
}

/// What to do about a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    RestartAfter(Duration),
    GiveUp,
}

/// An actor's restart policy and its record, without memory of its own where that can be.
#[derive(Debug)]
pub(crate) enum Care {
    /// [`Restart::on_failure`], and no failure yet.
    Usual,
    /// [`Restart::never`].
    Never,
    /// Anything else.
    Own(Box<(Restart, History)>),
}

impl From<Restart> for Care {
    fn from(policy: Restart) -> Self {
        if policy == Restart::on_failure() {
            Self::Usual
        } else if policy == Restart::never() {
            Self::Never
        } else {
            Self::Own(Box::new((policy, History::default())))
        }
    }
}

impl Care {
    /// Judges a failure at `now` and, if it leads to a restart, remembers it.
    pub(crate) fn judge(&mut self, now: Instant) -> Verdict {
        if let Self::Usual = self {
            *self = Self::Own(Box::new((Restart::on_failure(), History::default())));
        }
        match self {
            Self::Own(own) => {
                let (policy, history) = &mut **own;
                history.judge(policy, now)
            }
            Self::Usual | Self::Never => Verdict::GiveUp,
        }
    }

    /// Whether there is a restart at all.
    pub(crate) fn restarts(&self) -> bool {
        match self {
            Self::Usual => true,
            Self::Never => false,
            Self::Own(own) => own.0.enabled,
        }
    }

    /// Whether giving up lets the parent fail.
    pub(crate) fn escalates(&self) -> bool {
        matches!(self, Self::Own(own) if own.0.escalates())
    }
}

/// How often an incarnation lets its children restart, all together, and how often they did.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) intensity: Intensity,
    history: History,
    /// Whose children the record is of; the next incarnation begins without one.
    incarnation: u32,
}

impl Allowance {
    pub(crate) fn new(intensity: Intensity) -> Self {
        Self {
            intensity,
            history: History::default(),
            incarnation: 0,
        }
    }

    /// How many restarts of this incarnation's children count at `now`.
    pub(crate) fn recent(&mut self, incarnation: u32, now: Instant) -> u32 {
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.history = History::default();
        }
        self.history.recent(self.intensity, now)
    }

    /// Remembers the restart of a child; `false` if it is one too many.
    pub(crate) fn admit(&mut self, incarnation: u32, now: Instant) -> bool {
        let admits = self.recent(incarnation, now) < self.intensity.limit;
        if admits {
            self.history.restarts.push_back(now);
        }
        admits
    }
}

/// When an actor was restarted lately.
#[derive(Debug, Default)]
pub(crate) struct History {
    restarts: VecDeque<Instant>,
}

impl History {
    /// Forgets what the window no longer covers at `now`, and counts the rest.
    fn recent(&mut self, intensity: Intensity, now: Instant) -> u32 {
        while self
            .restarts
            .front()
            .is_some_and(|&at| now.duration_since(at) >= intensity.window)
        {
            self.restarts.pop_front();
        }
        self.restarts.len() as u32
    }

    /// Judges a failure at `now` and, if it leads to a restart, remembers it.
    pub(crate) fn judge(&mut self, policy: &Restart, now: Instant) -> Verdict {
        if !policy.enabled {
            return Verdict::GiveUp;
        }
        let recent = self.recent(policy.intensity, now);
        if recent >= policy.intensity.limit {
            return Verdict::GiveUp;
        }
        self.restarts.push_back(now);
        let delay = match recent {
            0 => Duration::ZERO,
            more => policy
                .first_delay
                .saturating_mul(1_u32.checked_shl(more - 1).unwrap_or(u32::MAX))
                .min(policy.longest_delay),
        };
        Verdict::RestartAfter(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn delays_double_up_to_the_longest_and_then_the_limit_ends_it() {
        let policy = Restart::on_failure()
            .at_most(5, 1000 * MS)
            .backoff(10 * MS, 35 * MS);
        let mut history = History::default();
        let start = Instant::now();
        let delays: Vec<_> = (0..5).map(|_| history.judge(&policy, start)).collect();
        let expected: Vec<_> = [0, 10, 20, 35, 35]
            .map(|ms| Verdict::RestartAfter(ms * MS))
            .into_iter()
            .collect();
        assert_eq!(delays, expected);
        assert_eq!(history.judge(&policy, start), Verdict::GiveUp);
    }

    #[test]
    fn old_restarts_are_forgiven() {
        let policy = Restart::on_failure().at_most(1, 100 * MS);
        let mut history = History::default();
        let start = Instant::now();
        assert_eq!(
            history.judge(&policy, start),
            Verdict::RestartAfter(Duration::ZERO)
        );
        assert_eq!(history.judge(&policy, start + 99 * MS), Verdict::GiveUp);
        assert_eq!(
            history.judge(&policy, start + 100 * MS),
            Verdict::RestartAfter(Duration::ZERO)
        );
    }

    #[test]
    fn never_means_never() {
        let mut history = History::default();
        assert_eq!(
            history.judge(&Restart::never(), Instant::now()),
            Verdict::GiveUp
        );
        let mut care = Care::from(Restart::never());
        assert_eq!(care.judge(Instant::now()), Verdict::GiveUp);
        assert!(!care.escalates());
        assert!(Care::from(Restart::never().or_escalate()).escalates());
    }

    #[test]
    fn the_usual_policy_keeps_a_record_once_it_is_needed() {
        let start = Instant::now();
        let mut care = Care::from(Restart::default());
        assert!(matches!(care, Care::Usual), "no memory before a failure");
        for _ in 0..5 {
            assert_ne!(care.judge(start), Verdict::GiveUp);
        }
        assert_eq!(care.judge(start), Verdict::GiveUp);
    }
}
