//! Models of [`super`] for the checker, on rings as small as their rules allow.
use super::*;
use crate::sync::thread;

#[test]
fn a_second_stage_sees_what_the_first_has_finished() {
    loom::model(|| {
        let mut builder = Builder::starting_at(1, u64::MAX);
        let first = builder.consumer(&[]);
        builder.consumer(&[first]);
        let (mut producer, consumers) = builder.build_with::<Box<u32>, SpinThenYield>();
        let Ok([mut first, mut second]) = <[_; 2]>::try_from(consumers) else {
            unreachable!()
        };
        let reader =
            thread::spawn(move || assert_eq!(first.read_wait(1).unwrap().iter().count(), 1));
        producer.send(Box::new(1)).unwrap();
        assert_eq!(**second.read_wait(1).unwrap().iter().next().unwrap(), 1);
        reader.join().unwrap();
    });
}

#[test]
fn a_slot_is_overwritten_only_after_everybody_read_it() {
    loom::model(|| {
        let mut builder = Builder::starting_at(1, u64::MAX);
        builder.consumer(&[]);
        let (mut producer, consumers) = builder.build_with::<Box<u32>, SpinThenYield>();
        let Ok([mut consumer]) = <[_; 1]>::try_from(consumers) else {
            unreachable!()
        };
        let reader = thread::spawn(move || {
            let mut seen = Vec::new();
            while let Ok(chunk) = consumer.read_wait(1) {
                seen.extend(chunk.iter().map(|item| **item));
            }
            assert_eq!(seen, [1, 2]);
        });
        producer.send(Box::new(1)).unwrap();
        producer.send(Box::new(2)).unwrap();
        drop(producer);
        reader.join().unwrap();
    });
}

#[test]
fn a_consumer_that_leaves_lets_the_producer_on() {
    loom::model(|| {
        let mut builder = Builder::starting_at(1, u64::MAX);
        builder.consumer(&[]);
        builder.consumer(&[]);
        let (mut producer, consumers) = builder.build_with::<Box<u32>, SpinThenYield>();
        let Ok([mut stays, leaves]) = <[_; 2]>::try_from(consumers) else {
            unreachable!()
        };
        producer.send(Box::new(1)).unwrap();
        let leaver = thread::spawn(move || drop(leaves));
        assert_eq!(stays.read_wait(1).unwrap().len(), 1);
        producer.send(Box::new(2)).unwrap();
        leaver.join().unwrap();
        drop(producer);
        assert_eq!(stays.read_wait(1).unwrap().len(), 1);
    });
}
