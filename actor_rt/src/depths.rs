//! How many messages turns find waiting: histograms, one of each thread that runs actors.
//!
//! Owns: the counters, and what is told of them. Does not know: mailboxes and turns; whoever begins a turn says what waits.
//! Senders count nothing and actors keep nothing: a turn adds to two counters of its own thread, and none if nothing waits.

use crate::system::System;
use crossbeam_utils::CachePadded;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// As many as the logarithm of a `u32` can name; the bound of a mailbox keeps the last ones empty.
const PLACES: usize = u32::BITS as usize;

/// What threads that are no workers share, so that they seldom meet.
const STRIPES: usize = 4;

/// The counters of one thread.
pub(crate) struct Depths {
    turns: [AtomicU64; PLACES],
    messages: AtomicU64,
}

impl Depths {
    pub(crate) const fn new() -> Self {
        Self {
            turns: [const { AtomicU64::new(0) }; PLACES],
            messages: AtomicU64::new(0),
        }
    }

    /// A turn finds so many messages. For the one thread that counts here.
    #[inline]
    pub(crate) fn count(&self, depth: u32) {
        let Some(place) = depth.checked_ilog2() else {
            return;
        };
        // Relaxed, here and below: mere numbers.
        let add = |counter: &AtomicU64, more: u64| {
            counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        };
        add(&self.turns[place as usize], 1);
        add(&self.messages, u64::from(depth));
    }

    /// The same, for any thread.
    fn count_among_others(&self, depth: u32) {
        if let Some(place) = depth.checked_ilog2() {
            self.turns[place as usize].fetch_add(1, Ordering::Relaxed);
            self.messages.fetch_add(u64::from(depth), Ordering::Relaxed);
        }
    }

    fn add_to(&self, sum: &mut MailboxDepths) {
        sum.messages += self.messages.load(Ordering::Relaxed);
        for (sum, turns) in sum.counts.iter_mut().zip(&self.turns) {
            *sum += turns.load(Ordering::Relaxed);
        }
    }
}

/// The counters of all threads that are no workers.
pub(crate) struct Stripes([CachePadded<Depths>; STRIPES]);

impl Stripes {
    pub(crate) const fn new() -> Self {
        Self([const { CachePadded::new(Depths::new()) }; STRIPES])
    }

    /// A turn on the thread with this number finds so many messages.
    pub(crate) fn count(&self, thread: u64, depth: u32) {
        self.0[thread as usize % STRIPES].count_among_others(depth);
    }
}

/// How many messages waited when turns began: a histogram whose buckets double, see [`System::depths`].
///
/// An actor handles up to 1024 messages in a turn; those that come during the turn count where one begins with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailboxDepths {
    /// Turns by what they found: `counts[i]` found 2ⁱ to 2ⁱ⁺¹ − 1 messages. Turns that found none are not counted.
    pub counts: [u64; Self::BUCKETS],
    /// What they found, added up: who waits through several turns counts in each.
    pub messages: u64,
}

impl MailboxDepths {
    /// As many as tell all mailboxes apart: the largest holds 2²⁴ messages.
    pub const BUCKETS: usize = 25;

    /// The most messages that a turn of this bucket has found.
    ///
    /// ```
    /// use actor_rt::MailboxDepths;
    /// assert_eq!([0, 1, 2].map(MailboxDepths::most_of), [1, 3, 7]);
    /// ```
    #[must_use]
    pub fn most_of(bucket: usize) -> u64 {
        let powers = u32::try_from(bucket + 1).unwrap_or(u32::MAX);
        1_u64.checked_shl(powers).map_or(u64::MAX, |next| next - 1)
    }

    /// Turns that found a message.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What so many of a hundred turns found at most, rounded up to the end of a bucket; zero if there was none.
    #[must_use]
    pub fn percentile(&self, of_hundred: f64) -> u64 {
        let wanted = (self.turns() as f64 * of_hundred / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|turns| {
            seen += turns;
            seen >= wanted
        });
        bucket.map_or(0, Self::most_of)
    }
}

impl fmt::Display for MailboxDepths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = [50.0, 99.0, 100.0].map(|part| self.percentile(part));
        let turns = self.turns();
        write!(f, "p50<={p50} p99<={p99} max<={max} in {turns} turns")
    }
}

impl System {
    /// How many messages turns of this system's actors have found waiting since its start.
    ///
    /// ```
    /// use actor_rt::{Actor, Context, testkit::Simulation};
    /// struct Reader;
    /// impl Actor for Reader {
    ///     type Msg = u8;
    ///     fn handle(&mut self, _: u8, _ctx: &mut Context<'_, Self>) {}
    /// }
    /// let simulation = Simulation::new(1);
    /// let reader = simulation.system().spawn(|| Reader);
    /// simulation.run();
    /// (0..5).for_each(|n| reader.tell(n).expect("room"));
    /// simulation.run();
    /// let depths = simulation.system().depths();
    /// assert_eq!((depths.counts[2], depths.percentile(100.0)), (1, 7)); // four to seven
    /// ```
    #[must_use]
    pub fn depths(&self) -> MailboxDepths {
        let runtime = self.runtime();
        let mut sum = MailboxDepths::default();
        runtime
            .depths_of_workers()
            .for_each(|it| it.add_to(&mut sum));
        runtime.depths.0.iter().for_each(|it| it.add_to(&mut sum));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double_and_the_largest_mailbox_has_one() {
        let (own, shared) = (Depths::new(), Stripes::new());
        let depths = [0, 1, 2, 3, 4, 1023, 1024, crate::mailbox::LARGEST_BOUND];
        for (thread, depth) in depths.into_iter().enumerate() {
            own.count(depth);
            shared.count(thread as u64, depth);
        }
        let (mut of_one, mut of_all) = (MailboxDepths::default(), MailboxDepths::default());
        own.add_to(&mut of_one);
        shared.0.iter().for_each(|it| it.add_to(&mut of_all));
        assert_eq!(of_one, of_all);
        let filled = [(0, 1), (1, 2), (2, 1), (9, 1), (10, 1), (24, 1)];
        for (bucket, turns) in filled {
            assert_eq!(of_one.counts[bucket], turns, "bucket {bucket}");
        }
        assert_eq!((of_one.turns(), of_one.messages), (7, (1 << 24) + 2057));
        let parts = [1.0, 15.0, 50.0, 60.0, 100.0].map(|part| of_one.percentile(part));
        assert_eq!(parts, [1, 3, 7, 1023, (1 << 25) - 1]);
    }

    #[test]
    fn nothing_found_is_told_as_nothing() {
        let none = MailboxDepths::default();
        assert_eq!(none.percentile(100.0), 0);
        assert_eq!(none.to_string(), "p50<=0 p99<=0 max<=0 in 0 turns");
        assert_eq!(MailboxDepths::most_of(usize::MAX - 1), u64::MAX);
    }
}
