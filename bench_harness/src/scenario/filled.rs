//! Stores that were filled and closed before anything is measured: whoever opens one finds its blobs by the index on disk.
//!
//! Does not know: what is asked of them.
#![forbid(unsafe_code)]

use std::path::Path;
use std::thread;
use std::time::Duration;

use actor_rt::System;
use cas_actor::{Blocking, Durability, Store, StoreConfig};
use tempfile::TempDir;

const WRITERS: u64 = 16;
/// Longer than a store needs to end.
const END: Duration = Duration::from_secs(10);

/// How such a store is opened.
pub(super) fn config(directory: &Path) -> StoreConfig {
    let mut config = StoreConfig::new(directory);
    // Blobs in memory are not what is measured.
    config.memory.capacity_bytes = 0;
    config.durability = Durability::Volatile;
    config
}

/// The blob with this number: as small as can be told apart.
pub(super) fn content(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// A store with the blobs below `blobs`, closed.
pub(super) fn fill(blobs: u64, put: fn(Blocking<'_>, Vec<u8>)) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory for the store");
    let (system, store) = open(directory.path());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = store.blocking();
            scope.spawn(move || {
                for number in (writer..blobs).step_by(WRITERS as usize) {
                    put(store, content(number));
                }
            });
        }
    });
    close(&system, &store);
    directory
}

/// Opens it.
pub(super) fn open(directory: &Path) -> (System, Store) {
    let system = System::new().expect("the system starts");
    let store = Store::open(config(directory), &system).expect("nobody else has it open");
    (system, store)
}

/// Closes it again.
pub(super) fn close(system: &System, store: &Store) {
    store.blocking().close();
    let _ = system.shutdown(END);
}
