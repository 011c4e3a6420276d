//! Eviction over a whole store: the least recently used blobs and entries go first.
//!
//! Owns: what is decided over all shards, walking the large files to decide it, and what is rewritten so that
//! what is evicted comes free.
//! Does not know: when eviction starts (`upkeep_actor`), or how a shard removes something.
//! Invariants: memory does not grow with the number of blobs; nothing that was used since it was
//! chosen is evicted, for its shard looks again; shards serve others between two batches.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::ages::Ages;
use crate::error::ShardError;
use crate::fs::Disk;
use crate::layout::Layout;
use crate::maintain::{Compaction, Listed, list_fan};
use crate::shard_actor::ShardMsg;
use crate::shard_set::{FANS, ShardHandle, shard_of_fan};

/// Blobs and entries that one message evicts: a shard serves others between two of them.
const EVICT_BATCH: usize = 256;
/// Records that are chosen at a time.
pub(crate) const CHOOSE_BATCH: usize = 4096;

/// Of which so much is alive at most, segments are rewritten where the files take too much: rewriting costs
/// four times what comes free, evicting more costs who asks for it.
const REWRITE_PERCENT: u64 = 80;
/// The same where nothing more may be evicted.
const SQUEEZE_PERCENT: u64 = 98;

/// Where what is evicted does not come free, one in so many bytes goes.
const EVICT_SHARE: u64 = 16;
/// So often it may, with nothing coming free: by then compactions that work have found something to rewrite.
const MOST_IN_VAIN: u32 = 6;

/// What an eviction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Bytes on disk of blobs and entries before. A small one counts 100 bytes for its record.
    pub before_bytes: u64,
    /// Bytes freed.
    pub freed_bytes: u64,
    /// Blobs and entries evicted.
    pub evicted: u64,
}

impl GcReport {
    /// Bytes that are left.
    pub(crate) fn left_bytes(&self) -> u64 {
        self.before_bytes.saturating_sub(self.freed_bytes)
    }
}

/// What an eviction did, and what kept it from the rest.
pub(crate) type Evicted = (GcReport, Result<(), ShardError>);

/// What relieving a full disk did.
#[derive(Debug, Default)]
pub(crate) struct Relief {
    pub(crate) evicted: GcReport,
    /// Bytes that the files of the store take less: not all that is evicted comes free, and some does that
    /// was gone before.
    pub(crate) released_bytes: u64,
    /// Bytes that would fit with all gone that may go, if that is less than what is to come.
    pub(crate) fitting_bytes: Option<u64>,
}

/// Evicts from all shards. Blocks its thread.
#[derive(Clone)]
pub(crate) struct Evictor {
    pub(crate) shards: Arc<[ShardHandle]>,
    pub(crate) layout: Layout,
    pub(crate) disk: Arc<dyn Disk>,
    /// Set when the store closes.
    pub(crate) closing: Arc<AtomicBool>,
}

impl Evictor {
    /// What the store holds, and when it was last used. Corrects the counters of large files.
    pub(crate) fn measure(&self) -> Result<Ages, ShardError> {
        let mut ages = Ages::default();
        for (index, shard) in self.shards.iter().enumerate() {
            ages.merge(&shard.wait_for(ShardMsg::Ages)?);
            let known = shard.counters.held.files();
            let mut found = 0;
            for fan in self.fans_of(index) {
                self.check_open()?;
                for file in self.list_fan(fan)? {
                    ages.add(file.used, file.disk_bytes());
                    found += file.disk_bytes();
                }
            }
            // What came or went meanwhile has been counted by the shard.
            shard.counters.held.correct_files(known, found);
        }
        Ok(ages)
    }

    /// Evicts until at most `target_bytes` are left, sparing what was used at `spared_since` or
    /// later, and has the files take no more than that, as far as what is left allows.
    pub(crate) fn evict_to(&self, target_bytes: u64, spared_since: u32) -> Evicted {
        let mut report = GcReport::default();
        let ages = self.measure();
        let done = ages.and_then(|ages| {
            self.evict(&ages, target_bytes, spared_since, &mut report)?;
            self.compact(Compaction::UNASKED)?;
            self.squeeze(target_bytes, SQUEEZE_PERCENT)
        });
        (report, done)
    }

