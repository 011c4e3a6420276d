//! The mailbox rules, one by one, on one thread; then against a model queue; then on many threads.

use super::word::Word;
use super::*;
use crate::slab;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};

/// A mailbox by itself.
pub(in crate::mailbox) struct Whole {
    pub(in crate::mailbox) front: Front,
    tail: AtomicU64,
}

impl Whole {
    pub(in crate::mailbox) fn new(bound: u32) -> Self {
        Self {
            front: Front::new(bound, false),
            tail: AtomicU64::new(0),
        }
    }

    pub(in crate::mailbox) fn shared(bound: u32) -> Self {
        Self {
            front: Front::new(bound, true),
            tail: AtomicU64::new(0),
        }
    }

    /// Everything consumed up to `position` of `epoch`.
    fn starting_at(bound: u32, position: u32, epoch: u32) -> Self {
        let whole = Self::new(bound);
        let at = Word::tag(position, epoch).0;
        whole.front.word.store(at, Ordering::Relaxed);
        whole.front.seen.store(at, Ordering::Relaxed);
        whole.tail.store(at, Ordering::Relaxed);
        whole
    }

    /// The tests use one message type per mailbox.
    pub(in crate::mailbox) fn of<M>(&self) -> Mailbox<'_, M> {
        // SAFETY: the halves belong together, see above for `M`.
        unsafe { Mailbox::new(&self.front, &self.tail) }
    }

    /// The tests consume from one place at a time.
    pub(in crate::mailbox) fn drain<M>(&self) -> Drain<'_, M> {
        // SAFETY: see above.
        unsafe { self.of::<M>().drain() }
    }

    fn settle<M>(&self) -> Settled {
        self.drain::<M>().settle()
    }

    pub(in crate::mailbox) fn end<M>(&self) {
        self.front.close();
        assert!(self.drain::<M>().finish(drop));
    }
}

pub(in crate::mailbox) fn full<M>(refused: Result<bool, Refused<M>>) -> M {
    match refused {
        Err(Refused::Full(message)) => message,
        Err(Refused::Closed(_)) => panic!("closed, not full"),
        Ok(_) => panic!("accepted"),
    }
}

/// A drain whose owner was too quick for its senders several times in a row.
fn distant<M>(whole: &Whole) -> Drain<'_, M> {
    let mut drain = whole.drain();
    (0..drain::distance::CLOSE_BEHIND).for_each(|_| drain.waited(0));
    drain
}

#[test]
fn a_distant_owner_reads_on_when_nothing_comes() {
    for bound in [16, 256, 1000] {
        for sent in [1, 63, 64, 65, 200, 256] {
            let whole = Whole::new(bound);
            let sent = sent.min(bound);
            (0..sent).for_each(|n| assert!(!whole.of().push(n).expect("room")));
            let mut drain = distant::<u32>(&whole);
            let read: Vec<_> = std::iter::from_fn(|| drain.pop()).collect();
            assert_eq!(read, (0..sent).collect::<Vec<_>>(), "of {bound}");
            assert_eq!(drain.settle(), Settled::Idle);
            whole.end::<u32>();
        }
    }
}

#[test]
fn distance_ends_with_the_epoch() {
    let whole = Whole::new(1024);
    (0..64).for_each(|n| assert!(!whole.of().push(n).expect("room")));
    let mut drain = distant::<u32>(&whole);
    (0..64).for_each(|n| assert_eq!(drain.pop(), Some(n)));
    drop(drain);
    assert!(whole.drain::<u32>().is_distant(), "the next turn keeps it");
    assert_eq!(whole.settle::<u32>(), Settled::Idle);
    whole.of().push(0_u32).expect("room");
    assert!(
        !whole.drain::<u32>().is_distant(),
        "a lone message never waits"
    );
    whole.end::<u32>();
}

