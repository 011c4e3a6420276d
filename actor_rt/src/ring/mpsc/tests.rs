//! The rules of [`super`], one test each.
use super::super::test_items::{Aligned, Ledger, panics, then_panic};
use super::super::{Block, BusySpin, Yield};
use super::*;
use crate::ring::{TryRecvError, TrySendError};

#[test]
fn rule_1_each_sender_keeps_its_order_and_batches_stay_together() {
    const COUNT: u64 = if cfg!(miri) { 20 } else { 1000 };
    fn crosses<W: Wait>() {
        let (sender, mut receiver) = channel_from::<(usize, u64), W>(16, u64::MAX - 50);
        let writers: Vec<_> = (0..3)
            .map(|me| {
                let mut sender = sender.clone();
                std::thread::spawn(move || {
                    for n in 0..COUNT {
                        sender.send((me, 2 * n)).unwrap();
                        sender.send((me, 2 * n + 1)).unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        let mut next = [0; 3];
        while let Ok((who, n)) = receiver.recv() {
            assert_eq!(n, next[who]);
            next[who] += 1;
        }
        assert_eq!(next, [2 * COUNT; 3]);
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
    }
    crosses::<BusySpin>();
    crosses::<SpinThenYield>();
    crosses::<Yield>();
    crosses::<Block>();
}

#[test]
fn rule_1_batches_of_several_senders_stay_together() {
    const COUNT: usize = if cfg!(miri) { 10 } else { 500 };
    let (sender, mut receiver) = channel_from::<(usize, u32), Yield>(16, u64::MAX - 50);
    let writers: Vec<_> = (0..3)
        .map(|me| {
            let mut sender = sender.clone();
            std::thread::spawn(move || {
                for _ in 0..COUNT {
                    loop {
                        match sender.claim(5) {
                            Ok(mut chunk) => break chunk.fill((0..5).map(|n| (me, n))),
                            Err(_) => std::thread::yield_now(),
                        }
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let mut seen = Vec::new();
    while let Ok(mut chunk) = receiver.read_wait(7) {
        chunk.drain(|item| seen.push(item));
    }
    assert_eq!(seen.len(), 3 * COUNT * 5);
    for batch in seen.chunks(5) {
        let who = batch[0].0;
        assert_eq!(batch, [0, 1, 2, 3, 4].map(|n| (who, n)));
    }
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
}

#[test]
fn rule_2_clones_do_not_raise_the_capacity() {
    let (mut sender, mut receiver) = channel_from::<u32, Yield>(4, u64::MAX - 1);
    let mut clones = [sender.clone(), sender.clone(), sender.clone()];
    sender.claim(2).unwrap().fill([0, 1]);
    clones[0].try_send(2).unwrap();
    clones[1].try_send(3).unwrap();
    assert_eq!(clones[2].try_send(4), Err(TrySendError::Full(4)));
    assert_eq!(sender.claim(1).err(), Some(ClaimError::Full));
    assert_eq!(receiver.try_recv(), Ok(0));
    assert_eq!(clones[2].try_send(4), Ok(()));
    assert_eq!(sender.try_send(5), Err(TrySendError::Full(5)));
    assert_eq!(receiver.read(9).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
#[should_panic(expected = "never fits")]
fn rule_2_a_claim_above_the_capacity_is_a_mistake() {
    let (mut sender, _receiver) = channel::<u32>(4);
    let _ = sender.claim(5);
}

#[test]
fn rule_3_what_was_published_outlives_the_senders() {
    let (mut sender, mut receiver) = channel(4);
    let mut other = sender.clone();
    sender.send(1).unwrap();
    drop(sender);
    other.claim(2).unwrap().fill([2, 3]);
    drop(other);
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(receiver.read_wait(1).unwrap().next(), Some(2));
    assert!(receiver.has_items());
    assert_eq!(receiver.recv(), Ok(3));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    assert!(receiver.read_wait(1).is_err());
}

#[test]
fn rule_4_the_receiver_takes_its_items_along() {
    let ledger = Ledger::default();
    let (mut sender, receiver) = channel(4);
    sender
        .claim(2)
        .unwrap()
        .fill([ledger.item(), ledger.item()]);
    drop(receiver);
    assert_eq!(ledger.alive(), 0);
    assert!(sender.is_disconnected());
    assert!(matches!(
        sender.try_send(ledger.item()),
        Err(TrySendError::Disconnected(_))
    ));
    assert!(sender.send(ledger.item()).is_err());
    assert_eq!(sender.claim_up_to(1).err(), Some(ClaimError::Disconnected));
    ledger.check();
}

#[test]
fn rule_5_a_panic_while_filling_leaves_tombstones() {
    for written in 0..3 {
        let ledger = Ledger::default();
        let (mut sender, mut receiver) = channel_from::<_, Yield>(8, u64::MAX - 1);
        let mut other = sender.clone();
        other.send(ledger.item()).unwrap();
        panics(|| {
            sender
                .claim(4)
                .unwrap()
                .fill(then_panic(written, || ledger.item()))
        });
        other.send(ledger.item()).unwrap();
        let mut seen = Vec::new();
        while let Ok(item) = receiver.try_recv() {
            seen.push(item.number);
        }
        assert_eq!(seen, (0..written + 2).collect::<Vec<_>>());
        // The slots of the tombstones are free again.
        sender.claim(8).unwrap().fill((0..8).map(|_| ledger.item()));
        assert_eq!(receiver.drain(9, drop), 8);
        ledger.check();
    }
}

#[test]
fn rule_5_slots_can_be_written_in_place() {
    let (mut sender, mut receiver) = channel_from::<u8, Yield>(4, u64::MAX - 1);
    let mut chunk = sender.claim(4).unwrap();
    chunk.uninit().0[0].write(b'a');
    // SAFETY: one was written.
    unsafe { chunk.assume_written(1) };
    chunk.push(b'b').unwrap();
    assert_eq!(chunk.remaining(), 2);
    chunk.publish();
    assert_eq!(receiver.read(9).as_slices().0, b"ab");
    assert_eq!(receiver.try_recv(), Ok(b'a'));
    assert_eq!(receiver.try_recv(), Ok(b'b'));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn rule_6_untaken_items_stay_first() {
    let (mut sender, mut receiver) = channel(8);
    sender.claim(3).unwrap().fill(0..3);
    sender.claim(2).unwrap().fill(3..5);
    assert_eq!(receiver.read(4).next(), Some(0));
    assert_eq!(receiver.read(4).as_slices().0, [1, 2, 3, 4]);
    let mut rest = Vec::new();
    panics(|| {
        receiver.drain(8, |n| {
            if n == 2 {
                panic!("planted")
            } else {
                rest.push(n)
            }
        });
    });
    assert_eq!(receiver.drain(8, |n| rest.push(n)), 2);
    assert_eq!(rest, [1, 3, 4]);
}

#[test]
fn rule_7_every_item_is_dropped_once_even_when_drops_panic() {
    for (taken, receiver_first) in (0..3).flat_map(|taken| [(taken, true), (taken, false)]) {
        let ledger = Ledger::default();
        let (mut sender, mut receiver) = channel_from::<_, Yield>(8, u64::MAX - 1);
        sender
            .claim(3)
            .unwrap()
            .fill([ledger.item(), ledger.item(), ledger.panicking_item()]);
        sender.send(ledger.item()).unwrap();
        panics(|| {
            receiver.read(9).take(taken).for_each(drop);
            if receiver_first {
                drop((receiver, sender));
            } else {
                drop((sender, receiver));
            }
        });
        ledger.check();
    }
}

#[test]
fn rule_7_zero_sized_and_over_aligned_items() {
    let (mut sender, mut receiver) = channel(4);
    sender.claim(3).unwrap().fill([(), (), ()]);
    assert_eq!(receiver.drain(9, |()| ()), 3);

    let (mut sender, mut receiver) = channel(4);
    sender.claim(3).unwrap().fill([1, 2, 3].map(Aligned));
    assert_eq!(
        receiver
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
fn rule_8_a_stalled_claim_stops_the_reader_but_not_the_writers() {
    let (mut stalled, mut receiver) = channel::<u32>(4);
    let mut other = stalled.clone();
    let mut chunk = stalled.claim(1).unwrap();
    other.send(1).unwrap();
    other.send(2).unwrap();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    chunk.push(0).unwrap();
    chunk.publish();
    assert_eq!(receiver.read(9).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn rule_8_a_forgotten_chunk_never_repeats_an_item() {
    let ledger = Ledger::default();
    let (mut sender, mut receiver) = channel(8);
    sender
        .claim(2)
        .unwrap()
        .fill([ledger.item(), ledger.item()]);
    let mut read = receiver.read(2);
    drop(read.next());
    std::mem::forget(read);
    assert!(receiver.try_recv().is_err());
    std::mem::forget(sender.claim(1).unwrap());
    sender.send(ledger.item()).unwrap();
    assert!(receiver.try_recv().is_err());
    drop((sender, receiver));
    assert_eq!(ledger.alive(), 2);
}

#[test]
#[should_panic(expected = "never fits into 4")]
fn rule_2_a_claim_of_more_than_can_be_counted_is_refused_too() {
    let (mut sender, _receiver) = channel::<u32>(4);
    sender.send(1).unwrap();
    drop(sender.claim(usize::MAX));
}
