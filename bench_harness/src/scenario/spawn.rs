//! Starting actors that then do nothing, until the last of them has been seen to run. Afterwards, outside of the time, each of
//! them is asked for its number.
#![forbid(unsafe_code)]

use std::sync::mpsc::channel;

use super::actors::{
    case, every_parallel_kit, roll_call, sum_below, wait, workers, workers_and_outside,
};
use super::{Family, Scenario};
use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::pin;

/// `spawn`.
pub const SCENARIO: Scenario = Scenario {
    name: "spawn",
    family: Family::Actors,
    about: "starting idle actors, from a thread on another core and from an actor, until the last one answers",
    unit: Unit::MillionPerSecond("actors"),
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_parallel_kit!(options, cases, from_thread, options);
    every_parallel_kit!(options, cases, from_actor, options);
    cases
}

fn actors(options: &Options) -> u64 {
    options.count(200_000, 200)
}

/// The spawning thread has the last core, the library the others.
///
/// Some libraries start an actor before they return its address, others only put it in a queue: so the clock
/// stops when an actor that was started after all the others has answered.
fn from_thread<K: Kit>(options: &Options) -> Case {
    let count = actors(options);
    let (cores, outside) = workers_and_outside(options);
    let variant = "from a thread";
    case::<K>(variant, cores, move |kit, done, finished| {
        let spawning = std::thread::scope(|scope| {
            let spawner = scope.spawn(|| {
                pin::to(outside);
                let (last_done, last_finished) = channel();
                let mut all = Vec::with_capacity(count as usize);
                let (elapsed, ()) = timed(|| {
                    all.extend((0..count).map(|number| kit.spawn(Role::Idle { number })));
                    let last = kit.spawn(Role::sink(1, last_done));
                    kit.tell(&last, Msg::Item(count));
                    wait(&last_finished, 1);
                });
                (elapsed, all)
            });
            spawner.join()
        });
        let (elapsed, all) = spawning.expect("the spawner does not panic");
        Sample::rate(count, elapsed, roll_call(kit, &all, &done, finished))
    })
    .beside(outside, 1)
    .expecting(move || sum_below(count))
}

fn from_actor<K: Kit>(options: &Options) -> Case {
    let count = actors(options);
    case::<K>(
        "from an actor",
        workers(options),
        move |kit, done, finished| {
            let nursery = kit.spawn(Role::play(Nursery {
                left: count,
                all: Vec::with_capacity(count as usize),
                done: done.clone(),
            }));
            let (elapsed, _) = timed(|| {
                kit.tell(&nursery, Msg::Go);
                wait(finished, 1)
            });
            kit.tell(&nursery, Msg::Report(done));
            Sample::rate(count, elapsed, wait(finished, count))
        },
    )
    .expecting(move || sum_below(count))
}

/// Starts a chunk of actors at each turn, as a server does with what comes in.
struct Nursery<R> {
    left: u64,
    all: Vec<R>,
    done: Done,
}

/// Actors started before others get their turn.
const CHUNK: u64 = 100;

impl<R: Clone + Send> Play<R> for Nursery<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Go => self.spawn_some(ops),
            Msg::Report(done) => {
                for actor in &self.all {
                    sent(ops.tell(actor, Msg::Report(done.clone())));
                }
            }
            _ => {}
        }
    }
}

impl<R: Clone + Send> Nursery<R> {
    fn spawn_some(&mut self, ops: &mut dyn Ops<R>) {
        let from = self.all.len() as u64;
        let to = from + self.left.min(CHUNK);
        self.all
            .extend((from..to).map(|number| ops.spawn(Role::Idle { number })));
        self.left -= to - from;
        if self.left > 0 {
            let me = ops.me();
            sent(ops.tell(&me, Msg::Go));
        } else {
            let last = ops.spawn(Role::sink(1, self.done.clone()));
            sent(ops.tell(&last, Msg::Item(to)));
        }
    }
}