#[test]
fn the_owner_knows_who_sent() {
    let whole = Whole::new(8);
    whole.of().outside(true).push(1).expect("room");
    whole.of().push(2).expect("room");
    let mut drain = whole.drain();
    assert!(!drain.is_from_outside());
    assert_eq!((drain.pop(), drain.is_from_outside()), (Some(1), true));
    assert_eq!((drain.pop(), drain.is_from_outside()), (Some(2), false));
    assert_eq!((drain.pop(), drain.has_next()), (None, false));
    drop(drain);
    whole.end::<i32>();
}

#[test]
fn the_bound_is_exact() {
    for bound in [1, 2, 3, 5, 16, 17, 63, 64, 1000] {
        let whole = Whole::new(bound);
        for round in 0..3 {
            for n in 0..bound {
                assert!(
                    whole.of().push(n).is_ok(),
                    "bound {bound}, round {round}, {n}"
                );
            }
            assert_eq!(full(whole.of().push(99)), 99);
            assert_eq!(whole.of::<u32>().depth(), bound);
            let mut drain = whole.drain();
            assert_eq!(drain.pop(), Some(0));
            drop(drain);
            assert!(whole.of().push(bound).is_ok(), "one place became free");
            assert_eq!(full(whole.of().push(99)), 99);
            let mut drain = whole.drain();
            for n in 1..=bound {
                assert_eq!(drain.pop(), Some(n));
            }
            assert_eq!(drain.pop(), None);
        }
        whole.end::<u32>();
    }
}

#[test]
fn one_edge_per_idle_period() {
    let whole = Whole::new(8);
    assert!(
        !whole.of().push(1_u8).expect("room"),
        "owned from the start"
    );
    assert_eq!(whole.settle::<u8>(), Settled::Claimed);
    assert_eq!(whole.drain().pop(), Some(1_u8));
    assert_eq!(whole.settle::<u8>(), Settled::Idle);
    assert!(whole.of().push(2_u8).expect("room"), "the first one wakes");
    assert!(!whole.of().push(3_u8).expect("room"));
    assert!(!whole.front.signal(), "already awake");
    assert_eq!(whole.settle::<u8>(), Settled::Signalled);
    whole.front.take_signal();
    let mut drain = whole.drain();
    assert_eq!(
        (drain.pop(), drain.pop(), drain.pop()),
        (Some(2_u8), Some(3), None)
    );
    assert_eq!(drain.settle(), Settled::Idle);
    assert!(whole.front.signal(), "a signal wakes too");
    whole.front.take_signal();
    whole.end::<u8>();
}

#[test]
fn a_panicking_conversion_leaves_a_tombstone() {
    struct Hostile;
    impl From<Hostile> for Box<u32> {
        fn from(_: Hostile) -> Self {
            panic!("no")
        }
    }
    let whole = Whole::new(8);
    let of = || whole.of::<Box<u32>>();
    assert_eq!(whole.settle::<Box<u32>>(), Settled::Idle);
    let scheduled = AtomicUsize::new(0);
    let schedule = || {
        scheduled.fetch_add(1, Ordering::Relaxed);
    };
    assert!(catch_unwind(AssertUnwindSafe(|| of().push_from(Hostile, schedule))).is_err());
    assert_eq!(scheduled.load(Ordering::Relaxed), 1, "it was idle");
    assert!(matches!(of().push(Box::new(2)), Ok(false)));
    let mut drain = whole.drain::<Box<u32>>();
    assert_eq!(drain.pop().map(|n| *n), Some(2), "the tombstone is skipped");
    assert!(drain.pop().is_none() && drain.is_empty());
    drop(drain);
    whole.end::<Box<u32>>();
}

#[test]
fn full_is_exact_across_flips() {
    let whole = Whole::new(3);
    for _ in 0..1000 {
        assert!(whole.of().push(1_u8).is_ok());
        assert!(whole.of().push(2_u8).is_ok());
        assert!(whole.of().push(3_u8).is_ok());
        full(whole.of().push(4_u8));
        let mut drain = whole.drain::<u8>();
        while drain.pop().is_some() {}
        assert_eq!(drain.settle(), Settled::Idle);
        assert_eq!(whole.of::<u8>().depth(), 0);
    }
    whole.end::<u8>();
}

