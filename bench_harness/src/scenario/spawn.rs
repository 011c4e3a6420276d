//! Starting actors that then do nothing, until the last of them has been seen to run.
#![forbid(unsafe_code)]

use std::sync::mpsc::channel;

use super::actors::{case, every_kit, timed, wait, workers, workers_and_outside};
use super::{Family, Scenario};
use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
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
    every_kit!(options, cases, from_thread, options);
    every_kit!(options, cases, from_actor, options);
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
    case::<K>(variant, cores, move |kit, _, _| {
        let spawning = std::thread::scope(|scope| {
            let spawner = scope.spawn(|| {
                pin::to(outside);
                let (done, finished) = channel();
                let mut all = Vec::with_capacity(count as usize);
                let (elapsed, ()) = timed(|| {
                    all.extend((0..count).map(|_| kit.spawn(Role::Idle)));
                    let last = kit.spawn(Role::sink(1, done));
                    kit.tell(&last, Msg::Item(count));
                    wait(&finished, 1);
                });
                (elapsed, all.len() as u64)
            });
            spawner.join()
        });
        let (elapsed, spawned) = spawning.expect("the spawner does not panic");
        Sample::rate(count, elapsed, spawned)
    })
    .beside(outside, 1)
    .expecting(move || count)
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
                done,
            }));
            let (elapsed, spawned) = timed(|| {
                kit.tell(&nursery, Msg::Go);
                wait(finished, 1)
            });
            Sample::rate(count, elapsed, spawned)
        },
    )
    .expecting(move || count)
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
        let Msg::Go = msg else { return };
        let chunk = self.left.min(CHUNK);
        self.all.extend((0..chunk).map(|_| ops.spawn(Role::Idle)));
        self.left -= chunk;
        if self.left > 0 {
            let me = ops.me();
            sent(ops.tell(&me, Msg::Go));
        } else {
            let last = ops.spawn(Role::sink(1, self.done.clone()));
            sent(ops.tell(&last, Msg::Item(self.all.len() as u64)));
        }
    }
}
