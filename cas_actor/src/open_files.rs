//! Large blobs that were read lately: their files stay open and mapped for the next reader.
//!
//! Owns: which files these are, and for how long.
//! Does not know: how they came to be trusted, or what is deleted (`shard` tells).
//! Invariants: there are never more than [`MOST`]; what was removed is not handed out again, nor is
//! what was not read for as long as the memory tier would wait, nor what somebody has written to, nor what is
//! to be checked again.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::blob::Blob;
use crate::digest::HASH_BYTES;
use crate::seen::Stamp;

/// Files of one shard. A process may have a thousand open, of which most are for connections.
pub(crate) const MOST: usize = 16;

struct OpenFile {
    key: [u8; HASH_BYTES],
    blob: Blob,
    /// Of the file as it was checked.
    stamp: Option<Stamp>,
    /// From then on it is to be checked again.
    until: Option<Instant>,
    used: Instant,
}

/// The open files of a shard. So few that they are looked through.
pub(crate) struct OpenFiles {
    files: Vec<OpenFile>,
    time_to_idle: Duration,
}

impl OpenFiles {
    pub(crate) fn new(time_to_idle: Duration) -> Self {
        Self {
            files: Vec::new(),
            time_to_idle,
        }
    }

    /// The blob, if its file is open; counts as a use.
    pub(crate) fn get(&mut self, key: &[u8; HASH_BYTES], now: Instant) -> Option<Blob> {
        let index = self.files.iter().position(|file| file.key == *key)?;
        let file = &self.files[index];
        if self.is_over(file, now) || stamp_of(&file.blob) != file.stamp {
            self.files.swap_remove(index);
            return None;
        }
        let file = &mut self.files[index];
        file.used = now;
        Some(file.blob.clone())
    }

    /// Keeps the file of a blob open, instead of the one that was read longest ago if need be.
    pub(crate) fn keep(
        &mut self,
        key: &[u8; HASH_BYTES],
        blob: Blob,
        stamp: Option<Stamp>,
        until: Option<Instant>,
        now: Instant,
    ) {
        self.remove(key);
        while let Some(over) = self.files.iter().position(|file| self.is_over(file, now)) {
            self.files.swap_remove(over);
        }
        if self.files.len() >= MOST {
            let oldest = (0..MOST).min_by_key(|index| self.files[*index].used);
            oldest.map(|index| self.files.swap_remove(index));
        }
        self.files.push(OpenFile {
            key: *key,
            blob,
            stamp,
            until,
            used: now,
        });
    }

    /// The store itself has changed the stamp of a file.
    pub(crate) fn restamp(&mut self, key: &[u8; HASH_BYTES], before: Stamp, after: Stamp) {
        let mut files = self.files.iter_mut();
        if let Some(file) = files.find(|file| file.key == *key && file.stamp == Some(before)) {
            file.stamp = Some(after);
        }
    }

    /// Closes a file; says whether it was open.
    pub(crate) fn remove(&mut self, key: &[u8; HASH_BYTES]) -> bool {
        let known = self.files.iter().position(|file| file.key == *key);
        known.map(|index| self.files.swap_remove(index)).is_some()
    }

    /// When each of them was last read.
    pub(crate) fn uses(&self) -> impl Iterator<Item = ([u8; HASH_BYTES], Instant)> {
        self.files.iter().map(|file| (file.key, file.used))
    }

    /// Whether nobody has read it for long, or its check counts no more.
    fn is_over(&self, file: &OpenFile, now: Instant) -> bool {
        now.saturating_duration_since(file.used) >= self.time_to_idle
            || file.until.is_some_and(|until| now >= until)
    }
}

/// That of the file behind a blob, if there is one.
fn stamp_of(blob: &Blob) -> Option<Stamp> {
    Stamp::of_file(&blob.file()?.file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_read_last_stay_open_until_they_are_idle_or_removed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let blob = || Blob::from(bytes::Bytes::from_static(b"x"));
        let mut files = OpenFiles::new(Duration::from_secs(100));
        for number in 0..MOST as u8 {
            files.keep(&[number; 32], blob(), None, None, at(number.into()));
        }
        // Read again, the first one is not the oldest any more.
        assert!(files.get(&[0; 32], at(50)).is_some());
        files.keep(&[99; 32], blob(), None, None, at(51));
        assert!(files.get(&[1; 32], at(52)).is_none());
        assert!(files.get(&[0; 32], at(52)).is_some());
        assert_eq!(files.uses().count(), MOST);
        assert!(files.remove(&[2; 32]) && !files.remove(&[2; 32]));
        assert!(files.get(&[2; 32], at(53)).is_none());
        // Another one that comes in closes those that nobody has read since.
        assert!(files.get(&[3; 32], at(103)).is_none());
        files.keep(&[98; 32], blob(), None, None, at(140));
        assert_eq!(files.uses().count(), 3);
    }

    /// A file that somebody read every few minutes stayed open, and was never checked again.
    #[test]
    fn a_file_that_is_read_all_the_time_is_let_go_of_when_its_check_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut files = OpenFiles::new(Duration::from_secs(100));
        let blob = Blob::from(bytes::Bytes::from_static(b"x"));
        files.keep(&[1; 32], blob, None, Some(at(250)), at(0));
        for second in [90, 180, 249] {
            assert!(files.get(&[1; 32], at(second)).is_some());
        }
        assert!(files.get(&[1; 32], at(250)).is_none());
    }
}
