//! How long one build waits for a remote cache that does not pay.
//!
//! Owns the account of one build, the limit of each look-up, and that a build warns once. Does not know what is asked.
//! Invariants: a look-up costs nothing while it is quick or saves more time than it takes; all others
//! share one allowance, from which time that several wait at once is taken once, and to which what the others save is
//! given back; once it is spent the server is asked no more until the build ends, which is said unless a warning was given.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::files;
use crate::engine::record::ActionResult;

/// What all look-ups of a build may cost together.
const ALLOWANCE: Duration = Duration::from_secs(10);
/// A look-up that is over by then costs nothing: about what a server far away needs for its answer.
const QUICK: Duration = Duration::from_millis(100);
/// Nothing is worth waiting for that comes more slowly.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;
/// How often a look-up sees what others have spent meanwhile.
const GLANCE: Duration = Duration::from_millis(250);

/// The account of one build with one server.
#[derive(Debug)]
pub struct Allowance {
    address: String,
    said: AtomicBool,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    spent: Duration,
    /// When somebody waited too long: apart from each other, in no order.
    covered: Vec<Range<Instant>>,
}

impl Account {
    /// Covers `wait`; the time of it that was not covered.
    fn cover(&mut self, wait: Range<Instant>) -> Duration {
        let mut whole = wait.clone();
        let mut cost = wait.end - wait.start;
        self.covered.retain(|one| {
            let both = wait
                .end
                .min(one.end)
                .checked_duration_since(wait.start.max(one.start));
            if let Some(both) = both {
                cost -= both;
                whole = whole.start.min(one.start)..whole.end.max(one.end);
            }
            both.is_none()
        });
        self.covered.push(whole);
        cost
    }
}

impl Allowance {
    /// Nothing is spent yet on the server at `address`.
    pub fn new(address: String) -> Self {
        Self {
            address,
            said: AtomicBool::new(false),
            account: Mutex::default(),
        }
    }

    /// Whether the server is asked no more.
    fn is_spent(&self) -> bool {
        self.left().is_zero()
    }

    /// A look-up that begins now; none when nothing is left.
    pub fn lookup(&self) -> Option<Lookup<'_>> {
        (!self.is_spent()).then(|| Lookup {
            allowance: self,
            begin: Instant::now(),
            worth: Cell::new(Duration::ZERO),
        })
    }

    fn left(&self) -> Duration {
        ALLOWANCE.saturating_sub(self.account().spent)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spend(&self, wait: Range<Instant>) {
        let mut account = self.account();
        let was_spent = account.spent >= ALLOWANCE;
        let cost = account.cover(wait);
        account.spent += cost;
        if !was_spent && account.spent >= ALLOWANCE {
            let seconds = account.spent.as_secs_f64();
            self.warn(&format!(
                "is slow: steps waited {seconds:.0} s for it in vain; it is asked no more until the end of this build"
            ));
        }
    }

    /// Says what the matter with the server is, once in a build.
    pub fn warn(&self, matter: &str) {
        if !self.said.swap(true, Relaxed) {
            tracing::warn!("the remote cache at {} {matter}", self.address);
        }
    }

    fn give_back(&self, saved: Duration) {
        let mut account = self.account();
        // What is spent stays so: others were not asked for it meanwhile.
        if account.spent < ALLOWANCE {
            account.spent = account.spent.saturating_sub(saved);
        }
    }
}

/// One look-up on its way.
#[derive(Debug)]
pub struct Lookup<'a> {
    allowance: &'a Allowance,
    begin: Instant,
    /// The time that an answer may take without cost.
    worth: Cell<Duration>,
}

