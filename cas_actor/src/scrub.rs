//! The actor that reads everything again, slowly, for ever.
//!
//! Owns: where a pass is, and how fast it goes.
//! Does not know: what becomes of what is damaged: the shard that owns it sets it aside, and a
//! cache behind the store heals it when it is asked for.
//! Invariants: it never reads faster than it is told to; large files are read on its own thread, so
//! that shards go on serving; only a shard decides that something is damaged.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use actor_rt::{Actor, ActorRef, Context, Failure, Reply, System};

use crate::commit::Durability;
use crate::digest::{Digest, Hasher};
use crate::error::ShardError;
use crate::group::Put;
use crate::layout::Layout;
use crate::maintain::{Checked, Listed, list_fan};
use crate::open::StoreConfig;
use crate::pack::Name;
use crate::sha256::Sha256Digest;
use crate::shard_actor::ShardMsg;
use crate::shard_set::{FANS, ShardHandle, shard_of, shard_of_fan};
use crate::stats::count;

/// What is read of a large file at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Records that are listed at a time.
const LIST_RECORDS: usize = 512;
/// A record counts as so much, whatever its size: reading it is a message and a system call.
const RECORD_BYTES: u64 = 4096;
/// From the end of a pass to the start of the next.
const REST: Duration = Duration::from_secs(3600);
/// Slices of work in a second.
const SLICES: u64 = 10;

/// What the scrubber is told.
#[derive(Debug)]
pub(crate) enum ScrubMsg {
    /// Do some work.
    Slice,
}

/// A large file that is being read.
struct Reading {
    listed: Listed,
    file: File,
    hasher: Hasher,
}

/// Where a pass is.
enum At {
    /// The records of a shard behind a name.
    Records(usize, Option<Name>),
    /// The files whose hashes begin with a byte.
    Files(u8, Vec<Listed>),
}

/// The scrubber of one store, on a thread of its own.
pub(crate) struct Scrubber {
    shards: Arc<[ShardHandle]>,
    layout: Layout,
    closing: Arc<AtomicBool>,
    bytes_per_second: u64,
    sha256_names: bool,
    at: At,
    reading: Option<Reading>,
    piece: Vec<u8>,
    damaged: u64,
}

/// Starts the scrubber of a store, if it is to have one. It stops when `closing` is set.
pub(crate) fn start(
    system: &System,
    config: &StoreConfig,
    layout: &Layout,
    shards: &Arc<[ShardHandle]>,
    closing: &Arc<AtomicBool>,
) -> Option<ActorRef<ScrubMsg>> {
    let bytes_per_second = config.scrub_bytes_per_second?.max(1);
    let (shards, layout, closing) = (Arc::clone(shards), layout.clone(), Arc::clone(closing));
    let sha256_names = config.sha256_names;
    let scrubber = system
        .actor(move || Scrubber {
            shards: Arc::clone(&shards),
            layout: layout.clone(),
            closing: Arc::clone(&closing),
            bytes_per_second,
            sha256_names,
            at: At::Records(0, None),
            reading: None,
            piece: Vec::new(),
            damaged: 0,
        })
        .name(format!("store {} scrubber", config.root.display()))
        .spawn_dedicated();
    Some(scrubber)
}

impl Scrubber {
    /// Works until so many bytes were read, or the pass has ended, which it says.
    fn slice(&mut self, budget: u64) -> Result<(u64, bool), ShardError> {
        let mut read = 0;
        while read < budget {
            if self.closing.load(Relaxed) {
                return Err(ShardError::Closed);
            }
            if self.reading.is_some() {
                read += self.read_on()?;
                continue;
            }
            match &mut self.at {
                At::Records(shard, _) if *shard >= self.shards.len() => {
                    self.at = At::Files(0, self.list(0)?);
                }
                At::Records(..) => read += self.check_records()?,
                At::Files(fan, files) => match (files.pop(), usize::from(*fan) + 1 < FANS) {
                    (Some(listed), _) => self.open(listed)?,
                    (None, true) => {
                        let next = *fan + 1;
                        self.at = At::Files(next, self.list(next)?);
                    }
                    (None, false) => {
                        self.at = At::Records(0, None);
                        return Ok((read, true));
                    }
                },
            }
        }
        Ok((read, false))
    }

    fn list(&self, fan: u8) -> Result<Vec<Listed>, ShardError> {
        let mut found = Vec::new();
        list_fan(&self.layout, fan, &mut found)?;
        Ok(found)
    }

