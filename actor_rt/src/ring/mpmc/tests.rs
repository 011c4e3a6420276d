//! The rules of [`super`], one test each.
use super::super::test_items::{Aligned, Ledger, panics, then_panic};
use super::super::{Block, BusySpin, Yield};
use super::*;
use crate::ring::{RecvError, TryRecvError, TrySendError};

#[test]
fn rule_1_every_item_is_received_once_and_in_its_senders_order() {
    const COUNT: u64 = if cfg!(miri) { 30 } else { 1000 };
    fn crosses<W: Wait>() {
        let (sender, receiver) = channel_from::<(usize, u64), W>(8, u64::MAX - 50);
        let writers: Vec<_> = (0..2)
            .map(|me| {
                let mut sender = sender.clone();
                std::thread::spawn(move || {
                    for n in 0..COUNT {
                        sender.send((me, n)).unwrap();
                    }
                })
            })
            .collect();
        drop(sender);
        let readers: Vec<_> = (0..2)
            .map(|me| {
                let mut receiver = receiver.clone();
                std::thread::spawn(move || {
                    let mut seen = Vec::new();
                    if me == 0 {
                        while let Ok(item) = receiver.recv() {
                            seen.push(item);
                        }
                    } else {
                        while let Ok(chunk) = receiver.read_wait(3) {
                            seen.extend(chunk);
                        }
                    }
                    seen
                })
            })
            .collect();
        drop(receiver);
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        let mut all = Vec::new();
        for reader in readers {
            let seen = reader.join().unwrap();
            for who in 0..2 {
                assert!(seen.iter().filter(|item| item.0 == who).is_sorted());
            }
            all.extend(seen);
        }
        all.sort_unstable();
        let expected: Vec<_> = (0..2)
            .flat_map(|who| (0..COUNT).map(move |n| (who, n)))
            .collect();
        assert_eq!(all, expected);
    }
    crosses::<BusySpin>();
    crosses::<SpinThenYield>();
    crosses::<Yield>();
    crosses::<Block>();
}

#[test]
fn rule_2_the_ring_holds_its_capacity() {
    let (mut sender, mut receiver) = channel_from::<u32, Yield>(4, u64::MAX - 1);
    assert_eq!((sender.capacity(), receiver.capacity()), (4, 4));
    sender.claim(3).unwrap().fill(0..3);
    assert_eq!(sender.claim(2).err(), Some(ClaimError::Full));
    sender.try_send(3).unwrap();
    assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
    let mut chunk = receiver.read(2);
    assert_eq!(chunk.next(), Some(0));
    assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
    drop(chunk);
    assert_eq!(sender.claim_up_to(9).unwrap().remaining(), 2);
}

#[test]
fn rule_2_one_slot_is_enough() {
    let (mut sender, mut receiver) = channel_from::<u32, Yield>(1, u64::MAX - 1);
    for n in 0..5 {
        assert_eq!(sender.try_send(n), Ok(()));
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        assert_eq!(receiver.try_recv(), Ok(n));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    }
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
    sender.clone().send(1).unwrap();
    sender.send(2).unwrap();
    drop(sender);
    assert_eq!(receiver.clone().try_recv(), Ok(1));
    assert_eq!(receiver.recv(), Ok(2));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(receiver.recv(), Err(RecvError));
    assert!(receiver.read_wait(1).is_err());
}

#[test]
fn rule_4_the_last_receiver_takes_the_items_along() {
    let ledger = Ledger::default();
    let (mut sender, receiver) = channel(4);
    let other = receiver.clone();
    sender
        .claim(2)
        .unwrap()
        .fill([ledger.item(), ledger.item()]);
    drop(receiver);
    assert_eq!((ledger.alive(), sender.is_disconnected()), (2, false));
    drop(other);
    assert_eq!((ledger.alive(), sender.is_disconnected()), (0, true));
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
    let (mut sender, mut receiver) = channel::<u8>(4);
    let mut chunk = sender.claim(4).unwrap();
    chunk.uninit().0[0].write(b'a');
    // SAFETY: one was written.
    unsafe { chunk.assume_written(1) };
    chunk.push(b'b').unwrap();
    assert_eq!(chunk.remaining(), 2);
    chunk.publish();
    assert_eq!(receiver.read(9).as_slices().0, b"ab");
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn rule_6_untaken_items_are_dropped_with_the_chunk() {
    let ledger = Ledger::default();
    let (mut sender, mut receiver) = channel(4);
    sender.claim(4).unwrap().fill((0..4).map(|_| ledger.item()));
    let mut chunk = receiver.read(3);
    assert_eq!((chunk.len(), chunk.next().unwrap().number), (3, 0));
    drop(chunk);
    assert_eq!(ledger.alive(), 1);
    assert_eq!(receiver.recv().unwrap().number, 3);
    ledger.check();
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
            drop(receiver.read(taken));
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
fn rule_7_slots_are_freed_when_dropping_a_chunk_panics() {
    let ledger = Ledger::default();
    let (mut sender, mut receiver) = channel(2);
    sender
        .claim(2)
        .unwrap()
        .fill([ledger.panicking_item(), ledger.item()]);
    panics(|| drop(receiver.read(2)));
    ledger.check();
    assert!(sender.claim(2).is_ok());
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
fn rule_8_stalled_claims_stop_others_without_spinning() {
    let (mut stalled, mut receiver) = channel::<u32>(4);
    let (mut sender, mut stalled_reader) = (stalled.clone(), receiver.clone());
    let mut chunk = stalled.claim(1).unwrap();
    sender.send(1).unwrap();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    chunk.push(0).unwrap();
    chunk.publish();

    let held = stalled_reader.read(1);
    assert_eq!(receiver.try_recv(), Ok(1));
    sender.claim(2).unwrap().fill([2, 3]);
    assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)));
    drop(held);
    assert_eq!(sender.try_send(4), Ok(()));
}

/// Counts calls instead of waking anybody.
#[derive(Default)]
struct Counts;
static CALLS: AtomicUsize = AtomicUsize::new(0);

impl Wait for Counts {
    fn wait_until(&self, mut ready: impl FnMut() -> bool) {
        while !ready() {}
    }
    fn wake(&self) {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn rule_5_tombstones_that_readers_pass_make_room_for_who_sleeps() {
    let (mut sender, mut receiver) = channel_with::<u32, Counts>(4);
    drop(sender.claim(4).unwrap());
    let before = CALLS.load(Ordering::Relaxed);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert!(CALLS.load(Ordering::Relaxed) > before, "there is room now");
}