impl Lookup<'_> {
    /// There is a result: its files are worth the time that the step took where it ran, as long
    /// as they come at all.
    pub fn found(&self, result: &ActionResult) {
        let size_bytes: u64 = files(result)
            .iter()
            .map(cas_actor::Digest::size_bytes)
            .fold(0, u64::saturating_add);
        let slowest = Duration::from_secs(1 + size_bytes / SLOWEST_BYTES_PER_SECOND);
        self.worth
            .set(Duration::from_micros(result.duration_us).min(slowest));
    }

    /// Comes when nobody should wait any longer.
    pub async fn over(&self) {
        loop {
            let limit = QUICK + self.worth.get() + self.allowance.left();
            if self.begin.elapsed() >= limit {
                return;
            }
            let glance = Instant::now() + GLANCE;
            sleep_until(glance.min(self.begin + limit).into()).await;
        }
    }

    /// It is over; what it cost beyond what it was worth is spent, what it was worth beyond that given back.
    pub fn end(self, answered: bool) {
        self.end_at(answered, Instant::now());
    }

    fn end_at(self, answered: bool, now: Instant) {
        let worth = if answered {
            self.worth.get()
        } else {
            Duration::ZERO
        };
        let free_until = self.begin + QUICK + worth;
        if free_until < now {
            self.allowance.spend(free_until..now);
        } else {
            let took = now.saturating_duration_since(self.begin);
            self.allowance.give_back(worth.saturating_sub(took));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hash::Hash;
    use crate::engine::record::{OutputItem, OutputKind};

    const MS: Duration = Duration::from_millis(1);

    /// A look-up of so long, which ended so long after the epoch of the test.
    fn ended(
        allowance: &Allowance,
        epoch: Instant,
        (from_ms, to_ms): (u32, u32),
        found: Option<&ActionResult>,
    ) {
        let mut lookup = allowance.lookup().unwrap();
        lookup.begin = epoch + MS * from_ms;
        if let Some(result) = found {
            lookup.found(result);
        }
        lookup.end_at(found.is_some(), epoch + MS * to_ms);
    }

    fn result(duration: Duration, size_bytes: u64) -> ActionResult {
        let file = |size_bytes| OutputItem {
            path: "a".into(),
            kind: OutputKind::File {
                hash: Hash::of(b""),
                size_bytes,
                mode: 0o644,
            },
        };
        ActionResult {
            outputs: vec![file(size_bytes), file(1)].into(),
            duration_us: u64::try_from(duration.as_micros()).unwrap(),
        }
    }

    #[test]
    fn what_is_quick_or_pays_costs_nothing_and_the_rest_is_spent() {
        let (allowance, epoch) = (Allowance::new("there".to_owned()), Instant::now());
        for n in 0..1000 {
            ended(&allowance, epoch, (n * 100, (n + 1) * 100), None);
        }
        // A server may say what it likes of sizes.
        for size_bytes in [100 << 20, u64::MAX] {
            let pays = result(Duration::from_secs(60), size_bytes);
            ended(&allowance, epoch, (0, 50_000), Some(&pays));
        }
        assert_eq!(allowance.left(), ALLOWANCE);
        ended(&allowance, epoch, (0, 3100), None);
        assert_eq!(allowance.left(), ALLOWANCE - MS * 3000);
        // As long as it says that it took, it brings next to nothing.
        let trickles = result(Duration::from_secs(60), 1);
        ended(&allowance, epoch, (0, 50_000), Some(&trickles));
        assert!(allowance.lookup().is_none());
    }

    #[test]
    fn look_ups_that_wait_at_once_cost_the_time_of_one() {
        let (allowance, epoch) = (Allowance::new("there".to_owned()), Instant::now());
        for _ in 0..72 {
            ended(&allowance, epoch, (0, 240), None);
        }
        assert_eq!(allowance.left(), ALLOWANCE - MS * 140);
        // [100, 240], [500, 900] and [400, 1100] are 840 ms, and a short wait hides no long one around it.
        ended(&allowance, epoch, (400, 900), None);
        ended(&allowance, epoch, (300, 1100), None);
        assert_eq!(allowance.left(), ALLOWANCE - MS * 840);
        ended(&allowance, epoch, (0, 2100), None);
        assert_eq!(allowance.left(), ALLOWANCE - MS * 2000);
    }

    #[test]
    fn a_slow_server_that_pays_is_asked_to_the_end() {
        let (allowance, epoch) = (Allowance::new("there".to_owned()), Instant::now());
        let pays = result(Duration::from_secs(5), 1 << 20);
        for n in 0..100 {
            let begin = n * 4000;
            ended(&allowance, epoch, (begin, begin + 2100), None);
            ended(&allowance, epoch, (begin + 2100, begin + 4000), Some(&pays));
            assert_eq!(allowance.left(), ALLOWANCE);
        }
    }

    #[test]
    fn a_look_up_is_over_when_nothing_is_left() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        let allowance = Allowance::new("there".to_owned());
        let mut lookup = allowance.lookup().unwrap();
        lookup.begin -= Duration::from_secs(1);
        let now = Instant::now();
        allowance.spend(now - ALLOWANCE..now);
        runtime.block_on(lookup.over());
    }
}
