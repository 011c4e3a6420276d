//! Opening a store: the directory, its lock, its format, and what the machine suggests.
//!
//! Owns: [`StoreConfig`], the lock file and the version file.
//! Does not know: shards beyond their number.
//! Invariants: nothing below the root is touched before the lock is held; a store of another
//! format is left as it is, and so is what may be somebody else's; the number of shards never changes during the
//! life of a store, unless what says it is damaged.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::commit::Durability;
use crate::error::{During, IoFailure, StoreError};
use crate::fs::Disk;
use crate::layout::Layout;
use crate::memory::MemoryConfig;
use crate::pack::RECORD_MAGIC;
use crate::partial::PartialConfig;
use crate::seen::TRUSTED_FOR;
use crate::shard::VerifyReads;
use crate::staging::Staging;

const FORMAT: &str = "zako-store 3";
/// Their records are all records of this format; their indexes are made anew.
const OLDER_FORMATS: [&str; 2] = ["zako-store 1", "zako-store 2"];
const MAX_SHARDS: usize = 8;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// How a store is opened. [`StoreConfig::new`] derives everything but the root from the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// The directory; made when it does not exist.
    pub root: PathBuf,
    /// Shards of a new store, 1 to 8. An existing store keeps its number.
    pub shards: usize,
    /// Messages that may wait at one shard before senders have to.
    pub mailbox: usize,
    /// When a put counts as done; [`Store::with_durability`](crate::Store::with_durability)
    /// changes it for one handle.
    pub durability: Durability,
    /// When content is checked against its digest.
    pub verify_reads: VerifyReads,
    /// With [`VerifyReads::FirstLarge`], a large blob that is read so long after its last check is checked again;
    /// a day by default. So long a bit that decays on the disk without a trace may be served.
    pub recheck_large_after: Duration,
    /// The level at which small blobs (up to 64 KiB) are compressed with zstd when they come in,
    /// where that saves an eighth at least; `None` for not at all. What is stored stays readable
    /// whatever this is. Large blobs are never compressed: they are served where they lie.
    pub zstd_level: Option<i32>,
    /// Compute the SHA-256 of everything that is put, and keep it as a second name, so that
    /// clients of either hash find it. Off by default: SHA-256 takes longer than everything else.
    pub sha256_names: bool,
    /// The most that blobs and entries may take on disk, in bytes, with what is gone of small ones and lies
    /// in segments that are not rewritten yet; `None` for no limit. Above nine tenths of it segments are
    /// rewritten and the least recently used evicted in the background, down to eight tenths. What is copied
    /// comes beyond the limit until the old goes: a segment (64 MiB) or an index of each shard that is rewritten.
    /// So do interrupted uploads ([`partial`](Self::partial)) and what was damaged (`quarantine/`).
    pub max_bytes: Option<u64>,
    /// What was put, read or asked for within this time is never evicted to make room: a build
    /// that has seen a blob relies on it for a while. It does not matter which name it was read by, nor
    /// whether a cache has answered. Remembered to the second while the store is open. Uses of small
    /// blobs and entries are written down with the index: one that was closed knows them to the hour,
    /// a killed process forgets those since the last index was written, which is a day at most while
    /// anything is put.
    pub lease: Duration,
    /// Read everything again in the background, so many bytes in a second, and set aside what is
    /// damaged; `None` for not at all.
    pub scrub_bytes_per_second: Option<u64>,
    /// The memory tier.
    pub memory: MemoryConfig,
    /// What is kept of interrupted uploads.
    pub partial: PartialConfig,
    /// Wait while another process holds the store, instead of failing with
    /// [`StoreError::Locked`].
    pub wait_for_lock: bool,
}

