//! Models of [`super`] for the checker, on rings as small as their rules allow.
use super::*;
use crate::ring::Block;
use crate::ring::RecvError;
use crate::sync::thread;

#[test]
fn two_senders_and_the_end() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<Box<u32>, SpinThenYield>(2, u64::MAX);
        let mut other = sender.clone();
        let writer = thread::spawn(move || other.try_send(Box::new(1)).is_ok());
        let first = sender.try_send(Box::new(2)).is_ok();
        drop(sender);
        let mut sum = 0;
        while let Ok(item) = receiver.recv() {
            sum += *item;
        }
        let second = writer.join().unwrap();
        assert_eq!(sum, u32::from(second) + 2 * u32::from(first));
        assert_eq!(sum, 3);
    });
}

#[test]
fn a_run_is_seen_whole() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<u32, SpinThenYield>(2, u64::MAX);
        let writer = thread::spawn(move || {
            sender.claim(2).unwrap().fill([1, 2]);
            sender.claim_up_to(2).unwrap().fill([3]);
        });
        let mut seen = Vec::new();
        while let Ok(mut chunk) = receiver.read_wait(2) {
            chunk.drain(|item| seen.push(item));
        }
        assert_eq!(seen, [1, 2, 3]);
        writer.join().unwrap();
    });
}

#[test]
fn tombstones_are_skipped_between_two_senders() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<u32, SpinThenYield>(4, u64::MAX);
        let mut other = sender.clone();
        let writer = thread::spawn(move || other.claim(2).unwrap().fill([1]));
        sender.send(2).unwrap();
        drop(sender);
        let mut sum = 0;
        while let Ok(item) = receiver.recv() {
            sum += item;
        }
        assert_eq!(sum, 3);
        writer.join().unwrap();
    });
}

#[test]
fn a_blocked_receiver_is_woken() {
    loom::model(|| {
        let (mut sender, mut receiver) = channel_from::<u32, Block>(1, 0);
        let writer = thread::spawn(move || sender.send(1).unwrap());
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(RecvError));
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
