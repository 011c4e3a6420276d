//! Models of [`super`] for the checker, on rings as small as their rules allow.
use super::*;
use crate::ring::Block;
use crate::sync::thread;

#[test]
fn two_senders_one_receiver_and_the_end() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<Box<u32>, SpinThenYield>(2, u64::MAX);
        let mut other = sender.clone();
        let writer = thread::spawn(move || other.try_send(Box::new(1)).unwrap());
        sender.try_send(Box::new(2)).unwrap();
        drop(sender);
        let mut sum = 0;
        while let Ok(item) = receiver.recv() {
            sum += *item;
        }
        assert_eq!(sum, 3);
        writer.join().unwrap();
    });
}

#[test]
fn two_receivers_share_a_batch() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<u32, SpinThenYield>(2, u64::MAX);
        sender.claim(2).unwrap().fill([1, 2]);
        let mut other = receiver.clone();
        let reader = thread::spawn(move || other.try_recv().unwrap_or(0));
        let mine = receiver.read(1).next().unwrap_or(0);
        let theirs = reader.join().unwrap();
        let rest = receiver.try_recv().unwrap_or(0);
        assert_eq!(mine + theirs + rest, 3);
    });
}

#[test]
fn a_slot_is_reused_only_after_it_was_read() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<Box<u32>, SpinThenYield>(1, u64::MAX);
        let writer = thread::spawn(move || {
            sender.send(Box::new(1)).unwrap();
            sender.send(Box::new(2)).unwrap();
        });
        assert_eq!(receiver.recv().map(|item| *item), Ok(1));
        assert_eq!(receiver.recv().map(|item| *item), Ok(2));
        assert!(receiver.recv().is_err());
        writer.join().unwrap();
    });
}

#[test]
fn a_blocked_receiver_is_woken() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<u32, Block>(1, 0);
        let writer = thread::spawn(move || sender.send(1).unwrap());
        assert_eq!(receiver.recv(), Ok(1));
        writer.join().unwrap();
    });
}

#[test]
fn a_send_that_meets_the_receivers_end_drops_its_item_once() {
    loom::model(|| {
        let (mut sender, receiver) = channel_from::<Arc<u32>, SpinThenYield>(2, 0);
        let item = Arc::new(1);
        let sent = Arc::clone(&item);
        let writer = thread::spawn(move || drop(sender.try_send(sent)));
        drop(receiver);
        writer.join().unwrap();
        assert_eq!(Arc::strong_count(&item), 1);
    });
}

#[test]
fn a_sender_asleep_behind_tombstones_is_woken_by_who_passes_them() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<u32, Block>(1, u64::MAX);
        drop(sender.claim(1).unwrap());
        let writer = thread::spawn(move || sender.send(7).unwrap());
        assert_eq!(receiver.recv(), Ok(7));
        writer.join().unwrap();
    });
}

#[test]
fn a_tombstone_is_passed_by_one_reader() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<u32, SpinThenYield>(2, u64::MAX);
        drop(sender.claim(1).unwrap());
        sender.try_send(3).unwrap();
        let mut other = receiver.clone();
        let reader = thread::spawn(move || other.try_recv().unwrap_or(0));
        let mine = receiver.try_recv().unwrap_or(0);
        let sum = mine + reader.join().unwrap() + receiver.try_recv().unwrap_or(0);
        assert_eq!(sum, 3, "received once");
        assert!(sender.claim(2).is_ok(), "both places are free again");
    });
}
