//! Cigarette smokers: an arbiter wakes one of two hundred actors at random, which answers and works.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, timed, wait, workers};
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
    done: Done,
}

impl<R: Clone + Send + Sync> Play<R> for Arbiter<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Wires(smokers) = msg {
            self.smokers = smokers;
            return;
        }
        if self.left == 0 {
            let _ = self.done.send(u64::from(self.random));
            return;
        }
        self.left -= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let chosen = (self.random % SMOKERS) as usize;
        sent(ops.tell(&self.smokers[chosen], Msg::Go));
    }
}

struct Smoker<R>(R);

impl<R: Clone + Send> Play<R> for Smoker<R> {
    fn on(&mut self, _: Msg<R>, ops: &mut dyn Ops<R>) {
        sent(ops.tell(&self.0, Msg::Pong));
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
                random: 0x9E37_79B9,
                done,
            };
            let arbiter = kit.spawn(Role::play(arbiter));
            let smokers: Arc<[K::Ref]> = (0..SMOKERS)
                .map(|_| kit.spawn(Role::play(Smoker(arbiter.clone()))))
                .collect();
            kit.tell(&arbiter, Msg::Wires(smokers));
            let (elapsed, last) = timed(|| {
                kit.tell(&arbiter, Msg::Go);
                wait(finished, 1)
            });
            Sample::rate(rounds, elapsed, last)
        },
    )
}