impl StoreConfig {
    /// The defaults of this machine for a store at `root`: a shard per CPU (1 to 8), a tenth of
    /// the memory (4 MiB to 4 GiB) for the memory tier.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Self {
            root: root.into(),
            shards: cpus.clamp(1, MAX_SHARDS),
            mailbox: 1024,
            durability: Durability::Durable,
            verify_reads: VerifyReads::FirstLarge,
            recheck_large_after: TRUSTED_FOR,
            zstd_level: None,
            sha256_names: false,
            max_bytes: None,
            scrub_bytes_per_second: None,
            lease: Duration::from_secs(10 * 60),
            memory: MemoryConfig {
                capacity_bytes: (memory_bytes() / 10).clamp(4 * MIB, 4 * GIB),
                admit_up_to_bytes: 64 * KIB,
                time_to_live: Duration::from_secs(30 * 60),
                time_to_idle: Duration::from_secs(5 * 60),
            },
            partial: PartialConfig::default(),
            wait_for_lock: false,
        }
    }
}

/// Memory that this process may use: the machine's, or less in a container.
pub(crate) fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    let container = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    container.map_or(machine, |limit: u64| limit.min(machine))
}

/// A directory that this process has locked and that has our format.
#[derive(Debug)]
pub(crate) struct OpenedRoot {
    pub(crate) layout: Layout,
    pub(crate) staging: Staging,
    pub(crate) shards: usize,
    pub(crate) lock: LockFile,
}

/// Locks the directory, making it when it is new, and sweeps what a killed process left.
pub(crate) fn open_root(config: &StoreConfig, disk: impl Disk) -> Result<OpenedRoot, StoreError> {
    let layout = Layout::new(config.root.clone());
    let root = layout.root();
    fs::create_dir_all(root).during("create", root)?;
    let lock = LockFile::acquire(&layout, config.wait_for_lock)?;
    let shards = match read_version(&layout)? {
        Version::Known(FORMAT, shards) => shards,
        Version::Known(_, shards) => {
            write_version(&layout, shards)?;
            shards
        }
        Version::Absent => create(&layout, config.shards.clamp(1, MAX_SHARDS))?,
        Version::Damaged(shards) => take_over(&layout, shards.unwrap_or(config.shards))?,
    };
    let staging = Staging::new(layout.temp(), disk);
    let swept = staging.sweep()?;
    if swept > 0 {
        tracing::info!(swept, "removed unfinished files of an earlier process");
    }
    Ok(OpenedRoot {
        layout,
        staging,
        shards,
        lock,
    })
}

/// Makes the directories, then the version file, which says that they are there.
fn create(layout: &Layout, shards: usize) -> Result<usize, IoFailure> {
    let directories = [layout.temp(), layout.blobs()];
    for directory in &directories {
        fs::create_dir_all(directory).during("create", directory)?;
    }
    write_version(layout, shards)?;
    Ok(shards)
}

fn write_version(layout: &Layout, shards: usize) -> Result<(), IoFailure> {
    let path = layout.version();
    let temp = layout.temp().join("VERSION");
    fs::write(&temp, format!("{FORMAT} shards={shards}\n")).during("write", &temp)?;
    File::open(&temp)
        .and_then(|file| file.sync_all())
        .during("sync", &temp)?;
    fs::rename(&temp, &path).during("write", &path)?;
    let root = layout.root();
    File::open(root)
        .and_then(|directory| directory.sync_all())
        .during("sync", root)
}

/// Writes the version file of a store anew that has lost it: of at least so many `shards` as have records. Where those are fewer
/// or more than there were, records are not found that lie in what was another one's, and nothing else is wrong.
fn take_over(layout: &Layout, shards: usize) -> Result<usize, StoreError> {
    let mut with_records = (0..MAX_SHARDS).rev();
    let last = with_records.find(|shard| holds_records(&layout.pack(*shard)));
    let Some(last) = last else {
        return Err(StoreError::Damaged {
            path: layout.version(),
            root: layout.root().to_owned(),
        });
    };
    let shards = shards.clamp(last + 1, MAX_SHARDS);
    tracing::warn!(
        "{} was damaged; it is written anew, and the store is used as before",
        layout.version().display()
    );
    Ok(create(layout, shards)?)
}

