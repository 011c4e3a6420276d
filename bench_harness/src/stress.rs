//! Many actors with messages of three sizes and three ways to carry them: everything sent must arrive, whole.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actor_rt::{Actor, ActorRef, Context as ActorContext, Pooled, System};
use serde::{Deserialize, Serialize};

use crate::payload::{Payload as _, Words};
use crate::probe::Probe;
use crate::usage::Mark;

/// What one shape of load came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shape {
    /// Actors alive at once.
    pub actors: u64,
    /// Bytes per message.
    pub payload_bytes: usize,
    /// How messages travel: in the mailbox, in a block of the runtime's pool, or in a box of the allocator.
    pub carried: String,
    /// Messages sent.
    pub sent: u64,
    /// Messages handled, every byte of them read.
    pub delivered: u64,
    /// Whether what arrived is what was sent.
    pub intact: bool,
    /// Seconds from the first actor to the last message.
    pub seconds: f64,
    /// Share of the cores' time that was used, in percent.
    pub cpu_percent: f64,
    /// Share of the cores' time spent waiting for disks, in percent.
    pub io_wait_percent: f64,
    /// Resident memory of the process at its highest, in MiB. Each shape of `stress` has a process of its own.
    pub peak_mib: f64,
}

#[derive(Default)]
struct Tally {
    delivered: AtomicU64,
    sum: AtomicU64,
}

/// A message.
trait Parcel: Send + 'static {
    /// How it travels.
    const CARRIED: &'static str;
    const BYTES: usize;
    fn make(seq: u64) -> Self;
    /// Of every word, and of where it stands.
    fn digest(&self) -> u64;
}

/// Words that changed places have another digest.
fn digest<const N: usize>(words: &Words<N>) -> u64 {
    words.words().iter().fold(0, |digest: u64, word| {
        digest.wrapping_mul(31).wrapping_add(*word)
    })
}

/// 64 bytes fit into the mailbox itself.
impl Parcel for Words<8> {
    const CARRIED: &'static str = "inline";
    const BYTES: usize = size_of::<Self>();

    fn make(seq: u64) -> Self {
        Self::new(seq)
    }

    fn digest(&self) -> u64 {
        digest(self)
    }
}

impl Parcel for Pooled<Words<128>> {
    const CARRIED: &'static str = "pooled";
    const BYTES: usize = size_of::<Words<128>>();

    fn make(seq: u64) -> Self {
        Pooled::new(Words::new(seq))
    }

    fn digest(&self) -> u64 {
        digest::<128>(self)
    }
}

impl Parcel for Box<Words<1280>> {
    const CARRIED: &'static str = "heap";
    const BYTES: usize = size_of::<Words<1280>>();

    fn make(seq: u64) -> Self {
        Box::new(Words::new(seq))
    }

    fn digest(&self) -> u64 {
        digest::<1280>(self)
    }
}

struct Sink<P> {
    tally: Arc<Tally>,
    takes: std::marker::PhantomData<fn(P)>,
}

impl<P: Parcel> Actor for Sink<P> {
    type Msg = P;

    fn handle(&mut self, parcel: P, _ctx: &mut ActorContext<'_, Self>) {
        self.tally.sum.fetch_add(parcel.digest(), Ordering::Relaxed);
        // Pairs with the loads in `shape`: the sum is whole when the count is.
        self.tally.delivered.fetch_add(1, Ordering::Release);
    }
}

/// How many shapes there are.
const SHAPES: usize = 3;

/// A million actors × 64 B, 100,000 × 1 KiB, or 10,000 × 10 KiB at `scale` 1.
///
/// # Errors
/// When the system cannot start or end.
pub fn one(index: usize, scale: f64) -> anyhow::Result<Shape> {
    let actors = |full: f64| ((full * scale) as u64).max(1);
    match index {
        0 => shape::<Words<8>>(actors(1e6), 2, Some),
        1 => shape::<Pooled<Words<128>>>(actors(1e5), 10, Some),
        _ => shape::<Box<Words<1280>>>(actors(1e4), 20, Some),
    }
}

/// The three shapes in this process, where each finds the memory that the one before left.
///
/// # Errors
/// When the system cannot start or end.
pub fn run(scale: f64) -> anyhow::Result<Vec<Shape>> {
    (0..SHAPES).map(|index| one(index, scale)).collect()
}

/// The three shapes, each in a process of its own, so that its memory is its own.
///
/// # Errors
/// When a process cannot be started, or fails.
pub fn run_apart(scale: f64) -> anyhow::Result<Vec<Shape>> {
    let ask = |shape| Probe::Stress { shape, scale }.ask();
    (0..SHAPES).map(ask).collect()
}