#[test]
fn a_stale_tail_never_meets_its_epoch_again() {
    // Long ago the tail was left at 5 in `old`; now the word is about to flip to that very epoch.
    let old = (1 << 28) - 2;
    let whole = Whole::starting_at(8, 0, old - 2);
    assert!(whole.of().push(0_u8).is_ok());
    let mut drain = whole.drain::<u8>();
    assert_eq!(drain.pop_exclusive(), Some(0));
    whole.tail.store(Word::tag(5, old).0, Ordering::Relaxed);
    whole
        .front
        .seen
        .store(Word::tag(5, old).0, Ordering::Relaxed);
    assert_eq!(drain.settle(), Settled::Idle);
    for n in 0..8_u8 {
        assert!(whole.of().push(n).is_ok());
    }
    full(whole.of().push(9_u8));
    whole.end::<u8>();
}

#[test]
fn positions_wrap_in_the_middle_of_everything() {
    for bound in [1, 5, 16, 40] {
        let whole = Whole::starting_at(bound, u32::MAX - 20, (1 << 28) - 1);
        let mut next = 0;
        let mut expected = 0;
        for _ in 0..100 {
            while whole.of().push(next).is_ok() {
                next += 1;
            }
            assert_eq!(next - expected, bound);
            let mut drain = whole.drain::<u32>();
            while let Some(n) = drain.pop() {
                assert_eq!(n, expected);
                expected += 1;
            }
        }
        assert_eq!(whole.settle::<u32>(), Settled::Idle);
        whole.end::<u32>();
    }
}

#[test]
fn trim_frees_and_goes_on() {
    for whole in [Whole::new(300), Whole::shared(300)] {
        for round in 0..5_u32 {
            for n in 0..200_u32 {
                assert!(whole.of().push(n + round).is_ok());
            }
            let mut drain = whole.drain();
            assert!(!drain.trim(), "messages are waiting");
            for n in 0..200_u32 {
                assert_eq!(drain.pop(), Some(n + round));
            }
            assert!(drain.trim());
            assert!(!whole.front.has_ring());
            assert_eq!(drain.settle(), Settled::Idle);
        }
        whole.end::<u32>();
    }
}

/// Across pages and past the end of the ring; what does not fit stays, in order, and everything comes once.
#[test]
fn of_many_messages_those_that_fit_are_taken() {
    let whole = Whole::new(40);
    let counted = Arc::new(());
    let mut waiting: Vec<_> = (0..100_usize).map(|n| (n, Arc::clone(&counted))).collect();
    let (mut seen, mut queued) = (0, 0);
    while seen < 100 {
        if !waiting.is_empty() {
            let fit = (40 - queued).min(waiting.len());
            let pushed = whole.of().push_many(&mut waiting);
            assert_eq!(pushed.expect("room"), (fit as u32, false));
            queued += fit;
        }
        let mut drain = whole.drain::<(usize, Arc<()>)>();
        for _ in 0..queued.min(13) {
            assert_eq!(drain.pop().expect("pushed").0, seen);
            (seen, queued) = (seen + 1, queued - 1);
        }
        assert_eq!(Arc::strong_count(&counted), 101 - seen);
    }
    whole.end::<(usize, Arc<()>)>();
}

