//! One word from thread to thread without any ring: the machine's floor.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Cores, Latency, MACHINE, Way, due, histogram, record, warm_up};
use crate::pin;

/// A word with its cache lines for itself; two, since processors fetch neighbours in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

impl Line {
    /// Waits until it holds something that will do, without a pause between looks, as a ring does that spins. On a core that
    /// both sides share it lets the other one run at every look; else now and then, in case that somebody needs this core.
    fn wait(&self, shared: bool, will_do: impl Fn(u64) -> bool) -> u64 {
        let mut looks = 0_u32;
        loop {
            let word = self.0.load(Ordering::Acquire);
            if will_do(word) {
                return word;
            }
            looks += 1;
            if shared || looks.is_multiple_of(1 << 14) {
                thread::yield_now();
            }
        }
    }
}

/// One word there and one back.
pub(super) fn round_trip(path: &str, cores: &Cores, count: u64, rate: u64) -> Latency {
    let (there, back) = (Line::default(), Line::default());
    let total = count + warm_up(count);
    let mut delays = histogram();
    thread::scope(|scope| {
        let (there, back, delays) = (&there, &back, &mut delays);
        scope.spawn(move || {
            pin::to(cores.far);
            for number in 1..=total {
                there.wait(cores.shared(), |word| word == number);
                back.0.store(number, Ordering::Release);
            }
        });
        scope.spawn(move || {
            pin::to(cores.near);
            let began = Instant::now();
            for number in 1..=total {
                let due = due(began, number, rate, cores.shared());
                there.0.store(number, Ordering::Release);
                back.wait(cores.shared(), |word| word == number);
                if number > warm_up(count) {
                    record(delays, due.elapsed());
                }
            }
        });
    });
    floor(Latency::new(path, Way::RoundTrip, cores, rate, &delays))
}

/// Words on the way at a time, at most: so few that they stay in the innermost cache, as those of a ring do.
const LINES: u64 = 64;

/// When each message was due, as nanoseconds since the first, in lines that are used in turn. Zero is an empty line.
pub(super) fn one_way(path: &str, cores: &Cores, count: u64, rate: u64) -> Latency {
    let lines: Vec<Line> = (0..LINES).map(|_| Line::default()).collect();
    let total = count + warm_up(count);
    let began = Instant::now();
    let mut delays = histogram();
    thread::scope(|scope| {
        let (lines, delays) = (&lines, &mut delays);
        scope.spawn(move || {
            pin::to(cores.far);
            for number in 0..total {
                let line = &lines[(number % LINES) as usize];
                let nanos = line.wait(cores.shared(), |word| word != 0);
                if number >= warm_up(count) {
                    let due = began + Duration::from_nanos(nanos);
                    record(delays, due.elapsed());
                }
                line.0.store(0, Ordering::Release);
            }
        });
        scope.spawn(move || {
            pin::to(cores.near);
            for number in 1..=total {
                let line = &lines[((number - 1) % LINES) as usize];
                line.wait(cores.shared(), |word| word == 0);
                let due = due(began, number, rate, cores.shared());
                let nanos = due.duration_since(began).as_nanos() as u64;
                line.0.store(nanos, Ordering::Release);
            }
        });
    });
    floor(Latency::new(path, Way::OneWay, cores, rate, &delays))
}

fn floor(latency: Latency) -> Latency {
    Latency {
        implementation: MACHINE.into(),
        ..latency
    }
}
