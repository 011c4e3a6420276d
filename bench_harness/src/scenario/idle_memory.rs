//! Resident memory per idle actor, each library in a process of its own so that no one inherits another's heap.
#![forbid(unsafe_code)]

use std::process::Command;

use super::actors::every_kit;
use super::{Family, Scenario};
use crate::actor::{Kit, Role, Setup};
use crate::machine::resident_bytes;
use crate::measure::{Case, Sample, Unit};
use crate::options::{MAILBOX, Options, Scale};
use crate::pin;
use crate::threads::Threads;

/// `idle_memory`.
pub const SCENARIO: Scenario = Scenario {
    name: "idle_memory",
    family: Family::Actors,
    about: "resident memory per idle actor, of 200,000",
    unit: Unit::Bytes,
    cases,
};

/// Set for the child process: which library, how many actors.
pub const PROBE: &str = "BENCH_HARNESS_MEMORY_PROBE";

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_kit!(options, cases, idle, options);
    cases
}

fn idle<K: Kit>(options: &Options) -> Case {
    let count = options.count(200_000, 500);
    let alone = options.scale != Scale::Tiny;
    Case {
        implementation: K::NAME,
        variant: "idle actors".into(),
        threads: Threads::anywhere(),
        expected: Some(Box::new(move || count)),
        run: Box::new(move || {
            let value = if alone {
                in_child(K::NAME, count)
            } else {
                measure::<K>(count)
            };
            Sample {
                value,
                checksum: count,
            }
        }),
    }
}

fn in_child(name: &str, count: u64) -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .env(PROBE, format!("{name}={count}"))
        .output()
        .expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("the probe of {name} printed `{text}`"))
}

fn measure<K: Kit>(count: u64) -> f64 {
    let kit = K::start(&Setup {
        cores: vec![pin::available()[0]],
        mailbox: MAILBOX,
    });
    let first = kit.spawn(Role::Idle);
    let before = resident_bytes().0;
    let all: Vec<K::Ref> = (0..count).map(|_| kit.spawn(Role::Idle)).collect();
    // Libraries that start actors as tasks have started this one after all the others.
    let (done, finished) = std::sync::mpsc::channel();
    let last = kit.spawn(Role::sink(1, done));
    kit.tell(&last, crate::actor::Msg::Item(0));
    let _ = finished.recv_timeout(std::time::Duration::from_secs(60));
    let after = resident_bytes().0;
    drop((first, all, last));
    kit.stop();
    after.saturating_sub(before) as f64 / count as f64
}

/// The child's part: measures and prints, if this process was started for that.
pub fn answer_probe() -> bool {
    let Ok(probe) = std::env::var(PROBE) else {
        return false;
    };
    let (name, count) = probe.split_once('=').expect("name=count");
    let count = count.parse().expect("a number");
    let mut probes: Vec<(&str, f64)> = Vec::new();
    let options = Options {
        peers: true,
        ..Options::default()
    };
    every_kit!(options, probes, probe_if, name, count);
    let (_, bytes) = probes
        .iter()
        .find(|(kit, _)| *kit == name)
        .expect("a known library");
    println!("{bytes}");
    true
}

fn probe_if<K: Kit>(name: &str, count: u64) -> (&'static str, f64) {
    (
        K::NAME,
        if K::NAME == name {
            measure::<K>(count)
        } else {
            0.0
        },
    )
}
