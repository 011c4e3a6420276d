//! What pools of memory are worth: payloads above a cache line, sent from a thread to an actor that reads and drops them.
//!
//! The same messages in our pools, inline in the mailbox, and from the allocator: the memory is taken on one core and
//! given back on another, as it is between actors.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::mpsc::Sender;
use std::time::Duration;

use actor_rt::{Actor, BytePool, Context, Pooled};

use super::actors::{wait, workers_and_outside};
use super::{Family, Scenario};
use crate::actor::ours::system;
use crate::elapsed::timed;
use crate::measure::{Case, OURS, Sample, Unit};
use crate::options::Options;
use crate::payload::{Payload, Words, total};
use crate::pin;
use crate::threads::Threads;

/// `payloads`.
pub const SCENARIO: Scenario = Scenario {
    name: "payloads",
    family: Family::Actors,
    about: "messages of 128 B to 4 KiB from a thread to an actor: from our pools, inline, and from the allocator",
    unit: Unit::MillionPerSecond("messages"),
    cases,
};

const MESSAGES: u64 = 1_000_000;
/// Messages in the tests: a mailbox overflows still.
const TINY: u64 = 6_400;

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = objects::<16>(options, "128 B");
    cases.extend(objects::<128>(options, "1 KiB"));
    cases.extend(bytes(options, "bytes, 256 B", 256));
    cases.extend(bytes(options, "bytes, 4 KiB", 4096));
    cases.retain(|case| options.peers || case.implementation == OURS);
    cases
}

/// A value of `N` words: pooled, in a box, and as it is.
fn objects<const N: usize>(options: &Options, variant: &str) -> Vec<Case> {
    vec![
        case(options, OURS, variant, N as u64, || {
            |seq| Pooled::new(Words::<N>::new(seq))
        }),
        case(options, "Box", variant, N as u64, || {
            |seq| Box::new(Words::<N>::new(seq))
        }),
        case(options, "inline", variant, N as u64, || Words::<N>::new),
    ]
}

/// Bytes that are written once and sent as a view: of a pool's chunk, and of memory of their own.
fn bytes(options: &Options, variant: &str, size: usize) -> Vec<Case> {
    vec![
        case(options, OURS, variant, size as u64 / 8, move || {
            let mut pool = BytePool::new(64 * 1024, 2 * 1024 * size / (64 * 1024) + 2);
            let mut line = vec![0; size];
            move |seq| {
                number(&mut line, seq);
                pool.copy(&line)
            }
        }),
        case(options, "Bytes", variant, size as u64 / 8, move || {
            let mut line = vec![0; size];
            move |seq| {
                number(&mut line, seq);
                bytes::Bytes::copy_from_slice(&line)
            }
        }),
    ]
}

/// Makes every word of a line a different one.
fn number(line: &mut [u8], seq: u64) {
    for (at, word) in line.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&seq.wrapping_add(at as u64).to_le_bytes());
    }
}

/// Something that was sent, to be read whole.
trait Load: Send + 'static {
    fn sum(&self) -> u64;
}

impl<const N: usize> Load for Words<N> {
    #[inline]
    fn sum(&self) -> u64 {
        Payload::sum(self)
    }
}

impl<const N: usize> Load for Box<Words<N>> {
    #[inline]
    fn sum(&self) -> u64 {
        Payload::sum(&**self)
    }
}

impl<const N: usize> Load for Pooled<Words<N>> {
    #[inline]
    fn sum(&self) -> u64 {
        Payload::sum(&**self)
    }
}

impl Load for bytes::Bytes {
    #[inline]
    fn sum(&self) -> u64 {
        self.chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .fold(0, u64::wrapping_add)
    }
}

/// Reads so many loads, then tells their sum.
struct Reader<L> {
    left: u64,
    sum: u64,
    done: Sender<u64>,
    reads: std::marker::PhantomData<fn(L)>,
}

impl<L: Load> Actor for Reader<L> {
    type Msg = L;

    #[inline]
    fn handle(&mut self, load: L, _ctx: &mut Context<'_, Self>) {
        self.sum = self.sum.wrapping_add(black_box(&load).sum());
        self.left -= 1;
        if self.left == 0 {
            let _ = self.done.send(self.sum);
        }
    }
}

fn case<L: Load, M: FnMut(u64) -> L>(
    options: &Options,
    implementation: &'static str,
    variant: &str,
    words: u64,
    maker: impl Fn() -> M + Sync + 'static,
) -> Case {
    let count = options.count(MESSAGES, TINY);
    let (cores, core) = workers_and_outside(options);
    let threads = Threads::yielding(cores.iter().copied());
    let run = move || {
        let system = system(&cores);
        let (done, finished) = std::sync::mpsc::channel();
        let reader = system.spawn(move || Reader {
            left: count,
            sum: 0,
            done: done.clone(),
            reads: std::marker::PhantomData,
        });
        let (elapsed, sum) = timed(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pin::to(core);
                    let mut make = maker();
                    for seq in 0..count {
                        let sent = reader.send_blocking(make(seq));
                        assert!(sent.is_ok(), "the actor has ended");
                    }
                });
            });
            wait(&finished, 1)
        });
        system
            .shutdown(Duration::from_secs(60))
            .expect("every actor ends");
        Sample::rate(count, elapsed, sum)
    };
    Case::new(implementation, variant, threads, run)
        .beside(core, 1)
        .expecting(move || total(count, words))
}
