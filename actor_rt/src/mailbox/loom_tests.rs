//! Loom models of the protocol, on mailboxes of two places.

use super::*;
use crate::sync::Ordering;
use loom::sync::Arc;
use loom::thread;

struct Whole {
    front: Front,
    tail: AtomicU64,
}

impl Whole {
    fn new(bound: u32) -> Arc<Self> {
        Arc::new(Self {
            front: Front::new(bound, false),
            tail: AtomicU64::new(0),
        })
    }

    fn of(&self) -> Mailbox<'_, u32> {
        // SAFETY: the halves belong together, all messages are `u32`.
        unsafe { Mailbox::new(&self.front, &self.tail) }
    }

    /// Only for the owner.
    fn drain(&self) -> Drain<'_, u32> {
        // SAFETY: the models follow the edge.
        unsafe { self.of().drain() }
    }

    fn end(&self) -> Vec<u32> {
        self.front.close();
        let mut left = Vec::new();
        assert!(self.drain().finish(|n| left.push(n)));
        left
    }
}

/// Two producers and the owner: nothing lost, nothing twice, a slot is only reused once it was read.
#[test]
fn claim_races_consume() {
    // Three threads: every schedule with up to two preemptions (all of them pass too, in two minutes).
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let whole = Whole::new(1);
        let producers: Vec<_> = (1..=2)
            .map(|n| {
                let whole = Arc::clone(&whole);
                thread::spawn(move || whole.of().push(n).is_ok())
            })
            .collect();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut drain = whole.drain();
            seen.extend(drain.pop());
        }
        let accepted = producers.into_iter().map(|p| p.join().expect("no panic"));
        let accepted = accepted.filter(|&accepted| accepted).count();
        seen.extend(whole.end());
        assert_eq!(seen.len(), accepted);
        assert!(accepted >= 1);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), accepted);
    });
}

/// Rule 4: whoever claims the slot of a message that is being handled does so only afterwards.
#[test]
fn claim_races_handling() {
    loom::model(|| {
        let whole = Whole::new(2);
        assert!(!whole.of().push(1).expect("room"));
        assert!(!whole.of().push(2).expect("room"));
        let producer = {
            let whole = Arc::clone(&whole);
            thread::spawn(move || whole.of().push(3).is_ok())
        };
        let mut seen = Vec::new();
        let mut drain = whole.drain();
        for _ in 0..2 {
            assert!(drain.is_ready());
            // Loom sees the slot as being read for as long as the handler runs.
            drain.hand_over(|n| {
                thread::yield_now();
                seen.push(n);
            });
        }
        drop(drain);
        let accepted = producer.join().expect("no panic");
        seen.extend(whole.end());
        assert_eq!(seen, [1, 2, 3][..2 + usize::from(accepted)]);
    });
}

/// A distant owner waits for a batch that comes in part, whole, or not at all: it reads all there is, in order.
#[test]
fn distance_races_claim() {
    loom::model(|| {
        let whole = Whole::new(2);
        assert!(!whole.of().push(1).expect("room"));
        let mut drain = whole.drain();
        assert_eq!(drain.pop(), Some(1));
        drain.waited(0);
        let producer = {
            let whole = Arc::clone(&whole);
            thread::spawn(move || [2, 3].map(|n| whole.of().push(n).map_err(|_| ())))
        };
        let mut seen = Vec::new();
        seen.extend(drain.pop());
        seen.extend(drain.pop());
        let settled = drain.settle();
        let pushed = producer.join().expect("no panic");
        let woke = pushed.iter().filter(|pushed| **pushed == Ok(true)).count();
        let accepted = pushed.iter().filter(|pushed| pushed.is_ok()).count();
        let late = settled == Settled::Idle && seen.len() < accepted;
        assert_eq!(woke, usize::from(late));
        seen.extend(whole.end());
        assert_eq!(seen, [2, 3][..accepted]);
    });
}

/// The owner goes idle while a producer claims: exactly one of them goes on with the actor.
#[test]
fn claim_races_idle() {
    loom::model(|| {
        let whole = Whole::new(2);
        assert!(!whole.of().push(1).expect("room"));
        assert_eq!(whole.drain().pop(), Some(1));
        let producer = {
            let whole = Arc::clone(&whole);
            thread::spawn(move || whole.of().push(2).expect("room"))
        };
        let settled = whole.drain().settle();
        let woke = producer.join().expect("no panic");
        assert_eq!(woke, settled == Settled::Idle);
        // Whoever owns it now finds the message, whole.
        assert_eq!(whole.drain().pop(), Some(2));
        assert_eq!(whole.end(), []);
    });
}

/// A signal races the owner's going idle: exactly one edge, and the signal is not lost.
#[test]
fn signal_races_idle() {
    loom::model(|| {
        let whole = Whole::new(2);
        let signaller = {
            let whole = Arc::clone(&whole);
            thread::spawn(move || whole.front.signal())
        };
        let settled = whole.drain().settle();
        let woke = signaller.join().expect("no panic");
        assert_eq!(woke, settled == Settled::Idle);
        assert!(whole.front.has_signal());
        assert_eq!(whole.end(), []);
    });
}

/// The owner frees the ring while a producer claims: the producer's slot is in a live ring.
#[test]
fn trim_races_claim() {
    loom::model(|| {
        let whole = Whole::new(2);
        assert!(!whole.of().push(1).expect("room"));
        let producer = {
            let whole = Arc::clone(&whole);
            thread::spawn(move || whole.of().push(2).expect("room"))
        };
        let mut drain = whole.drain();
        assert_eq!(drain.pop(), Some(1));
        let trimmed = drain.trim();
        let early = drain.pop();
        drop(drain);
        assert!(!producer.join().expect("no panic"));
        let late = whole.drain().pop();
        assert_eq!(early.or(late), Some(2), "trimmed: {trimmed}");
        assert_eq!(whole.end(), []);
    });
}

/// Rule 10: a sender that finds the mailbox full and waits is woken by the owner, or finds room.
#[test]
fn waiting_races_idle() {
    use std::task::{Wake, Waker};
    struct Flag(std::sync::atomic::AtomicBool);
    impl Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    loom::model(|| {
        let whole = Whole::new(1);
        assert!(!whole.of().push(1).expect("room"));
        let sender = {
            let whole = Arc::clone(&whole);
            thread::spawn(move || {
                if whole.of().push(2).is_ok() {
                    return None;
                }
                let flag = std::sync::Arc::new(Flag(false.into()));
                let mut ticket = Ticket::default();
                whole
                    .front
                    .wait(&mut ticket, &Waker::from(std::sync::Arc::clone(&flag)));
                whole.of().push(2).is_err().then_some(flag)
            })
        };
        let mut drain = whole.drain();
        assert_eq!(drain.pop(), Some(1));
        let settled = drain.settle();
        let waiting = sender.join().expect("no panic");
        match waiting {
            // Asleep: somebody must have woken it.
            Some(flag) => assert!(flag.0.load(Ordering::SeqCst)),
            None => assert_eq!(whole.drain().pop(), Some(2), "{settled:?}"),
        }
        whole.end();
    });
}
