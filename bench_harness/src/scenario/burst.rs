//! Bursts with pauses between them: what a ring does when it has been empty for a while.
#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use actor_rt::ring::{Wait, spsc};

use super::{Scenario, with_wait};
use crate::measure::{Case, OURS, Sample, Unit};
use crate::options::Options;
use crate::payload::Payload;
use crate::queue::Load;
use crate::{pin, with_payload};

/// `burst`.
pub const SCENARIO: Scenario = Scenario {
    name: "burst",
    about: "bursts of a quarter of the ring with 100 µs of silence between; the pauses are not counted",
    unit: Unit::MillionPerSecond("items"),
    cases,
};

/// Silence between bursts, spent on the clock rather than asleep so that it is as long as it says.
const PAUSE: Duration = Duration::from_micros(100);

fn cases(options: &Options) -> Vec<Case> {
    let load = Load::new(options, 0, 1, 1);
    let bursts = options.count(2000, 50);
    let run: fn(&Load, u64) -> Sample = with_wait!(options, W => |load, bursts| with_payload!(load.payload, P => burst::<P, W>(load, bursts)));
    vec![Case {
        implementation: OURS,
        variant: "spsc".into(),
        spinning: 2,
        run: Box::new(move || run(&load, bursts)),
    }]
}

fn burst<P: Payload, W: Wait>(load: &Load, bursts: u64) -> Sample {
    let (mut producer, mut consumer) = spsc::channel_with::<P, W>(load.capacity);
    let (mut ack, mut acked) = spsc::channel_with::<(), W>(1);
    let size = (load.capacity as u64 / 4).max(1);
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            pin::to(pin::consumer(&load.cores, 0));
            let mut sum = 0_u64;
            for _ in 0..bursts {
                for _ in 0..size {
                    sum = sum.wrapping_add(consumer.recv().expect("the writer stays").sum());
                }
                ack.send(()).expect("the writer stays");
            }
            sum
        });
        let writer = scope.spawn(move || {
            pin::to(pin::producer(&load.cores, 0));
            let mut busy = Duration::ZERO;
            for number in 0..bursts {
                let began = Instant::now();
                for seq in 0..size {
                    producer
                        .send(P::new(number * size + seq))
                        .expect("the reader stays");
                }
                acked.recv().expect("the reader stays");
                busy += began.elapsed();
                let silence = Instant::now();
                while silence.elapsed() < PAUSE {
                    thread::yield_now();
                }
            }
            busy
        });
        let busy = writer.join().expect("the writer ends");
        Sample::rate(bursts * size, busy, reader.join().expect("the reader ends"))
    })
}