    /// Has a shard check its next records.
    fn check_records(&mut self) -> Result<u64, ShardError> {
        let At::Records(index, after) = self.at else {
            return Ok(0);
        };
        let shard = &self.shards[index];
        let records = shard.wait_for(|reply| ShardMsg::RecordsAfter(after, LIST_RECORDS, reply))?;
        let mut read = 0;
        for listed in &records {
            let checked = shard.wait_for(|reply| ShardMsg::Check(*listed, reply))?;
            count(&shard.counters.scrubbed, 1);
            count(&shard.counters.scrubbed_bytes, listed.size_bytes);
            read += RECORD_BYTES.max(listed.size_bytes);
            match checked {
                Checked::Damaged => self.damaged += 1,
                Checked::Intact(Some(sha256)) => self.name(listed, sha256)?,
                Checked::Intact(None) | Checked::Gone => {}
            }
        }
        self.at = match records.last() {
            Some(last) => At::Records(index, Some(last.name())),
            None => At::Records(index + 1, None),
        };
        Ok(read)
    }

    fn open(&mut self, listed: Listed) -> Result<(), ShardError> {
        match File::open(self.layout.blob(&listed.hash)) {
            Ok(file) => {
                let hasher = match self.sha256_names {
                    true => Hasher::with_sha256(),
                    false => Hasher::new(),
                };
                self.reading = Some(Reading {
                    listed,
                    file,
                    hasher,
                });
                Ok(())
            }
            // Evicted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => self.suspect(&listed),
        }
    }

    /// Reads a piece of the open file, and judges it at its end.
    fn read_on(&mut self) -> Result<u64, ShardError> {
        let Some(reading) = &mut self.reading else {
            return Ok(0);
        };
        self.piece.resize(PIECE_BYTES, 0);
        let length = match reading.file.read(&mut self.piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(0),
            read => read,
        };
        if let Ok(length @ 1..) = length {
            reading.hasher.update(&self.piece[..length]);
            return Ok(length as u64);
        }
        let Some(Reading { listed, hasher, .. }) = self.reading.take() else {
            return Ok(0);
        };
        let digest = hasher.finish();
        let counters = &self.shards[shard_of_fan(listed.hash[0], self.shards.len())].counters;
        count(&counters.scrubbed, 1);
        count(&counters.scrubbed_bytes, digest.size_bytes());
        if length.is_err() || *digest.hash() != listed.hash {
            self.suspect(&listed)?;
        } else if let Some(sha256) = hasher.finish_sha256() {
            self.name(&listed, sha256)?;
        }
        Ok(1)
    }

    /// Something looks damaged: its shard looks again, and sets it aside.
    fn suspect(&mut self, listed: &Listed) -> Result<(), ShardError> {
        let shard = &self.shards[shard_of(&listed.hash, self.shards.len())];
        let checked = shard.wait_for(|reply| ShardMsg::Check(*listed, reply))?;
        self.damaged += u64::from(checked == Checked::Damaged);
        Ok(())
    }

    /// Gives a blob its second name, if it has none.
    fn name(&self, listed: &Listed, sha256: Sha256Digest) -> Result<(), ShardError> {
        let digest = Digest::new(listed.hash, listed.size_bytes);
        let shard = &self.shards[shard_of(sha256.hash(), self.shards.len())];
        let link = Put::Link(sha256, digest, Durability::Volatile);
        let (reply, answer) = Reply::pair();
        let sent = shard.actor.send_blocking(ShardMsg::Put(link, reply));
        sent.map_err(|_| ShardError::Closed)?;
        match answer.wait() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot name a blob");
                Ok(())
            }
            Err(_) => Err(ShardError::Closed),
        }
    }
}

impl Actor for Scrubber {
    type Msg = ScrubMsg;

    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        // Closed before it began: there is nothing to do.
        let _ = ctx.me().tell(ScrubMsg::Slice);
        Ok(())
    }

    fn handle(&mut self, _: ScrubMsg, ctx: &mut Context<'_, Self>) {
        let budget = (self.bytes_per_second / SLICES).max(1);
        let rest = match self.slice(budget) {
            Err(ShardError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot scrub; trying again later");
                self.reading = None;
                REST
            }
            Ok((_, true)) => {
                tracing::info!(damaged = self.damaged, "the whole store was read");
                self.damaged = 0;
                REST
            }
            Ok((read, false)) => {
                Duration::from_secs_f64(read as f64 / self.bytes_per_second as f64)
            }
        };
        ctx.after(rest, ScrubMsg::Slice);
    }
}
