//! Opening a store that holds a million small blobs: until it answers, and what that takes in memory.
//!
//! The store is made once for a scenario and closed; every run opens it in a process of its own, so that nobody inherits
//! another's heap or mapped pages.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use actor_rt::System;
use cas_actor::{Blocking, Digest, Store};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::filled::{close, config, content, fill};
use super::store::STORE;
use super::{Family, Scenario};
use crate::machine::resident_bytes;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::probe::Probe;
use crate::threads::Threads;

/// `store_open`.
pub const OPEN: Scenario = Scenario {
    name: "store_open",
    family: Family::Store,
    about: "opening a store of a million small blobs, until it says whether one is there",
    unit: Unit::Milliseconds,
    cases: |options| vec![case(options, |seen| seen.open_ms)],
};

/// `store_memory`.
pub const MEMORY: Scenario = Scenario {
    name: "store_memory",
    family: Family::Store,
    about: "resident memory of a store per small blob, of a million, when each was asked for; mapped pages included",
    unit: Unit::Bytes,
    cases: |options| vec![case(options, |seen| seen.entry_bytes)],
};

const QUESTION: u64 = 10_000;

/// What a process of its own has found.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    /// Until it answers.
    open_ms: f64,
    /// Resident memory for each blob.
    entry_bytes: f64,
    /// Blobs that are there.
    found: u64,
}

fn case(options: &Options, value: fn(&Seen) -> f64) -> Case {
    let blobs = options.count(1_000_000, 500);
    let alone = options.scale != Scale::Tiny;
    let made: OnceLock<TempDir> = OnceLock::new();
    let run = move || {
        let directory = made.get_or_init(|| fill(blobs, put)).path();
        let seen = if alone {
            let directory = directory.to_owned();
            let probe = Probe::Store { blobs, directory };
            probe.ask().unwrap_or_else(|error| panic!("{error:#}"))
        } else {
            look(blobs, directory)
        };
        Sample::plain(value(&seen), seen.found)
    };
    Case::new(STORE, "8 bytes each", Threads::anywhere(), run).expecting(move || blobs)
}

fn put(store: Blocking<'_>, content: Vec<u8>) {
    store.put(content).expect("the disk has room");
}

/// Opens such a store and asks for every blob.
///
/// # Panics
/// When there is none.
pub fn look(blobs: u64, directory: &Path) -> Seen {
    let system = System::new().expect("the system starts");
    let before = resident_bytes().0;
    let started = Instant::now();
    let store = Store::open(config(directory), &system).expect("it was closed");
    let blocking = store.blocking();
    let last = [Digest::of(&content(blobs - 1))];
    assert_eq!(blocking.contains(&last).expect("it is open"), [true]);
    let open_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut found = 0;
    for start in (0..blobs).step_by(QUESTION as usize) {
        let some = start..blobs.min(start + QUESTION);
        let some: Vec<Digest> = some.map(|number| Digest::of(&content(number))).collect();
        let some = blocking.contains(&some).expect("it is open");
        found += some.into_iter().filter(|found| *found).count() as u64;
    }
    let after = resident_bytes().0;
    close(&system, &store);
    Seen {
        open_ms,
        entry_bytes: after.saturating_sub(before) as f64 / blobs as f64,
        found,
    }
}
