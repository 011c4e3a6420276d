//! Chameneos: creatures meet two by two in a mall; one place that everybody contends for.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, timed, wait, workers};
use crate::scenario::{Family, Scenario};

/// `chameneos`.
pub const SCENARIO: Scenario = Scenario {
    name: "chameneos",
    family: Family::Savina("Chameneos"),
    about: "100 creatures that meet two by two",
    unit: Unit::MillionPerSecond("meetings"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, meet, options);
        cases
    },
};

const CREATURES: u32 = 100;

struct Mall<R> {
    creatures: Arc<[R]>,
    waiting: Option<u32>,
    left: u64,
    met: u64,
    done: Done,
}

impl<R: Clone + Send + Sync> Play<R> for Mall<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(creatures) => self.creatures = creatures,
            Msg::Ping(who) if self.left > 0 => match self.waiting.take() {
                None => self.waiting = Some(who),
                Some(other) => {
                    self.left -= 1;
                    self.met += 1;
                    for creature in [who, other] {
                        sent(ops.tell(&self.creatures[creature as usize], Msg::Pong));
                    }
                    if self.left == 0 {
                        let _ = self.done.send(self.met);
                    }
                }
            },
            _ => {}
        }
    }
}

struct Creature<R> {
    mall: R,
    index: u32,
}

impl<R: Clone + Send> Play<R> for Creature<R> {
    fn on(&mut self, _: Msg<R>, ops: &mut dyn Ops<R>) {
        sent(ops.tell(&self.mall, Msg::Ping(self.index)));
    }
}

fn meet<K: Kit>(options: &Options) -> Case {
    let meetings = options.count(1_000_000, 500);
    case::<K>(
        "100 creatures",
        workers(options),
        move |kit, done, finished| {
            let mall = Mall::<K::Ref> {
                creatures: Arc::new([]),
                waiting: None,
                left: meetings,
                met: 0,
                done,
            };
            let mall = kit.spawn(Role::play(mall));
            let creature = |index| {
                kit.spawn(Role::play(Creature {
                    mall: mall.clone(),
                    index,
                }))
            };
            let creatures: Arc<[K::Ref]> = (0..CREATURES).map(creature).collect();
            kit.tell(&mall, Msg::Wires(Arc::clone(&creatures)));
            let (elapsed, met) = timed(|| {
                creatures
                    .iter()
                    .for_each(|creature| kit.tell(creature, Msg::Go));
                wait(finished, 1)
            });
            Sample::rate(meetings, elapsed, met)
        },
    )
}
