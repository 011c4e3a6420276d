//! A whole store on a disk that is full or fails while content comes in.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use actor_rt::System;

use crate::action::ActionEntry;
use crate::commit::Durability;
use crate::digest::Digest;
use crate::error::PutError;
use crate::fs::faulty::{Fault, FaultyFs};
use crate::fs::{Disk, Fs, RealFs};
use crate::layout::Layout;
use crate::open::StoreConfig;
use crate::pack::SEGMENT_BYTES;
use crate::shard_set::shard_of;
use crate::store::Store;

const LARGE: usize = 100_000;

fn open<F: Fs>(fs: F, root: &Path, system: &System, lease: Duration) -> Store {
    let config = StoreConfig {
        shards: 2,
        lease,
        ..StoreConfig::new(root)
    };
    Store::open_on(fs, config, system).unwrap()
}

fn content(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|at| seed ^ (at % 253) as u8).collect()
}

/// Bytes of all files below a directory.
fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap();
    let sizes = entries.map(|entry| match entry.unwrap().path() {
        path if path.is_dir() => disk_bytes(&path),
        // Evicted since it was listed.
        path => fs::metadata(path).map_or(0, |metadata| metadata.len()),
    });
    sizes.sum()
}

/// A disk with so much room, on which the segments of the first shard can be kept from being synced.
#[derive(Debug, Clone)]
struct FullFs {
    root: PathBuf,
    room_bytes: Arc<AtomicU64>,
    fails: Arc<AtomicBool>,
}

impl FullFs {
    fn new(root: &Path) -> Self {
        Self {
            root: root.into(),
            room_bytes: Arc::new(AtomicU64::new(u64::MAX)),
            fails: Arc::default(),
        }
    }