#[test]
fn close_hands_messages_back() {
    let whole = Whole::new(4);
    assert!(whole.of().push("kept").is_ok());
    whole.front.close();
    assert!(matches!(
        whole.of().push("late"),
        Err(Refused::Closed("late"))
    ));
    let mut many = vec!["x"];
    assert!(matches!(
        whole.of::<&str>().push_many(&mut many),
        Err(Refused::Closed(()))
    ));
    assert_eq!(many, ["x"]);
    let mut left = Vec::new();
    assert!(whole.drain().finish(|message: &str| left.push(message)));
    assert_eq!(left, ["kept"]);
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_waiting_sender_is_woken() {
    let whole = Whole::new(1);
    assert!(whole.of().push(1_u8).is_ok());
    let flags: Vec<_> = (0..2).map(|_| Arc::new(Flag::default())).collect();
    let mut tickets = [Ticket::default(), Ticket::default()];
    for (flag, ticket) in flags.iter().zip(&mut tickets) {
        whole.front.wait(ticket, &Waker::from(Arc::clone(flag)));
    }
    whole.front.stop_waiting(&mut tickets[1]);
    let mut drain = whole.drain::<u8>();
    assert_eq!(drain.pop(), Some(1));
    assert_eq!(drain.settle(), Settled::Idle);
    assert!(flags[0].0.load(Ordering::SeqCst));
    assert!(!flags[1].0.load(Ordering::SeqCst), "it had gone");
    whole.end::<u8>();
}

#[test]
fn closing_wakes_those_who_wait() {
    let whole = Whole::new(1);
    assert!(whole.of().push(1_u8).is_ok());
    let flag = Arc::new(Flag::default());
    let mut ticket = Ticket::default();
    whole
        .front
        .wait(&mut ticket, &Waker::from(Arc::clone(&flag)));
    whole.end::<u8>();
    assert!(flag.0.load(Ordering::SeqCst));
}

#[test]
fn the_oldest_makes_room() {
    let whole = Whole::shared(3);
    for n in 0..3 {
        assert!(whole.of().push(n).is_ok());
    }
    full(whole.of().push(9));
    assert_eq!(whole.of().take_oldest(), Some(0));
    assert!(whole.of().push(3).is_ok());
    let mut drain = whole.drain();
    assert_eq!(drain.pop(), Some(1));
    assert_eq!(
        whole.of().take_oldest(),
        Some(2),
        "while the owner consumes, too"
    );
    assert_eq!(drain.pop(), Some(3));
    assert_eq!(drain.pop(), None::<i32>);
    assert_eq!(drain.settle(), Settled::Idle);
    whole.end::<i32>();
}

#[derive(Clone)]
#[repr(align(256))]
struct Wide(Arc<AtomicUsize>);

impl Drop for Wide {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn over_aligned_messages_are_placed_right_and_dropped_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let whole = Whole::new(50);
    for _ in 0..50 {
        assert!(whole.of().push(Wide(Arc::clone(&drops))).is_ok());
    }
    let mut drain = whole.drain::<Wide>();
    for taken in 1..=20 {
        let message = drain.pop().expect("published");
        assert!((&raw const message).addr().is_multiple_of(256));
        drop(message);
        assert_eq!(drops.load(Ordering::Relaxed), taken);
    }
    drop(drain);
    whole.end::<Wide>();
    assert_eq!(drops.load(Ordering::Relaxed), 50);
    assert_eq!(Arc::strong_count(&drops), 1);
}

#[test]
fn messages_without_size_are_counted() {
    let whole = Whole::new(40);
    for _ in 0..40 {
        assert!(whole.of().push(()).is_ok());
    }
    full(whole.of().push(()));
    let mut drain = whole.drain::<()>();
    assert_eq!(std::iter::from_fn(|| drain.pop()).count(), 40);
    drop(drain);
    whole.end::<()>();
}

#[derive(Clone, Debug)]
enum Op {
    Push,
    Batch(u8),
    Pop(u8),
    Settle,
    Trim,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Push),
        2 => (1..40_u8).prop_map(Op::Batch),
        3 => (1..40_u8).prop_map(Op::Pop),
        1 => Just(Op::Settle),
        1 => Just(Op::Trim),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_bounded_queue(
        bound in 1..70_u32,
        start in prop_oneof![Just(0), Just(u32::MAX - 30), any::<u32>()],
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let whole = Whole::starting_at(bound, start, (1 << 28) - 3);
        let mut model = VecDeque::new();
        let mut next = 0_u64;
        let mut idle = false;
        for op in ops {
            match op {
                Op::Push => {
                    let pushed = whole.of().push(Box::new(next));
                    if model.len() < bound as usize {
                        prop_assert_eq!(pushed.expect("room"), idle);
                        idle = false;
                        model.push_back(next);
                        next += 1;
                    } else {
                        full(pushed);
                    }
                }
                Op::Batch(wanted) => {
                    let mut many: Vec<Box<u64>> =
                        (next..).map(Box::new).take(usize::from(wanted)).collect();
                    let pushed = whole.of().push_many(&mut many);
                    let room = bound as usize - model.len();
                    match pushed {
                        Ok((count, woke)) => {
                            prop_assert_eq!(count as usize, room.min(usize::from(wanted)));
                            prop_assert_eq!(woke, idle);
                            idle = false;
                            model.extend(next..next + u64::from(count));
                            next += u64::from(count);
                        }
                        Err(_) => prop_assert_eq!(room, 0),
                    }
                }
                // An idle mailbox has no owner to do the rest.
                _ if idle => {}
                Op::Pop(count) => {
                    let mut drain = whole.drain::<Box<u64>>();
                    for _ in 0..count {
                        prop_assert_eq!(drain.pop().map(|n| *n), model.pop_front());
                    }
                }
                Op::Settle => {
                    idle = model.is_empty();
                    let expected = if idle { Settled::Idle } else { Settled::Claimed };
                    prop_assert_eq!(whole.settle::<Box<u64>>(), expected);
                }
                Op::Trim => {
                    prop_assert_eq!(whole.drain::<Box<u64>>().trim(), model.is_empty());
                }
            }
            prop_assert_eq!(whole.of::<Box<u64>>().depth() as usize, model.len());
        }
        whole.front.close();
        let mut rest = Vec::new();
        prop_assert!(whole.drain::<Box<u64>>().finish(|n| rest.push(*n)));
        prop_assert_eq!(rest, Vec::from(model));
    }
}

