//! Build files evaluated in isolates: starting the first one, and calling a warm pool.
#![forbid(unsafe_code)]

use std::time::Duration;

use actor_rt::System;
use zako_actors::isolate::{ContextKind, EvaluateRequest, IsolatePool};
use zako_actors::machine::PoolSize;

use super::ZAKO;
use crate::measure::{Case, Sample, Unit};
use crate::scenario::actors::{timed, workers};
use crate::scenario::{Family, Scenario};

/// `isolate_call`.
pub const CALL: Scenario = Scenario {
    name: "isolate_call",
    family: Family::Build,
    about: "build files evaluated by a warm pool, a fresh context each",
    unit: Unit::ThousandPerSecond("evaluations"),
    cases: |options| {
        let mut sizes = vec![1, workers(options)];
        sizes.dedup();
        let calls = options.count(400, 4);
        sizes
            .into_iter()
            .map(|isolates| {
                case(format!("{isolates} isolates"), move |place| {
                    call(place, isolates, calls)
                })
            })
            .collect()
    },
};

/// `isolate_start`.
pub const START: Scenario = Scenario {
    name: "isolate_start",
    family: Family::Build,
    about: "from nothing to the value of a build file: thread, isolate, context, evaluation",
    unit: Unit::Milliseconds,
    cases: |_| {
        vec![case("first evaluation".into(), |place| {
            Sample::time(place.ask_new(1, 1), VALUE)
        })]
    },
};

/// The value that the build file exports.
const VALUE: u64 = 500_500;
const BUILD_FILE: &str = "
const numbers: number[] = Array.from({ length: 1000 }, (_, index) => index + 1);
export default { total: numbers.reduce((sum, number) => sum + number, 0) };
";

fn case(variant: String, run: impl Fn(&Place) -> Sample + 'static) -> Case {
    Case {
        implementation: ZAKO,
        variant,
        spinning: 0,
        run: Box::new(move || run(&Place::new())),
    }
}

/// A workspace with one build file, and an actor system.
struct Place {
    directory: tempfile::TempDir,
    system: System,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the workspace");
        std::fs::write(directory.path().join("BUILD.ts"), BUILD_FILE).expect("the disk has room");
        Self {
            directory,
            system: System::new().expect("the system starts"),
        }
    }

    fn request(&self) -> EvaluateRequest {
        EvaluateRequest::new(self.directory.path(), "BUILD.ts", ContextKind::Build)
    }

    /// The time that so many evaluations take on a new pool.
    fn ask_new(&self, isolates: usize, calls: u64) -> Duration {
        timed(|| {
            self.ask(
                &IsolatePool::new(&self.system, PoolSize::fixed(isolates)),
                calls,
            )
        })
        .0
    }

    fn ask(&self, pool: &IsolatePool, calls: u64) -> u64 {
        let answers: Vec<_> = (0..calls).map(|_| pool.evaluate(self.request())).collect();
        let values = answers.into_iter().map(|answer| {
            let evaluation = answer.wait().expect("an answer").expect("no mistakes");
            evaluation.value["total"].as_u64().expect("a number")
        });
        values.sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.system.shutdown(Duration::from_secs(30));
    }
}

fn call(place: &Place, isolates: usize, calls: u64) -> Sample {
    let pool = IsolatePool::new(&place.system, PoolSize::fixed(isolates));
    // Every isolate is up before the clock starts.
    place.ask(&pool, isolates as u64);
    let (elapsed, sum) = timed(|| place.ask(&pool, calls));
    drop(pool);
    Sample::kilo_rate(calls, elapsed, sum)
}
