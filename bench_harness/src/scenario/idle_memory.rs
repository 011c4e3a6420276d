//! Resident memory per idle actor, each library in a process of its own so that no one inherits another's heap.
#![forbid(unsafe_code)]

use std::process::Command;

use actor_rt::MemoryStats;

use super::actors::{every_kit, roll_call, sum_below, wait};
use super::{Family, Scenario};
use crate::actor::{Kit, Role, Setup};
use crate::machine::resident_bytes;
use crate::measure::{Case, OURS, Sample, Unit};
use crate::options::{MAILBOX, Options, Scale};
use crate::pin;
use crate::threads::Threads;

/// `idle_memory`.
pub const SCENARIO: Scenario = Scenario {
    name: "idle_memory",
    family: Family::Actors,
    about: "resident memory per idle actor, of 200,000, and what of it is an empty mailbox",
    unit: Unit::Bytes,
    cases,
};

/// Set for the child process: which library, how many actors.
pub const PROBE: &str = "BENCH_HARNESS_MEMORY_PROBE";

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_kit!(options, cases, idle, options);
    cases.push(mailbox());
    cases
}

/// Of that, what is a mailbox of ours: known from its type and not measured, so that it cannot grow unnoticed.
fn mailbox() -> Case {
    let bytes = MemoryStats::IDLE_MAILBOX_BYTES;
    let run = move || Sample::plain(bytes as f64, 0);
    let variant = "of it a mailbox before its first message";
    Case::new(OURS, variant, Threads::anywhere(), run).expecting(|| 0)
}

fn idle<K: Kit>(options: &Options) -> Case {
    let count = options.count(200_000, 500);
    let alone = options.scale != Scale::Tiny;
    let run = move || {
        if alone {
            in_child(K::NAME, count)
        } else {
            measure::<K>(count)
        }
    };
    Case::new(K::NAME, "idle actors", Threads::anywhere(), run).expecting(move || sum_below(count))
}

fn in_child(name: &str, count: u64) -> Sample {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .env(PROBE, format!("{name}={count}"))
        .output()
        .expect("it starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let sample = text.trim().split_once(' ').and_then(|(value, checksum)| {
        Some(Sample::plain(value.parse().ok()?, checksum.parse().ok()?))
    });
    sample.unwrap_or_else(|| panic!("the probe of {name} printed `{text}`"))
}

/// Bytes for each of so many actors, and the sum of the numbers that these tell afterwards.
fn measure<K: Kit>(count: u64) -> Sample {
    let kit = K::start(&Setup {
        cores: vec![pin::available()[0]],
        mailbox: MAILBOX,
    });
    let first = kit.spawn(Role::Idle { number: count });
    let before = resident_bytes().0;
    let all: Vec<K::Ref> = (0..count)
        .map(|number| kit.spawn(Role::Idle { number }))
        .collect();
    // Libraries that start actors as tasks have started this one after all the others.
    let (done, finished) = std::sync::mpsc::channel();
    let last = kit.spawn(Role::sink(1, done.clone()));
    kit.tell(&last, crate::actor::Msg::Item(0));
    wait(&finished, 1);
    let after = resident_bytes().0;
    let checksum = roll_call(&kit, &all, &done, &finished);
    drop((first, all, last));
    kit.stop();
    Sample::plain(after.saturating_sub(before) as f64 / count as f64, checksum)
}

/// The child's part: measures and prints, if this process was started for that.
pub fn answer_probe() -> bool {
    let Ok(probe) = std::env::var(PROBE) else {
        return false;
    };
    let (name, count) = probe.split_once('=').expect("name=count");
    let count = count.parse().expect("a number");
    let mut probes: Vec<Option<Sample>> = Vec::new();
    let options = Options {
        peers: true,
        ..Options::default()
    };
    every_kit!(options, probes, probe_if, name, count);
    let found = probes.into_iter().flatten().next();
    let found = found.expect("a known library");
    println!("{} {}", found.value, found.checksum);
    true
}

fn probe_if<K: Kit>(name: &str, count: u64) -> Option<Sample> {
    (K::NAME == name).then(|| measure::<K>(count))
}
