//! How often one caller may ask.
//!
//! Owns: who counts as one caller, and a bucket of tokens for each.
//! Does not know: requests, or how a refusal is worded.
//! Invariants: a caller who keeps below the rate is never refused; memory is bounded by the
//! callers of the last seconds, for a full bucket says nothing and is forgotten.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A caller who was quiet may send this many seconds' worth at once.
const BURST_SECONDS: f64 = 2.0;
/// Full buckets are looked for when there are this many more.
const SWEEP_EVERY: usize = 1024;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// Another machine, or this one. Of IPv6 only what names the network: one machine has as many
    /// addresses behind it as it likes.
    Address(IpAddr),
    /// The socket in the file system.
    Local,
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        const NETWORK: u128 = !0 << 64;
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
            v4 => v4,
        })
    }
}

/// Who is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A credential, by its place in the configuration.
    Known(u32),
    /// Somebody without one.
    At(Peer),
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

/// The buckets of all callers.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_caller: HashMap<Caller, Bucket>,
    sweep_at: usize,
}

impl Rate {
    /// `None` when there is no limit: 0.
    pub(crate) fn new(per_second: u64) -> Option<Self> {
        (per_second > 0).then(|| Self {
            per_second: per_second as f64,
            buckets: Mutex::default(),
        })
    }

    /// Takes a token of the caller's.
    ///
    /// # Errors
    /// When there is none: after this time there will be one.
    pub(crate) fn take(&self, caller: Caller, now: Instant) -> Result<(), Duration> {
        let burst = self.burst();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.by_caller.len() >= buckets.sweep_at {
            let per_second = self.per_second;
            let is_used = |bucket: &Bucket| level(bucket, per_second, now) < burst;
            buckets.by_caller.retain(|_, bucket| is_used(bucket));
            buckets.sweep_at = buckets.by_caller.len() + SWEEP_EVERY;
        }
        let new = Bucket {
            tokens: burst,
            filled: now,
        };
        let bucket = buckets.by_caller.entry(caller).or_insert(new);
        bucket.tokens = level(bucket, self.per_second, now).min(burst);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            let missing = (1.0 - bucket.tokens) / self.per_second;
            return Err(Duration::from_secs_f64(missing));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    fn burst(&self) -> f64 {
        (self.per_second * BURST_SECONDS).max(1.0)
    }
}

fn level(bucket: &Bucket, per_second: f64, now: Instant) -> f64 {
    let passed = now.saturating_duration_since(bucket.filled);
    bucket.tokens + passed.as_secs_f64() * per_second
}

/// How many connections each peer has open.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<Peer, u64>>);

impl Crowd {
    /// One more of this peer; how many it has now.
    pub(crate) fn enter(&self, peer: Peer) -> u64 {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.entry(peer).or_default();
        *number += 1;
        *number
    }

    /// One less.
    pub(crate) fn leave(&self, peer: Peer) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = open.get_mut(&peer) {
            *number -= 1;
            if *number == 0 {
                open.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate() {
        let rate = Rate::new(10).unwrap();
        let caller = Caller::Known(0);
        let start = Instant::now();
        let taken = (0..100).filter(|_| rate.take(caller, start).is_ok());
        assert_eq!(taken.count(), 20);
        let wait = rate.take(caller, start).unwrap_err();
        assert_eq!(wait.as_millis(), 100);
        assert!(rate.take(Caller::Known(1), start).is_ok(), "another caller");
        let second = start + Duration::from_secs(1);
        let taken = (0..100).filter(|_| rate.take(caller, second).is_ok());
        assert_eq!(taken.count(), 10);
        assert!(Rate::new(0).is_none());
    }

    #[test]
    fn callers_who_are_gone_are_forgotten() {
        let rate = Rate::new(1).unwrap();
        let start = Instant::now();
        for number in 0..50_000_u32 {
            let now = start + Duration::from_millis(u64::from(number));
            rate.take(Caller::Known(number), now).unwrap();
        }
        let held = rate.buckets.lock().unwrap().by_caller.len();
        assert!(held < 5_000, "{held}");
    }

    #[test]
    fn a_network_is_one_peer() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:10.0.0.1"), peer("10.0.0.1"));
        assert_ne!(peer("10.0.0.1"), peer("10.0.0.2"));
    }

    #[test]
    fn a_crowd_is_counted_down_to_nothing() {
        let crowd = Crowd::default();
        assert_eq!((crowd.enter(Peer::Local), crowd.enter(Peer::Local)), (1, 2));
        crowd.leave(Peer::Local);
        crowd.leave(Peer::Local);
        assert!(crowd.0.lock().unwrap().is_empty());
    }
}
