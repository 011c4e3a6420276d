//! Latency, corrected for coordinated omission: messages are due on a fixed schedule, and an answer's delay counts from
//! when its question was due, not from when a stalled sender got round to it.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use actor_rt::ring::{BusySpin, SpinThenYield, Wait, spsc};
use actor_rt::{Actor, ActorRef, Context, Placement, System};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::measure::OURS;
use crate::options::{Options, Scale};
use crate::pin;

/// One distribution, in nanoseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// What was measured.
    pub path: String,
    /// Who was measured.
    #[serde(rename = "impl")]
    pub implementation: String,
    /// Messages per second on the schedule; zero means one after the other.
    pub rate: u64,
    /// Measurements.
    pub count: u64,
    /// Percentiles: name and nanoseconds.
    pub percentiles: Vec<(String, u64)>,
    /// For a curve: percentile and nanoseconds, finer towards the end.
    pub curve: Vec<(f64, u64)>,
}

/// Who is measured where nothing of ours takes part.
pub(crate) const MACHINE: &str = "machine";

const NAMED: [(&str, f64); 5] = [
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
];

impl Latency {
    fn new(path: &str, rate: u64, histogram: &Histogram<u64>) -> Self {
        let mut percentiles: Vec<_> = NAMED
            .iter()
            .map(|(name, at)| ((*name).into(), histogram.value_at_percentile(*at)))
            .collect();
        percentiles.push(("max".into(), histogram.max()));
        let curve = (0..=20).map(|step| {
            let at = 100.0 * (1.0 - 0.5_f64.powf(f64::from(step) / 1.5));
            (at, histogram.value_at_percentile(at))
        });
        Self {
            path: path.into(),
            implementation: OURS.into(),
            rate,
            count: histogram.len(),
            percentiles,
            curve: curve.collect(),
        }
    }

    /// Whether nothing of ours took part: what the machine itself needs.
    pub fn is_floor(&self) -> bool {
        self.implementation == MACHINE
    }

    /// Nanoseconds, by the name of the percentile as it is printed; not a number for one that is not.
    pub fn percentile(&self, name: &str) -> f64 {
        let named = self.percentiles.iter().find(|(known, _)| known == name);
        named.map_or(f64::NAN, |(_, nanos)| *nanos as f64)
    }
}

fn histogram() -> Histogram<u64> {
    // Up to a minute; without a bound the histogram would refuse what it did not foresee.
    Histogram::new_with_max(60_000_000_000, 3).expect("three digits are allowed")
}

fn record(histogram: &mut Histogram<u64>, delay: Duration) {
    histogram.saturating_record(delay.as_nanos().min(u128::from(u64::MAX)) as u64);
}

/// Every path that is measured: across cores, then on one core, where two sides take turns and yield to each other.
pub fn all(options: &Options) -> Vec<Latency> {
    let count = match options.scale {
        Scale::Full => 2_000_000,
        Scale::Quick => 200_000,
        Scale::Tiny => 500,
    };
    let (first, last) = (options.cores[0], options.cores[options.cores.len() - 1]);
    let across = Cores {
        near: last,
        far: first,
        workers: options.cores.len().saturating_sub(1).max(1),
    };
    let same = Cores {
        near: first,
        far: first,
        workers: 1,
    };
    let some = count.min(500_000);
    let few = count.min(100_000);
    vec![
        bare_round_trip("bare cache-line round trip, two cores", across, count),
        ring_round_trip::<BusySpin>("ring round trip, two cores, busy spin", across, count),
        ring_one_way::<BusySpin>("ring one way, two cores, busy spin", across, count, 100_000),
        actor_one_way("thread to actor, two cores", across, some, 100_000),
        actor_to_actor(
            "actor to actor, two pinned workers",
            options.cores.len(),
            some,
            100_000,
        ),
        actor_round_trip("ask from a thread, two cores", across, some),
        ring_round_trip::<SpinThenYield>("ring round trip, same core", same, few),
        ring_one_way::<SpinThenYield>("ring one way, same core", same, few, 20_000),
        actor_one_way("thread to actor, same core", same, few, 20_000),
        actor_round_trip("ask from a thread, same core", same, few),
    ]
}

/// Where the two sides run.
#[derive(Debug, Clone, Copy)]
struct Cores {
    /// The measuring side's core.
    near: usize,
    /// The other side's.
    far: usize,
    /// Workers of an actor system, pinned from the first core on.
    workers: usize,
}

