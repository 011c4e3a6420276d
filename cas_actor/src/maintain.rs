//! Looking after a shard: counting, eviction, scrubbing.
//!
//! Owns: walking the files of a shard, and what is decided about each.
//! Does not know: the order over shards (`upkeep`) or how a blob is read.
//! Invariant: nothing that was used since an eviction was planned is evicted by it.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, Read as _, Seek};

use crate::ages::Ages;
use crate::digest::{Digest, HASH_BYTES, Hasher};
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::layout::{Kind, Layout, is_packed};
use crate::pack::{Name, Packs, Place, Read, Rewriting, Survey, seconds};
use crate::sha256::Sha256Digest;
use crate::shard::{Shard, lock};
use crate::stats::{RECORD_OVERHEAD_BYTES, Usage, count};
use crate::uses::Clock;

/// Which segments are rewritten.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compaction {
    /// Those of which at most so much is alive,
    pub(crate) live_percent: u64,
    /// and of them those with the most dead, until so much of that is found.
    pub(crate) wanted_bytes: u64,
}

impl Compaction {
    /// What is worth it after every eviction.
    pub(crate) const UNASKED: Self = Self {
        live_percent: 60,
        wanted_bytes: u64::MAX,
    };
}

/// One blob or entry of a shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) kind: Kind,
    pub(crate) hash: [u8; HASH_BYTES],
    pub(crate) size_bytes: u64,
    /// What of that lies on disk: less where it is compressed.
    stored_bytes: u64,
    /// Seconds since 1970.
    pub(crate) used: u32,
}

impl Listed {
    fn record(((hash, kind), place): (Name, Place)) -> Self {
        Self {
            kind,
            hash,
            size_bytes: u64::from(place.size),
            stored_bytes: u64::from(place.length),
            used: place.used,
        }
    }

    /// What it costs on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        match self.is_record() {
            true => self.stored_bytes + RECORD_OVERHEAD_BYTES,
            false => self.stored_bytes,
        }
    }

    pub(crate) fn name(&self) -> Name {
        (self.hash, self.kind)
    }

    /// Whether it is a record in the packs.
    fn is_record(&self) -> bool {
        self.kind != Kind::Blob || is_packed(self.size_bytes)
    }
}

/// What a check of one blob found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// With the second name of a blob, if the store computes those.
    Intact(Option<Sha256Digest>),
    Damaged,
    /// Deleted or evicted meanwhile.
    Gone,
}

impl<F: Fs> Shard<F> {
    /// Every blob and entry, in no order.
    pub(crate) fn list(&mut self) -> Result<Vec<Listed>, IoFailure> {
        let mut found = Vec::new();
        for first in self.fans.clone() {
            list_fan(&self.layout, first, &mut found)?;
        }
        let mut files = Usage::default();
        for listed in &found {
            files.add(listed.kind, listed.size_bytes);
        }
        self.files = Some(files);
        let (packs, _) = self.open_packs()?;
        found.extend(packs.list().map(Listed::record));
        Ok(found)
    }

    /// When how many bytes of records were last used.
    pub(crate) fn ages(&mut self) -> Result<Ages, IoFailure> {
        let mut ages = Ages::default();
        self.note_reads()?;
        let (packs, _) = self.open_packs()?;
        for (_, place) in packs.list() {
            let bytes = u64::from(place.length) + RECORD_OVERHEAD_BYTES;
            ages.add(place.used, bytes);
        }
        self.note_held();
        Ok(ages)
    }

    /// Up to `limit` records that were last used before a second.
    pub(crate) fn used_before(
        &mut self,
        before: u32,
        limit: usize,
    ) -> Result<Vec<Listed>, IoFailure> {
        let (packs, _) = self.open_packs()?;
        let old = packs.list().filter(|(_, place)| place.used < before);
        Ok(old.map(Listed::record).take(limit).collect())
    }

    /// Up to `limit` records behind a name, in the order of names.
    pub(crate) fn records_after(
        &mut self,
        after: Option<Name>,
        limit: usize,
    ) -> Result<Vec<Listed>, IoFailure> {
        let (packs, _) = self.open_packs()?;
        if after.is_none() {
            packs.mend_table()?;
        }
        let records = packs.list_after(after.as_ref());
        Ok(records.map(Listed::record).take(limit).collect())
    }

    /// Tells the budget what the packs hold.
    pub(crate) fn note_held(&mut self) {
        if let Some(packs) = &self.packs {
            let held = &self.counters.held;
            held.set_packed(packs.usage().record_bytes());
            held.set_segments(packs.packed_bytes());
            held.set_index(packs.index_bytes());
        }
    }

    /// What the shard holds; walks the large files the first time.
    pub(crate) fn usage(&mut self) -> Result<Usage, IoFailure> {
        if self.files.is_none() {
            let (mut files, mut listed) = (Usage::default(), Vec::new());
            for first in self.fans.clone() {
                listed.clear();
                list_fan(&self.layout, first, &mut listed)?;
                for file in &listed {
                    files.add(file.kind, file.size_bytes);
                }
            }
            self.files = Some(files);
        }
        let mut usage = self.open_packs()?.0.usage();
        let files = self.files.unwrap_or_default();
        usage.blobs += files.blobs;
        usage.blob_bytes += files.blob_bytes;
        Ok(usage)
    }