/// Whether a file of `directory` begins with a record of ours.
fn holds_records(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.any(|entry| {
        let mut begin = [0; RECORD_MAGIC.len()];
        let read = File::open(entry.path()).and_then(|mut file| file.read_exact(&mut begin));
        read.is_ok() && begin == *RECORD_MAGIC
    })
}

/// What the version file says.
#[derive(Debug)]
enum Version {
    /// There is no store yet.
    Absent,
    /// A format that is read, and the number of shards.
    Known(&'static str, usize),
    /// No format at all; the number of shards, when it can still be read.
    Damaged(Option<usize>),
}

/// What the version file says of an existing store.
fn read_version(layout: &Layout) -> Result<Version, StoreError> {
    let path = layout.version();
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Version::Absent),
        read => read.during("read", &path)?,
    };
    if let Some((format, shards)) = parse_version(&text) {
        return Ok(Version::Known(format, shards));
    }
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or("");
    if names_another(line) {
        return Err(StoreError::Version {
            path,
            found: line.chars().take(60).collect(),
            expected: FORMAT,
        });
    }
    let shards = line.rsplit_once("shards=").map(|(_, shards)| shards);
    let shards = shards.and_then(|shards| shards.parse().ok());
    Ok(Version::Damaged(
        shards.filter(|it| (1..=MAX_SHARDS).contains(it)),
    ))
}

/// Whether this is the whole name of a format, and none that is read.
fn names_another(line: &str) -> bool {
    let format = line
        .split_once(" shards=")
        .map_or(line, |(format, _)| format);
    let number = format.strip_prefix(FORMAT.trim_end_matches(|last: char| last.is_ascii_digit()));
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit());
    number.is_some_and(is_number) && format != FORMAT && !OLDER_FORMATS.contains(&format)
}

fn parse_version(text: &[u8]) -> Option<(&'static str, usize)> {
    let (format, shards) = str::from_utf8(text)
        .ok()?
        .lines()
        .next()?
        .split_once(" shards=")?;
    let mut known = [FORMAT].into_iter().chain(OLDER_FORMATS);
    let format = known.find(|known| *known == format)?;
    let shards = shards.parse().ok()?;
    (1..=MAX_SHARDS)
        .contains(&shards)
        .then_some((format, shards))
}

/// Held for as long as the store is open. The kernel lets go of it when the process dies.
#[derive(Debug)]
pub(crate) struct LockFile {
    file: File,
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing would not do: a child that was just forked and has not yet executed its program
        // holds a copy of the descriptor, and with it the lock.
        drop(self.file.unlock());
    }
}

impl LockFile {
    fn acquire(layout: &Layout, wait: bool) -> Result<Self, StoreError> {
        let path = layout.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .during("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if wait => file.lock().during("lock", &path)?,
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked {
                    root: layout.root().to_owned(),
                    pid: read_pid(&mut file),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(IoFailure::new("lock", &path, error).into());
            }
        }
        write_pid(&mut file);
        Ok(Self { file })
    }
}

