//! A large file into the store, beside the least that this takes: reading and hashing it, and copying it to disk.
//!
//! The file is in memory when it is asked for, and written anew for every run. All three end when what they do is done:
//! the copies are on disk. Outside of the time the copies (and the file that was only hashed) are read for the checksum.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use actor_rt::System;
use cas_actor::{Digest, Hasher, Store, StoreConfig};

use super::store::{STORE, blob, sum, sum_of_blobs};
use super::{Family, Scenario};
use crate::elapsed::{Elapsed, timed};
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

/// What somebody does with a file in a directory: the time, the name that it found for the content, and every word of what is
/// left of it.
type Work = fn(&Path, &Path) -> (Elapsed, Digest, u64);

fn cases(options: &Options) -> Vec<Case> {
    let mebibytes = options.count(1024, 1);
    let case = |implementation, work: Work| {
        let run = move || {
            let directory = tempfile::tempdir().expect("a directory");
            let source = directory.path().join("source");
            write(&source, mebibytes).expect("the disk has room");
            let (elapsed, digest, left) = work(directory.path(), &source);
            Sample::time(elapsed, checksum(&digest, left))
        };
        let variant = format!("{mebibytes} MiB");
        Case::new(implementation, variant, Threads::anywhere(), run).expecting(move || {
            let mut hasher = Hasher::new();
            (0..mebibytes).for_each(|number| hasher.update(&blob(number, MIB)));
            checksum(&hasher.finish(), sum_of_blobs(mebibytes, MIB))
        })
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

fn checksum(digest: &Digest, left: u64) -> u64 {
    sum(digest.hash()).wrapping_add(left)
}

fn ingest(directory: &Path, source: &Path) -> (Elapsed, Digest, u64) {
    let system = System::new().expect("the system starts");
    let store = Store::open(StoreConfig::new(directory.join("store")), &system);
    let store = store.expect("a new store opens");
    let (elapsed, digest) = timed(|| {
        store
            .blocking()
            .put_file(source)
            .expect("the disk has room")
    });
    let left = sum(&store.blocking().get(&digest).expect("it was put"));
    store.blocking().close();
    let _ = system.shutdown(Duration::from_secs(10));
    (elapsed, digest, left)
}

fn hash(_: &Path, source: &Path) -> (Elapsed, Digest, u64) {
    let (elapsed, digest) = timed(|| digest_of(source).expect("it was written"));
    (elapsed, digest, sum_of(source).expect("it is there"))
}

/// Every word of a file of whole pieces.
fn sum_of(path: &Path) -> io::Result<u64> {
    let (mut file, mut all) = (File::open(path)?, 0_u64);
    let mut piece = vec![0; PIECE_BYTES];
    for _ in 0..file.metadata()?.len() / PIECE_BYTES as u64 {
        file.read_exact(&mut piece)?;
        all = all.wrapping_add(sum(&piece));
    }
    Ok(all)
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

fn copy(directory: &Path, source: &Path) -> (Elapsed, Digest, u64) {
    let path = directory.join("copy");
    let (elapsed, ()) = timed(|| {
        fs::copy(source, &path).expect("the disk has room");
        let copy = File::open(&path).expect("it was written");
        copy.sync_all().expect("the disk works");
    });
    let digest = digest_of(&path).expect("it was written");
    (elapsed, digest, sum_of(&path).expect("it is there"))
}
