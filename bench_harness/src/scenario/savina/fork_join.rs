//! Fork and join: messages spread over sixty actors, and actors that live for a single message.
#![forbid(unsafe_code)]

use crate::actor::{Done, Kit, Msg, Ops, Play, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_parallel_kit, sum_below, wait, workers};
use crate::scenario::{Family, Scenario};

/// `fork_join_throughput`.
pub const THROUGHPUT: Scenario = Scenario {
    name: "fork_join_throughput",
    family: Family::Savina("Fork Join (throughput)"),
    about: "messages spread over 60 actors",
    unit: Unit::MillionPerSecond("messages"),
    cases: |options| {
        let mut cases = Vec::new();
        every_parallel_kit!(options, cases, spread, options);
        cases
    },
};

/// `fork_join_create`.
pub const CREATE: Scenario = Scenario {
    name: "fork_join_create",
    family: Family::Savina("Fork Join (actor creation)"),
    about: "actors that are started, handle one message and end",
    unit: Unit::MillionPerSecond("actors"),
    cases: |options| {
        let mut cases = Vec::new();
        every_parallel_kit!(options, cases, create, options);
        cases
    },
};

const ACTORS: u64 = 60;

fn spread<K: Kit>(options: &Options) -> Case {
    let each = options.count(20_000, 20);
    case::<K>("60 actors", workers(options), move |kit, done, finished| {
        let sinks: Vec<_> = (0..ACTORS)
            .map(|_| kit.spawn(Role::sink(each, done.clone())))
            .collect();
        let (elapsed, sum) = timed(|| {
            for item in 0..each {
                sinks
                    .iter()
                    .for_each(|sink| kit.tell(sink, Msg::Item(item)));
            }
            wait(finished, ACTORS)
        });
        Sample::rate(each * ACTORS, elapsed, sum)
    })
    .expecting(move || ACTORS * sum_below(each))
}

/// Reports its first message and ends.
struct Mayfly(Done);

impl<R> Play<R> for Mayfly {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Item(item) = msg {
            let _ = self.0.send(item);
            ops.stop();
        }
    }
}

fn create<K: Kit>(options: &Options) -> Case {
    let count = options.count(50_000, 100);
    case::<K>(
        "one message each",
        workers(options),
        move |kit, done, finished| {
            let (elapsed, sum) = timed(|| {
                for item in 0..count {
                    kit.tell(
                        &kit.spawn(Role::play(Mayfly(done.clone()))),
                        Msg::Item(item),
                    );
                }
                wait(finished, count)
            });
            Sample::rate(count, elapsed, sum)
        },
    )
    .expecting(move || sum_below(count))
}
