//! The queues of other crates, each used as its own documentation recommends.
//!
//! Queues that only offer `try_…` calls (rtrb, crossbeam's `ArrayQueue`, the disruptor's poller) wait by the same
//! strategy as ours by default: spin for a moment, then yield.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actor_rt::ring::{SpinThenYield, Wait as _};

use super::{Load, Queue, Rx, Tx};
use crate::payload::Payload;

fn wait_until(ready: impl FnMut() -> bool) {
    SpinThenYield.wait_until(ready);
}

/// `rtrb`: push and pop, and its chunks for batches.
pub struct Rtrb;

impl<P: Payload> Tx<P> for rtrb::Producer<P> {
    #[inline]
    fn send(&mut self, mut item: P) {
        while let Err(rtrb::PushError::Full(back)) = self.push(item) {
            item = back;
            wait_until(|| !self.is_full());
        }
    }

    #[inline]
    fn send_batch(&mut self, mut from: u64, mut count: usize) {
        while count > 0 {
            let free = match self.cached_slots() {
                cached if cached >= count => cached,
                _ => self.slots(),
            };
            if free == 0 {
                wait_until(|| !self.is_full());
                continue;
            }
            let size = free.min(count);
            let chunk = self
                .write_chunk_uninit(size)
                .expect("as many slots are free");
            chunk.fill_from_iter((from..from + size as u64).map(P::new));
            from += size as u64;
            count -= size;
        }
    }
}

impl<P: Payload> Rx<P> for rtrb::Consumer<P> {
    #[inline]
    fn recv(&mut self) -> Option<P> {
        loop {
            if let Ok(item) = self.pop() {
                return Some(item);
            }
            if self.is_abandoned() && self.is_empty() {
                return None;
            }
            wait_until(|| !self.is_empty() || self.is_abandoned());
        }
    }

    #[inline]
    fn recv_batch(&mut self, max: usize, each: &mut impl FnMut(&P)) -> bool {
        loop {
            let ready = match self.cached_slots() {
                cached if cached >= max => cached,
                _ => self.slots(),
            };
            if ready > 0 {
                let chunk = self
                    .read_chunk(ready.min(max))
                    .expect("as many items are there");
                chunk.into_iter().for_each(|item| each(&item));
                return true;
            }
            if self.is_abandoned() && self.is_empty() {
                return false;
            }
            wait_until(|| !self.is_empty() || self.is_abandoned());
        }
    }
}

impl Queue for Rtrb {
    const NAME: &'static str = "rtrb";
    type Tx<P: Payload> = rtrb::Producer<P>;
    type Rx<P: Payload> = rtrb::Consumer<P>;

    fn open<P: Payload>(load: &Load) -> (Vec<Self::Tx<P>>, Vec<Self::Rx<P>>) {
        let (writer, reader) = rtrb::RingBuffer::new(load.capacity);
        (vec![writer], vec![reader])
    }
}

/// Channels with blocking `send` and `recv` on shared references.
macro_rules! channel {
    ($Queue:ident, $name:literal, $Tx:ty, $Rx:ty, $send:path, $open:expr, $ends:expr) => {
        #[doc = concat!("`", $name, "`: blocking send and receive on a bounded channel.")]
        pub struct $Queue;

        impl<P: Payload> Tx<P> for $Tx {
            #[inline]
            fn send(&mut self, item: P) {
                assert!($send(self, item).is_ok(), "the reader left early");
            }
        }

        impl Queue for $Queue {
            const NAME: &'static str = $name;
            type Tx<P: Payload> = $Tx;
            type Rx<P: Payload> = $Rx;

            fn open<P: Payload>(load: &Load) -> (Vec<Self::Tx<P>>, Vec<Self::Rx<P>>) {
                let (writer, reader) = $open(load.capacity);
                $ends(writer, reader, load)
            }
        }
    };
}

/// Receivers that hand over one item at a time.
macro_rules! receiver {
    ($Rx:ty, $recv:path) => {
        impl<P: Payload> Rx<P> for $Rx {
            #[inline]
            fn recv(&mut self) -> Option<P> {
                $recv(self).ok()
            }
        }
    };
}

receiver!(
    crossbeam_channel::Receiver<P>,
    crossbeam_channel::Receiver::recv
);
receiver!(
    crossfire::MRx<crossfire::mpmc::Array<P>>,
    crossfire::BlockingRxTrait::recv
);
receiver!(
    crossfire::Rx<crossfire::mpsc::Array<P>>,
    crossfire::BlockingRxTrait::recv
);
receiver!(
    crossfire::Rx<crossfire::spsc::Array<P>>,
    crossfire::BlockingRxTrait::recv
);

