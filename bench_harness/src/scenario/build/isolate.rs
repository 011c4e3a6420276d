//! Isolates: starting the first one, calling a rule that is loaded, and evaluating build files, each in a runtime of
//! its own.
#![forbid(unsafe_code)]

use std::time::Duration;

use actor_rt::System;
use serde_json::{Value, json};
use zako_actors::isolate::{ContextKind, EvaluateRequest, IsolatePool};
use zako_actors::machine::PoolSize;

use super::ZAKO;
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `isolate_call`.
pub const CALL: Scenario = Scenario {
    name: "isolate_call",
    family: Family::Build,
    about: "a rule asked about one target after another by a warm pool",
    unit: Unit::ThousandPerSecond("calls"),
    cases: |options| {
        let calls = options.count(20_000, 40);
        cases(options, calls, Place::rule, WORDS)
    },
};

/// `isolate_evaluate`.
pub const EVALUATE: Scenario = Scenario {
    name: "isolate_evaluate",
    family: Family::Build,
    about: "build files evaluated by a warm pool, a fresh context each",
    unit: Unit::ThousandPerSecond("evaluations"),
    cases: |options| {
        let calls = options.count(400, 4);
        cases(options, calls, Place::build_file, VALUE)
    },
};

/// `each` is what every answer counts.
fn cases(options: &Options, calls: u64, request: fn(&Place, u64) -> Asked, each: u64) -> Vec<Case> {
    let mut sizes = vec![1, options.cores.len()];
    sizes.dedup();
    sizes
        .into_iter()
        .map(|isolates| {
            let run = move |place: &Place| call(place, isolates, calls, request);
            case(format!("{isolates} isolates"), calls * each, run)
        })
        .collect()
}

/// `isolate_start`.
pub const START: Scenario = Scenario {
    name: "isolate_start",
    family: Family::Build,
    about: "from nothing to the value of a build file: thread, isolate, context, evaluation of a constant, of a sum",
    unit: Unit::Milliseconds,
    cases: |_| {
        let variants = [
            ("until it answers", Place::constant as Request),
            ("first evaluation", Place::build_file),
        ];
        let start = |(variant, request): (&str, Request)| {
            case(variant.into(), VALUE, move |place| {
                let (elapsed, value) = place.ask_new(request);
                Sample::time(elapsed, value)
            })
        };
        variants.map(start).into()
    },
};

/// The value that the build file exports: the sum of the numbers up to a thousand.
const VALUE: u64 = 1000 * 1001 / 2;
/// Words of the command that the rule answers with.
const WORDS: u64 = 7;
const BUILD_FILE: &str = "
const numbers: number[] = Array.from({ length: 1000 }, (_, index) => index + 1);
export default { total: numbers.reduce((sum, number) => sum + number, 0) };
";

const RULE_FILE: &str = "
import { attr, rule } from 'zako:rule';
const FLAGS = ['-O2', '-g'];
export const compile = rule({
  name: 'compile',
  attrs: { srcs: attr.sources() },
  implementation(ctx) {
    const objects = ctx.attrs.srcs.map((src) => {
      const out = ctx.file(`${src.stem}.o`);
      return ctx.run({ cmd: ['cc', ...FLAGS, '-c', src, '-o', out], outs: [out] }).out;
    });
    return { files: objects };
  },
});
";

/// The same sum, as somebody else has found it.
const CONSTANT_FILE: &str = "export default { total: 500500 };
";

/// What is asked at the call of that number.
type Request = fn(&Place, u64) -> Asked;

/// A request, and what its answer counts.
type Asked = (EvaluateRequest, fn(&Value) -> u64);

fn case(variant: String, expected: u64, run: impl Fn(&Place) -> Sample + 'static) -> Case {
    let run = move || run(&Place::new());
    Case::new(ZAKO, variant, Threads::anywhere(), run).expecting(move || expected)
}

/// A workspace with one build file, and an actor system.
struct Place {
    directory: tempfile::TempDir,
    system: System,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the workspace");
        let files = [
            ("BUILD.ts", BUILD_FILE),
            ("constant.ts", CONSTANT_FILE),
            ("c.rule.ts", RULE_FILE),
        ];
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).expect("the disk has room");
        }
        Self {
            directory,
            system: System::new().expect("the system starts"),
        }
    }

    fn build_file(&self, _call: u64) -> Asked {
        self.total_of("BUILD.ts")
    }

    fn constant(&self, _call: u64) -> Asked {
        self.total_of("constant.ts")
    }

    fn total_of(&self, file: &str) -> Asked {
        let request = EvaluateRequest::new(self.directory.path(), file, ContextKind::Build);
        (request, |value| value["total"].as_u64().unwrap_or_default())
    }

    /// The rule is asked about target `call`, which has one source.
    fn rule(&self, call: u64) -> Asked {
        let mut request =
            EvaluateRequest::new(self.directory.path(), "c.rule.ts", ContextKind::Rule);
        let name = format!("t{call}");
        let source = format!("a/{name}.c");
        request.call = Some(json!({
            "kind": "rule", "file": "c.rule.ts", "rule": "compile", "config": {}, "toolchains": {},
            "targets": [{ "label": format!("//a:{name}"), "dir": "a", "name": name, "known": {},
                "attrs": { "srcs": { "$files": [{ "$file": source }] } } }],
        }));
        (request, |value| {
            let words = value[0]["actions"][0]["cmd"].as_array();
            words.map_or(0, Vec::len) as u64
        })
    }

    /// The time that one evaluation takes on a new pool, and the value that it answers.
    fn ask_new(&self, request: Request) -> (Elapsed, u64) {
        let (elapsed, (_pool, value)) = timed(|| {
            let pool = IsolatePool::new(&self.system, PoolSize::fixed(1));
            let value = self.ask(&pool, 1, request);
            // Its end is not what is measured.
            (pool, value)
        });
        (elapsed, value)
    }

    fn ask(&self, pool: &IsolatePool, calls: u64, request: Request) -> u64 {
        let mut counts = Vec::new();
        let requests = (0..calls).map(|call| {
            let (request, count) = request(self, call);
            counts.push(count);
            request
        });
        let answers = pool.evaluate_all(requests).into_iter();
        let counts = answers.zip(counts).map(|(answer, count)| {
            let evaluation = answer.expect("an answer").expect("no mistakes");
            count(&evaluation.value)
        });
        counts.sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.system.shutdown(Duration::from_secs(30));
    }
}

fn call(place: &Place, isolates: usize, calls: u64, request: Request) -> Sample {
    let pool = IsolatePool::new(&place.system, PoolSize::fixed(isolates));
    // Every isolate is up before the clock starts.
    place.ask(&pool, 8 * isolates as u64, request);
    let (elapsed, sum) = timed(|| place.ask(&pool, calls, request));
    drop(pool);
    Sample::kilo_rate(calls, elapsed, sum)
}