    /// From here on so much more can be written.
    fn leave(&self, bytes: u64) {
        self.room_bytes
            .store(disk_bytes(&self.root) + bytes, Relaxed);
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        match disk_bytes(&self.root) + bytes > self.room_bytes.load(Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Disk for FullFs {
    fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<File> {
        self.take(content.len() as u64)?;
        RealFs.write_new(path, content)
    }

    fn write_at(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
        self.take(content.len() as u64)?;
        RealFs.write_at(file, content, offset)
    }

    fn clone_file(&self, _: &File, _: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn copy_piece(&self, from: &File, to: &File, most: usize) -> io::Result<usize> {
        let left = from.metadata()?.len() - to.metadata()?.len();
        self.take(left.min(most as u64))?;
        RealFs.copy_piece(from, to, most)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let fails = self.fails.load(Relaxed) && path.to_string_lossy().contains("packs/0/");
        match fails {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.take(bytes)?;
        File::create(path)?.set_len(bytes)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let room_bytes = self.room_bytes.load(Relaxed);
        Ok(room_bytes.saturating_sub(disk_bytes(&self.root)))
    }
}

/// Ten large blobs, each last used an hour before the one before it.
fn put_aged(store: &Store, root: &Path) -> Vec<Digest> {
    let layout = Layout::new(root.into());
    let put = |seed| store.blocking().put(content(seed, LARGE)).unwrap();
    let blobs: Vec<Digest> = (0..10).map(put).collect();
    for (age, digest) in (2..).zip(&blobs) {
        let file = File::open(layout.blob(digest.hash())).unwrap();
        let used = SystemTime::now() - age * Duration::from_secs(3600);
        file.set_modified(used).unwrap();
    }
    blobs
}

fn gone(store: &Store, blobs: &[Digest]) -> usize {
    let here = store.blocking().contains(blobs).unwrap();
    here.iter().filter(|is_here| !**is_here).count()
}

type Put = fn(&Store, &Path) -> Result<(), PutError>;

/// Every way in.
const PUTS: [Put; 5] = [
    |store, _| store.blocking().put(content(99, LARGE)).map(drop),
    |store, _| store.blocking().put(content(99, 5000)).map(drop),
    |store, _| {
        let content = content(99, LARGE);
        store.blocking().put_reader(&content[..], None).map(drop)
    },
    |store, source| store.blocking().put_file(source).map(drop),
    |store, _| {
        let entry = ActionEntry::new(content(99, 5000));
        store.blocking().put_action(&[1; 32], entry)
    },
];

/// A store without a limit answered that the disk was full, and held what nobody had used for a day.
#[test]
fn a_put_on_a_full_disk_evicts_what_it_may() {
    for put in PUTS {
        for is_leased in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let (root, system) = (directory.path().join("store"), System::new().unwrap());
            let source = directory.path().join("source");
            fs::write(&source, content(99, LARGE)).unwrap();
            let fs = FullFs::new(&root);
            let layout = Layout::new(root.clone());
            let hour = Duration::from_secs(3600);
            let store = open(fs.clone(), &root, &system, hour);
            let blobs: Vec<Digest> = (0..10)
                .map(|seed| store.blocking().put(content(seed, LARGE)).unwrap())
                .collect();
            for (age, digest) in (2..).zip(&blobs) {
                let file = File::open(layout.blob(digest.hash())).unwrap();
                let used = if is_leased { 0 } else { age };
                file.set_modified(SystemTime::now() - used * hour).unwrap();
            }
            fs.leave(1000);
            let answer = put(&store, &source);
            let here = store.blocking().contains(&blobs).unwrap();
            let gone = here.iter().filter(|is_here| !**is_here).count();
            match is_leased {
                true => {
                    assert!(matches!(answer, Err(PutError::NoSpace(_))), "{answer:?}");
                    assert_eq!(gone, 0);
                }
                false => {
                    answer.unwrap();
                    assert!((1..4).contains(&gone), "{here:?}");
                    assert!(here.is_sorted_by(|a, b| a >= b), "the oldest go: {here:?}");
                }
            }
        }
    }
}

/// Streamed content was written beside the seam that makes writes and syncs fail in tests.
#[test]
fn every_fault_of_an_upload_is_answered_and_leaves_nothing() {
    for fault in [Fault::ShortWrite, Fault::Sync, Fault::Rename] {
        for after in 0..8 {
            let directory = tempfile::tempdir().unwrap();
            let system = System::new().unwrap();
            let root = directory.path().join("store");
            let fs = FaultyFs::new(fault, after);
            let countdown = Arc::clone(&fs.countdown);
            // Nothing that was put goes to make room.
            let store = open(fs, &root, &system, Duration::from_secs(3600));
            let source = directory.path().join("source");
            let (streamed, copied) = (content(1, 300_000), content(2, 300_000));
            fs::write(&source, &copied).unwrap();
            let answers = [
                store.blocking().put_reader(&streamed[..], None),
                store.blocking().put_file(&source),
            ];
            countdown.store(-1, Relaxed);
            let failed = answers.iter().filter(|answer| answer.is_err()).count();
            assert!(failed <= 1, "one fault: {answers:?}");
            if after == 0 {
                assert_eq!(failed, 1, "{fault:?}");
            }
            assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
            for (content, answer) in [streamed, copied].iter().zip(answers) {
                let digest = Digest::of(content);
                let is_here = store.blocking().contains(&[digest]).unwrap()[0];
                assert!(is_here || answer.is_err());
                assert_eq!(store.blocking().put(content.clone()).unwrap(), digest);
                assert_eq!(*store.blocking().get(&digest).unwrap(), **content);
            }
        }
    }
}

/// The early sync of a copied file took the error that the commit waited for.
#[test]
fn a_sync_that_fails_while_a_file_is_hashed_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path().join("store"), System::new().unwrap());
    let fs = FaultyFs::new(Fault::Sync, 0);
    let store = open(fs, &root, &system, Duration::ZERO);
    let source = directory.path().join("source");
    fs::write(&source, content(2, 300_000)).unwrap();
    assert!(store.blocking().put_file(&source).is_err());
    assert!(store.blocking().list().unwrap().is_empty());
    store.blocking().put_file(&source).unwrap();
}

/// A shard that could not rewrite its segments kept the others from giving their space back.
#[test]
fn one_shard_that_cannot_compact_leaves_the_others_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let fs = FullFs::new(root);
    let store = open(fs.clone(), root, &system, Duration::ZERO);
    let store = store.with_durability(Durability::Relaxed);
    let digests: Vec<Digest> = (0..40)
        .map(|seed| store.blocking().put(content(seed, 5000)).unwrap())
        .collect();
    fs.fails.store(true, Relaxed);
    let of_first = |digest: &&Digest| shard_of(digest.hash(), 2) == 0;
    assert!(store.blocking().sync().is_err(), "the first is in doubt");
    let kept = digests.iter().find(of_first).unwrap();
    for digest in digests.iter().filter(|digest| *digest != kept) {
        assert!(store.blocking().delete(digest).unwrap());
    }
    let before = disk_bytes(&root.join("packs/1"));
    assert!(store.blocking().gc(u64::MAX).is_err());
    let after = disk_bytes(&root.join("packs/1"));
    assert!(after + 50_000 < before, "{before} {after}");
}

/// The others had made room, and the put was refused on account of the one.
#[test]
fn a_put_finds_the_room_that_was_made_though_one_shard_cannot_compact() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let fs = FullFs::new(root);
    let store = open(fs.clone(), root, &system, Duration::ZERO);
    let store = store.with_durability(Durability::Relaxed);
    let blobs = put_aged(&store, root);
    let of_shard = |shard: usize, size: usize| {
        let mut contents = (50..).map(|seed| content(seed, size));
        let found = contents.find(|content| shard_of(Digest::of(content).hash(), 2) == shard);
        found.unwrap()
    };
    store.blocking().put(of_shard(0, 5000)).unwrap();
    fs.fails.store(true, Relaxed);
    assert!(store.blocking().sync().is_err(), "the first is in doubt");
    fs.leave(1000);
    store.blocking().put(of_shard(1, LARGE)).unwrap();
    assert!((1..4).contains(&gone(&store, &blobs)));
}

