//! Many actors with messages of three sizes: everything sent must arrive, whole.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actor_rt::{Actor, ActorRef, Context, System};
use serde::Serialize;

use crate::payload::{Payload as _, Words};
use crate::usage::Mark;

/// What one shape of load came to.
#[derive(Debug, Clone, Serialize)]
pub struct Shape {
    /// Actors alive at once.
    pub actors: u64,
    /// Bytes per message.
    pub payload_bytes: usize,
    /// Messages sent.
    pub sent: u64,
    /// Messages handled, every byte of them read.
    pub delivered: u64,
    /// Whether what arrived adds up to what was sent.
    pub intact: bool,
    /// Seconds from the first actor to the last message.
    pub seconds: f64,
    /// Share of the cores' time that was used, in percent.
    pub cpu_percent: f64,
    /// Share of the cores' time spent waiting for disks, in percent.
    pub io_wait_percent: f64,
    /// Resident memory at its highest so far, in MiB.
    pub peak_mib: f64,
}

#[derive(Default)]
struct Tally {
    delivered: AtomicU64,
    sum: AtomicU64,
}

struct Sink<const N: usize>(Arc<Tally>);

/// Messages up to 64 bytes travel inline; larger ones as a box.
type Parcel<const N: usize> = Box<Words<N>>;

impl<const N: usize> Actor for Sink<N> {
    type Msg = Parcel<N>;

    fn handle(&mut self, msg: Parcel<N>, _ctx: &mut Context<'_, Self>) {
        self.0.sum.fetch_add(msg.sum(), Ordering::Relaxed);
        // Pairs with the load in `shape`: the sum is whole when the count is.
        self.0.delivered.fetch_add(1, Ordering::Release);
    }
}

/// The three shapes, scaled: a million actors × 64 B, 100,000 × 1 KiB, 10,000 × 10 KiB at `scale` 1.
///
/// # Errors
/// When the system cannot start or end.
pub fn run(scale: f64) -> anyhow::Result<Vec<Shape>> {
    let actors = |full: f64| ((full * scale) as u64).max(1);
    Ok(vec![
        shape::<8>(actors(1e6), 2)?,
        shape::<128>(actors(1e5), 10)?,
        shape::<1280>(actors(1e4), 20)?,
    ])
}

fn shape<const N: usize>(actors: u64, rounds: u64) -> anyhow::Result<Shape> {
    let system = System::new()?;
    let tally = Arc::new(Tally::default());
    let (began, mark) = (Instant::now(), Mark::now());
    let all: Vec<ActorRef<Parcel<N>>> = (0..actors)
        .map(|_| {
            let tally = Arc::clone(&tally);
            system.spawn(move || Sink::<N>(Arc::clone(&tally)))
        })
        .collect();
    let mut expected = 0_u64;
    for round in 0..rounds {
        for (index, actor) in all.iter().enumerate() {
            let parcel = Words::<N>::new(round * actors + index as u64);
            expected = expected.wrapping_add(parcel.sum());
            if actor.send_blocking(Box::new(parcel)).is_err() {
                anyhow::bail!("an actor ended under load");
            }
        }
    }
    let sent = actors * rounds;
    while tally.delivered.load(Ordering::Acquire) < sent {
        std::thread::yield_now();
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(600),
            "messages were lost: fewer arrived than were sent"
        );
    }
    let seconds = began.elapsed().as_secs_f64();
    let usage = mark.until_now();
    system.shutdown(Duration::from_secs(120))?;
    let delivered = tally.delivered.load(Ordering::Acquire);
    let intact = delivered == sent && tally.sum.load(Ordering::Relaxed) == expected;
    Ok(Shape {
        actors,
        payload_bytes: 8 * N,
        sent,
        delivered,
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
        "   actors    bytes       sent  delivered  intact   seconds  M msg/s   CPU %  I/O %  peak MiB\n",
    );
    for shape in shapes {
        let _ = writeln!(
            text,
            "{:>9}{:>9}{:>11}{:>11}{:>8}{:>10.2}{:>9.2}{:>8.0}{:>7.0}{:>10.0}",
            shape.actors,
            shape.payload_bytes,
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
