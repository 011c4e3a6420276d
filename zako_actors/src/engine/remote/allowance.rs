//! How long one build waits for a remote cache that does not pay.
//!
//! Owns the account of one build and the limit of each look-up. Does not know what is asked.
//! Invariants: a look-up costs nothing while it is quick or saves more time than it takes; all others
//! share one allowance, and once that is spent the server is left alone until the build ends,
//! which is said once.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
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
    spent: Mutex<Duration>,
}

impl Allowance {
    /// Nothing is spent yet on the server at `address`.
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            spent: Mutex::default(),
        }
    }

    /// Whether the server is left alone.
    pub fn is_spent(&self) -> bool {
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
        let spent = *self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        ALLOWANCE.saturating_sub(spent)
    }

    fn spend(&self, cost: Duration) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let was_spent = *spent >= ALLOWANCE;
        *spent += cost;
        if !was_spent && *spent >= ALLOWANCE {
            let seconds = spent.as_secs_f64();
            tracing::warn!(
                "the remote cache at {} is slow: steps waited {seconds:.0} s for it in vain; it is left alone until the end of this build",
                self.address
            );
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
            .sum();
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

    /// It is over; what it cost beyond what it was worth is spent.
    pub fn end(self, answered: bool) {
        let free = QUICK
            + if answered {
                self.worth.get()
            } else {
                Duration::ZERO
            };
        let cost = self.begin.elapsed().saturating_sub(free);
        if !cost.is_zero() {
            self.allowance.spend(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hash::Hash;
    use crate::engine::record::{OutputItem, OutputKind};

    fn begun_before(allowance: &Allowance, ago: Duration) -> Lookup<'_> {
        let mut lookup = allowance.lookup().unwrap();
        lookup.begin -= ago;
        lookup
    }

    fn result(duration: Duration, size_bytes: u64) -> ActionResult {
        let kind = OutputKind::File {
            hash: Hash::of(b""),
            size_bytes,
            mode: 0o644,
        };
        let path = "a".into();
        ActionResult {
            outputs: vec![OutputItem { path, kind }].into(),
            duration_us: u64::try_from(duration.as_micros()).unwrap(),
        }
    }

    #[test]
    fn what_is_quick_or_pays_costs_nothing_and_the_rest_is_spent() {
        let allowance = Allowance::new("there");
        for _ in 0..1000 {
            allowance.lookup().unwrap().end(false);
        }
        let pays = begun_before(&allowance, Duration::from_secs(50));
        pays.found(&result(Duration::from_secs(60), 100 << 20));
        pays.end(true);
        assert_eq!(allowance.left(), ALLOWANCE);
        begun_before(&allowance, Duration::from_secs(3)).end(false);
        assert!(allowance.left() < ALLOWANCE && !allowance.is_spent());
        // As long as it says that it took, it brings next to nothing.
        let trickles = begun_before(&allowance, Duration::from_secs(50));
        trickles.found(&result(Duration::from_secs(60), 1));
        trickles.end(true);
        assert!(allowance.is_spent() && allowance.lookup().is_none());
    }

    #[test]
    fn a_look_up_is_over_when_nothing_is_left() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().unwrap();
        let allowance = Allowance::new("there");
        let lookup = begun_before(&allowance, Duration::from_secs(1));
        allowance.spend(ALLOWANCE);
        runtime.block_on(lookup.over());
    }
}