/// What goes of small blobs comes free only once their segments are rewritten. Where that failed, every put
/// that found the disk full had more of them evicted, until none was left.
#[test]
fn a_store_of_small_blobs_is_not_eaten_where_nothing_comes_free() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let fs = FullFs::new(root);
    let store = open(fs.clone(), root, &system, Duration::ZERO);
    let store = store.with_durability(Durability::Relaxed);
    let put = |seed| store.blocking().put(content(seed, 5000));
    let blobs: Vec<Digest> = (0..100).map(|seed| put(seed).unwrap()).collect();
    fs.leave(0);
    // In the second in which they came, none may go.
    while store.blocking().stats().unwrap().evicted == 0 {
        assert!(put(200).is_err());
    }
    for _ in 0..50 {
        assert!(put(200).is_err());
    }
    let gone = gone(&store, &blobs);
    assert!(gone < 50, "{gone}");
}

/// Nothing could be evicted, and nobody looked at what compaction had given back.
#[test]
fn a_put_finds_the_room_of_what_was_deleted_where_all_is_leased() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let fs = FullFs::new(root);
    let store = open(fs.clone(), root, &system, Duration::from_secs(3600));
    let put = |seed, size| store.blocking().put(content(seed, size)).unwrap();
    let blobs: Vec<Digest> = (0..100).map(|seed| put(seed, 5000)).collect();
    for digest in &blobs[10..] {
        assert!(store.blocking().delete(digest).unwrap());
    }
    fs.leave(LARGE as u64 - 1);
    put(200, LARGE);
    assert_eq!(gone(&store, &blobs), 90);
}

/// Half of all was dead, and there was no room for the copy of what was alive.
#[test]
fn a_full_disk_has_room_to_rewrite_a_segment() {
    const SMALL: usize = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let fs = FullFs::new(root);
    let config = StoreConfig {
        shards: 1,
        durability: Durability::Volatile,
        ..StoreConfig::new(root)
    };
    let store = Store::open_on(fs.clone(), config, &system).unwrap();
    let put = |number: usize| {
        let mut content = content(0, SMALL);
        content[..8].copy_from_slice(&number.to_le_bytes());
        store.blocking().put(content)
    };
    let whole = 1 + SEGMENT_BYTES as usize / SMALL;
    let blobs: Vec<Digest> = (0..whole).map(|number| put(number).unwrap()).collect();
    // Sees that it has become large enough for a reserve.
    store.blocking().gc(u64::MAX).unwrap();
    for digest in blobs.iter().step_by(2) {
        assert!(store.blocking().delete(digest).unwrap());
    }
    fs.leave(0);
    for number in whole..whole + 100 {
        put(number).unwrap();
    }
    assert_eq!(gone(&store, &blobs), blobs.len().div_ceil(2));
    assert!(store.blocking().verify(|_| ()).unwrap().is_clean());
}

/// One put that could not fit had all others refused for a while.
#[test]
fn a_put_that_is_too_large_keeps_no_other_from_its_room() {
    let directory = tempfile::tempdir().unwrap();
    let (root, system) = (directory.path(), System::new().unwrap());
    let fs = FullFs::new(root);
    let store = open(fs.clone(), root, &system, Duration::ZERO);
    let blobs = put_aged(&store, root);
    fs.leave(1000);
    for _ in 0..3 {
        let refused = store.blocking().put(content(99, 20 * LARGE));
        assert!(matches!(refused, Err(PutError::NoSpace(_))), "{refused:?}");
    }
    assert_eq!(store.blocking().stats().unwrap().evicted, 0);
    store.blocking().put(content(99, LARGE)).unwrap();
    assert!((1..4).contains(&gone(&store, &blobs)));
}

/// Everything went for an upload, and more than it still needed for one that was nearly done.
#[test]
fn a_streamed_upload_evicts_only_what_it_still_lacks() {
    // What it takes, what it finds, and how many have to go.
    for (size, room_bytes, goes) in [(20 * LARGE, 1000, 0), (4 * LARGE, 3 * LARGE + 1000, 1)] {
        let directory = tempfile::tempdir().unwrap();
        let (root, system) = (directory.path(), System::new().unwrap());
        let fs = FullFs::new(root);
        let store = open(fs.clone(), root, &system, Duration::ZERO);
        let blobs = put_aged(&store, root);
        fs.leave(room_bytes as u64);
        let content = content(99, size);
        let mut upload = store.upload(Some(Digest::of(&content)));
        let mut pieces = content.chunks(LARGE);
        let written = pieces.try_for_each(|piece| upload.write(piece));
        match goes {
            0 => assert!(matches!(written, Err(PutError::NoSpace(_))), "{written:?}"),
            _ => written.unwrap(),
        }
        assert_eq!(gone(&store, &blobs), goes);
    }
}
