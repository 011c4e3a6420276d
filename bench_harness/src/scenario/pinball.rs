//! Pinball: 61 balls that each bounce through a graph of 13 actors.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::actors::{case, every_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `pinball`.
pub const SCENARIO: Scenario = Scenario {
    name: "pinball",
    family: Family::Actors,
    about: "61 balls that bounce through a graph of 13 actors",
    unit: Unit::MillionPerSecond("bounces"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, bounce, options);
        cases
    },
};

const NODES: usize = 13;
const BALLS: u64 = 61;

struct Bumper<R> {
    all: Arc<[R]>,
    index: usize,
    hits: usize,
    sum: u64,
    done: Done,
}

impl<R: Clone + Send + Sync> Play<R> for Bumper<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(all) => self.all = all,
            Msg::Token(0) => drop(self.done.send(0)),
            Msg::Go => drop(self.done.send(self.sum)),
            Msg::Token(left) => {
                self.sum += left;
                // The three exits of a node take turns.
                self.hits += 1;
                let exit = [1, 3, 4][self.hits % 3];
                sent(ops.tell(&self.all[(self.index + exit) % NODES], Msg::Token(left - 1)));
            }
            _ => {}
        }
    }
}

fn bounce<K: Kit>(options: &Options) -> Case {
    let bounces = options.count(50_000, 50);
    case::<K>(
        "13 actors, 61 balls",
        workers(options),
        move |kit, done, finished| {
            let bumper = |index| Bumper::<K::Ref> {
                all: Arc::new([]),
                index,
                hits: 0,
                sum: 0,
                done: done.clone(),
            };
            let all: Arc<[K::Ref]> = (0..NODES)
                .map(|index| kit.spawn(Role::play(bumper(index))))
                .collect();
            all.iter()
                .for_each(|node| kit.tell(node, Msg::Wires(Arc::clone(&all))));
            let (elapsed, _) = timed(|| {
                (0..BALLS)
                    .for_each(|ball| kit.tell(&all[ball as usize % NODES], Msg::Token(bounces)));
                wait(finished, BALLS)
            });
            all.iter().for_each(|node| kit.tell(node, Msg::Go));
            let sum = wait(finished, NODES as u64);
            Sample::rate(bounces * BALLS, elapsed, sum)
        },
    )
    .expecting(move || BALLS * sum_below(bounces + 1))
}
