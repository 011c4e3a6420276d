//! Models of [`super`] for the checker, on rings as small as their rules allow.
use super::*;
use crate::ring::Block;
use crate::ring::RecvError;
use crate::sync::thread;

#[test]
fn items_cross_in_order_and_the_end_is_seen() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel_from::<u32, SpinThenYield>(2, u64::MAX);
        let writer = thread::spawn(move || {
            for item in 0..3 {
                producer.send(item).unwrap();
            }
        });
        for item in 0..3 {
            assert_eq!(consumer.recv(), Ok(item));
        }
        assert_eq!(consumer.recv(), Err(RecvError));
        writer.join().unwrap();
    });
}

#[test]
fn chunks_cross_whole() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel_from::<Box<u32>, SpinThenYield>(2, u64::MAX);
        let writer = thread::spawn(move || {
            producer.claim(2).unwrap().fill([Box::new(0), Box::new(1)]);
            producer.claim_up_to(1).unwrap().fill([Box::new(2)]);
        });
        let mut seen = Vec::new();
        while let Ok(chunk) = consumer.read_wait(2) {
            seen.extend(chunk.map(|item| *item));
        }
        assert_eq!(seen, [0, 1, 2]);
        writer.join().unwrap();
    });
}

#[test]
fn blocked_ends_are_woken() {
    loom::model(|| {
        let (mut producer, mut consumer) = channel_from::<u32, Block>(1, 0);
        let writer = thread::spawn(move || {
            producer.send(1).unwrap();
            producer.send(2).unwrap();
        });
        assert_eq!(consumer.recv(), Ok(1));
        assert_eq!(consumer.recv(), Ok(2));
        writer.join().unwrap();
    });
}

#[test]
fn either_end_may_go_first() {
    loom::model(|| {
        let (mut producer, consumer) = channel_from::<Arc<u32>, SpinThenYield>(2, 0);
        let item = Arc::new(1);
        let sent = Arc::clone(&item);
        let writer = thread::spawn(move || drop(producer.try_send(sent)));
        drop(consumer);
        writer.join().unwrap();
        assert_eq!(Arc::strong_count(&item), 1);
    });
}
