//! Many timers set at once, all due within ten milliseconds.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::actors::{case, every_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Done, Kit, Msg, Ops, Play, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `timer_flood`.
pub const SCENARIO: Scenario = Scenario {
    name: "timer_flood",
    family: Family::Actors,
    about: "100 actors that set thousands of timers each, due 1 to 10 ms later",
    unit: Unit::MillionPerSecond("timers"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, flood, options);
        cases
    },
};

const ACTORS: u64 = 100;

struct Waiter {
    timers: u64,
    due: u64,
    sum: u64,
    done: Done,
}

impl<R> Play<R> for Waiter {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Go => (0..self.timers).for_each(|number| {
                ops.later(Duration::from_millis(1 + number % 10), Msg::Item(number));
            }),
            Msg::Item(number) => {
                self.sum += number;
                self.due -= 1;
                if self.due == 0 {
                    let _ = self.done.send(self.sum);
                }
            }
            _ => {}
        }
    }
}

fn flood<K: Kit>(options: &Options) -> Case {
    // Enough that the work outweighs the ten milliseconds.
    let timers = options.count(5_000, 20);
    case::<K>(
        "100 actors",
        workers(options),
        move |kit, done, finished| {
            let waiter = |done| Waiter {
                timers,
                due: timers,
                sum: 0,
                done,
            };
            let all: Vec<_> = (0..ACTORS)
                .map(|_| kit.spawn(Role::play(waiter(done.clone()))))
                .collect();
            let (elapsed, sum) = timed(|| {
                all.iter().for_each(|actor| kit.tell(actor, Msg::Go));
                wait(finished, ACTORS)
            });
            Sample::rate(timers * ACTORS, elapsed, sum)
        },
    )
    .expecting(move || ACTORS * sum_below(timers))
}
