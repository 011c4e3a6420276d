//! Every reader sees every item: multicast (all at once), pipeline (one after the other), diamond (two, then one).
#![forbid(unsafe_code)]

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use actor_rt::ring::Wait;
use actor_rt::ring::broadcast::{Builder, Consumer, Producer};

use super::{Family, Scenario, with_wait};
use crate::measure::{Case, OURS, Sample, Unit};
use crate::options::Options;
use crate::payload::Payload;
use crate::queue::Load;
use crate::queue::ours::spins;
use crate::threads::Threads;
use crate::{pin, with_payload};

const ITEMS: u64 = 10_000_000;

/// Who comes after whom.
type Graph = &'static [&'static [usize]];

const THREE_AT_ONCE: Graph = &[&[], &[], &[]];
const ONE_BY_ONE: Graph = &[&[], &[0], &[1]];
const DIAMOND: Graph = &[&[], &[], &[0, 1]];

/// `multicast`.
pub const MULTICAST: Scenario = Scenario {
    name: "multicast",
    family: Family::Rings,
    about: "one writer to three readers that each see every item",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| cases(options, THREE_AT_ONCE),
};

/// `pipeline`.
pub const PIPELINE: Scenario = Scenario {
    name: "pipeline",
    family: Family::Rings,
    about: "one writer to three readers, each after the one before",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| cases(options, ONE_BY_ONE),
};

/// `diamond`.
pub const DIAMONDS: Scenario = Scenario {
    name: "diamond",
    family: Family::Rings,
    about: "one writer to two readers, and a third after both",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| cases(options, DIAMOND),
};

fn cases(options: &Options, graph: Graph) -> Vec<Case> {
    let load = Load::new(options, ITEMS, 1, graph.len());
    let batch = format!("batch of {}", load.batch);
    let mut cases = with_wait!(options, W => vec![
        ours::<W>(&load, graph, "one by one", 1),
        ours::<W>(&load, graph, &batch, load.batch),
    ]);
    #[cfg(feature = "peers")]
    if options.peers {
        cases.push(peer::disruptor(&load, graph, "one by one", 1));
        cases.push(peer::disruptor(&load, graph, &batch, load.batch));
    }
    cases.sort_by(|a, b| b.variant.cmp(&a.variant));
    cases
}

fn case(
    name: &'static str,
    load: &Load,
    variant: &str,
    spins: (bool, bool),
    run: impl Fn(&Load) -> Sample + 'static,
) -> Case {
    let (writer_spins, readers_spin) = spins;
    let readers = (0..load.consumers).map(|index| pin::consumer(&load.cores, index));
    let writer = [pin::producer(&load.cores, 0)];
    let threads =
        Threads::polling(readers, readers_spin).and(Threads::polling(writer, writer_spins));
    let (load, total) = (load.clone(), load.clone());
    Case::new(name, variant, threads, move || run(&load)).expecting(move || {
        let seen_by_one = with_payload!(total.payload, P => P::total(total.items));
        seen_by_one.wrapping_mul(total.consumers as u64)
    })
}

fn ours<W: Wait>(load: &Load, graph: Graph, variant: &str, batch: usize) -> Case {
    let spins = (spins::<W>(), spins::<W>());
    case(OURS, load, variant, spins, move |load| {
        with_payload!(load.payload, P => {
            let mut builder = Builder::new(load.capacity);
            let mut stages = Vec::new();
            for after in graph {
                let after: Vec<_> = after.iter().map(|&stage| stages[stage]).collect();
                stages.push(builder.consumer(&after));
            }
            let (producer, consumers) = builder.build_with::<P, W>();
            drive(
                load,
                move |load| write(producer, load, batch),
                consumers.into_iter().map(|consumer| move || read(consumer)).collect(),
            )
        })
    })
}

/// Runs a writer and readers on their cores, from the first start to the last end; the readers' sums are the checksum.
fn drive(
    load: &Load,
    writer: impl FnOnce(&Load) + Send,
    readers: Vec<impl FnOnce() -> u64 + Send>,
) -> Sample {
    let start = Barrier::new(1 + readers.len());
    thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = readers
            .into_iter()
            .enumerate()
            .map(|(index, reader)| {
                scope.spawn(move || {
                    pin::to(pin::consumer(&load.cores, index));
                    start.wait();
                    (reader(), Instant::now())
                })
            })
            .collect();
        let writer = scope.spawn(move || {
            pin::to(pin::producer(&load.cores, 0));
            start.wait();
            let began = Instant::now();
            writer(load);
            began
        });
        let began = writer.join().expect("the writer ends");
        let ends: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("a reader ends"))
            .collect();
        let ended = ends
            .iter()
            .map(|end| end.1)
            .max()
            .expect("there are readers");
        Sample::rate(
            load.items,
            ended - began,
            ends.iter().fold(0, |sum, end| sum.wrapping_add(end.0)),
        )
    })
}

