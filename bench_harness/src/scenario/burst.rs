//! Bursts with pauses between them: what a ring does when it has been empty for a while.
#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use actor_rt::ring::{Wait, spsc};

use super::{Family, Scenario, with_wait};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::payload::Payload;
use crate::queue::{Load, Queue, Rx as _, Tx as _, ours};
use crate::{pin, with_payload};

/// `burst`.
pub const SCENARIO: Scenario = Scenario {
    name: "burst",
    family: Family::Rings,
    about: "bursts of a quarter of the ring with 100 µs of silence between; the pauses are not counted",
    unit: Unit::MillionPerSecond("items"),
    cases,
};

/// Silence between bursts, spent on the clock rather than asleep so that it is as long as it says.
const PAUSE: Duration = Duration::from_micros(100);
/// Bursts that make a hundred laps of the ring.
const LEAST: u64 = 400;

fn cases(options: &Options) -> Vec<Case> {
    let load = Load::new(options, 0, 1, 1);
    let bursts = options.count(2000, LEAST).max(LEAST);
    with_wait!(options, W => {
        #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
        let mut cases = vec![case::<ours::Spsc<W>, W>(&load, bursts)];
        #[cfg(feature = "peers")]
        if options.peers {
            use crate::queue::peers::{Crossbeam, CrossfireSpsc, Flume, Kanal, Rtrb};
            cases.push(case::<Rtrb, W>(&load, bursts));
            cases.push(case::<Crossbeam, W>(&load, bursts));
            cases.push(case::<Kanal, W>(&load, bursts));
            cases.push(case::<CrossfireSpsc, W>(&load, bursts));
            cases.push(case::<Flume, W>(&load, bursts));
        }
        cases
    })
}

fn case<Q: Queue, W: Wait>(load: &Load, bursts: u64) -> Case {
    let threads = load.threads::<Q>();
    let (load, payload, items) = (load.clone(), load.payload, bursts * size(load));
    let run = move || with_payload!(load.payload, P => burst::<Q, P, W>(&load, bursts));
    Case::new(Q::NAME, "one by one", threads, run)
        .expecting(move || with_payload!(payload, P => P::total(items)))
}

/// Items of a burst.
fn size(load: &Load) -> u64 {
    (load.capacity as u64 / 4).max(1)
}

fn burst<Q: Queue, P: Payload, W: Wait>(load: &Load, bursts: u64) -> Sample {
    let (mut writers, mut readers) = Q::open::<P>(load);
    let mut writer = writers.pop().expect("a writer");
    let mut reader = readers.pop().expect("a reader");
    // The reader's word that a burst has arrived, the same for everybody.
    let (mut ack, mut acked) = spsc::channel_with::<(), W>(1);
    let size = size(load);
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            pin::to(pin::consumer(&load.cores, 0));
            let mut sum = 0_u64;
            for _ in 0..bursts {
                for _ in 0..size {
                    sum = sum.wrapping_add(reader.recv().expect("the writer stays").sum());
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
                    writer.send(P::new(number * size + seq));
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
