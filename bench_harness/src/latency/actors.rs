//! Through mailboxes.
#![forbid(unsafe_code)]

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use actor_rt::{Actor, ActorRef, Context, Placement};
use hdrhistogram::Histogram;

use super::{Cores, Latency, Way, due, histogram, record, warm_up};
use crate::actor::ours::system;
use crate::pin;

/// Records how late messages are; hands the histogram over when it has seen them all.
struct Clock {
    warm_up: u64,
    left: u64,
    delays: Histogram<u64>,
    done: Sender<Histogram<u64>>,
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

/// From a thread to an actor.
pub(super) fn one_way(path: &str, cores: &Cores, count: u64, rate: u64) -> Latency {
    let system = system(&cores.workers);
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
    Latency::new(path, Way::OneWay, cores, rate, &delays)
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
pub(super) fn to_actor(path: &str, cores: &Cores, count: u64, rate: u64) -> Latency {
    // The metronome's worker is on the near core, which a thread from outside would have.
    let mut workers = cores.workers.clone();
    if !cores.shared() {
        workers.push(cores.near);
    }
    let system = system(&workers);
    let (workers, shared) = (workers.len(), cores.shared());
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
            shared,
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
    Latency::new(path, Way::OneWay, cores, rate, &delays)
}

struct Echo;

impl Actor for Echo {
    type Msg = (u64, actor_rt::Reply<u64>);

    fn handle(&mut self, (number, reply): Self::Msg, _ctx: &mut Context<'_, Self>) {
        reply.send(number);
    }
}

/// A question from a thread; the next one when it is due and the last one answered.
pub(super) fn round_trip(path: &str, cores: &Cores, count: u64, rate: u64) -> Latency {
    let system = system(&cores.workers);
    let echo = system.spawn(|| Echo);
    let mut delays = histogram();
    thread::scope(|scope| {
        let (echo, delays) = (&echo, &mut delays);
        scope.spawn(move || {
            pin::to(cores.near);
            let began = Instant::now();
            for number in 0..count + warm_up(count) {
                let due = due(began, number, rate, cores.shared());
                let answer = echo.ask(|reply| (number, reply)).wait().expect("an answer");
                assert_eq!(answer, number);
                if number >= warm_up(count) {
                    record(delays, due.elapsed());
                }
            }
        });
    });
    system
        .shutdown(Duration::from_secs(10))
        .expect("the actor ends");
    Latency::new(path, Way::RoundTrip, cores, rate, &delays)
}