    /// Has the files of the store take at most `target_bytes`: gives back what is gone already, evicts what
    /// they take beyond, and again, where too little of that came free: a small blob does with its segment.
    /// What is worth no rewrite otherwise is only rewritten where they take more than `most_bytes` and nothing
    /// else may go.
    pub(crate) fn fit(&self, target_bytes: u64, most_bytes: u64, spared_since: u32) -> Evicted {
        let mut report = GcReport::default();
        let done = self.fit_reporting(target_bytes, spared_since, &mut report);
        let done = done.and_then(|done| done.and(self.squeeze(most_bytes, SQUEEZE_PERCENT)));
        (report, done)
    }

    /// The inner result is that of compactions, which keep nothing from being evicted while something comes free.
    fn fit_reporting(
        &self,
        target_bytes: u64,
        spared_since: u32,
        report: &mut GcReport,
    ) -> Result<Result<(), ShardError>, ShardError> {
        let ages = self.measure()?;
        report.before_bytes = ages.total_bytes();
        let mut done = self.compact(Compaction::UNASKED);
        done = done.and(self.squeeze(target_bytes, REWRITE_PERCENT));
        let (mut least_bytes, mut in_vain) = (0, 0);
        loop {
            let (left_bytes, taken_bytes) = (report.left_bytes(), self.disk_bytes());
            if taken_bytes <= target_bytes {
                break;
            }
            let share_bytes = left_bytes / EVICT_SHARE;
            // What is alive beyond the target has to go; beyond that, what is dead may come free first.
            let surplus_bytes = left_bytes.saturating_sub(target_bytes).max(share_bytes);
            let goes_bytes = surplus_bytes
                .min(taken_bytes - target_bytes)
                .max(least_bytes);
            let to_bytes = left_bytes.saturating_sub(goes_bytes);
            let before = report.evicted;
            self.evict(&ages, to_bytes, spared_since, report)?;
            let compacted = self.compact(Compaction::UNASKED);
            if report.evicted == before {
                done = done.and(compacted);
                break;
            }
            let compacted = compacted.and(self.squeeze(target_bytes, REWRITE_PERCENT));
            let released_bytes = taken_bytes.saturating_sub(self.disk_bytes());
            in_vain = match released_bytes {
                0 => in_vain + 1,
                _ => 0,
            };
            let brings_little = released_bytes <= goes_bytes / 4;
            let is_stuck = (brings_little && compacted.is_err()) || in_vain > MOST_IN_VAIN;
            done = done.and(compacted);
            if is_stuck {
                break;
            }
            least_bytes = match released_bytes < goes_bytes / 2 {
                true => share_bytes,
                false => 0,
            };
        }
        Ok(done)
    }

    /// Has the shards rewrite segments, those with the most dead first, until the files take no more than
    /// that.
    fn squeeze(&self, target_bytes: u64, live_percent: u64) -> Result<(), ShardError> {
        match self.disk_bytes().saturating_sub(target_bytes) {
            0 => Ok(()),
            excess => self.compact(Compaction {
                live_percent,
                wanted_bytes: excess.div_ceil(self.shards.len() as u64),
            }),
        }
    }

    /// Gives space back until so many bytes of it have come free: what is gone already, or else what may
    /// go and a share of what there is, so that this is not done for every put. Evicts nothing where what
    /// is to come would not fit with all of it gone.
    pub(crate) fn relieve(
        &self,
        bytes: u64,
        to_come_bytes: u64,
        spared_since: u32,
    ) -> (Relief, Result<(), ShardError>) {
        let mut relief = Relief::default();
        let ages = match self.measure() {
            Err(error) => return (relief, Err(error)),
            Ok(ages) => ages,
        };
        let before = self.disk_bytes();
        let mut done = self.compact(Compaction::UNASKED);
        relief.released_bytes = before.saturating_sub(self.disk_bytes());
        if relief.released_bytes >= bytes {
            return (relief, done);
        }
        let free_bytes = self.disk.free_bytes(self.layout.root());
        let free_bytes = free_bytes.unwrap_or(u64::MAX);
        let most = ages.before_bytes(spared_since).saturating_add(free_bytes);
        if to_come_bytes > most {
            relief.fitting_bytes = Some(most);
            return (relief, done);
        }
        let held = ages.total_bytes();
        let target_bytes = held.saturating_sub(bytes.max(held / EVICT_SHARE));
        done = self.evict(&ages, target_bytes, spared_since, &mut relief.evicted);
        done = done.and(self.compact(Compaction::UNASKED));
        relief.released_bytes = before.saturating_sub(self.disk_bytes());
        (relief, done)
    }

