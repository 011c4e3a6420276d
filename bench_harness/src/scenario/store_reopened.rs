//! Asking a store for blobs right after it was opened: nothing is in memory but what opening brings there, and every look-up
//! goes by the index that was written when the store was closed.
//!
//! The store is made once for a case; every run opens it anew and asks for each name once.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use cas_actor::{Blocking, Digest, Sha256Digest};
use futures_util::stream::{self, StreamExt as _};
use tempfile::TempDir;

use super::filled::{close, content, fill, open};
use super::store::{QUESTION, STORE, UNDER_WAY};
use crate::elapsed::timed;
use crate::measure::{Case, Sample};
use crate::options::{Options, Scale};
use crate::threads::Threads;

/// Blobs that are asked for, at most, and as many that are not there.
const ASKED: u64 = 200_000;

/// A million blobs; a fifth of that is still more than a write buffer holds.
pub(super) fn blobs(options: &Options) -> u64 {
    options.count(1_000_000, 500)
}

/// How many of the blobs are asked for, spread over all of them.
pub(super) fn asked(options: &Options) -> u64 {
    blobs(options).min(ASKED)
}

/// Their numbers, and after each that of a blob that is not there.
pub(super) fn half_of_them_there(blobs: u64, asked: u64) -> impl Iterator<Item = u64> {
    let here = (0..asked).map(move |number| number * (blobs / asked));
    here.flat_map(move |number| [number, blobs + number])
}

/// The case of `store_contains`.
pub(super) fn contains(options: &Options) -> Case {
    let (blobs, asked) = (blobs(options), asked(options));
    let made: OnceLock<TempDir> = OnceLock::new();
    let run = move || {
        let directory = made.get_or_init(|| fill(blobs, put)).path();
        let numbers = half_of_them_there(blobs, asked);
        let names: Vec<Digest> = numbers.map(|number| Digest::of(&content(number))).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let (system, store) = open(directory);
        let (elapsed, found) = timed(|| {
            let questions = stream::iter(names.chunks(QUESTION))
                .map(|names| async { store.contains(names).await.expect("the store is open") })
                .buffered(UNDER_WAY);
            let count = |all, found: Vec<bool>| async move {
                all + found.into_iter().filter(|found| *found).count() as u64
            };
            runtime.block_on(questions.fold(0, count))
        });
        close(&system, &store);
        Sample::kilo_rate(names.len() as u64, elapsed, found)
    };
    let variant = variant(options, "8 bytes");
    Case::new(STORE, variant, Threads::anywhere(), run).expecting(move || asked)
}

/// What such a case is called.
pub(super) fn variant(options: &Options, what: &str) -> String {
    let blobs = match options.scale {
        Scale::Tiny => format!("{}", blobs(options)),
        _ => format!("{},000", blobs(options) / 1_000),
    };
    format!("{what}, opened again with {blobs} blobs")
}

fn put(store: Blocking<'_>, content: Vec<u8>) {
    store.put(content).expect("the disk has room");
}

/// The same with the names of `find_missing`.
pub(super) fn put_as_sha256(store: Blocking<'_>, content: Vec<u8>) {
    let name = Sha256Digest::of(&content);
    store
        .put_as_sha256(name, content)
        .expect("the disk has room");
}
