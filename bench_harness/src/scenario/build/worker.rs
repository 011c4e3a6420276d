//! Tasks given to worker processes that stay, and to one process each.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zako_actors::engine::action::find_program;
use zako_actors::engine::cancel::Cancel;
use zako_actors::engine::hash::Hash;
use zako_actors::engine::process::{ProcessEnd, ProcessSpec, run};
use zako_actors::engine::scratch::{Scratch, Scratches};
use zako_actors::engine::worker::{Mirror, WorkRequest, Worker, Workers};

use super::ZAKO;
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `worker_processes`.
pub const SCENARIO: Scenario = Scenario {
    name: "worker_processes",
    family: Family::Build,
    about: "small tasks for a tool: worker processes that stay, and one process per task",
    unit: Unit::ThousandPerSecond("tasks"),
    cases: |options| {
        let threads = options.cores.len();
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = TOOLS.iter().filter_map(|tool| {
            let program = find_program(tool.name, &path)?;
            Some((tool, program))
        });
        tools
            .flat_map(|(tool, program)| {
                let (stay, once) = (options.count(20_000, 4), options.count(60, 2));
                let other = program.clone();
                let anywhere = Threads::anywhere;
                let stay = move || persistent(tool, &program, threads, stay);
                let once = move || single(tool, &other, threads, once);
                [
                    Case::new(ZAKO, tool.name, anywhere(), stay),
                    Case::new("one process per task", tool.name, anywhere(), once),
                ]
            })
            .map(|case| case.expecting(|| WORD * WORD))
            .collect()
    },
};

/// Tools that are not measured, and why.
pub(crate) fn absent() -> Vec<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let missing = TOOLS
        .iter()
        .filter(|tool| find_program(tool.name, &path).is_none());
    missing
        .map(|tool| format!("{} (not installed)", tool.name))
        .collect()
}

/// A tool that squares a number, in both ways of using it.
struct Tool {
    name: &'static str,
    flag: &'static str,
    worker: &'static str,
    once: &'static str,
}

static TOOLS: [Tool; 2] = [
    Tool {
        name: "node",
        flag: "-e",
        worker: r#"
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const [word] = JSON.parse(line).arguments;
  process.stdout.write(JSON.stringify({ output: String(word * word) }) + "\n");
});"#,
        once: "process.stdout.write(String(process.argv[1] * process.argv[1]))",
    },
    Tool {
        name: "sh",
        flag: "-c",
        worker: r#"
while read -r line; do
  word=${line#*'["'}
  word=${word%%'"'*}
  echo "{\"output\":\"$((word * word))\"}"
done"#,
        once: r#"printf %s "$(($0 * $0))""#,
    },
];

const WORD: u64 = 12;

/// Has `threads` threads do `tasks` tasks, and looks at every answer; the checksum is that of one, which all must be.
fn drive(threads: usize, tasks: u64, task: impl Fn() -> String + Sync) -> Sample {
    let each = (tasks / threads as u64).max(1);
    let answers = || (0..each).map(|_| task()).collect::<Vec<String>>();
    let (elapsed, answers) = timed(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(answers)).collect();
            let answers = threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("every task is answered"));
            answers.collect::<Vec<String>>()
        })
    });
    let mut numbers = answers.iter().map(|it| it.parse().expect("a number"));
    let first = numbers.next().expect("there are tasks");
    assert!(numbers.all(|number: u64| number == first), "{answers:?}");
    Sample::kilo_rate(answers.len() as u64, elapsed, first)
}

fn spec(program: &Path, argv: Vec<String>, scratch: &Scratch) -> ProcessSpec {
    ProcessSpec {
        program: program.to_owned(),
        argv,
        env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        cwd: scratch.work(),
        log: scratch.log(),
        timeout: None,
        mark: scratch.dir().to_owned(),
        confine: None,
    }
}

fn words(tool: &Tool, script: &str) -> Vec<String> {
    [tool.name, tool.flag, script].map(str::to_owned).to_vec()
}

fn persistent(tool: &Tool, program: &Path, threads: usize, tasks: u64) -> Sample {
    let place = tempfile::tempdir().expect("a directory");
    let scratches = Scratches::new(place.path().to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let pool = Workers::new(threads, Duration::from_secs(60), runtime.handle().clone());
    let cancel = Cancel::new().expect("file descriptors are left");
    let start = || {
        let mirror = Mirror::create(&scratches).expect("the disk has room");
        let spec = spec(program, words(tool, tool.worker), mirror.scratch());
        Worker::start(&spec, mirror)
    };
    let arguments = [WORD.to_string()];
    let ask = |pool: &Arc<Workers>| {
        let mut hired = pool.hire(Hash::of(b"tool"), start).expect("it starts");
        let request = WorkRequest {
            arguments: &arguments,
            inputs: Vec::new(),
            request_id: 0,
            cancel: false,
        };
        let worker = hired.worker().expect("it is there");
        let answer = worker.ask(&request, &cancel, None).expect("an answer");
        hired.give_back();
        answer.output
    };
    let sample = drive(threads, tasks, || ask(&pool));
    pool.end();
    sample
}

fn single(tool: &Tool, program: &Path, threads: usize, tasks: u64) -> Sample {
    let place = tempfile::tempdir().expect("a directory");
    let scratches = Scratches::new(place.path().to_owned());
    let cancel = Cancel::new().expect("file descriptors are left");
    drive(threads, tasks, || {
        let scratch = scratches.take(false).expect("the disk has room");
        let mut argv = words(tool, tool.once);
        argv.push(WORD.to_string());
        let spec = spec(program, argv, &scratch);
        let end = run(&spec, &cancel).expect("it starts");
        assert!(matches!(end, ProcessEnd::Exited(status) if status.success()));
        fs::read_to_string(spec.log).expect("what it printed")
    })
}