/// A receiver that can hand over all that waits, and where it puts it.
pub struct Draining<R, P> {
    receiver: R,
    waited: Vec<P>,
}

impl<P: Payload> Rx<P> for Draining<kanal::Receiver<P>, P> {
    #[inline]
    fn recv(&mut self) -> Option<P> {
        self.receiver.recv().ok()
    }

    // The loop of the documentation of `drain_into`: `recv` waits when there is nothing.
    #[inline]
    fn recv_batch(&mut self, _max: usize, each: &mut impl FnMut(&P)) -> bool {
        self.waited.clear();
        match self.receiver.drain_into(&mut self.waited) {
            Ok(0) => self.receiver.recv().map(|item| each(&item)).is_ok(),
            Ok(_) => {
                self.waited.iter().for_each(each);
                true
            }
            Err(_) => false,
        }
    }
}

impl<P: Payload> Rx<P> for Draining<flume::Receiver<P>, P> {
    #[inline]
    fn recv(&mut self) -> Option<P> {
        self.receiver.recv().ok()
    }

    #[inline]
    fn recv_batch(&mut self, _max: usize, each: &mut impl FnMut(&P)) -> bool {
        let Ok(first) = self.receiver.recv() else {
            return false;
        };
        each(&first);
        self.receiver.drain().for_each(|item| each(&item));
        true
    }
}

fn draining<T: Clone, R: Clone, P>(
    writer: T,
    receiver: R,
    load: &Load,
) -> (Vec<T>, Vec<Draining<R, P>>) {
    let reader = |_| Draining {
        receiver: receiver.clone(),
        waited: Vec::with_capacity(load.capacity),
    };
    let readers = (0..load.consumers).map(reader).collect();
    (vec![writer; load.producers], readers)
}

fn many<T: Clone, R: Clone>(writer: T, reader: R, load: &Load) -> (Vec<T>, Vec<R>) {
    (vec![writer; load.producers], vec![reader; load.consumers])
}

fn many_to_one<T: Clone, R>(writer: T, reader: R, load: &Load) -> (Vec<T>, Vec<R>) {
    (vec![writer; load.producers], vec![reader])
}

fn one_to_one<T, R>(writer: T, reader: R, _: &Load) -> (Vec<T>, Vec<R>) {
    (vec![writer], vec![reader])
}

channel!(
    Crossbeam,
    "crossbeam-channel",
    crossbeam_channel::Sender<P>,
    crossbeam_channel::Receiver<P>,
    crossbeam_channel::Sender::send,
    crossbeam_channel::bounded,
    many
);
channel!(
    Kanal,
    "kanal",
    kanal::Sender<P>,
    Draining<kanal::Receiver<P>, P>,
    kanal::Sender::send,
    kanal::bounded,
    draining
);
channel!(
    Flume,
    "flume",
    flume::Sender<P>,
    Draining<flume::Receiver<P>, P>,
    flume::Sender::send,
    flume::bounded,
    draining
);

/// `crossfire` asks for this once, at the start of a program.
fn crossfire<T>(open: impl Fn(usize) -> T) -> impl Fn(usize) -> T {
    crossfire::detect_backoff_cfg();
    open
}

channel!(
    CrossfireMpmc,
    "crossfire",
    crossfire::MTx<crossfire::mpmc::Array<P>>,
    crossfire::MRx<crossfire::mpmc::Array<P>>,
    crossfire::BlockingTxTrait::send,
    crossfire(crossfire::mpmc::bounded_blocking),
    many
);
channel!(
    CrossfireMpsc,
    "crossfire",
    crossfire::MTx<crossfire::mpsc::Array<P>>,
    crossfire::Rx<crossfire::mpsc::Array<P>>,
    crossfire::BlockingTxTrait::send,
    crossfire(crossfire::mpsc::bounded_blocking),
    many_to_one
);
channel!(
    CrossfireSpsc,
    "crossfire",
    crossfire::Tx<crossfire::spsc::Array<P>>,
    crossfire::Rx<crossfire::spsc::Array<P>>,
    crossfire::BlockingTxTrait::send,
    crossfire(crossfire::spsc::bounded_blocking),
    one_to_one
);

/// crossbeam's `ArrayQueue`, which has no ends and no hanging up: a count of writers says when it is over.
pub struct ArrayQueue;

/// A writer of [`ArrayQueue`].
pub struct ArrayTx<P>(Arc<crossbeam_queue::ArrayQueue<P>>, Arc<AtomicUsize>);
/// A reader of [`ArrayQueue`].
pub struct ArrayRx<P>(Arc<crossbeam_queue::ArrayQueue<P>>, Arc<AtomicUsize>);

