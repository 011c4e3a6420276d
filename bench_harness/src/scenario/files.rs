//! One file per blob, as many caches do: what the store is measured beside.
//!
//! Owns: directories by the first byte of a name, the temporary name, the rename, and the syncs of a durable one.
//! Does not know: how names are made, or who asks.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::store::UNDER_WAY;

/// A directory with one file per blob in 256 directories. Names are hashes in lower-case hex.
pub(super) struct Files {
    root: PathBuf,
    durable: bool,
    next_temporary: AtomicUsize,
}

impl Files {
    /// In an empty directory; `durable` syncs a file and its directory before a put ends.
    pub(super) fn new(root: &Path, durable: bool) -> Self {
        for first in 0..=255_u8 {
            fs::create_dir_all(root.join(format!("{first:02x}"))).expect("the disk has room");
        }
        fs::create_dir_all(root.join("tmp")).expect("the disk has room");
        Self {
            root: root.into(),
            durable,
            next_temporary: AtomicUsize::new(0),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(&name[..2]).join(&name[2..])
    }

    pub(super) fn put(&self, name: &str, blob: &[u8]) {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join("tmp").join(number.to_string());
        let mut file = File::create(&temporary).expect("the disk has room");
        file.write_all(blob).expect("the disk has room");
        if self.durable {
            file.sync_data().expect("the disk works");
        }
        let path = self.path(name);
        fs::rename(temporary, &path).expect("the directory is there");
        if self.durable {
            let directory = path.parent().expect("a directory");
            let directory = File::open(directory).expect("it is there");
            directory.sync_all().expect("the disk works");
        }
    }

    pub(super) fn get(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("it was put")
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

/// Does something with all items on as many threads as requests may be under way; the results in order.
pub(super) fn spread<T: Sync, O: Send>(items: &[T], each: impl Fn(&T) -> O + Sync) -> Vec<O> {
    let share = items.len().div_ceil(UNDER_WAY).max(1);
    thread::scope(|scope| {
        let each = &each;
        let threads: Vec<_> = items
            .chunks(share)
            .map(|items| scope.spawn(move || items.iter().map(each).collect::<Vec<O>>()))
            .collect();
        let results = threads
            .into_iter()
            .map(|it| it.join().expect("a thread ends"));
        results.flatten().collect()
    })
}