    fn evict(
        &self,
        ages: &Ages,
        target_bytes: u64,
        spared_since: u32,
        report: &mut GcReport,
    ) -> Result<(), ShardError> {
        report.before_bytes = ages.total_bytes();
        if report.left_bytes() > target_bytes {
            let cut = ages.cut(report.before_bytes - target_bytes);
            for before in [cut.all_before, cut.some_before] {
                self.evict_before(before.min(spared_since), target_bytes, report)?;
            }
        }
        Ok(())
    }

    /// Has all shards give space back; one that cannot keeps no other from it.
    fn compact(&self, which: Compaction) -> Result<(), ShardError> {
        let shards = self.shards.iter();
        let compacted = shards.map(|shard| self.compact_shard(shard, which));
        compacted.fold(Ok(()), Result::and)
    }

    fn compact_shard(&self, shard: &ShardHandle, which: Compaction) -> Result<(), ShardError> {
        let Some(survey) = shard.wait_for(|reply| ShardMsg::PlanCompaction(which, reply))? else {
            return Ok(());
        };
        // Here, so that the shard serves others meanwhile.
        let (mut plan, read) = survey.read(&self.closing);
        while !plan.is_done() {
            self.check_open()?;
            plan = shard.wait_for(|reply| ShardMsg::Compact(plan, reply))?;
        }
        Ok(read?)
    }

    /// What the files of the store take.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| shard.counters.held.disk_bytes()).sum()
    }

    fn evict_before(
        &self,
        before: u32,
        target_bytes: u64,
        report: &mut GcReport,
    ) -> Result<(), ShardError> {
        for (index, shard) in self.shards.iter().enumerate() {
            loop {
                let chosen =
                    shard.wait_for(|reply| ShardMsg::UsedBefore(before, CHOOSE_BATCH, reply))?;
                let number = chosen.len();
                let freed = self.evict_all(shard, chosen, before, target_bytes, report)?;
                if freed == 0 || number < CHOOSE_BATCH {
                    break;
                }
            }
            for fan in self.fans_of(index) {
                if report.left_bytes() <= target_bytes {
                    return Ok(());
                }
                let mut chosen = self.list_fan(fan)?;
                chosen.retain(|file| file.used < before);
                self.evict_all(shard, chosen, before, target_bytes, report)?;
            }
        }
        Ok(())
    }

    /// Evicts what was chosen, as far as that is needed; returns the bytes freed.
    fn evict_all(
        &self,
        shard: &ShardHandle,
        chosen: Vec<Listed>,
        before: u32,
        target_bytes: u64,
        report: &mut GcReport,
    ) -> Result<u64, ShardError> {
        let freed_before = report.freed_bytes;
        let mut chosen = chosen.into_iter().peekable();
        while chosen.peek().is_some() && report.left_bytes() > target_bytes {
            self.check_open()?;
            let mut surplus = report.left_bytes() - target_bytes;
            let mut plan = Vec::with_capacity(EVICT_BATCH);
            while let Some(listed) = chosen.next_if(|_| surplus > 0 && plan.len() < EVICT_BATCH) {
                surplus = surplus.saturating_sub(listed.disk_bytes());
                plan.push(listed);
            }
            let (number, bytes) = shard.wait_for(|reply| ShardMsg::Evict(plan, before, reply))?;
            report.evicted += number;
            report.freed_bytes += bytes;
        }
        Ok(report.freed_bytes - freed_before)
    }

    fn list_fan(&self, fan: u8) -> Result<Vec<Listed>, ShardError> {
        let mut found = Vec::new();
        list_fan(&self.layout, fan, &mut found)?;
        Ok(found)
    }

    fn fans_of(&self, shard: usize) -> impl Iterator<Item = u8> {
        let number = self.shards.len();
        (0..FANS).filter_map(move |fan| {
            let fan = u8::try_from(fan).ok()?;
            (shard_of_fan(fan, number) == shard).then_some(fan)
        })
    }

    fn check_open(&self) -> Result<(), ShardError> {
        match self.closing.load(Relaxed) {
            true => Err(ShardError::Closed),
            false => Ok(()),
        }
    }
}