    /// Removes one blob or entry unless it was used at `started` or later; returns the bytes
    /// freed.
    pub(crate) fn evict(&mut self, listed: &Listed, started: u32) -> Result<u64, IoFailure> {
        let Some(used) = self.last_use(listed)? else {
            return Ok(0);
        };
        if used >= started {
            return Ok(0);
        }
        let removed = match listed.is_record() {
            true => self.delete_record(&listed.name())?,
            false => self.delete_file(&listed.hash, listed.size_bytes)?,
        };
        if !removed {
            return Ok(0);
        }
        count(&self.counters.evicted, 1);
        count(&self.counters.evicted_bytes, listed.size_bytes);
        Ok(listed.disk_bytes())
    }

    fn last_use(&mut self, listed: &Listed) -> Result<Option<u32>, IoFailure> {
        self.take_uses()?;
        if listed.is_record() {
            let name = listed.name();
            let read = match name.1 {
                Kind::Blob => lock(&self.memory).last_use(&name.0),
                Kind::Action | Kind::Link => None,
            };
            let packs = self.open_packs()?.0;
            let place = match read {
                Some(read) => packs.touch_at(&name, Clock::now().second_of(read)),
                None => packs.find(&name),
            };
            return Ok(place.map(|place| place.used));
        }
        let read = lock(&self.memory).last_use(&listed.hash);
        if let Some(read) = read {
            self.mark_used_at(&listed.hash, Clock::now().second_of(read));
        }
        let metadata = fs::metadata(self.layout.blob(&listed.hash)).ok();
        Ok(metadata.map(|metadata| metadata.modified().map_or(0, seconds)))
    }

    /// Chooses the segments to rewrite, so that the space of evicted records comes back.
    pub(crate) fn plan_compaction(
        &mut self,
        which: Compaction,
    ) -> Result<Option<Survey>, IoFailure> {
        self.on_packs(|packs| packs.plan(which.live_percent, which.wanted_bytes))
    }

    /// Rewrites some of them; returns what is left to do.
    pub(crate) fn compact_some(&mut self, plan: Rewriting) -> Result<Rewriting, IoFailure> {
        self.on_packs(|packs| packs.rewrite_some(plan))
    }

    fn on_packs<T>(
        &mut self,
        compact: impl FnOnce(&mut Packs<F>) -> Result<T, IoFailure>,
    ) -> Result<T, IoFailure> {
        let packs = self.open_packs()?.0;
        let compacted = compact(packs);
        for (name, bytes) in std::mem::take(&mut packs.lost) {
            self.quarantine_record(&name, &bytes);
        }
        self.note_held();
        compacted
    }

    /// Reads a blob or an entry from disk and quarantines it when it is damaged. Not a use.
    pub(crate) fn check(&mut self, listed: &Listed) -> Result<Checked, IoFailure> {
        if listed.is_record() {
            return match self.open_packs()?.0.read(&listed.name())? {
                Read::Missing => Ok(Checked::Gone),
                Read::Intact(bytes) => {
                    let named = self.sha256_names && listed.kind == Kind::Blob;
                    Ok(Checked::Intact(named.then(|| Sha256Digest::of(&bytes))))
                }
                Read::Damaged(bytes) => {
                    self.quarantine_record(&listed.name(), &bytes);
                    Ok(Checked::Damaged)
                }
            };
        }
        let path = self.layout.blob(&listed.hash);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checked::Gone),
            opened => opened.during("open", &path)?,
        };
        let hasher = match self.sha256_names {
            true => Hasher::with_sha256(),
            false => Hasher::new(),
        };
        let hasher = hash_file_with(hasher, &file).during("read", &path)?;
        let found = hasher.finish();
        if *found.hash() == listed.hash && !is_packed(found.size_bytes()) {
            return Ok(Checked::Intact(hasher.finish_sha256()));
        }
        self.quarantine_file(&listed.hash, &path)?;
        Ok(Checked::Damaged)
    }
}

/// The large blobs in one directory, in no order.
pub(crate) fn list_fan(
    layout: &Layout,
    first: u8,
    found: &mut Vec<Listed>,
) -> Result<(), IoFailure> {
    let directory = layout.fan(first);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.during("list", &directory)?,
    };
    for entry in entries {
        let entry = entry.during("list", &directory)?;
        let Some(hash) = Layout::hash_of(first, &entry.file_name()) else {
            continue;
        };
        // Gone since it was listed.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        found.push(Listed {
            kind: Kind::Blob,
            hash,
            size_bytes: metadata.len(),
            stored_bytes: metadata.len(),
            used: metadata.modified().map_or(0, seconds),
        });
    }
    Ok(())
}

/// The digest of what a file holds now.
pub(crate) fn hash_file(file: &File) -> io::Result<Digest> {
    Ok(hash_file_with(Hasher::new(), file)?.finish())
}

/// Hashes what a file holds now, from its start, whatever its position was.
pub(crate) fn hash_file_with(mut hasher: Hasher, mut file: &File) -> io::Result<Hasher> {
    file.rewind()?;
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher),
            length => hasher.update(&piece[..length]),
        }
    }
}
