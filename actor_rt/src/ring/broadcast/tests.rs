//! The rules of [`super`], one test each.
use super::super::test_items::{Aligned, Counted, panics, then_panic};
use super::super::{Block, BusySpin, Yield};
use super::*;
use crate::ring::{SendError, TrySendError};

fn ring<T, W: Wait, const N: usize>(
    capacity: usize,
    after: [&[usize]; N],
) -> (Producer<T, W>, [Consumer<T, W>; N]) {
    let mut builder = Builder::starting_at(capacity, u64::MAX - 1);
    for stages in after {
        builder.consumer(
            &stages
                .iter()
                .map(|&stage| StageId(stage))
                .collect::<Vec<_>>(),
        );
    }
    let (producer, consumers) = builder.build_with();
    (
        producer,
        consumers.try_into().expect("as many consumers as stages"),
    )
}

#[test]
fn rule_1_every_consumer_sees_every_item_after_its_predecessors() {
    const COUNT: u64 = if cfg!(miri) { 30 } else { 2000 };
    fn crosses<W: Wait>() {
        let (mut producer, consumers) = ring::<u64, W, 3>(8, [&[], &[], &[0, 1]]);
        let done: Arc<[AtomicU64; 3]> = Arc::default();
        let readers: Vec<_> = consumers
            .into_iter()
            .enumerate()
            .map(|(me, mut consumer)| {
                let done = Arc::clone(&done);
                std::thread::spawn(move || {
                    let mut next = 0;
                    while let Ok(chunk) = consumer.read_wait(3) {
                        for item in chunk.iter() {
                            assert_eq!(*item, next);
                            assert!(
                                me != 2
                                    || (0..2)
                                        .all(|other| done[other].load(Ordering::Relaxed) > *item)
                            );
                            next += 1;
                            done[me].store(next, Ordering::Relaxed);
                        }
                    }
                    assert_eq!(next, COUNT);
                })
            })
            .collect();
        (0..COUNT).for_each(|n| producer.send(n).unwrap());
        drop(producer);
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
    }
    crosses::<BusySpin>();
    crosses::<SpinThenYield>();
    crosses::<Yield>();
    crosses::<Block>();
}

