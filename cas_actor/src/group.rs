//! Storing a group of blobs and entries: what has to be written, what is here already.
//!
//! Owns: the plan of a group, its counting and its admission to the memory tier.
//! Does not know: the order of writes and syncs (`commit`).
//! Invariants: one blob is written once, however often a group holds it; a durable put of a blob
//! that another put left unsynced is answered after a sync.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;

use crate::commit::{Durability, Target, Write};
use crate::digest::{Digest, HASH_BYTES};
use crate::error::{IoFailure, PutError};
use crate::fs::Fs;
use crate::layout::{ActionKey, Kind, is_packed};
use crate::pack::Header;
use crate::sha256::Sha256Digest;
use crate::shard::{PutOutcome, Shard, lock};
use crate::staging::{Content, Verified};
use crate::stats::count;

/// One thing to store.
#[derive(Debug)]
pub(crate) enum Put {
    Blob(Verified, Durability),
    /// An encoded entry.
    Action(ActionKey, Bytes, Durability),
    /// The second name of a blob.
    Link(Sha256Digest, Digest, Durability),
}

impl Put {
    /// The same once more, if its content is in memory.
    pub(crate) fn again(&self) -> Option<Self> {
        Some(match self {
            Self::Blob(verified, durability) => Self::Blob(verified.again()?, *durability),
            Self::Action(key, entry, durability) => Self::Action(*key, entry.clone(), *durability),
            Self::Link(name, digest, durability) => Self::Link(*name, *digest, *durability),
        })
    }

    /// Bytes of the content.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Blob(verified, _) => verified.digest().size_bytes(),
            Self::Action(_, entry, _) => entry.len() as u64,
            Self::Link(..) => 0,
        }
    }
}

/// What a group of puts comes down to.
#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    writes: Vec<Write>,
    in_group: HashMap<[u8; HASH_BYTES], usize>,
    admit: Vec<(usize, [u8; HASH_BYTES], Bytes)>,
    /// Writes that are blobs, and their sizes.
    blobs: Vec<(usize, u64)>,
    sync_earlier: bool,
}

impl Plan {
    fn write(&mut self, what: Target, durability: Durability) {
        self.steps.push(Step::Write(self.writes.len()));
        self.writes.push(Write { what, durability });
    }

    /// It is here; whether it is durable is not known.
    fn present(&mut self, durability: Durability) {
        let durable = durability == Durability::Durable;
        self.sync_earlier |= durable;
        self.steps.push(match durable {
            true => Step::PresentUnsynced,
            false => Step::Present,
        });
    }
}

enum Step {
    /// Nothing to do.
    Present,
    /// Here, but perhaps not durable yet.
    PresentUnsynced,
    /// Written as the group's write with this index.
    Write(usize),
    /// The same blob as that write.
    SameAs(usize),
}

/// A record of a blob or an entry.
fn record(kind: Kind, hash: [u8; HASH_BYTES], payload: Bytes) -> Target {
    Target::Record(header(kind, hash, &payload), payload)
}

/// A record of a small blob, compressed if somebody has done that.
fn small(hash: [u8; HASH_BYTES], content: Bytes, deflated: Option<Bytes>) -> Target {
    let Some(payload) = deflated else {
        return record(Kind::Blob, hash, content);
    };
    let header = Header {
        deflated: true,
        ..header(Kind::Blob, hash, &payload)
    };
    Target::Record(header, payload)
}

fn header(kind: Kind, hash: [u8; HASH_BYTES], payload: &Bytes) -> Header {
    Header {
        kind,
        deleted: false,
        hash,
        // The limits of what is packed lie far below.
        length: payload.len() as u32,
        deflated: false,
    }
}

impl<F: Fs> Shard<F> {
    /// Stores a group of verified blobs and entries together; the answers are in its order.
    pub(crate) fn put_group(&mut self, group: Vec<Put>) -> Vec<Result<PutOutcome, PutError>> {
        let started = Instant::now();
        let mut plan = Plan::default();
        for put in group {
            self.plan(put, &mut plan);
        }
        let Plan {
            mut steps,
            writes,
            sync_earlier,
            admit,
            blobs,
            ..
        } = plan;
        let (written, earlier) = match self.open_packs() {
            Err(failure) => (vec![Err(failure.clone()); writes.len()], Err(failure)),
            Ok((packs, commit)) => {
                let written = match writes.is_empty() {
                    true => Vec::new(),
                    false => commit.commit(packs, writes),
                };
                let earlier = match sync_earlier {
                    true => commit.sync(packs),
                    false => Ok(()),
                };
                (written, earlier)
            }
        };
        for (index, size_bytes) in blobs {
            if written[index].is_ok() {
                self.count_stored(size_bytes);
            }
        }
        self.set_lost_aside();
        self.note_held();
        self.admit_written(admit, &written);
        self.checkpoint_if_due();
        let took = started.elapsed();
        let answers = steps.drain(..).map(|step| {
            self.counters.put_latency.record(took);
            match step {
                Step::Present => Ok(PutOutcome::Present),
                Step::PresentUnsynced => earlier
                    .clone()
                    .map(|()| PutOutcome::Present)
                    .map_err(PutError::from),
                Step::Write(index) => written[index]
                    .clone()
                    .map(|()| PutOutcome::Stored)
                    .map_err(PutError::from),
                Step::SameAs(index) => written[index]
                    .clone()
                    .map(|()| PutOutcome::Present)
                    .map_err(PutError::from),
            }
        });
        answers.collect()
    }

