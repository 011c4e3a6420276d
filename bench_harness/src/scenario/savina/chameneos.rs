//! Chameneos: creatures meet two by two in a mall; one place that everybody contends for.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
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

const COLOURS: u32 = 3;

/// The colour that both of a pair have after they met: their own if it is the same, else the third.
fn meeting_of(one: u32, other: u32) -> u32 {
    if one == other {
        one
    } else {
        COLOURS - one - other
    }
}

/// Pairs those who come, and keeps a list of the colours that they must have when they come again.
struct Mall<R> {
    creatures: Arc<[R]>,
    colours: Vec<u32>,
    waiting: Option<u32>,
    left: u64,
    /// Visits of creatures that had the colour they must have.
    right: u64,
    gone: u32,
    done: Done,
}

impl<R> Mall<R> {
    fn pair(&mut self, one: u32, other: u32, ops: &mut dyn Ops<R>) {
        self.left -= 1;
        let [first, second] = [one, other].map(|it| self.colours[it as usize]);
        for (creature, met) in [(one, second), (other, first)] {
            self.colours[creature as usize] = meeting_of(first, second);
            let colour = Msg::Token(u64::from(met));
            sent(ops.tell(&self.creatures[creature as usize], colour));
        }
    }
}

impl<R: Clone + Send + Sync> Play<R> for Mall<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(creatures) => self.creatures = creatures,
            Msg::Ping(visit) => {
                let (who, colour) = (visit / COLOURS, visit % COLOURS);
                self.right += u64::from(self.colours[who as usize] == colour);
                if self.left == 0 {
                    sent(ops.tell(&self.creatures[who as usize], Msg::Pong));
                    self.gone += 1;
                    if self.gone == CREATURES {
                        let _ = self.done.send(self.right);
                    }
                    return;
                }
                match self.waiting.take() {
                    None => self.waiting = Some(who),
                    Some(other) => self.pair(who, other, ops),
                }
            }
            _ => {}
        }
    }
}

struct Creature<R> {
    mall: R,
    index: u32,
    colour: u32,
    meetings: u64,
    done: Done,
}

impl<R: Clone + Send> Play<R> for Creature<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Token(other) => {
                self.colour = meeting_of(self.colour, other as u32);
                self.meetings += 1;
            }
            // The mall has closed.
            Msg::Pong => {
                let _ = self.done.send(self.meetings);
                return;
            }
            _ => {}
        }
        let visit = self.index * COLOURS + self.colour;
        sent(ops.tell(&self.mall, Msg::Ping(visit)));
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
                colours: (0..CREATURES).map(|index| index % COLOURS).collect(),
                waiting: None,
                left: meetings,
                right: 0,
                gone: 0,
                done: done.clone(),
            };
            let mall = kit.spawn(Role::play(mall));
            let creature = |index| {
                kit.spawn(Role::play(Creature {
                    mall: mall.clone(),
                    index,
                    colour: index % COLOURS,
                    meetings: 0,
                    done: done.clone(),
                }))
            };
            let creatures: Arc<[K::Ref]> = (0..CREATURES).map(creature).collect();
            kit.tell(&mall, Msg::Wires(Arc::clone(&creatures)));
            let (elapsed, sum) = timed(|| {
                creatures
                    .iter()
                    .for_each(|creature| kit.tell(creature, Msg::Go));
                wait(finished, u64::from(CREATURES) + 1)
            });
            Sample::rate(meetings, elapsed, sum)
        },
    )
    // A meeting counts for two, and brings two visits beside the first of each.
    .expecting(move || 4 * meetings + u64::from(CREATURES))
}
