//! The store: putting, getting and asking for blobs, small and large; beside it one file per blob, as many caches do.
//!
//! Both name content by BLAKE3, write it to a temporary name first and rename it; "durable" means that both have synced
//! it when they answer. 32 requests are under way at a time: as futures here, as threads there.
#![forbid(unsafe_code)]

use std::sync::Arc;

use actor_rt::System;
use bytes::Bytes;
use cas_actor::{Digest, Durability, Store, StoreConfig};
use futures_util::stream::{self, StreamExt as _};

use super::files::{Files, spread};
use super::{Family, Scenario, store_reopened};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::threads::Threads;

/// The name of ours in store scenarios.
pub(super) const STORE: &str = "cas_actor";
const FILES: &str = "file per blob";

/// `store_put`.
pub const PUT: Scenario = Scenario {
    name: "store_put",
    family: Family::Store,
    about: "new blobs into an empty store, small and large, durable or not; 32 under way",
    unit: Unit::ThousandPerSecond("blobs"),
    cases: |options| {
        let durable = [
            (Durability::Durable, "durable"),
            (Durability::Volatile, "not synced"),
        ];
        let mut cases = Vec::new();
        for size in SIZES {
            for (durability, name) in durable {
                let load = Load::new(options, size, durability);
                let variant = format!("{}, {name}", size.name);
                cases.extend(load.cases(options, variant, put, Load::sum));
            }
        }
        cases
    },
};

/// `store_get`.
pub const GET: Scenario = Scenario {
    name: "store_get",
    family: Family::Store,
    about: "blobs out of a store, every byte read, small and large; 32 under way",
    unit: Unit::ThousandPerSecond("blobs"),
    cases: |options| both_sizes(options, get, Load::sum),
};

/// `store_contains`.
pub const CONTAINS: Scenario = Scenario {
    name: "store_contains",
    family: Family::Store,
    about: "which of these blobs are here: 100 per question, half of them; small and large, and in a store that was opened again",
    unit: Unit::ThousandPerSecond("blobs"),
    cases: |options| {
        let mut cases = both_sizes(options, contains, Load::hits);
        cases.push(store_reopened::contains(options));
        cases
    },
};

#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    bytes: usize,
    /// Blobs at full scale and in tests.
    count: (u64, u64),
}

const SIZES: [Size; 2] = [
    Size {
        name: "1 KiB",
        bytes: 1024,
        count: (20_000, 40),
    },
    Size {
        name: "4 MiB",
        bytes: 4 << 20,
        count: (20, 2),
    },
];
pub(super) const UNDER_WAY: usize = 32;
/// Blobs that are asked for at a time.
pub(super) const QUESTION: usize = 100;

#[derive(Clone, Copy)]
struct Load {
    bytes: usize,
    count: u64,
    durability: Durability,
}

impl Load {
    fn new(options: &Options, size: Size, durability: Durability) -> Self {
        Self {
            bytes: size.bytes,
            count: options.count(size.count.0, size.count.1),
            durability,
        }
    }

    fn cases(
        self,
        options: &Options,
        variant: String,
        run: fn(&Shelf, Self) -> Sample,
        expected: fn(Self) -> u64,
    ) -> Vec<Case> {
        let case = |implementation, open: fn(Self) -> Shelf, variant: String| {
            let run = move || run(&open(self), self);
            Case::new(implementation, variant, Threads::anywhere(), run)
                .expecting(move || expected(self))
        };
        let mut cases = vec![case(STORE, Shelf::store, variant.clone())];
        if options.peers {
            cases.push(case(FILES, Shelf::files, variant));
        }
        cases
    }

    fn blobs(self) -> Vec<Bytes> {
        (0..self.count)
            .map(|number| blob(number, self.bytes))
            .collect()
    }

    /// Every word of every blob, added up.
    fn sum(self) -> u64 {
        sum_of_blobs(self.count, self.bytes)
    }

    /// How often all blobs are asked for: few of them again and again.
    fn rounds(self) -> u64 {
        (20_000 / self.count).clamp(1, 500)
    }

    /// Questions that are answered with "it is here".
    fn hits(self) -> u64 {
        self.count * self.rounds()
    }
}

/// The blob with this number: it differs from all others, and in all of its words.
pub(super) fn blob(number: u64, bytes: usize) -> Bytes {
    let words = (0..bytes as u64 / 8).flat_map(|word| {
        (number << 32 | word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .to_le_bytes()
    });
    words.collect()
}

fn both_sizes(
    options: &Options,
    run: fn(&Shelf, Load) -> Sample,
    expected: fn(Load) -> u64,
) -> Vec<Case> {
    SIZES
        .iter()
        .flat_map(|size| {
            let load = Load::new(options, *size, Durability::Volatile);
            load.cases(options, size.name.into(), run, expected)
        })
        .collect()
}

/// Every word of a blob, added up.
pub(super) fn sum(content: &[u8]) -> u64 {
    content.chunks_exact(8).fold(0, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("eight bytes")))
    })
}

