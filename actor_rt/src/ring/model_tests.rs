//! Every ring against a plain queue: random operations on one thread, starting near the wrap of the cursors.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{Yield, broadcast, mpmc, mpsc, spsc};

#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    Recv,
    /// Claim so many, write so many of them.
    Claim(usize, usize),
    /// Read at most so many, take so many of them.
    Read(usize, usize),
    Drain(usize),
}

/// Operations of one case. Under Miri each takes a tenth of a second.
const STEPS: usize = if cfg!(miri) { 25 } else { 200 };

/// Under Miri there is no file system to remember a failure in.
fn config() -> ProptestConfig {
    if cfg!(miri) {
        ProptestConfig {
            cases: 4,
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    } else {
        ProptestConfig::default()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Send),
        Just(Step::Recv),
        (1..9_usize, 0..9_usize).prop_map(|(claim, write)| Step::Claim(claim, write)),
        (0..9_usize, 0..9_usize).prop_map(|(read, take)| Step::Read(read, take)),
        (0..9_usize).prop_map(Step::Drain),
    ];
    proptest::collection::vec(step, 0..STEPS)
}

/// The queue every ring must behave like; items are boxed numbers, so that a lost or repeated one is seen.
struct Model {
    queue: VecDeque<u64>,
    /// The next item.
    next: u64,
    /// Slots that may be taken by tombstones: a reader that finds nothing has skipped them all.
    tombs: usize,
}

impl Model {
    /// Whether a ring of this capacity may say that there is no room for so many more.
    fn may_refuse(&self, capacity: usize, more: usize) -> bool {
        self.queue.len() + self.tombs + more > capacity
    }
}

/// `$partial`: what becomes of the items of a read chunk that are not taken.
macro_rules! behaves_like_a_queue {
    ($name:ident, $module:ident, keeps_untaken: $keeps:expr) => {
        proptest! {
            #![proptest_config(config())]
            #[test]
            fn $name(log2 in 0..4_u32, before in 0..20_u64, steps in steps()) {
                let capacity = 1_usize << log2;
                let (mut tx, mut rx) = $module::channel_from::<Box<u64>, Yield>(capacity, before.wrapping_neg());
                let mut model = Model { queue: VecDeque::new(), next: 0, tombs: 0 };
                for step in steps {
                    match step {
                        Step::Send => {
                            let sent = tx.try_send(Box::new(model.next)).is_ok();
                            prop_assert!(!sent || model.queue.len() < capacity);
                            prop_assert!(sent || model.may_refuse(capacity, 1));
                            if sent { model.queue.push_back(model.next); }
                            model.next += 1;
                        }
                        Step::Recv => {
                            let got = rx.try_recv().ok().map(|item| *item);
                            if got.is_none() { model.tombs = 0; }
                            prop_assert_eq!(got, model.queue.pop_front());
                        }
                        Step::Claim(claim, write) => {
                            let claim = claim.min(capacity);
                            let Ok(mut chunk) = tx.claim(claim) else {
                                prop_assert!(model.may_refuse(capacity, claim));
                                continue
                            };
                            prop_assert_eq!(chunk.remaining(), claim);
                            let count = claim.min(write);
                            model.tombs += claim - count;
                            let range = model.next..model.next + count as u64;
                            chunk.fill(range.clone().map(Box::new));
                            model.queue.extend(range);
                            model.next += count as u64;
                        }
                        Step::Read(read, take) => {
                            let mut chunk = rx.read(read);
                            let len = chunk.len();
                            prop_assert!(len <= read.min(model.queue.len()));
                            let (front, back) = chunk.as_slices();
                            prop_assert!(front.iter().chain(back).map(|item| **item).eq(model.queue.iter().copied().take(len)));
                            for _ in 0..take.min(len) {
                                prop_assert_eq!(chunk.next().map(|item| *item), model.queue.pop_front());
                            }
                            if !$keeps { model.queue.drain(..len - take.min(len)); }
                        }
                        Step::Drain(max) => {
                            let mut wrong = false;
                            rx.drain(max, |item| wrong |= model.queue.pop_front() != Some(*item));
                            prop_assert!(!wrong);
                        }
                    }
                }
                drop(tx);
                while let Ok(item) = rx.recv() {
                    prop_assert_eq!(Some(*item), model.queue.pop_front());
                }
                prop_assert!(model.queue.is_empty());
            }
        }
    };
}

behaves_like_a_queue!(spsc_behaves_like_a_queue, spsc, keeps_untaken: true);
behaves_like_a_queue!(mpsc_behaves_like_a_queue, mpsc, keeps_untaken: true);
behaves_like_a_queue!(mpmc_behaves_like_a_queue, mpmc, keeps_untaken: false);

proptest! {
    #![proptest_config(config())]
    #[test]
    fn broadcast_shows_everybody_the_same(
        log2 in 0..4_u32,
        before in 0..20_u64,
        steps in proptest::collection::vec((0..5_usize, 1..9_usize), 0..STEPS),
    ) {
        let mut builder = broadcast::Builder::starting_at(1 << log2, before.wrapping_neg());
        let first = builder.consumer(&[]);
        let second = builder.consumer(&[]);
        builder.consumer(&[first, second]);
        let (mut producer, mut consumers) = builder.build_with::<Box<u64>, Yield>();
        let mut sent = 0;
        let mut seen = [0_u64; 3];
        for (who, count) in steps {
            match consumers.get_mut(who) {
                Some(consumer) => {
                    let limit = if who == 2 { seen[0].min(seen[1]) } else { sent };
                    consumer.for_each(count, |item| {
                        assert_eq!(**item, seen[who]);
                        seen[who] += 1;
                    });
                    prop_assert!(seen[who] <= limit);
                }
                None => {
                    if let Ok(mut chunk) = producer.claim(count.min(1 << log2)) {
                        let count = count.min(chunk.remaining()) as u64;
                        chunk.fill((sent..sent + count).map(Box::new));
                        sent += count;
                    }
                    prop_assert!(sent - seen[2] <= 1 << log2);
                }
            }
        }
    }
}
