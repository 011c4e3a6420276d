//! Resident memory per idle actor, each library in a process of its own so that no one inherits another's heap.
#![forbid(unsafe_code)]

use actor_rt::MemoryStats;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::actors::{every_kit, roll_call, sum_below, wait};
use super::{Family, Scenario};
use crate::actor::{Kit, Role, Setup};
use crate::machine::resident_bytes;
use crate::measure::{Case, OURS, Sample, Unit};
use crate::options::{MAILBOX, Options, Scale};
use crate::pin;
use crate::probe::Probe;
use crate::threads::Threads;

/// `idle_memory`.
pub const SCENARIO: Scenario = Scenario {
    name: "idle_memory",
    family: Family::Actors,
    about: "resident memory per idle actor, of 200,000 or --count, and what of it is an empty mailbox",
    unit: Unit::Bytes,
    cases,
};

/// What a process of its own has found.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    /// For each actor.
    bytes: f64,
    /// The numbers that they tell afterwards, added up.
    checksum: u64,
}

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
    let count = options.targets(200_000, 500);
    let alone = options.scale != Scale::Tiny;
    let run = move || {
        let seen = if alone {
            let library = K::NAME.into();
            let probe = Probe::IdleMemory {
                library,
                actors: count,
            };
            probe.ask().unwrap_or_else(|error| panic!("{error:#}"))
        } else {
            measure::<K>(count)
        };
        Sample::plain(seen.bytes, seen.checksum)
    };
    let variant = match options.count {
        Some(count) => format!("{count} idle actors"),
        None => "idle actors".into(),
    };
    Case::new(K::NAME, variant, Threads::anywhere(), run).expecting(move || sum_below(count))
}

/// So many actors of one library.
fn measure<K: Kit>(count: u64) -> Seen {
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
    Seen {
        bytes: after.saturating_sub(before) as f64 / count as f64,
        checksum,
    }
}

/// The same for the library with this name, on whatever this process took before.
///
/// # Errors
/// When no library has it.
pub fn look(library: &str, actors: u64) -> anyhow::Result<Seen> {
    let mut all: Vec<Option<Seen>> = Vec::new();
    let options = Options {
        peers: true,
        ..Options::default()
    };
    every_kit!(options, all, measure_if, library, actors);
    let seen = all.into_iter().flatten().next();
    seen.with_context(|| format!("there is no library `{library}` here"))
}

fn measure_if<K: Kit>(library: &str, actors: u64) -> Option<Seen> {
    (K::NAME == library).then(|| measure::<K>(actors))
}
