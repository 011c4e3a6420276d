//! A large file into the store, beside the least that this takes: reading and hashing it, and copying it to disk.
//!
//! The file is in memory when it is asked for, and its content is new in every run. All three end when what they do is done:
//! the copies are on disk.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use actor_rt::System;
use cas_actor::{Digest, Hasher, Store, StoreConfig};

use super::actors::timed;
use super::store::{STORE, blob, sum};
use super::{Family, Scenario};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::threads::Threads;

/// `store_ingest`.
pub const SCENARIO: Scenario = Scenario {
    name: "store_ingest",
    family: Family::Store,
    about: "one file of 1 GiB into a store, durable; beside hashing alone and copying with fsync alone",
    unit: Unit::Milliseconds,
    cases,
};

const MIB: usize = 1 << 20;
/// How much is read at a time by who hashes alone.
const PIECE_BYTES: usize = 256 * 1024;

type Work = fn(&Path, &Path) -> (std::time::Duration, Digest);

fn cases(options: &Options) -> Vec<Case> {
    let mebibytes = options.count(1024, 1);
    let case = |implementation, work: Work| Case {
        implementation,
        variant: format!("{mebibytes} MiB"),
        threads: Threads::anywhere(),
        expected: None,
        run: Box::new(move || {
            let directory = tempfile::tempdir().expect("a directory");
            let source = directory.path().join("source");
            write(&source, mebibytes).expect("the disk has room");
            let (elapsed, digest) = work(directory.path(), &source);
            Sample::time(elapsed, sum(digest.hash()))
        }),
    };
    vec![
        case(STORE, ingest),
        case("hashing alone", hash),
        case("copy and fsync alone", copy),
    ]
}

/// A file that is in memory and on disk.
fn write(path: &Path, mebibytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    for number in 0..mebibytes {
        file.write_all(&blob(number, MIB))?;
    }
    file.sync_all()
}

fn ingest(directory: &Path, source: &Path) -> (std::time::Duration, Digest) {
    let system = System::new().expect("the system starts");
    let store = Store::open(StoreConfig::new(directory.join("store")), &system);
    let store = store.expect("a new store opens");
    let put = timed(|| {
        store
            .blocking()
            .put_file(source)
            .expect("the disk has room")
    });
    store.blocking().close();
    let _ = system.shutdown(std::time::Duration::from_secs(10));
    put
}

fn hash(_: &Path, source: &Path) -> (std::time::Duration, Digest) {
    timed(|| digest_of(source).expect("it was written"))
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let (mut file, mut hasher) = (File::open(path)?, Hasher::new());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&piece[..length]),
        }
    }
}

fn copy(directory: &Path, source: &Path) -> (std::time::Duration, Digest) {
    let path = directory.join("copy");
    let (elapsed, ()) = timed(|| {
        fs::copy(source, &path).expect("the disk has room");
        let copy = File::open(&path).expect("it was written");
        copy.sync_all().expect("the disk works");
    });
    (elapsed, digest_of(&path).expect("it was written"))
}
