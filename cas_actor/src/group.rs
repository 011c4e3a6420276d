//! Storing a group of blobs and entries: what has to be written, what is here already.
//!
//! Owns: the plan of a group, its counting and its admission to the memory tier.
//! Does not know: the order of writes and syncs (`commit`).
//! Invariants: one blob is written once, however often a group holds it; a durable put of a blob
//! that another put left unsynced is answered after a sync.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use bytes::Bytes;

use crate::commit::{Durability, Write};
use crate::digest::HASH_BYTES;
use crate::error::{IoFailure, PutError};
use crate::fs::Fs;
use crate::layout::{ActionKey, Kind};
use crate::shard::{PutOutcome, Shard, lock};
use crate::staging::{Content, Verified};
use crate::stats::count;

/// One thing to store.
#[derive(Debug)]
pub(crate) enum Put {
    Blob(Verified, Durability),
    /// An encoded entry.
    Action(ActionKey, Bytes, Durability),
}

/// What a group of puts comes down to.
#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    writes: Vec<Write>,
    in_group: HashMap<[u8; HASH_BYTES], usize>,
    admit: Vec<(usize, [u8; HASH_BYTES], Bytes)>,
    sync_earlier: bool,
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

fn size_of_write(write: &Write) -> (Kind, u64) {
    let size_bytes = match &write.content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::Staged(staged) => staged.file.metadata().map_or(0, |data| data.len()),
    };
    (write.kind, size_bytes)
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
            ..
        } = plan;
        let sizes: Vec<(Kind, u64)> = writes.iter().map(size_of_write).collect();
        let written = self.commit.commit(writes);
        let earlier = match sync_earlier {
            true => self.commit.sync(),
            false => Ok(()),
        };
        for ((kind, size_bytes), result) in sizes.iter().zip(&written) {
            if result.is_ok() {
                self.count_stored(*kind, *size_bytes);
            }
        }
        self.admit_written(admit, &written);
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

    /// Decides what a put needs: nothing, a sync of what is here, or a write.
    fn plan(&mut self, put: Put, plan: &mut Plan) {
        let (verified, durability) = match put {
            Put::Blob(verified, durability) => (verified, durability),
            Put::Action(key, entry, durability) => {
                self.uncount_replaced(&key);
                plan.steps.push(Step::Write(plan.writes.len()));
                plan.writes.push(Write {
                    kind: Kind::Action,
                    hash: key,
                    content: Content::Bytes(entry),
                    durability,
                });
                return;
            }
        };
        let digest = verified.digest();
        if let Some(&index) = plan.in_group.get(digest.hash()) {
            if durability == Durability::Durable {
                plan.writes[index].durability = Durability::Durable;
            }
            plan.steps.push(Step::SameAs(index));
            return;
        }
        if self.contains(&digest) {
            count(&self.counters.puts_present, 1);
            let durable = durability == Durability::Durable;
            plan.sync_earlier |= durable;
            plan.steps.push(match durable {
                true => Step::PresentUnsynced,
                false => Step::Present,
            });
            return;
        }
        let index = plan.writes.len();
        plan.in_group.insert(*digest.hash(), index);
        plan.steps.push(Step::Write(index));
        let content = verified.into_content();
        if let Content::Bytes(bytes) = &content {
            plan.admit.push((index, *digest.hash(), bytes.clone()));
        }
        plan.writes.push(Write {
            kind: Kind::Blob,
            hash: *digest.hash(),
            content,
            durability,
        });
    }

    fn count_stored(&mut self, kind: Kind, size_bytes: u64) {
        if kind == Kind::Blob {
            count(&self.counters.puts, 1);
            count(&self.counters.put_bytes, size_bytes);
        }
        if let Some(usage) = &mut self.usage {
            usage.add(kind, size_bytes);
        }
    }

    fn uncount_replaced(&mut self, key: &ActionKey) {
        let Some(usage) = &mut self.usage else { return };
        if let Ok(replaced) = fs::metadata(self.layout.path(Kind::Action, key)) {
            usage.subtract(Kind::Action, replaced.len());
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