impl<P: Payload> Tx<P> for ArrayTx<P> {
    #[inline]
    fn send(&mut self, mut item: P) {
        while let Err(back) = self.0.push(item) {
            item = back;
            wait_until(|| !self.0.is_full());
        }
    }
}

impl<P> Drop for ArrayTx<P> {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Release);
    }
}

impl<P: Payload> Rx<P> for ArrayRx<P> {
    #[inline]
    fn recv(&mut self) -> Option<P> {
        loop {
            if let Some(item) = self.0.pop() {
                return Some(item);
            }
            if self.1.load(Ordering::Acquire) == 0 {
                return self.0.pop();
            }
            wait_until(|| !self.0.is_empty() || self.1.load(Ordering::Acquire) == 0);
        }
    }
}

impl Queue for ArrayQueue {
    const NAME: &'static str = "crossbeam ArrayQueue";
    type Tx<P: Payload> = ArrayTx<P>;
    type Rx<P: Payload> = ArrayRx<P>;

    fn open<P: Payload>(load: &Load) -> (Vec<Self::Tx<P>>, Vec<Self::Rx<P>>) {
        let queue = Arc::new(crossbeam_queue::ArrayQueue::new(load.capacity));
        let writers = Arc::new(AtomicUsize::new(load.producers));
        let writer = |_| ArrayTx(Arc::clone(&queue), Arc::clone(&writers));
        let reader = |_| ArrayRx(Arc::clone(&queue), Arc::clone(&writers));
        (
            (0..load.producers).map(writer).collect(),
            (0..load.consumers).map(reader).collect(),
        )
    }
}

/// `disruptor` with a single producer, read through its event poller.
pub struct Disruptor;
/// `disruptor` with several producers, read through its event poller.
pub struct DisruptorMulti;

/// A writer of either disruptor.
#[derive(Clone)]
pub struct DisruptorTx<T>(T);
/// A reader of either disruptor.
pub struct DisruptorRx<P: Payload, B>(disruptor::EventPoller<P, B>);

impl<P: Payload, T: disruptor::Producer<P> + Send> Tx<P> for DisruptorTx<T> {
    #[inline]
    fn send(&mut self, item: P) {
        self.0.publish(|slot| *slot = item);
    }

    #[inline]
    fn send_batch(&mut self, from: u64, count: usize) {
        self.0.batch_publish(count, |slots| {
            slots
                .zip(from..)
                .for_each(|(slot, seq)| *slot = P::new(seq));
        });
    }
}

macro_rules! disruptor_queue {
    ($Queue:ident, $build:ident, $Producer:ident, $Barrier:ident, $writers:expr) => {
        impl<P: Payload> Rx<P> for DisruptorRx<P, disruptor::$Barrier> {
            fn recv(&mut self) -> Option<P> {
                unreachable!("the driver reads it in batches")
            }

            #[inline]
            fn recv_batch(&mut self, _max: usize, each: &mut impl FnMut(&P)) -> bool {
                let mut done = false;
                // Shutting down does not make anything available, so `poll` itself is the question.
                wait_until(|| match self.0.poll() {
                    Ok(mut events) => {
                        (&mut events).for_each(&mut *each);
                        true
                    }
                    Err(disruptor::Polling::NoEvents) => false,
                    Err(disruptor::Polling::Shutdown) => {
                        done = true;
                        true
                    }
                });
                !done
            }
        }

        impl Queue for $Queue {
            const NAME: &'static str = "disruptor";
            const READS_IN_BATCHES: bool = true;
            type Tx<P: Payload> =
                DisruptorTx<disruptor::$Producer<P, disruptor::SingleConsumerBarrier>>;
            type Rx<P: Payload> = DisruptorRx<P, disruptor::$Barrier>;

            // Its producers wait for room in an empty loop; the pollers are polled by the strategy above.
            fn spins() -> (bool, bool) {
                (true, false)
            }

            fn open<P: Payload>(load: &Load) -> (Vec<Self::Tx<P>>, Vec<Self::Rx<P>>) {
                let builder = disruptor::$build(load.capacity, P::default, disruptor::BusySpin);
                let (poller, builder) = builder.new_event_poller();
                (
                    ($writers)(DisruptorTx(builder.build()), load),
                    vec![DisruptorRx(poller)],
                )
            }
        }
    };
}

disruptor_queue!(
    Disruptor,
    build_single_producer,
    SingleProducer,
    SingleProducerBarrier,
    |writer, _: &Load| vec![writer]
);
disruptor_queue!(
    DisruptorMulti,
    build_multi_producer,
    MultiProducer,
    MultiProducerBarrier,
    |writer, load: &Load| { vec![writer; load.producers] }
);
