//! Small durable puts by many writers at once, beside one file and one sync for each.
//!
//! Every writer is a thread that waits until its blob is on disk before it puts the next. Beside them one thread that writes
//! a file, syncs it and goes on: what a put costs that shares its sync with nobody. What was written is read back outside of
//! the time.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::thread;

use actor_rt::System;
use cas_actor::{Digest, Store, StoreConfig};

use super::store::{STORE, blob, sum, sum_of_blobs};
use super::{Family, Scenario};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::threads::Threads;

/// `store_writers`.
pub const SCENARIO: Scenario = Scenario {
    name: "store_writers",
    family: Family::Store,
    about: "new blobs of 2 KiB by 64 threads, each on disk before the next; beside one file and one fsync for each",
    unit: Unit::ThousandPerSecond("blobs"),
    cases,
};

const WRITERS: u64 = 64;
const BYTES: usize = 2048;

fn cases(options: &Options) -> Vec<Case> {
    let blobs = options.count(100, 2) * WRITERS;
    let case = |implementation, put: fn(&Path, u64) -> Sample| {
        let run = move || {
            let directory = tempfile::tempdir().expect("a directory");
            put(directory.path(), blobs)
        };
        Case::new(implementation, "2 KiB, durable", Threads::anywhere(), run)
            .expecting(move || sum_of_blobs(blobs, BYTES))
    };
    vec![case(STORE, together), case("one fsync each", alone)]
}

fn together(directory: &Path, blobs: u64) -> Sample {
    let system = System::new().expect("the system starts");
    let store = Store::open(StoreConfig::new(directory), &system).expect("a new store opens");
    let (elapsed, names) = timed(|| {
        thread::scope(|scope| {
            let write = |writer| {
                let store = store.blocking();
                move || {
                    let mine = (writer..blobs).step_by(WRITERS as usize);
                    let put = |number| store.put(blob(number, BYTES)).expect("the disk has room");
                    mine.map(put).collect::<Vec<Digest>>()
                }
            };
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(write(writer)))
                .collect();
            let joined = writers
                .into_iter()
                .flat_map(|writer| writer.join().expect("a writer ends"));
            joined.collect::<Vec<Digest>>()
        })
    });
    let stored = names
        .iter()
        .map(|name| sum(&store.blocking().get(name).expect("it was put")));
    let checksum = stored.fold(0, u64::wrapping_add);
    store.blocking().close();
    let _ = system.shutdown(std::time::Duration::from_secs(10));
    Sample::kilo_rate(blobs, elapsed, checksum)
}

fn alone(directory: &Path, blobs: u64) -> Sample {
    let path = |number: u64| directory.join(number.to_string());
    let (elapsed, ()) = timed(|| {
        for number in 0..blobs {
            let content = blob(number, BYTES);
            // Whoever has a store by names of contents has to find the name.
            std::hint::black_box(Digest::of(&content));
            let mut file = File::create(path(number)).expect("a new file");
            file.write_all(&content).expect("the disk has room");
            file.sync_data().expect("the disk works");
        }
    });
    let stored = (0..blobs).map(|number| sum(&fs::read(path(number)).expect("it was written")));
    let checksum = stored.fold(0, u64::wrapping_add);
    Sample::kilo_rate(blobs, elapsed, checksum)
}
