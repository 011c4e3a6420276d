//! Small durable puts by many writers at once, beside one file and one sync for each.
//!
//! Every writer is a thread that waits until its blob is on disk before it puts the next. Beside them one thread that writes
//! a file, syncs it and goes on: what a put costs that shares its sync with nobody.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread;

use actor_rt::System;
use cas_actor::{Digest, Store, StoreConfig};

use super::actors::timed;
use super::store::{STORE, blob, sum};
use super::{Family, Scenario};
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
    let case = |implementation, put: fn(&Path, u64) -> Sample| Case {
        implementation,
        variant: "2 KiB, durable".into(),
        threads: Threads::anywhere(),
        expected: None,
        run: Box::new(move || {
            let directory = tempfile::tempdir().expect("a directory");
            put(directory.path(), blobs)
        }),
    };
    vec![case(STORE, together), case("one fsync each", alone)]
}

/// What a blob adds to the checksum.
fn share(content: &[u8]) -> u64 {
    sum(Digest::of(content).hash())
}

fn together(directory: &Path, blobs: u64) -> Sample {
    let system = System::new().expect("the system starts");
    let store = Store::open(StoreConfig::new(directory), &system).expect("a new store opens");
    let (elapsed, checksum) = timed(|| {
        thread::scope(|scope| {
            let write = |writer| {
                let store = store.blocking();
                move || {
                    (writer..blobs)
                        .step_by(WRITERS as usize)
                        .fold(0, |all, number| {
                            let put = store.put(blob(number, BYTES)).expect("the disk has room");
                            u64::wrapping_add(all, sum(put.hash()))
                        })
                }
            };
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| scope.spawn(write(writer)))
                .collect();
            let joined = writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer ends"));
            joined.fold(0, u64::wrapping_add)
        })
    });
    store.blocking().close();
    let _ = system.shutdown(std::time::Duration::from_secs(10));
    Sample::kilo_rate(blobs, elapsed, checksum)
}

fn alone(directory: &Path, blobs: u64) -> Sample {
    let (elapsed, checksum) = timed(|| {
        (0..blobs).fold(0, |all, number| {
            let content = blob(number, BYTES);
            let mut file = File::create(directory.join(number.to_string())).expect("a new file");
            file.write_all(&content).expect("the disk has room");
            file.sync_data().expect("the disk works");
            u64::wrapping_add(all, share(&content))
        })
    });
    Sample::kilo_rate(blobs, elapsed, checksum)
}
