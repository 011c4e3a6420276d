//! Actors that are started only to end: the whole life, until the state is dropped.
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Done, Kit, Msg, Ops, Play, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `spawn_stop`.
pub const SCENARIO: Scenario = Scenario {
    name: "spawn_stop",
    family: Family::Actors,
    about: "actors that are started, told to stop, and gone when their state was dropped",
    unit: Unit::MillionPerSecond("lives"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, live, options);
        cases
    },
};

/// Reports when it is dropped.
struct Grave {
    stopped: u64,
    done: Done,
}

impl<R> Play<R> for Grave {
    fn on(&mut self, _: Msg<R>, ops: &mut dyn Ops<R>) {
        self.stopped = 1;
        ops.stop();
    }
}

impl Drop for Grave {
    fn drop(&mut self) {
        let _ = self.done.send(self.stopped);
    }
}

fn live<K: Kit>(options: &Options) -> Case {
    let count = options.count(100_000, 100);
    case::<K>(
        "one after another",
        workers(options),
        move |kit, done, finished| {
            let (elapsed, ended) = timed(|| {
                for _ in 0..count {
                    let grave = Grave {
                        stopped: 0,
                        done: done.clone(),
                    };
                    kit.tell(&kit.spawn(Role::play(grave)), Msg::Go);
                }
                wait(finished, count)
            });
            assert_eq!(ended, count, "an actor was dropped that was never stopped");
            Sample::rate(count, elapsed, ended)
        },
    )
    .expecting(move || count)
}
