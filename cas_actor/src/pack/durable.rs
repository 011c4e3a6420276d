//! Making records durable, also after that has failed.
//!
//! Owns: what of the segments is known to be durable.
//! Does not know: who waits for it.
//! Invariants: a sync that failed is never made good by another: the kernel reports an error once and
//! takes the pages for written, so a later success says nothing of them. What the failed one should
//! have made durable is read back, proves itself, and is written to another segment; what cannot be
//! read back is dropped and told. Until then, no sync of the packs succeeds.
#![forbid(unsafe_code)]

use std::io;

use super::{Name, Packs};
use crate::error::{During, IoFailure};
use crate::fs::Fs;
use crate::stats::count;

impl<F: Fs> Packs<F> {
    /// Whether something was appended that is not durable.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Gives up the segment that grows, and what of it is not durable: a group that was appended but
    /// is not in the index is gone, everything else is written anew by the next sync.
    pub(crate) fn abandon(&mut self) {
        if let Some(active) = self.active.take()
            && active.durable < active.end
        {
            self.doubtful.push((active.number, active.durable));
        }
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&mut self) -> Result<(), IoFailure> {
        self.rescue()?;
        let synced = self.sync_active();
        match &synced {
            Ok(()) => self.unsynced = false,
            Err(_) => self.abandon(),
        }
        synced
    }

    fn sync_active(&mut self) -> Result<(), IoFailure> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let path = self
            .directory
            .join(format!("{:08}{}", active.number, super::SEGMENT_SUFFIX));
        count(&self.counters.fsyncs, 1);
        self.fs.sync_file(&active.file).during("sync", &path)?;
        if self.new_names {
            // The segment may be the first: then `packs/N` and `packs` are new as well.
            for directory in self.directory.ancestors().take(3) {
                count(&self.counters.fsyncs, 1);
                let synced = self.fs.sync_directory(directory);
                synced.during("sync", directory)?;
            }
            self.new_names = false;
        }
        active.durable = active.end;
        Ok(())
    }

    /// Writes the records anew that a failed sync should have made durable.
    fn rescue(&mut self) -> Result<(), IoFailure> {
        let doubtful = std::mem::take(&mut self.doubtful);
        let mut rest = &doubtful[..];
        while let Some((&(number, from), later)) = rest.split_first() {
            if let Err(failure) = self.rescue_segment(number, from) {
                // Those of them that were rescued are found elsewhere by then.
                self.doubtful.extend_from_slice(rest);
                return Err(failure);
            }
            rest = later;
        }
        Ok(())
    }

    fn rescue_segment(&mut self, number: u32, from: u32) -> Result<(), IoFailure> {
        let path = self.segment_path(number);
        tracing::warn!(segment = %path.display(), "writing anew what a failed sync has left in doubt");
        match self.copy_live(number, from as usize) {
            // The segment itself is gone: what was in it is lost.
            Err(failure) if failure.kind() == io::ErrorKind::NotFound => {}
            copied => copied?,
        }
        let in_doubt = |(name, place): (&Name, &Option<super::Place>)| {
            let place = (*place)?;
            (place.segment == number && place.offset >= from).then_some(*name)
        };
        let lost: Vec<Name> = self.changes.iter().filter_map(in_doubt).collect();
        for name in &lost {
            self.forget(name);
        }
        // Nothing points there any more: a longer file than the index says would do no harm.
        if let Some(state) = self.segments.get_mut(&number) {
            state.end = from;
        }
        let cut = std::fs::OpenOptions::new().write(true).open(&path);
        let _ = cut.and_then(|file| file.set_len(u64::from(from)));
        if lost.is_empty() {
            return Ok(());
        }
        count(&self.counters.corrupt, lost.len() as u64);
        tracing::warn!(segment = %path.display(), lost = lost.len(), "records are lost");
        let message = format!("{} records were lost after a failed sync", lost.len());
        Err(IoFailure::new("keep", &path, io::Error::other(message)))
    }
}
