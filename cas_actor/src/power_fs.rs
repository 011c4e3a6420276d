//! A file system that forgets what was not synced, for tests of power cuts.
//!
//! [`PowerFs`] notes what was made durable, and [`PowerFs::cut`] harms everything else. A sync can be made
//! to fail as Linux does: what it should have written is taken for written, so that later syncs succeed,
//! and is lost. So is what fails in the background; of either, each file is told once, and each root that
//! was open by then.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::fs::{Disk, RealFs};

/// What is on the platter.
#[derive(Debug, Default)]
struct Durable {
    /// Bytes of each inode that were synced.
    bytes: HashMap<u64, u64>,
    /// Names that lead to an inode, directories included.
    names: HashSet<(PathBuf, u64)>,
    /// Ranges of each inode that a failed sync has lost.
    lost: HashMap<u64, Vec<(u64, u64)>>,
    /// What lies under a name on the platter while another file has that name, and where those are.
    replaced: HashMap<PathBuf, PathBuf>,
    aside: Option<tempfile::TempDir>,
    /// So many syncs until one fails.
    fails_after: Option<u64>,
    /// Whether all after that one fail, too.
    fails_on: bool,
    /// How often something could not be written.
    errors: u64,
    /// The open roots, and of how many errors each was told.
    roots: HashMap<RawFd, (PathBuf, u64)>,
    /// Inodes that have lost something and were not told.
    untold: HashSet<u64>,
    /// Whether one has.
    has_failed: bool,
    /// Bytes of what the disk cannot read back any more.
    unreadable: Option<Vec<u8>>,
}

/// The operating system, with notes on what it was made to keep.
#[derive(Debug, Clone, Default)]
pub(crate) struct PowerFs(Arc<Mutex<Durable>>);

impl PowerFs {
    /// Starts from a tree that is all on the platter.
    pub(crate) fn settled(root: &Path) -> Self {
        let fs = Self::default();
        fs.note_tree(root);
        fs
    }

    fn note_tree(&self, directory: &Path) {
        self.note_names(directory);
        for path in entries(directory) {
            match path.is_dir() {
                true => self.note_tree(&path),
                // One that cannot be read is in nobody's way.
                false => File::open(&path)
                    .map(|file| self.note_bytes(&file))
                    .unwrap_or_default(),
            }
        }
    }

    fn note_bytes(&self, file: &File) {
        let metadata = file.metadata().unwrap();
        let mut durable = self.0.lock().unwrap();
        durable.bytes.insert(metadata.ino(), metadata.len());
    }

    /// Lets so many syncs pass, then one fails.
    pub(crate) fn fail_after(&self, syncs: u64) {
        self.0.lock().unwrap().fails_after = Some(syncs);
    }

    /// From now on every sync fails.
    pub(crate) fn fail_on(&self) {
        let mut durable = self.0.lock().unwrap();
        (durable.fails_after, durable.fails_on) = (Some(0), true);
    }

    /// What of a file was not synced could not be written, and nobody has asked yet.
    pub(crate) fn fail_in_background(&self, path: &Path) {
        self.lose_bytes(&File::open(path).unwrap());
        self.0.lock().unwrap().errors += 1;
    }

    /// Whatever holds these bytes cannot be read back any more.
    pub(crate) fn make_unreadable(&self, bytes: Vec<u8>) {
        self.0.lock().unwrap().unreadable = Some(bytes);
    }

    pub(crate) fn fail_never(&self) {
        let mut durable = self.0.lock().unwrap();
        (durable.fails_after, durable.fails_on) = (None, false);
    }

    /// Whether a sync has failed since this was asked.
    pub(crate) fn take_failed(&self) -> bool {
        std::mem::take(&mut self.0.lock().unwrap().has_failed)
    }

    fn strikes(&self) -> bool {
        let mut durable = self.0.lock().unwrap();
        let strikes = durable.fails_after == Some(0);
        durable.fails_after = match durable.fails_after {
            Some(0) if durable.fails_on => Some(0),
            Some(0) | None => None,
            Some(syncs) => Some(syncs - 1),
        };
        durable.has_failed |= strikes;
        durable.errors += u64::from(strikes);
        strikes
    }

    /// What is not on the platter never gets there.
    fn lose_bytes(&self, file: &File) {
        let metadata = file.metadata().unwrap();
        let mut durable = self.0.lock().unwrap();
        let kept = durable.bytes.get(&metadata.ino()).copied().unwrap_or(0);
        if kept < metadata.len() {
            durable.untold.insert(metadata.ino());
        }
        let lost = durable.lost.entry(metadata.ino()).or_default();
        lost.push((kept, metadata.len()));
    }

    /// Whether a file has lost something and was not told yet.
    fn tell(&self, file: &File) -> bool {
        let inode = file.metadata().unwrap().ino();
        let mut durable = self.0.lock().unwrap();
        let is_told = durable.untold.remove(&inode);
        durable.has_failed |= is_told;
        is_told
    }

    fn lose_tree(&self, directory: &Path) {
        for path in entries(directory) {
            match path.is_dir() {
                true => self.lose_tree(&path),
                false => self.lose_bytes(&File::open(&path).unwrap()),
            }
        }
    }

    /// What is written over what was lost is not.
    fn note_write(&self, file: &File, start: u64, end: u64) {
        let inode = file.metadata().unwrap().ino();
        let mut durable = self.0.lock().unwrap();
        if start == 0 {
            // A new file; the inode may have been another's.
            durable.bytes.remove(&inode);
            durable.lost.remove(&inode);
            durable.untold.remove(&inode);
        }
        for lost in durable.lost.get_mut(&inode).into_iter().flatten() {
            if lost.0 < end && start < lost.1 {
                lost.1 = start.max(lost.0);
            }
        }
    }

