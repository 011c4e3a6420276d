//! Through the rings.
#![forbid(unsafe_code)]

use std::thread;
use std::time::Instant;

use actor_rt::ring::{Wait, spsc};

use super::{Cores, Latency, Way, due, histogram, record, warm_up};
use crate::pin;

/// A question and its answer; whoever waits for a late answer asks the next question late, which counts.
pub(super) fn round_trip<W: Wait>(path: &str, cores: &Cores, count: u64, rate: u64) -> Latency {
    let (mut there, mut arrived) = spsc::channel_with::<u64, W>(64);
    let (mut back, mut returned) = spsc::channel_with::<u64, W>(64);
    let mut delays = histogram();
    thread::scope(|scope| {
        scope.spawn(move || {
            pin::to(cores.far);
            while let Ok(item) = arrived.recv() {
                if back.send(item).is_err() {
                    break;
                }
            }
        });
        let delays = &mut delays;
        scope.spawn(move || {
            pin::to(cores.near);
            let began = Instant::now();
            for number in 0..count + warm_up(count) {
                let due = due(began, number, rate, cores.shared());
                there.send(number).expect("the other side waits");
                let answer = returned.recv().expect("the other side answers");
                assert_eq!(answer, number);
                if number >= warm_up(count) {
                    record(delays, due.elapsed());
                }
            }
        });
    });
    Latency::new(path, Way::RoundTrip, cores, rate, &delays)
}

/// Each message carries when it was due.
pub(super) fn one_way<W: Wait>(path: &str, cores: &Cores, count: u64, rate: u64) -> Latency {
    let (mut producer, mut consumer) = spsc::channel_with::<(u64, Instant), W>(1024);
    let mut delays = histogram();
    thread::scope(|scope| {
        let delays = &mut delays;
        scope.spawn(move || {
            pin::to(cores.far);
            while let Ok((number, due)) = consumer.recv() {
                if number >= warm_up(count) {
                    record(delays, due.elapsed());
                }
            }
        });
        scope.spawn(move || {
            pin::to(cores.near);
            let began = Instant::now();
            for number in 0..count + warm_up(count) {
                let due = due(began, number, rate, cores.shared());
                producer.send((number, due)).expect("the reader stays");
            }
        });
    });
    Latency::new(path, Way::OneWay, cores, rate, &delays)
}
