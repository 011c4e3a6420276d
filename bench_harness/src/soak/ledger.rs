//! What became of every message: each carries a slip that says so when it is dropped, wherever that is.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts of messages. Every one that was sent ends in exactly one of the other counts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: AtomicU64,
    /// A handler has had it.
    handled: AtomicU64,
    /// The handler that had it panicked, as it was told to.
    failed: AtomicU64,
    /// It was handed back to its sender.
    refused: AtomicU64,
    /// Nobody has had it.
    dropped: AtomicU64,
    /// Those of which the runtime told as dead letters; must be all that were dropped.
    pub dead_letters: AtomicU64,
    /// Every word of every payload that was handled.
    pub sum: AtomicU64,
}

/// The counts at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Messages {
    /// Given to `tell` and its kin, timers and publications among them.
    pub sent: u64,
    /// Had by a handler.
    pub handled: u64,
    /// Had by a handler that panicked as it was told to.
    pub failed: u64,
    /// Handed back by a full mailbox.
    pub refused: u64,
    /// Had by nobody: dropped by a full mailbox whose policy says so, or left behind by an actor that was killed.
    pub dropped: u64,
    /// Told as dead letters by the runtime.
    pub dead_letters: u64,
}

impl Messages {
    /// Messages of which nobody knows what became: none once everything is at rest.
    pub fn missing(&self) -> u64 {
        let known = self.handled + self.failed + self.refused + self.dropped;
        self.sent.abs_diff(known)
    }

    /// Messages that vanished without a dead letter, or dead letters without a message.
    pub fn untold(&self) -> u64 {
        self.dropped.abs_diff(self.dead_letters)
    }
}

impl Ledger {
    pub fn messages(&self) -> Messages {
        // What became of messages is read before how many there are: at rest the order does not matter.
        let [handled, failed, refused, dropped, dead_letters, sent] = [
            &self.handled,
            &self.failed,
            &self.refused,
            &self.dropped,
            &self.dead_letters,
            &self.sent,
        ]
        .map(|count| count.load(Ordering::Acquire));
        Messages {
            sent,
            handled,
            failed,
            refused,
            dropped,
            dead_letters,
        }
    }

    /// Waits until it is known what became of every message, for so long at most; how many are missing.
    pub fn rest(&self, patience: Duration) -> u64 {
        let began = Instant::now();
        loop {
            let messages = self.messages();
            let open = messages.missing() + messages.untold();
            if open == 0 || began.elapsed() > patience {
                return open;
            }
            std::thread::yield_now();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not sent: what copies are made of.
    Draft,
    Sent,
    Handled,
    Failed,
    Refused,
}

/// Part of a message.
#[derive(Debug)]
pub(super) struct Slip {
    ledger: Arc<Ledger>,
    fate: Fate,
}

impl Slip {
    /// Of a message that is sent now.
    pub fn new(ledger: &Arc<Ledger>) -> Self {
        ledger.sent.fetch_add(1, Ordering::AcqRel);
        Self {
            ledger: Arc::clone(ledger),
            fate: Fate::Sent,
        }
    }

    /// Of a message that only its copies are sent of.
    pub fn draft(ledger: &Arc<Ledger>) -> Self {
        Self {
            ledger: Arc::clone(ledger),
            fate: Fate::Draft,
        }
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    pub fn handled(&mut self) {
        self.fate = Fate::Handled;
    }

    pub fn failed(&mut self) {
        self.fate = Fate::Failed;
    }

    pub fn refused(&mut self) {
        self.fate = Fate::Refused;
    }
}

impl Clone for Slip {
    fn clone(&self) -> Self {
        Self::new(&self.ledger)
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        let ledger = &self.ledger;
        let count = match self.fate {
            Fate::Draft => return,
            Fate::Sent => &ledger.dropped,
            Fate::Handled => &ledger.handled,
            Fate::Failed => &ledger.failed,
            Fate::Refused => &ledger.refused,
        };
        count.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_ends_in_one_count() {
        let ledger = Arc::new(Ledger::default());
        let mut slips: Vec<_> = (0..4).map(|_| Slip::new(&ledger)).collect();
        assert_eq!(ledger.messages().missing(), 4);
        slips[0].handled();
        slips[1].failed();
        slips[2].refused();
        drop(slips);
        let draft = Slip::draft(&ledger);
        draft.clone().handled();
        drop(draft);
        let messages = ledger.messages();
        assert_eq!((messages.sent, messages.missing()), (5, 0));
        assert_eq!((messages.dropped, messages.untold()), (1, 1));
        // One is untold for as long as the runtime says nothing.
        assert_eq!(ledger.rest(Duration::ZERO), 1);
        ledger.dead_letters.fetch_add(1, Ordering::AcqRel);
        assert_eq!(ledger.rest(Duration::ZERO), 0);
    }
}