/// The pid only serves messages: a full disk must not keep a store from opening.
fn write_pid(file: &mut File) {
    let pid = format!("{:<10}\n", std::process::id());
    let _ = file.rewind().and_then(|()| file.write_all(pid.as_bytes()));
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use proptest::prelude::*;

    fn config(root: &Path) -> StoreConfig {
        StoreConfig {
            shards: 3,
            ..StoreConfig::new(root)
        }
    }

    #[test]
    fn a_second_opener_is_told_who_holds_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let first = open_root(&config(directory.path()), RealFs).unwrap();
        let error = open_root(&config(directory.path()), RealFs).unwrap_err();
        let ours = std::process::id();
        assert!(
            matches!(error, StoreError::Locked { pid: Some(pid), .. } if pid == ours),
            "{error}"
        );
        drop(first);
        assert!(open_root(&config(directory.path()), RealFs).is_ok());
    }

    #[test]
    fn a_waiting_opener_gets_the_store_when_it_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let first = open_root(&config(directory.path()), RealFs).unwrap();
        let waiting = StoreConfig {
            wait_for_lock: true,
            ..config(directory.path())
        };
        let waiter = thread::spawn(move || open_root(&waiting, RealFs).map(|opened| opened.shards));
        drop(first);
        assert_eq!(waiter.join().unwrap().unwrap(), 3);
    }

    #[test]
    fn the_number_of_shards_stays() {
        let directory = tempfile::tempdir().unwrap();
        drop(open_root(&config(directory.path()), RealFs).unwrap());
        let other = StoreConfig {
            shards: 7,
            ..config(directory.path())
        };
        assert_eq!(open_root(&other, RealFs).unwrap().shards, 3);
    }

    #[test]
    fn another_format_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("VERSION");
        let segment = directory.path().join("packs/0/00000001.seg");
        fs::create_dir_all(segment.parent().unwrap()).unwrap();
        fs::write(segment, RECORD_MAGIC).unwrap();
        for text in [
            "zako-store 4 shards=4\n",
            "zako-store 31\n",
            "zako-store 0 shards=",
        ] {
            fs::write(&path, text).unwrap();
            let error = open_root(&config(directory.path()), RealFs).unwrap_err();
            assert!(matches!(error, StoreError::Version { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_damaged_version_is_written_anew_only_beside_records() {
        let damaged = [
            ("", 3),
            ("\0\0\0", 3),
            ("zako-st", 3),
            ("zako-store ", 3),
            ("zako-store 3", 3),
            ("zako-store 3 shards=99\n", 3),
            ("zako-store s shards=5\n", 5),
            ("zako-store 3 shards=1 or so\n", 3),
            ("1.2.3\n", 3),
        ];
        for (text, shards) in damaged {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("VERSION");
            fs::write(&path, text).unwrap();
            let foreign = directory.path().join("packs/0/00000001.seg");
            fs::create_dir_all(foreign.parent().unwrap()).unwrap();
            fs::write(&foreign, "ZK").unwrap();
            let error = open_root(&config(directory.path()), RealFs).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            let record = directory.path().join("packs/2/00000001.seg");
            fs::create_dir_all(record.parent().unwrap()).unwrap();
            fs::write(&record, RECORD_MAGIC).unwrap();
            let opened = open_root(&config(directory.path()), RealFs).unwrap();
            assert_eq!(opened.shards, shards, "{text:?}");
            let version = fs::read_to_string(&path).unwrap();
            assert_eq!(version, format!("{FORMAT} shards={shards}\n"));
            drop(opened);
            // Never fewer than have records.
            fs::write(&path, "? shards=2").unwrap();
            let opened = open_root(&config(directory.path()), RealFs).unwrap();
            assert_eq!(opened.shards, 3);
        }
    }

    #[test]
    fn older_formats_are_taken_over() {
        for older in OLDER_FORMATS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("VERSION");
            drop(open_root(&config(directory.path()), RealFs).unwrap());
            fs::write(&path, format!("{older} shards=5\n")).unwrap();
            assert_eq!(
                open_root(&config(directory.path()), RealFs).unwrap().shards,
                5
            );
            let version = fs::read_to_string(&path).unwrap();
            assert_eq!(version, format!("{FORMAT} shards=5\n"));
        }
    }

    #[test]
    fn defaults_are_within_their_bounds() {
        let config = StoreConfig::new("/x");
        assert!((1..=8).contains(&config.shards));
        assert!((4 * MIB..=4 * GIB).contains(&config.memory.capacity_bytes));
    }

    proptest! {
        #[test]
        fn any_version_file_parses_or_errs(text in any::<Vec<u8>>()) {
            if let Some((_, shards)) = parse_version(&text) {
                prop_assert!((1..=MAX_SHARDS).contains(&shards));
            }
        }
    }
}
