//! Cigarette smokers: an arbiter wakes one of two hundred actors at random, which answers and works.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::scramble;
use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `smokers`.
pub const SCENARIO: Scenario = Scenario {
    name: "smokers",
    family: Family::Savina("Cigarette Smokers"),
    about: "an arbiter that wakes one of 200 actors at random, again and again",
    unit: Unit::MillionPerSecond("rounds"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, smoke, options);
        cases
    },
};

const SMOKERS: u32 = 200;

struct Arbiter<R> {
    smokers: Arc<[R]>,
    left: u64,
    random: u32,
    smoked: u64,
    done: Done,
}

const SEED: u32 = 0x9E37_79B9;

/// The next number of the arbiter's generator.
fn choose(random: u32) -> u32 {
    let random = random ^ (random << 13);
    let random = random ^ (random >> 17);
    random ^ (random << 5)
}

/// What smokers make of so many wakings.
fn wakings(rounds: u64) -> u64 {
    let waking = |(sum, random): (u64, u32), _| {
        let random = choose(random);
        (sum.wrapping_add(scramble(u64::from(random))), random)
    };
    (0..rounds).fold((0, SEED), waking).0
}

impl<R: Clone + Send + Sync> Play<R> for Arbiter<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Wires(smokers) = msg {
            self.smokers = smokers;
            return;
        }
        if let Msg::Item(smoked) = msg {
            self.smoked = self.smoked.wrapping_add(smoked);
        }
        if self.left == 0 {
            let _ = self.done.send(self.smoked);
            return;
        }
        self.left -= 1;
        self.random = choose(self.random);
        let chosen = (self.random % SMOKERS) as usize;
        let tobacco = Msg::Item(u64::from(self.random));
        sent(ops.tell(&self.smokers[chosen], tobacco));
    }
}

struct Smoker<R>(R);

impl<R: Clone + Send> Play<R> for Smoker<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        let Msg::Item(tobacco) = msg else { return };
        sent(ops.tell(&self.0, Msg::Item(scramble(tobacco))));
    }
}

fn smoke<K: Kit>(options: &Options) -> Case {
    let rounds = options.count(500_000, 500);
    case::<K>(
        "200 smokers",
        workers(options),
        move |kit, done, finished| {
            let arbiter = Arbiter::<K::Ref> {
                smokers: Arc::new([]),
                left: rounds,
                random: SEED,
                smoked: 0,
                done,
            };
            let arbiter = kit.spawn(Role::play(arbiter));
            let smokers: Arc<[K::Ref]> = (0..SMOKERS)
                .map(|_| kit.spawn(Role::play(Smoker(arbiter.clone()))))
                .collect();
            kit.tell(&arbiter, Msg::Wires(smokers));
            let (elapsed, smoked) = timed(|| {
                kit.tell(&arbiter, Msg::Go);
                wait(finished, 1)
            });
            Sample::rate(rounds, elapsed, smoked)
        },
    )
    .expecting(move || wakings(rounds))
}
