//! A whole store while its segments are rewritten.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use actor_rt::System;

use crate::evict::Evictor;
use crate::fs::{Disk, RealFs};
use crate::layout::Layout;
use crate::open::StoreConfig;
use crate::store::Store;

/// A disk of which a read of segments waits.
#[derive(Debug, Clone)]
struct GateFs {
    is_closed: Arc<AtomicBool>,
    reached: Sender<()>,
    opened: Arc<Mutex<Receiver<()>>>,
}

impl Disk for GateFs {
    fn read_back(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.is_closed.swap(false, Relaxed) {
            self.reached.send(()).unwrap();
            self.opened.lock().unwrap().recv().unwrap();
        }
        RealFs.read_back(file, buffer, offset)
    }
}

/// The headers of all segments were read by the shard, which answered nobody meanwhile.
#[test]
fn a_shard_answers_while_a_compaction_is_planned() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let ((reached, is_reached), (open, opened)) = (channel(), channel());
    let fs = GateFs {
        is_closed: Arc::default(),
        reached,
        opened: Arc::new(Mutex::new(opened)),
    };
    let mut config = StoreConfig {
        shards: 1,
        ..StoreConfig::new(directory.path())
    };
    // What is read comes from the shard.
    config.memory.capacity_bytes = 0;
    let store = Store::open_on(fs.clone(), config, &system).unwrap();
    let content = |number: u8| vec![number; 1000];
    let put = |number| store.blocking().put(content(number)).unwrap();
    let digests: Vec<_> = (0..40).map(put).collect();
    for digest in &digests[..30] {
        assert!(store.blocking().delete(digest).unwrap());
    }
    let segments_bytes = || store.inner.shards[0].counters.held.segments();
    let before = segments_bytes();
    fs.is_closed.store(true, Relaxed);
    thread::scope(|scope| {
        let gc = scope.spawn(|| store.blocking().gc(u64::MAX));
        is_reached.recv().unwrap();
        let (answer, answered) = channel();
        let (store, digests) = (&store, &digests);
        scope.spawn(move || {
            let read = store.blocking().get(&digests[35]);
            let put = store.blocking().put(content(50));
            let deleted = store.blocking().delete(&digests[36]);
            answer.send((read, put, deleted)).unwrap();
        });
        // Only a shard that does not answer has this wait.
        let answered = answered.recv_timeout(Duration::from_secs(20));
        open.send(()).unwrap();
        gc.join().unwrap().unwrap();
        let (read, put, deleted) = answered.expect("the shard answers");
        assert_eq!(*read.unwrap(), content(35));
        assert!(put.is_ok() && deleted.unwrap());
    });
    assert!(segments_bytes() < before - 25_000, "and it was rewritten");
    let kept = digests[30..].iter().enumerate();
    for (number, digest) in kept.filter(|(number, _)| *number != 6) {
        let blob = store.blocking().get(digest).unwrap();
        assert_eq!(*blob, content(30 + number as u8));
    }
}

/// A disk that has no room for so many names.
#[derive(Debug, Clone)]
struct NamelessFs {
    renames: Arc<AtomicU64>,
}

impl Disk for NamelessFs {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let take = |left: u64| left.checked_sub(1);
        match self.renames.fetch_update(Relaxed, Relaxed, take) {
            Ok(_) => Err(io::ErrorKind::StorageFull.into()),
            Err(_) => RealFs.rename(from, to),
        }
    }
}

/// The first compaction that failed ended an eviction, although the next one would have given space back.
#[test]
fn a_compaction_that_fails_ends_no_eviction() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let fs = NamelessFs {
        renames: Arc::default(),
    };
    let config = StoreConfig {
        shards: 1,
        ..StoreConfig::new(directory.path())
    };
    let store = Store::open_on(fs.clone(), config, &system).unwrap();
    for number in 0..200u8 {
        store.blocking().put(vec![number; 10_000]).unwrap();
    }
    let evictor = Evictor {
        shards: Arc::clone(&store.inner.shards),
        layout: Layout::new(directory.path().into()),
        disk: Arc::new(fs.clone()),
        closing: Arc::default(),
    };
    let target_bytes = evictor.disk_bytes() / 2;
    // The index that is written before, and once more without what is dead.
    fs.renames.store(2, Relaxed);
    let (report, done) = evictor.fit(target_bytes, u64::MAX, u32::MAX);
    assert!(done.is_err() && fs.renames.load(Relaxed) == 0);
    assert!(evictor.disk_bytes() <= target_bytes);
    assert!((90..150).contains(&report.evicted), "{report:?}");
}