    /// Whether the blob is here; if so, it is as durable on return as a put would make it.
    pub(crate) fn keep(
        &mut self,
        digest: &Digest,
        durability: Durability,
    ) -> Result<bool, IoFailure> {
        if !self.contains(digest) {
            return Ok(false);
        }
        if self.met(digest, durability) == Durability::Durable {
            self.sync()?;
        }
        Ok(true)
    }

    /// A put of this durability has met a blob that is here. Returns when that put counts as done.
    fn met(&mut self, digest: &Digest, durability: Durability) -> Durability {
        if !is_packed(digest.size_bytes()) {
            return self.commit.met(digest.hash(), durability);
        }
        match self.open_packs() {
            Ok((packs, commit)) => commit.met_record(packs, durability),
            Err(_) => durability,
        }
    }

    /// Keeps what changed since the last table small.
    pub(crate) fn checkpoint_if_due(&mut self) {
        if let Some(packs) = &mut self.packs
            && let Err(failure) = packs.checkpoint_if_due()
        {
            // Records are safe without it; the next group tries again.
            tracing::warn!(%failure, "cannot write the index");
        }
    }

    /// Decides what a put needs: nothing, a sync of what is here, or a write.
    fn plan(&mut self, put: Put, plan: &mut Plan) {
        let (mut verified, durability) = match put {
            Put::Blob(verified, durability) => (verified, durability),
            Put::Action(key, entry, durability) => {
                plan.write(record(Kind::Action, key, entry), durability);
                return;
            }
            Put::Link(name, digest, durability) => {
                match self.met_link(&name, durability) {
                    Some(durability) => plan.present(durability),
                    None => {
                        let link = record(Kind::Link, *name.hash(), name.link_to(&digest));
                        plan.write(link, durability);
                    }
                }
                return;
            }
        };
        let digest = verified.digest();
        if let Some(&index) = plan.in_group.get(digest.hash()) {
            let write = &mut plan.writes[index];
            write.durability = write.durability.stricter(durability);
            plan.steps.push(Step::SameAs(index));
            return;
        }
        if self.contains(&digest) {
            count(&self.counters.puts_present, 1);
            plan.present(self.met(&digest, durability));
            return;
        }
        let index = plan.writes.len();
        plan.in_group.insert(*digest.hash(), index);
        plan.blobs.push((index, digest.size_bytes()));
        let deflated = verified.take_deflated();
        let content = verified.into_content();
        if let Content::Bytes(bytes) = &content {
            plan.admit.push((index, *digest.hash(), bytes.clone()));
        }
        let what = match content {
            Content::Bytes(bytes) if is_packed(digest.size_bytes()) => {
                small(*digest.hash(), bytes, deflated)
            }
            content => Target::File(*digest.hash(), content),
        };
        plan.write(what, durability);
    }

    /// When a put of a link counts as done that is here. It never changes: whoever wrote it had both hashes
    /// of the same content.
    fn met_link(&mut self, name: &Sha256Digest, durability: Durability) -> Option<Durability> {
        let (packs, commit) = self.open_packs().ok()?;
        packs.touch(&(*name.hash(), Kind::Link))?;
        Some(commit.met_record(packs, durability))
    }

    fn count_stored(&mut self, size_bytes: u64) {
        count(&self.counters.puts, 1);
        count(&self.counters.put_bytes, size_bytes);
        if is_packed(size_bytes) {
            return;
        }
        self.counters.held.add_files(size_bytes);
        if let Some(files) = &mut self.files {
            files.add(Kind::Blob, size_bytes);
        }
    }

    fn admit_written(
        &mut self,
        admit: Vec<(usize, [u8; HASH_BYTES], Bytes)>,
        written: &[Result<(), IoFailure>],
    ) {
        let now = Instant::now();
        let mut memory = lock(&self.memory);
        for (index, hash, bytes) in admit {
            if written[index].is_ok() && memory.admits(bytes.len() as u64) {
                // A copy: the caller's buffer may be a small part of a large one.
                let own = Bytes::copy_from_slice(&bytes);
                memory.admit(&hash, own.into(), now);
            }
        }
    }
}