/// Without a message for so long the rest is not waited for any longer: it is queued, or lost.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Sends so many rounds of messages, as `carrier` hands them over.
fn shape<P: Parcel>(
    actors: u64,
    rounds: u64,
    carrier: impl Fn(P) -> Option<P>,
) -> anyhow::Result<Shape> {
    let system = System::new()?;
    let tally = Arc::new(Tally::default());
    let (began, mark) = (Instant::now(), Mark::begin());
    let all: Vec<ActorRef<P>> = (0..actors)
        .map(|_| {
            let tally = Arc::clone(&tally);
            system.spawn(move || Sink {
                tally: Arc::clone(&tally),
                takes: std::marker::PhantomData,
            })
        })
        .collect();
    let mut expected = 0_u64;
    for round in 0..rounds {
        for (index, actor) in all.iter().enumerate() {
            let parcel = P::make(round * actors + index as u64);
            expected = expected.wrapping_add(parcel.digest());
            let Some(parcel) = carrier(parcel) else {
                continue;
            };
            if actor.send_blocking(parcel).is_err() {
                anyhow::bail!("an actor ended under load");
            }
        }
    }
    let sent = actors * rounds;
    let delivered = || tally.delivered.load(Ordering::Acquire);
    let (mut last, mut moved) = (delivered(), Instant::now());
    while last < sent && moved.elapsed() < STANDSTILL {
        std::thread::yield_now();
        let now = delivered();
        if now != last {
            (last, moved) = (now, Instant::now());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let usage = mark.until_now();
    // Whatever is queued still is handled.
    system.drain(Duration::from_secs(300))?;
    let intact = delivered() == sent && tally.sum.load(Ordering::Relaxed) == expected;
    Ok(Shape {
        actors,
        payload_bytes: P::BYTES,
        carried: P::CARRIED.into(),
        sent,
        delivered: delivered(),
        intact,
        seconds,
        cpu_percent: usage.cpu_percent,
        io_wait_percent: usage.io_wait_percent,
        peak_mib: usage.peak_mib,
    })
}

/// A table for people.
pub fn render(shapes: &[Shape]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "   actors    bytes  carried       sent  delivered  intact   seconds  M msg/s   CPU %  I/O %  peak MiB\n",
    );
    for shape in shapes {
        let _ = writeln!(
            text,
            "{:>9}{:>9}{:>9}{:>11}{:>11}{:>8}{:>10.2}{:>9.2}{:>8.0}{:>7.0}{:>10.0}",
            shape.actors,
            shape.payload_bytes,
            shape.carried,
            shape.sent,
            shape.delivered,
            if shape.intact { "yes" } else { "NO" },
            shape.seconds,
            shape.sent as f64 / shape.seconds / 1e6,
            shape.cpu_percent,
            shape.io_wait_percent,
            shape.peak_mib
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use actor_rt::MessageClass;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_planted_loss_is_found() {
        let lost = AtomicBool::new(false);
        let once = |parcel: Words<8>| (lost.swap(true, Ordering::Relaxed)).then_some(parcel);
        let shape = shape(50, 2, once).unwrap();
        assert!(!shape.intact);
        assert_eq!((shape.sent, shape.delivered), (100, 99));
        assert!(render(&[shape]).contains("NO"));
    }

    #[test]
    fn a_planted_corruption_is_found() {
        let touched = AtomicBool::new(false);
        let once = |parcel: Pooled<Words<128>>| {
            let other = Pooled::new(Words::new(parcel.words()[0] + 1));
            let first = !touched.swap(true, Ordering::Relaxed);
            Some(if first { other } else { parcel })
        };
        let shape = shape(50, 2, once).unwrap();
        assert!(!shape.intact && shape.delivered == shape.sent);
    }

    #[test]
    fn messages_travel_as_the_table_says() {
        assert_eq!(MessageClass::of::<Words<8>>(), MessageClass::Inline);
        assert_ne!(MessageClass::of::<Words<128>>(), MessageClass::Inline);
        let shapes = run(0.0005).unwrap();
        let carried: Vec<_> = shapes
            .iter()
            .map(|it| (it.payload_bytes, &*it.carried))
            .collect();
        assert_eq!(
            carried,
            [(64, "inline"), (1024, "pooled"), (10_240, "heap")]
        );
        assert!(shapes.iter().all(|shape| shape.intact));
    }
}