/// Producers on threads, one consumer that goes idle and is woken by the edge alone.
#[test]
fn many_producers_lose_nothing_and_keep_their_order() {
    const EACH: u64 = 30_000;
    for (bound, producers) in [(1, 2), (7, 3), (64, 4)] {
        let whole = Whole::new(bound);
        assert_eq!(whole.settle::<(u64, u64)>(), Settled::Idle);
        let awake = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for producer in 0..producers {
                let (whole, awake) = (&whole, &awake);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut message = (producer, n);
                        loop {
                            match whole.of().push(message) {
                                Ok(woke) => {
                                    if woke {
                                        // Exactly one owner at a time.
                                        assert_eq!(awake.fetch_add(1, Ordering::AcqRel), 0);
                                    }
                                    break;
                                }
                                Err(Refused::Full(back)) => message = back,
                                Err(Refused::Closed(_)) => unreachable!("nobody closes"),
                            }
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut expected = vec![0; producers as usize];
            let mut left = producers * EACH;
            while left > 0 {
                while awake.load(Ordering::Acquire) == 0 {
                    std::thread::yield_now();
                }
                loop {
                    let mut drain = whole.drain::<(u64, u64)>();
                    while let Some((producer, n)) = drain.pop() {
                        assert_eq!(n, expected[producer as usize]);
                        expected[producer as usize] += 1;
                        left -= 1;
                    }
                    // The next owner may be chosen the moment we settle.
                    awake.fetch_sub(1, Ordering::AcqRel);
                    if drain.settle() == Settled::Idle {
                        break;
                    }
                    awake.fetch_add(1, Ordering::AcqRel);
                    std::thread::yield_now();
                }
            }
        });
        whole.end::<(u64, u64)>();
    }
}

#[test]
fn the_next_ring_is_of_the_node_where_the_last_one_was_given_up() {
    let node = slab::Node::numbered(31);
    let whole = Whole::new(64);
    assert!(whole.of::<u64>().push(1).is_ok());
    assert_eq!(whole.front.ring_node(), Some(slab::Node::NONE));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            slab::settle(node);
            let mut drain = whole.drain::<u64>();
            assert_eq!(drain.pop(), Some(1));
            assert!(drain.trim());
        });
    });
    assert_eq!(whole.front.ring_node(), None);
    assert!(whole.of::<u64>().push(2).is_ok());
    assert_eq!(whole.front.ring_node(), Some(node));
    whole.end::<u64>();
}