impl Cores {
    fn shared(self) -> bool {
        self.near == self.far
    }

    fn system(self) -> System {
        System::builder()
            .workers(self.workers)
            .build()
            .expect("the system starts")
    }
}

/// The first tenth warms up and is not recorded.
fn warm_up(count: u64) -> u64 {
    count / 10
}

/// A word with its cache lines for itself; two, since processors fetch neighbours in pairs.
#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    /// Waits until it holds `number`; now and then it lets others run, in case that the other side needs this core.
    fn wait_for(&self, number: u64) {
        let mut spins = 0_u32;
        while self.0.load(Ordering::Acquire) != number {
            spins += 1;
            if spins.is_multiple_of(10_000) {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// One word there and one back, without any ring: the machine's floor, which nothing between two cores goes below.
fn bare_round_trip(path: &str, cores: Cores, count: u64) -> Latency {
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let total = count + warm_up(count);
    let mut delays = histogram();
    thread::scope(|scope| {
        let (there, back, delays) = (&there, &back, &mut delays);
        scope.spawn(move || {
            pin::to(cores.far);
            for number in 1..=total {
                there.wait_for(number);
                back.0.store(number, Ordering::Release);
            }
        });
        scope.spawn(move || {
            pin::to(cores.near);
            for number in 1..=total {
                let began = Instant::now();
                there.0.store(number, Ordering::Release);
                back.wait_for(number);
                if number > warm_up(count) {
                    record(delays, began.elapsed());
                }
            }
        });
    });
    Latency {
        implementation: MACHINE.into(),
        ..Latency::new(path, 0, &delays)
    }
}

/// One after the other: there is no schedule to fall behind.
fn ring_round_trip<W: Wait>(path: &str, cores: Cores, count: u64) -> Latency {
    let (mut there, mut arrived) = spsc::channel_with::<u64, W>(64);
    let (mut back, mut returned) = spsc::channel_with::<u64, W>(64);
    let mut delays = histogram();
    thread::scope(|scope| {
        scope.spawn(move || {
            pin::to(cores.far);
            while let Ok(item) = arrived.recv() {
                if back.send(item).is_err() {
                    break;
                }
            }
        });
        let delays = &mut delays;
        scope.spawn(move || {
            pin::to(cores.near);
            for number in 0..count + warm_up(count) {
                let began = Instant::now();
                there.send(number).expect("the other side waits");
                let answer = returned.recv().expect("the other side answers");
                assert_eq!(answer, number);
                if number >= warm_up(count) {
                    record(delays, began.elapsed());
                }
            }
        });
    });
    Latency::new(path, 0, &delays)
}

/// Waits for the time that the message number `number` is due; on a shared core it lets the other side run meanwhile.
fn due(began: Instant, number: u64, rate: u64, shared: bool) -> Instant {
    let due = began + Duration::from_nanos(number * 1_000_000_000 / rate);
    while Instant::now() < due {
        if shared {
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
    due
}

fn ring_one_way<W: Wait>(path: &str, cores: Cores, count: u64, rate: u64) -> Latency {
    let (mut producer, mut consumer) = spsc::channel_with::<(u64, Instant), W>(1024);
    let mut delays = histogram();
    thread::scope(|scope| {
        let delays = &mut delays;
        scope.spawn(move || {
            pin::to(cores.far);
            while let Ok((number, due)) = consumer.recv() {
                if number >= warm_up(count) {
                    record(delays, due.elapsed());
                }
            }
        });
        scope.spawn(move || {
            pin::to(cores.near);
            let began = Instant::now();
            for number in 0..count + warm_up(count) {
                let due = due(began, number, rate, cores.shared());
                producer.send((number, due)).expect("the reader stays");
            }
        });
    });
    Latency::new(path, rate, &delays)
}

/// Records how late messages are; hands the histogram over when it has seen them all.
struct Clock {
    warm_up: u64,
    left: u64,
    delays: Histogram<u64>,
    done: std::sync::mpsc::Sender<Histogram<u64>>,
}

impl Actor for Clock {
    type Msg = Instant;

    fn handle(&mut self, due: Instant, _ctx: &mut Context<'_, Self>) {
        if self.warm_up > 0 {
            self.warm_up -= 1;
            return;
        }
        record(&mut self.delays, due.elapsed());
        self.left -= 1;
        if self.left == 0 {
            let _ = self.done.send(self.delays.clone());
        }
    }
}

fn actor_one_way(path: &str, cores: Cores, count: u64, rate: u64) -> Latency {
    let system = cores.system();
    let (done, finished) = channel();
    let clock = system.spawn(move || Clock {
        warm_up: warm_up(count),
        left: count,
        delays: histogram(),
        done: done.clone(),
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            pin::to(cores.near);
            let began = Instant::now();
            for number in 0..count + warm_up(count) {
                let due = due(began, number, rate, cores.shared());
                assert!(clock.send_blocking(due).is_ok(), "the actor lives");
            }
        });
    });
    let delays = finished
        .recv_timeout(Duration::from_secs(60))
        .expect("every message is handled");
    system
        .shutdown(Duration::from_secs(10))
        .expect("the actor ends");
    Latency::new(path, rate, &delays)
}

/// Sends at its due time each message of a schedule, and itself a message to go on now and then, as an actor does
/// that does not want to keep its worker for itself.
struct Metronome {
    clock: ActorRef<Instant>,
    began: Instant,
    next: u64,
    count: u64,
    rate: u64,
    /// With the clock on one worker.
    shared: bool,
}

/// Messages that the metronome sends per turn.
const BEATS: u64 = 8;

impl Actor for Metronome {
    type Msg = ();

    fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
        if self.next == 0 {
            self.began = Instant::now();
        }
        let stop = (self.next + BEATS).min(self.count);
        while self.next < stop {
            let due = due(self.began, self.next, self.rate, self.shared);
            self.next += 1;
            self.clock.tell(due).expect("the clock keeps up");
        }
        if self.next < self.count {
            ctx.me().tell(()).expect("room for one");
        }
    }
}

/// From an actor pinned to one worker to an actor pinned to another, one way.
fn actor_to_actor(path: &str, workers: usize, count: u64, rate: u64) -> Latency {
    let system = System::builder()
        .workers(workers)
        .build()
        .expect("the system starts");
    let (done, finished) = channel();
    let clock = system
        .actor(move || Clock {
            warm_up: warm_up(count),
            left: count,
            delays: histogram(),
            done: done.clone(),
        })
        .mailbox(1 << 16)
        .on(Placement::Core(0))
        .spawn();
    let metronome = system
        .actor(move || Metronome {
            clock: clock.clone(),
            began: Instant::now(),
            next: 0,
            count: count + warm_up(count),
            rate,
            shared: workers == 1,
        })
        .on(Placement::Core(workers - 1))
        .spawn();
    metronome.tell(()).expect("the mailbox is empty");
    let delays = finished
        .recv_timeout(Duration::from_secs(60))
        .expect("every message is handled");
    system
        .shutdown(Duration::from_secs(10))
        .expect("the actors end");
    Latency::new(path, rate, &delays)
}

struct Echo;

impl Actor for Echo {
    type Msg = (u64, actor_rt::Reply<u64>);

    fn handle(&mut self, (number, reply): Self::Msg, _ctx: &mut Context<'_, Self>) {
        reply.send(number);
    }
}

fn actor_round_trip(path: &str, cores: Cores, count: u64) -> Latency {
    let system = cores.system();
    let echo = system.spawn(|| Echo);
    let mut delays = histogram();
    thread::scope(|scope| {
        let (echo, delays) = (&echo, &mut delays);
        scope.spawn(move || {
            pin::to(cores.near);
            for number in 0..count + warm_up(count) {
                let began = Instant::now();
                let answer = echo.ask(|reply| (number, reply)).wait().expect("an answer");
                assert_eq!(answer, number);
                if number >= warm_up(count) {
                    record(delays, began.elapsed());
                }
            }
        });
    });
    system
        .shutdown(Duration::from_secs(10))
        .expect("the actor ends");
    Latency::new(path, 0, &delays)
}

/// A table for people.
pub fn render(all: &[Latency]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = write!(text, "{:<52}", "latency (ns)");
    for (name, _) in all.first().map_or(&[][..], |first| &first.percentiles[..]) {
        let _ = write!(text, "{name:>10}");
    }
    text.push('\n');
    for latency in all {
        let _ = write!(text, "{:<52}", latency.path);
        for (_, value) in &latency.percentiles {
            let _ = write!(text, "{value:>10}");
        }
        let _ = match latency.rate {
            0 => writeln!(text, "  ({} one after the other)", latency.count),
            rate => writeln!(text, "  ({} at {rate}/s)", latency.count),
        };
    }
    text
}
