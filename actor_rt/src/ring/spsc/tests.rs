//! The rules of [`super`], one test each.
use super::super::test_items::{Aligned, Ledger, panics, then_panic};
use super::super::{Block, BusySpin, Yield};
use super::*;
use crate::ring::{RecvError, TryRecvError, TrySendError};

#[test]
fn rule_1_items_arrive_in_order() {
    fn crosses<W: Wait>() {
        let (mut producer, mut consumer) = channel_from::<u64, W>(8, u64::MAX - 20);
        let count = if cfg!(miri) { 50 } else { 5000 };
        let writer = std::thread::spawn(move || (0..count).for_each(|n| producer.send(n).unwrap()));
        for n in 0..count {
            assert_eq!(consumer.recv(), Ok(n));
        }
        assert_eq!(consumer.recv(), Err(RecvError));
        writer.join().unwrap();
    }
    crosses::<BusySpin>();
    crosses::<SpinThenYield>();
    crosses::<Yield>();
    crosses::<Block>();
}

#[test]
fn rule_2_the_ring_holds_its_capacity() {
    let (mut producer, mut consumer) = channel_from::<u32, Yield>(3, u64::MAX - 1);
    assert_eq!((producer.capacity(), consumer.capacity()), (4, 4));
    for n in 0..4 {
        assert_eq!(producer.try_send(n), Ok(()));
    }
    assert_eq!(producer.try_send(4), Err(TrySendError::Full(4)));
    assert_eq!(producer.claim(1).err(), Some(ClaimError::Full));
    assert_eq!((producer.free(), consumer.available()), (0, 4));
    assert_eq!(consumer.try_recv(), Ok(0));
    assert_eq!(producer.try_send(4), Ok(()));
    assert_eq!(consumer.read(9).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Empty));
}

#[test]
#[should_panic(expected = "never fits")]
fn rule_2_a_claim_above_the_capacity_is_a_mistake() {
    let (mut producer, _consumer) = channel::<u32>(4);
    let _ = producer.claim(5);
}

#[test]
fn rule_3_what_was_published_outlives_the_producer() {
    let (mut producer, mut consumer) = channel(4);
    producer.send(1).unwrap();
    producer.send(2).unwrap();
    drop(producer);
    assert_eq!(consumer.try_recv(), Ok(1));
    assert_eq!(consumer.read_wait(4).unwrap().collect::<Vec<_>>(), [2]);
    assert_eq!(consumer.try_recv(), Err(TryRecvError::Disconnected));
    assert!(consumer.read_wait(4).is_err());
}

#[test]
fn rule_4_sending_to_nobody_gives_the_item_back() {
    let ledger = Ledger::default();
    let (mut producer, consumer) = channel(4);
    producer.try_send(ledger.item()).ok().unwrap();
    drop(consumer);
    assert!(producer.is_disconnected());
    assert!(matches!(
        producer.try_send(ledger.item()),
        Err(TrySendError::Disconnected(_))
    ));
    assert!(producer.send(ledger.item()).is_err());
    assert_eq!(producer.claim(1).err(), Some(ClaimError::Disconnected));
    assert_eq!(
        producer.claim_up_to(1).err(),
        Some(ClaimError::Disconnected)
    );
    assert_eq!(ledger.alive(), 1);
    drop(producer);
    ledger.check();
}

#[test]
fn rule_5_a_panic_while_filling_publishes_what_was_written() {
    let ledger = Ledger::default();
    let (mut producer, mut consumer) = channel_from::<_, Yield>(4, u64::MAX - 1);
    panics(|| {
        producer
            .claim(4)
            .unwrap()
            .fill(then_panic(3, || ledger.item()))
    });
    assert_eq!(
        consumer.read(9).map(|item| item.number).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    producer.send(ledger.item()).unwrap();
    assert_eq!(consumer.recv().unwrap().number, 3);
    ledger.check();
}

#[test]
fn rule_5_slots_can_be_written_in_place() {
    let (mut producer, mut consumer) = channel_from::<u8, Yield>(4, u64::MAX - 1);
    let mut chunk = producer.claim(3).unwrap();
    let (front, back) = chunk.uninit();
    assert_eq!((front.len(), back.len()), (2, 1));
    front[0].write(b'a');
    front[1].write(b'b');
    // SAFETY: two were written.
    unsafe { chunk.assume_written(2) };
    assert_eq!(chunk.push(b'c'), Ok(()));
    assert_eq!(chunk.push(b'd'), Err(b'd'));
    chunk.publish();
    assert_eq!(consumer.read(4).as_slices(), (&b"ab"[..], &b"c"[..]));
}

#[test]
fn rule_6_untaken_items_stay_first() {
    let (mut producer, mut consumer) = channel(8);
    producer.claim(5).unwrap().fill(0..5);
    let mut chunk = consumer.read(4);
    assert_eq!((chunk.len(), chunk.next()), (4, Some(0)));
    chunk.skip_items(1);
    assert_eq!(chunk.as_slices().0, [2, 3]);
    drop(chunk);
    let mut rest = Vec::new();
    panics(|| {
        consumer.drain(8, |n| {
            if n == 3 {
                panic!("planted")
            } else {
                rest.push(n)
            }
        });
    });
    assert_eq!(consumer.drain(8, |n| rest.push(n)), 1);
    assert_eq!(rest, [2, 4]);
}

#[test]
fn rule_7_every_item_is_dropped_once_even_when_drops_panic() {
    for taken in 0..4 {
        let ledger = Ledger::default();
        let (mut producer, mut consumer) = channel_from::<_, Yield>(4, u64::MAX - 1);
        for n in 0..4 {
            let item = if n == 2 {
                ledger.panicking_item()
            } else {
                ledger.item()
            };
            producer.send(item).unwrap();
        }
        panics(|| {
            consumer.read(4).skip_items(taken);
            drop(producer);
            drop(consumer);
        });
        ledger.check();
    }
}

#[test]
fn rule_7_zero_sized_and_over_aligned_items() {
    let (mut producer, mut consumer) = channel(4);
    producer.claim(3).unwrap().fill([(), (), ()]);
    assert_eq!(consumer.drain(9, |()| ()), 3);

    let (mut producer, mut consumer) = channel(4);
    producer.claim(3).unwrap().fill([1, 2, 3].map(Aligned));
    assert_eq!(
        consumer
            .read(9)
            .as_slices()
            .0
            .iter()
            .map(Aligned::check)
            .sum::<u8>(),
        6
    );
}

#[test]
fn rule_8_a_forgotten_chunk_never_repeats_an_item() {
    let ledger = Ledger::default();
    let (mut producer, mut consumer) = channel(4);
    let mut chunk = producer.claim(2).unwrap();
    chunk.fill([ledger.item()]);
    std::mem::forget(chunk);
    assert!(consumer.try_recv().is_err());
    producer
        .claim(2)
        .unwrap()
        .fill([ledger.item(), ledger.item()]);
    let mut chunk = consumer.read(2);
    assert_eq!(chunk.next().unwrap().number, 1);
    std::mem::forget(chunk);
    drop((producer, consumer));
    // The first was overwritten, the third left in the forgotten chunk; the second was dropped once.
    assert_eq!(ledger.alive(), 2);
}