#[test]
fn rule_2_the_slowest_consumer_holds_the_producer_back() {
    let (mut producer, [mut fast, mut slow]) = ring::<u32, Yield, 2>(4, [&[], &[]]);
    producer.claim(4).unwrap().fill(0..4);
    assert_eq!(fast.for_each(9, |_| ()), 4);
    assert_eq!(producer.try_send(4), Err(TrySendError::Full(4)));
    assert_eq!(slow.try_recv(), Ok(0));
    assert_eq!(producer.try_send(4), Ok(()));
    assert_eq!(producer.claim(1).err(), Some(ClaimError::Full));
    assert_eq!(
        slow.read(9).iter().copied().collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(producer.claim_up_to(9).unwrap().remaining(), 3);
}

#[test]
#[should_panic(expected = "never fits")]
fn rule_2_a_claim_above_the_capacity_is_a_mistake() {
    let (mut producer, [_consumer]) = ring::<u32, Yield, 1>(4, [&[]]);
    let _ = producer.claim(5);
}

#[test]
#[should_panic(expected = "at least one consumer")]
fn a_ring_without_consumers_is_a_mistake() {
    Builder::new(4).build::<u32>();
}

#[test]
fn rule_3_what_was_published_outlives_the_producer() {
    let (mut producer, [mut first, mut second]) = ring::<u32, Yield, 2>(4, [&[], &[0]]);
    producer.send(1).unwrap();
    drop(producer);
    assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(first.try_recv(), Ok(1));
    assert_eq!(first.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(second.read_wait(9).unwrap().as_slices().0, [1]);
    assert_eq!(second.try_recv(), Err(TryRecvError::Disconnected));
    assert!(second.read_wait(9).is_err());
}

#[test]
fn rule_4_a_dropped_consumer_holds_nobody_up() {
    let (mut producer, [first, mut second, mut third]) =
        ring::<u32, Yield, 3>(2, [&[], &[0], &[1]]);
    producer.claim(2).unwrap().fill(0..2);
    assert!(second.read(9).is_empty());
    drop(first);
    assert_eq!(second.try_recv(), Ok(0));
    assert_eq!(third.read(9).len(), 1);
    drop(second);
    assert_eq!(third.read(9).len(), 1);
    producer.claim(2).unwrap().fill(2..4);
    drop(third);
    assert_eq!(producer.try_send(4), Err(TrySendError::Disconnected(4)));
    assert_eq!(producer.send(4), Err(SendError(4)));
    assert_eq!(
        producer.claim_up_to(1).err(),
        Some(ClaimError::Disconnected)
    );
}

#[test]
fn rule_5_a_panic_while_filling_publishes_what_was_written() {
    let drops = Counted(Arc::default());
    let (mut producer, [mut consumer]) = ring::<_, Yield, 1>(4, [&[]]);
    panics(|| {
        producer
            .claim(4)
            .unwrap()
            .fill(then_panic(3, || drops.clone()))
    });
    assert_eq!(consumer.for_each(9, |_| ()), 3);
    producer.claim(2).unwrap().push(drops.clone()).ok().unwrap();
    assert_eq!(consumer.for_each(9, |_| ()), 1);
    drop((producer, consumer));
    assert_eq!(drops.0.load(Ordering::Relaxed), 4);
}

#[test]
fn rule_6_a_panicking_reader_finishes_what_it_was_handed() {
    let (mut producer, [mut consumer]) = ring::<u32, Yield, 1>(8, [&[]]);
    producer.claim(4).unwrap().fill(0..4);
    panics(|| {
        consumer.for_each(9, |n| assert!(*n < 1, "planted"));
    });
    assert_eq!(consumer.read(9).iter().copied().collect::<Vec<_>>(), [2, 3]);
    assert!(consumer.read(9).is_empty());
}

/// Panics when dropped, after counting.
struct Panicking(
    #[expect(dead_code, reason = "held for its Drop")] Counted,
    bool,
);

impl Drop for Panicking {
    fn drop(&mut self) {
        assert!(!self.1, "planted panic in Drop");
    }
}

#[test]
fn rule_7_every_item_is_dropped_once_even_when_drops_panic() {
    let drops = Counted(Arc::default());
    let item = |panics| Panicking(drops.clone(), panics);
    let (mut producer, [mut consumer]) = ring::<_, Yield, 1>(4, [&[]]);
    producer
        .claim(4)
        .unwrap()
        .fill([item(false), item(true), item(false), item(false)]);
    consumer.for_each(9, |_| ());
    // Claiming the slots again drops the old items; the panic of one loses no other.
    panics(|| drop(producer.claim(3)));
    assert_eq!(drops.0.load(Ordering::Relaxed), 3);
    producer.claim(2).unwrap().fill([item(true), item(false)]);
    panics(|| drop((producer, consumer)));
    assert_eq!(drops.0.load(Ordering::Relaxed), 6);
}

#[test]
fn rule_7_zero_sized_and_over_aligned_items() {
    let (mut producer, [mut consumer]) = ring::<_, Yield, 1>(4, [&[]]);
    producer.claim(3).unwrap().fill([(), (), ()]);
    assert_eq!(consumer.for_each(9, |()| ()), 3);

    let (mut producer, [mut consumer]) = ring::<_, Yield, 1>(4, [&[]]);
    producer.claim(3).unwrap().fill([1, 2, 3].map(Aligned));
    let mut sum = 0;
    consumer.for_each(9, |item| sum += item.check());
    assert_eq!(sum, 6);
}

#[test]
fn rule_8_forgotten_chunks_publish_and_finish_nothing() {
    let (mut producer, [mut consumer]) = ring::<u32, Yield, 1>(4, [&[]]);
    std::mem::forget(producer.claim(2).unwrap());
    producer.claim(2).unwrap().fill(1..3);
    std::mem::forget(consumer.read(9));
    assert_eq!(consumer.read(9).iter().copied().collect::<Vec<_>>(), [1, 2]);
}