#[inline(never)]
fn write<P: Payload, W: Wait>(mut producer: Producer<P, W>, load: &Load, batch: usize) {
    let mut next = 0;
    while next < load.items {
        let want = (batch as u64).min(load.items - next) as usize;
        let mut chunk = producer.claim_up_to(want).expect("the readers stay");
        let end = next + chunk.remaining() as u64;
        chunk.fill((next..end).map(P::new));
        next = end;
    }
}

#[inline(never)]
fn read<P: Payload, W: Wait>(mut consumer: Consumer<P, W>) -> u64 {
    let mut sum = 0_u64;
    while let Ok(chunk) = consumer.read_wait(256) {
        sum = chunk
            .iter()
            .fold(sum, |sum, item| sum.wrapping_add(item.sum()));
    }
    sum
}

#[cfg(feature = "peers")]
mod peer {
    use actor_rt::ring::{SpinThenYield, Wait as _};
    use disruptor::{BusySpin, Polling, Producer, build_single_producer};

    use super::{
        Case, DIAMOND, Graph, Load, ONE_BY_ONE, Payload, Sample, case, drive, with_payload,
    };

    type Reader = Box<dyn FnOnce() -> u64 + Send>;

    /// `disruptor` with event pollers: its managed threads spin without ever yielding, which is right with a core for
    /// each and stands still with fewer.
    pub(super) fn disruptor(load: &Load, graph: Graph, variant: &str, batch: usize) -> Case {
        case(
            "disruptor",
            load,
            variant,
            // Its producer waits for room in an empty loop.
            (true, false),
            move |load| with_payload!(load.payload, P => run::<P>(load, graph, batch)),
        )
    }

    /// A poller has another type behind every barrier.
    macro_rules! reader {
        ($poller:ident) => {{
            let mut poller = $poller;
            Box::new(move || {
                let mut sum = 0_u64;
                let mut over = false;
                while !over {
                    SpinThenYield.wait_until(|| match poller.poll() {
                        Ok(mut events) => {
                            sum = (&mut events)
                                .fold(sum, |sum, event: &P| sum.wrapping_add(event.sum()));
                            true
                        }
                        Err(Polling::NoEvents) => false,
                        Err(Polling::Shutdown) => {
                            over = true;
                            true
                        }
                    });
                }
                sum
            }) as Reader
        }};
    }

    fn run<P: Payload>(load: &Load, graph: Graph, batch: usize) -> Sample {
        let first = build_single_producer(load.capacity, P::default, BusySpin);
        let (a, builder) = first.new_event_poller();
        // Each graph is a type of its own in this library.
        if std::ptr::eq(graph, ONE_BY_ONE) {
            let (b, builder) = builder.and_then().new_event_poller();
            let (c, builder) = builder.and_then().new_event_poller();
            let producer = builder.build();
            drive(
                load,
                move |load| publish(producer, load, batch),
                vec![reader!(a), reader!(b), reader!(c)],
            )
        } else if std::ptr::eq(graph, DIAMOND) {
            let (b, builder) = builder.new_event_poller();
            let (c, builder) = builder.and_then().new_event_poller();
            let producer = builder.build();
            drive(
                load,
                move |load| publish(producer, load, batch),
                vec![reader!(a), reader!(b), reader!(c)],
            )
        } else {
            let (b, builder) = builder.new_event_poller();
            let (c, builder) = builder.new_event_poller();
            let producer = builder.build();
            drive(
                load,
                move |load| publish(producer, load, batch),
                vec![reader!(a), reader!(b), reader!(c)],
            )
        }
    }

    fn publish<P: Payload>(mut producer: impl Producer<P>, load: &Load, batch: usize) {
        let mut next = 0;
        while next < load.items {
            let want = (batch as u64).min(load.items - next);
            if batch == 1 {
                producer.publish(|slot| *slot = P::new(next));
            } else {
                producer.batch_publish(want as usize, |slots| {
                    slots
                        .zip(next..)
                        .for_each(|(slot, seq)| *slot = P::new(seq));
                });
            }
            next += want;
        }
    }
}