/// Every word of the blobs with the numbers below `count`, added up.
pub(super) fn sum_of_blobs(count: u64, bytes: usize) -> u64 {
    let sums = (0..count).map(|number| sum(&blob(number, bytes)));
    sums.fold(0, u64::wrapping_add)
}

/// Where blobs are kept during one run.
struct Shelf {
    place: Place,
    /// For our futures.
    runtime: tokio::runtime::Runtime,
    // Dropped last.
    directory: tempfile::TempDir,
}

enum Place {
    Store(Store, System),
    Files(Files),
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Place::Store(store, system) = &self.place {
            store.clone().blocking().close();
            let _ = system.shutdown(std::time::Duration::from_secs(10));
        }
        let _ = &self.directory;
    }
}

impl Shelf {
    fn new(place: impl FnOnce(&std::path::Path) -> Place) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the store");
        Self {
            place: place(directory.path()),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            directory,
        }
    }

    fn store(load: Load) -> Self {
        Self::new(|directory| {
            let system = System::new().expect("the system starts");
            let config = StoreConfig {
                durability: load.durability,
                ..StoreConfig::new(directory.join("store"))
            };
            let store = Store::open(config, &system).expect("a new store opens");
            Place::Store(store, system)
        })
    }

    fn files(load: Load) -> Self {
        let durable = load.durability == Durability::Durable;
        Self::new(|directory| Place::Files(Files::new(directory, durable)))
    }

    fn put(&self, blobs: &[Bytes]) -> Vec<Digest> {
        match &self.place {
            Place::Store(store, _) => {
                let puts = stream::iter(blobs.to_vec())
                    .map(|blob| async { store.put(blob).await.expect("the disk has room") })
                    .buffered(UNDER_WAY);
                self.runtime.block_on(puts.collect())
            }
            Place::Files(files) => spread(blobs, |blob| {
                let name = Digest::of(blob);
                files.put(&name.hex(), blob);
                name
            }),
        }
    }

    fn get(&self, names: &[Digest]) -> u64 {
        match &self.place {
            Place::Store(store, _) => {
                let gets = stream::iter(names)
                    .map(|name| async { sum(&store.get(name).await.expect("it was put")) })
                    .buffered(UNDER_WAY);
                self.runtime
                    .block_on(gets.fold(0, |all, one| async move { u64::wrapping_add(all, one) }))
            }
            Place::Files(files) => spread(names, |name| sum(&files.get(&name.hex())))
                .into_iter()
                .fold(0, u64::wrapping_add),
        }
    }

    fn contains(&self, names: &[Digest]) -> u64 {
        match &self.place {
            Place::Store(store, _) => {
                let questions = stream::iter(names.chunks(QUESTION))
                    .map(|names| async { store.contains(names).await.expect("the store is open") })
                    .buffered(UNDER_WAY);
                let count = |all, found: Vec<bool>| async move {
                    all + found.into_iter().filter(|found| *found).count() as u64
                };
                self.runtime.block_on(questions.fold(0, count))
            }
            Place::Files(files) => spread(names, |name| u64::from(files.contains(&name.hex())))
                .into_iter()
                .sum(),
        }
    }
}

fn put(shelf: &Shelf, load: Load) -> Sample {
    let blobs = load.blobs();
    let (elapsed, names) = timed(|| shelf.put(&blobs));
    // What was stored is read back outside of the time.
    Sample::kilo_rate(load.count, elapsed, shelf.get(&names))
}

fn get(shelf: &Shelf, load: Load) -> Sample {
    let names = shelf.put(&load.blobs());
    let (elapsed, sum) = timed(|| shelf.get(&names));
    Sample::kilo_rate(load.count, elapsed, sum)
}

fn contains(shelf: &Shelf, load: Load) -> Sample {
    let here = shelf.put(&load.blobs());
    // Each name that is here, and one that is not.
    let both = here
        .iter()
        .flat_map(|name| [*name, Digest::of(name.hash())]);
    let rounds = load.rounds();
    let both: Arc<[Digest]> = both.collect();
    let (elapsed, found) = timed(|| (0..rounds).map(|_| shelf.contains(&both)).sum());
    Sample::kilo_rate(2 * load.count * rounds, elapsed, found)
}
