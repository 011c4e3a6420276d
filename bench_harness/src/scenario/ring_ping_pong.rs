//! Two threads that answer each other through two rings: the round trip of a crossing between cores.
#![forbid(unsafe_code)]

use std::thread;
use std::time::Instant;

use super::{Family, Scenario, with_wait};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::payload::Payload;
use crate::queue::{Ends, Load, Queue, Rx as _, Tx as _, ours};
use crate::{pin, with_payload};

/// `ring_ping_pong`.
pub const SCENARIO: Scenario = Scenario {
    name: "ring_ping_pong",
    family: Family::Rings,
    about: "two threads that answer each other through two rings",
    unit: Unit::MillionPerSecond("round trips"),
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let load = Load::new(options, 0, 1, 1);
    // One item is under way at a time, so a lap of the ring takes as many round trips as it has slots.
    let rounds = options
        .count(2_000_000, 0)
        .max(100 * options.capacity as u64);
    #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
    let mut cases = vec![with_wait!(options, W => case::<ours::Spsc<W>>(&load, rounds))];
    #[cfg(feature = "peers")]
    if options.peers {
        use crate::queue::peers::{Crossbeam, CrossfireSpsc, Flume, Kanal, Rtrb};
        cases.push(case::<Rtrb>(&load, rounds));
        cases.push(case::<Crossbeam>(&load, rounds));
        cases.push(case::<Kanal>(&load, rounds));
        cases.push(case::<CrossfireSpsc>(&load, rounds));
        cases.push(case::<Flume>(&load, rounds));
    }
    cases
}

fn case<Q: Queue>(load: &Load, rounds: u64) -> Case {
    let threads = load.threads::<Q>();
    let (load, payload) = (load.clone(), load.payload);
    let run = move || with_payload!(load.payload, P => play::<Q, P>(&load, rounds));
    Case::new(Q::NAME, "2 threads", threads, run)
        .expecting(move || with_payload!(payload, P => P::total(rounds)))
}

fn play<Q: Queue, P: Payload>(load: &Load, rounds: u64) -> Sample {
    let one = |(mut writers, mut readers): Ends<Q::Tx<P>, Q::Rx<P>>| {
        (
            writers.pop().expect("a writer"),
            readers.pop().expect("a reader"),
        )
    };
    let (mut there, mut arrived) = one(Q::open::<P>(load));
    let (mut back, mut returned) = one(Q::open::<P>(load));
    thread::scope(|scope| {
        scope.spawn(move || {
            pin::to(pin::consumer(&load.cores, 0));
            while let Some(item) = arrived.recv() {
                back.send(item);
            }
        });
        let player = scope.spawn(move || {
            pin::to(pin::producer(&load.cores, 0));
            let began = Instant::now();
            let mut sum = 0_u64;
            for seq in 0..rounds {
                there.send(P::new(seq));
                let item = returned.recv().expect("the other side stays");
                sum = sum.wrapping_add(item.sum());
            }
            (began.elapsed(), sum)
        });
        let (elapsed, sum) = player.join().expect("the player ends");
        Sample::rate(rounds, elapsed, sum)
    })
}
