//! One face for every queue, and the one driver that moves items through it.
//!
//! Owns: how threads are placed, started together and timed.
//! Does not know: which queue it drives; each is used as its own documentation recommends, behind [`Tx`] and [`Rx`].
#![forbid(unsafe_code)]

pub mod ours;
#[cfg(feature = "peers")]
pub mod peers;

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::measure::{Case, Sample};
use crate::options::Options;
use crate::payload::Payload;
use crate::threads::Threads;
use crate::{pin, with_payload};

/// One run through a queue.
#[derive(Debug, Clone)]
pub struct Load {
    /// Items in all.
    pub items: u64,
    /// Slots of the queue.
    pub capacity: usize,
    /// Items per batch in the batched variant.
    pub batch: usize,
    /// Bytes per item.
    pub payload: usize,
    /// Writing threads.
    pub producers: usize,
    /// Reading threads.
    pub consumers: usize,
    /// Cores to pin to.
    pub cores: Vec<usize>,
}

impl Load {
    /// A load with the sizes of the options.
    pub fn new(options: &Options, full_items: u64, producers: usize, consumers: usize) -> Self {
        Self {
            // A multiple, so that every producer sends as many and in whole batches.
            items: options
                .items(full_items)
                .next_multiple_of((producers * options.batch) as u64),
            capacity: options.capacity,
            batch: options.batch.min(options.capacity),
            payload: options.payload,
            producers,
            consumers,
            cores: options.cores.clone(),
        }
    }

    /// The threads that a queue of this kind is driven by.
    pub fn threads<Q: Queue>(&self) -> Threads {
        let readers = (0..self.consumers).map(|index| pin::consumer(&self.cores, index));
        let writers = (0..self.producers).map(|index| pin::producer(&self.cores, index));
        let (writers_spin, readers_spin) = Q::spins();
        Threads::polling(readers, readers_spin).and(Threads::polling(writers, writers_spin))
    }
}

/// A writing end.
pub trait Tx<P: Payload>: Send {
    /// Sends, waiting for room.
    fn send(&mut self, item: P);

    /// Sends the items `from..from + count`, at once if the queue can.
    #[inline]
    fn send_batch(&mut self, from: u64, count: usize) {
        (from..from + count as u64).for_each(|seq| self.send(P::new(seq)));
    }
}

/// A reading end.
pub trait Rx<P: Payload>: Send {
    /// Receives one item, waiting for it; `None` when everything was received.
    fn recv(&mut self) -> Option<P>;

    /// Receives up to `max` items, waiting for the first; `false` when everything was received.
    #[inline]
    fn recv_batch(&mut self, _max: usize, each: &mut impl FnMut(&P)) -> bool {
        self.recv().map(|item| each(&item)).is_some()
    }
}

/// A kind of queue.
pub trait Queue: 'static {
    /// As it is printed.
    const NAME: &'static str;
    /// Whether reading item by item is against its nature: then it is read in batches in every variant.
    const READS_IN_BATCHES: bool = false;
    /// Its writing end.
    type Tx<P: Payload>: Tx<P>;
    /// Its reading end.
    type Rx<P: Payload>: Rx<P>;
    /// Whether a writer that waits for room polls without ever giving way, and whether a reader does.
    fn spins() -> (bool, bool) {
        (false, false)
    }
    /// A new queue with as many ends as the load asks for.
    fn open<P: Payload>(load: &Load) -> Ends<Self::Tx<P>, Self::Rx<P>>;
}

/// All writing and all reading ends of a queue.
pub type Ends<T, R> = (Vec<T>, Vec<R>);

/// The case of sending and receiving item by item.
pub fn one_by_one<Q: Queue>(load: &Load, variant: impl Into<String>) -> Case {
    case::<Q, false>(load, variant)
}

/// The case of sending and receiving in batches.
pub fn batched<Q: Queue>(load: &Load, variant: impl Into<String>) -> Case {
    case::<Q, true>(load, variant)
}

fn case<Q: Queue, const BATCHED: bool>(load: &Load, variant: impl Into<String>) -> Case {
    let load = load.clone();
    let (threads, total) = (load.threads::<Q>(), load.clone());
    let run = move || with_payload!(load.payload, P => exchange::<Q, P, BATCHED>(&load));
    Case::new(Q::NAME, variant, threads, run)
        .expecting(move || with_payload!(total.payload, P => P::total(total.items)))
}

fn exchange<Q: Queue, P: Payload, const BATCHED: bool>(load: &Load) -> Sample {
    let (writers, readers) = Q::open::<P>(load);
    assert_eq!(
        (writers.len(), readers.len()),
        (load.producers, load.consumers),
        "{}",
        Q::NAME
    );
    let start = Barrier::new(load.producers + load.consumers);
    let each = load.items / load.producers as u64;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, reader) in readers.into_iter().enumerate() {
            let start = &start;
            threads.push(scope.spawn(move || {
                pin::to(pin::consumer(&load.cores, index));
                start.wait();
                let began = Instant::now();
                let sum = if BATCHED || Q::READS_IN_BATCHES {
                    read_batches(reader, load.batch)
                } else {
                    read_items(reader)
                };
                (began, sum, Instant::now())
            }));
        }
        for (index, writer) in writers.into_iter().enumerate() {
            let start = &start;
            threads.push(scope.spawn(move || {
                pin::to(pin::producer(&load.cores, index));
                start.wait();
                let began = Instant::now();
                if BATCHED {
                    write_batches(writer, each * index as u64, each, load.batch);
                } else {
                    write_items(writer, each * index as u64, each);
                }
                (began, 0, Instant::now())
            }));
        }
        // From the first thread's start to the last one's end: a thread that takes the time for the others may itself
        // be away while they run.
        let runs: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().expect("every end finishes"))
            .collect();
        let began = runs
            .iter()
            .map(|run| run.0)
            .min()
            .expect("there are threads");
        let ended = runs
            .iter()
            .map(|run| run.2)
            .max()
            .expect("there are threads");
        let sum = runs.iter().fold(0_u64, |sum, run| sum.wrapping_add(run.1));
        Sample::rate(each * load.producers as u64, ended - began, sum)
    })
}

/// Sends `count` items from the number `from` on, in batches, then hangs up.
#[inline(never)]
fn write_batches<P: Payload>(mut writer: impl Tx<P>, from: u64, count: u64, batch: usize) {
    let mut seq = from;
    while seq < from + count {
        let size = (batch as u64).min(from + count - seq);
        writer.send_batch(seq, size as usize);
        seq += size;
    }
}

/// Sends `count` items from the number `from` on, one by one, then hangs up.
#[inline(never)]
fn write_items<P: Payload>(mut writer: impl Tx<P>, from: u64, count: u64) {
    (from..from + count).for_each(|seq| writer.send(P::new(seq)));
}

/// Receives batches until the writers have hung up, and sums every word.
#[inline(never)]
fn read_batches<P: Payload>(mut reader: impl Rx<P>, batch: usize) -> u64 {
    let mut sum = 0_u64;
    while reader.recv_batch(batch, &mut |item| sum = sum.wrapping_add(item.sum())) {}
    sum
}

/// Receives items until the writers have hung up, and sums every word.
#[inline(never)]
fn read_items<P: Payload>(mut reader: impl Rx<P>) -> u64 {
    let mut sum = 0_u64;
    while let Some(item) = reader.recv() {
        sum = sum.wrapping_add(item.sum());
    }
    sum
}