    fn note_names(&self, directory: &Path) {
        let mut durable = self.0.lock().unwrap();
        for path in entries(directory) {
            // Gone since it was listed.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            durable.replaced.remove(&path);
            durable.names.insert((path, metadata.ino()));
        }
    }

    /// Until the directory is synced, the name leads to the old file on the platter.
    fn note_replaced(&self, to: &Path) {
        let Ok(metadata) = fs::metadata(to) else {
            return;
        };
        let mut durable = self.0.lock().unwrap();
        if durable.names.contains(&(to.to_owned(), metadata.ino())) {
            let aside = durable
                .aside
                .take()
                .unwrap_or_else(|| tempfile::tempdir().unwrap());
            let old = aside.path().join(metadata.ino().to_string());
            durable.aside = Some(aside);
            if !old.exists() {
                fs::hard_link(to, &old).unwrap();
            }
            durable.replaced.insert(to.to_owned(), old);
        }
    }

    /// Harms what was not synced, as `random` decides.
    pub(crate) fn cut(&self, directory: &Path, random: &mut impl FnMut(u64) -> u64) {
        for path in entries(directory) {
            let mut metadata = fs::metadata(&path).unwrap();
            let name = (path.clone(), metadata.ino());
            let durable = self.0.lock().unwrap();
            if let Some(old) = durable.replaced.get(&path)
                && !durable.names.contains(&name)
                && random(2) == 0
            {
                fs::rename(old, &path).unwrap();
                metadata = fs::metadata(&path).unwrap();
            }
            let (named, kept) = (
                durable.names.contains(&name) || durable.replaced.contains_key(&path),
                durable.bytes.get(&metadata.ino()).copied().unwrap_or(0),
            );
            let lost = durable.lost.get(&metadata.ino()).cloned();
            drop(durable);
            match (named, metadata.is_dir()) {
                (false, true) if random(2) == 0 => fs::remove_dir_all(&path).unwrap(),
                (false, false) if random(2) == 0 => fs::remove_file(&path).unwrap(),
                (_, true) => self.cut(&path, random),
                (_, false) => {
                    lost.iter().flatten().for_each(|range| blank(&path, *range));
                    harm(&path, kept, metadata.len(), random);
                }
            }
        }
    }
}

/// Makes a range of a file zeros, as far as there is a file.
fn blank(path: &Path, (start, end): (u64, u64)) {
    let end = end.min(fs::metadata(path).unwrap().len());
    if start < end {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        let zeros = vec![0; (end - start) as usize];
        file.write_all_at(&zeros, start).unwrap();
    }
}

/// Cuts a file short somewhere behind `kept`, or leaves zeros or noise there, or leaves it alone.
fn harm(path: &Path, kept: u64, size: u64, random: &mut impl FnMut(u64) -> u64) {
    if kept >= size {
        return;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let from = kept + random(size - kept);
    match random(4) {
        0 => file.set_len(from).unwrap(),
        1 => file
            .write_all_at(&vec![0; (size - from) as usize], from)
            .unwrap(),
        2 => file.write_all_at(&[0xa5; 3], from).unwrap(),
        _ => {}
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

impl Disk for PowerFs {
    fn write_new(&self, path: &Path, content: &[u8]) -> io::Result<File> {
        let file = RealFs.write_new(path, content)?;
        self.note_write(&file, 0, content.len() as u64);
        Ok(file)
    }

    fn write_at(&self, file: &File, content: &[u8], offset: u64) -> io::Result<()> {
        self.note_write(file, offset, offset + content.len() as u64);
        RealFs.write_at(file, content, offset)
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        let strikes = self.strikes();
        if strikes {
            self.lose_bytes(file);
        }
        if self.tell(file) || strikes {
            return Err(io::Error::other("injected sync failure"));
        }
        self.note_bytes(file);
        Ok(())
    }

    /// Names stay to be written: a file system that cannot write its directories stops.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        if self.strikes() {
            return Err(io::Error::other("injected sync failure"));
        }
        self.note_names(path);
        Ok(())
    }

    fn open_root(&self, path: &Path) -> io::Result<File> {
        let root = RealFs.open_root(path)?;
        let mut durable = self.0.lock().unwrap();
        let told = (path.to_owned(), durable.errors);
        durable.roots.insert(root.as_raw_fd(), told);
        Ok(root)
    }

    fn sync_all(&self, root: &File) -> io::Result<()> {
        let strikes = self.strikes();
        let mut durable = self.0.lock().unwrap();
        let errors = durable.errors;
        let (path, told) = durable.roots.get_mut(&root.as_raw_fd()).unwrap();
        let path = path.clone();
        let is_told = std::mem::replace(told, errors) < errors;
        durable.has_failed |= is_told;
        drop(durable);
        match strikes {
            true => self.lose_tree(&path),
            false => self.note_tree(&path),
        }
        match is_told {
            true => Err(io::Error::other("injected sync failure")),
            false => Ok(()),
        }
    }

    fn read_back(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        RealFs.read_back(file, buffer, offset)?;
        let durable = self.0.lock().unwrap();
        match &durable.unreadable {
            Some(bad) if buffer.windows(bad.len()).any(|bytes| bytes == bad) => {
                Err(rustix::io::Errno::IO.into())
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note_replaced(to);
        RealFs.rename(from, to)
    }
}

/// Numbers below a bound, from a seed.
pub(crate) fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    }
}
