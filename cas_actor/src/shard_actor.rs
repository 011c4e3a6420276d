//! The mailbox side of a shard: messages, and the grouping of puts.
//!
//! Owns: which puts are committed together.
//! Does not know: how anything is stored (`shard`).
//! Invariants: a put or a sync is answered after its group was committed; with the first of a
//! group the shard sends itself `Commit`, which arrives behind everything that waits by then, so a
//! group is what was in the mailbox; whatever needs a settled shard commits first.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use actor_rt::{Actor, Context, ExitReason, Reply};

use crate::action::ActionEntry;
use crate::ages::Ages;
use crate::commit::Durability;
use crate::digest::Digest;
use crate::error::{GetError, IoFailure, PutError};
use crate::fs::Fs;
use crate::group::Put;
use crate::layout::ActionKey;
use crate::lookup::Lead;
use crate::maintain::{Checked, Listed};
use crate::name::BlobName;
use crate::open::LockFile;
use crate::pack::Name;
use crate::shard::{Found, PutOutcome, Shard};
use crate::staging::Content;
use crate::stats::Usage;

/// A group is committed at this many puts, whatever still waits.
const GROUP_PUTS: usize = 256;
/// A group is committed when it holds this many bytes in memory.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;

/// Up to this size, hashing takes less than starting a thread for it is worth.
const CHECK_HERE_BYTES: u64 = 4 * 1024 * 1024;
/// Checks that run at once beside a shard.
const MAX_CHECKS: usize = 4;

/// What a shard can be asked.
pub(crate) enum ShardMsg {
    Put(Put, Reply<Result<PutOutcome, PutError>>),
    Get(Digest, Reply<Result<Found, GetError>>),
    /// From a checking thread: what that which was found is called.
    Checked(Digest, Found, io::Result<Digest>),
    Keep(Digest, Durability, Reply<Result<bool, IoFailure>>),
    Contains(Vec<Digest>, Reply<Vec<bool>>),
    LookUp(Vec<BlobName>, Reply<Result<Vec<Lead>, IoFailure>>),
    Delete(Digest, Reply<Result<bool, IoFailure>>),
    GetAction(ActionKey, Reply<Result<Option<ActionEntry>, IoFailure>>),
    DeleteAction(ActionKey, Reply<Result<bool, IoFailure>>),
    Sync(Reply<Result<(), IoFailure>>),
    List(Reply<Result<Vec<Listed>, IoFailure>>),
    Usage(Reply<Result<Usage, IoFailure>>),
    Ages(Reply<Result<Ages, IoFailure>>),
    /// Records last used before a second, so many at most.
    UsedBefore(u32, usize, Reply<Result<Vec<Listed>, IoFailure>>),
    /// What to evict unless it was used at this second or later.
    Evict(Vec<Listed>, u32, Reply<Result<(u64, u64), IoFailure>>),
    /// Records behind a name, so many at most.
    RecordsAfter(Option<Name>, usize, Reply<Result<Vec<Listed>, IoFailure>>),
    Compact(Reply<Result<u64, IoFailure>>),
    Check(Listed, Reply<Result<Checked, IoFailure>>),
    /// Uses that were noted, to be taken.
    TakeUses,
    /// From the shard to itself: commit what was gathered.
    Commit,
}

type GetReply = Reply<Result<Found, GetError>>;

/// The checks beside a shard, and those whose turn is to come.
struct Checks<T> {
    running: usize,
    queued: VecDeque<T>,
}

impl<T> Default for Checks<T> {
    fn default() -> Self {
        Self {
            running: 0,
            queued: VecDeque::new(),
        }
    }
}

impl<T> Checks<T> {
    /// The check that begins now, if one more may.
    fn begin(&mut self, check: T) -> Option<T> {
        if self.running == MAX_CHECKS {
            self.queued.push_back(check);
            return None;
        }
        self.running += 1;
        Some(check)
    }

    /// One has ended: the check that begins in its place.
    fn ended(&mut self) -> Option<T> {
        let next = self.queued.pop_front();
        self.running -= usize::from(next.is_none());
        next
    }
}

/// A shard behind a mailbox.
pub(crate) struct ShardActor<F> {
    shard: Shard<F>,
    gathered: Vec<Put>,
    waiting: Vec<Reply<Result<PutOutcome, PutError>>>,
    gathered_bytes: u64,
    /// Who waits for everything to be durable.
    syncing: Vec<Reply<Result<(), IoFailure>>>,
    /// Whether a `Commit` is on its way that somebody waits for.
    commit_is_due: bool,
    /// Large blobs that are being checked, and who waits for them.
    checking: HashMap<Digest, Vec<GetReply>>,
    checks: Checks<(Digest, Found)>,
    /// Dropped, and so let go of, after the shard.
    _lock: Arc<LockFile>,
}

impl<F: Fs> ShardActor<F> {
    pub(crate) fn new(shard: Shard<F>, lock: Arc<LockFile>) -> Self {
        Self {
            shard,
            checking: HashMap::new(),
            checks: Checks::default(),
            _lock: lock,
            gathered: Vec::new(),
            waiting: Vec::new(),
            gathered_bytes: 0,
            syncing: Vec::new(),
            commit_is_due: false,
        }
    }

    fn gather(&mut self, put: Put, reply: Reply<Result<PutOutcome, PutError>>) {
        self.gathered_bytes += bytes_in_memory(&put);
        self.gathered.push(put);
        self.waiting.push(reply);
        if self.gathered.len() >= GROUP_PUTS || self.gathered_bytes >= GROUP_BYTES {
            self.commit();
        }
    }

    /// Has the shard commit behind everything that waits by now. Where the mailbox is full, more
    /// messages follow, and one of them tries again; where it is closed, `stopped` commits.
    fn commit_later(&mut self, ctx: &mut Context<'_, Self>) {
        let owed = !self.gathered.is_empty() || !self.syncing.is_empty();
        if owed && !self.commit_is_due {
            self.commit_is_due = ctx.me().tell(ShardMsg::Commit).is_ok();
        }
    }

    fn commit(&mut self) {
        self.commit_is_due = false;
        self.gathered_bytes = 0;
        if !self.gathered.is_empty() {
            let answers = self.shard.put_group(std::mem::take(&mut self.gathered));
            for (reply, answer) in self.waiting.drain(..).zip(answers) {
                reply.send(answer);
            }
        }
        if !self.syncing.is_empty() {
            let synced = self.shard.sync();
            for reply in self.syncing.drain(..) {
                reply.send(synced.clone());
            }
        }
    }

    /// Answers a read. The check of a large blob runs on a thread of its own, so that the shard
    /// goes on serving; who asks for the same blob meanwhile waits for that check.
    fn get(&mut self, digest: Digest, reply: GetReply, ctx: &mut Context<'_, Self>) {
        if let Some(waiting) = self.checking.get_mut(&digest) {
            waiting.push(reply);
            return;
        }
        let found = match self.shard.get(&digest) {
            Ok(found) if found.unchecked => found,
            settled => return reply.send(settled),
        };
        let is_small = found.blob.len() as u64 <= CHECK_HERE_BYTES;
        self.checking.insert(digest, vec![reply]);
        if is_small {
            let called = found.digest();
            return self.checked(&digest, found, called);
        }
        let begun = self.checks.begin((digest, found));
        self.check(begun, ctx);
    }

    /// Starts a check; one that cannot start is answered, and the next begins in its place.
    fn check(&mut self, mut next: Option<(Digest, Found)>, ctx: &mut Context<'_, Self>) {
        while let Some((digest, found)) = next {
            let shard = ctx.me();
            let check = move || {
                let called = found.digest();
                // Refused only when the store closes, which answers who waits.
                let _ = shard.send_blocking(ShardMsg::Checked(digest, found, called));
            };
            let started = thread::Builder::new()
                .name("store-check".into())
                .spawn(check);
            let Err(error) = started else { return };
            let path = self.shard.layout.blob(digest.hash());
            let failure = IoFailure::new("start a check of", &path, error);
            tracing::warn!(%failure, "cannot check a blob");
            self.answer(&digest, Err(failure.into()));
            next = self.checks.ended();
        }
    }

    fn checked(&mut self, digest: &Digest, found: Found, called: io::Result<Digest>) {
        let answer = self.shard.checked(digest, found, called);
        self.answer(digest, answer);
    }

    /// Answers all who wait for a check.
    fn answer(&mut self, digest: &Digest, answer: Result<Found, GetError>) {
        let waiting = self.checking.remove(digest).unwrap_or_default();
        let mut waiting = waiting.into_iter();
        let first = waiting.next();
        for reply in waiting {
            reply.send(answer.as_ref().map(Found::share).map_err(GetError::clone));
        }
        if let Some(first) = first {
            first.send(answer);
        }
    }

    fn take_uses(&mut self) {
        if let Err(failure) = self.shard.take_uses() {
            tracing::warn!(%failure, "uses are forgotten");
        }
    }

    fn evict(&mut self, plan: &[Listed], started: u32) -> Result<(u64, u64), IoFailure> {
        let (mut number, mut bytes) = (0, 0);
        for listed in plan {
            let freed = self.shard.evict(listed, started)?;
            number += u64::from(freed > 0);
            bytes += freed;
        }
        self.shard.checkpoint_if_due();
        Ok((number, bytes))
    }
}

impl<F: Fs> Actor for ShardActor<F> {
    type Msg = ShardMsg;

    fn handle(&mut self, msg: ShardMsg, ctx: &mut Context<'_, Self>) {
        match msg {
            ShardMsg::Put(put, reply) => self.gather(put, reply),
            ShardMsg::Sync(reply) => self.syncing.push(reply),
            // One that was overtaken by a full group has nothing to do.
            ShardMsg::Commit if self.commit_is_due => self.commit(),
            ShardMsg::Commit => {}
            ShardMsg::Get(digest, reply) => self.get(digest, reply, ctx),
            ShardMsg::Checked(digest, found, called) => {
                self.checked(&digest, found, called);
                let next = self.checks.ended();
                self.check(next, ctx);
            }
            ShardMsg::Keep(digest, durability, reply) => {
                reply.send(self.shard.keep(&digest, durability));
            }
            ShardMsg::Contains(digests, reply) => {
                let present = digests.iter().map(|digest| self.shard.contains(digest));
                reply.send(present.collect());
            }
            ShardMsg::TakeUses => self.take_uses(),
            ShardMsg::LookUp(names, reply) => reply.send(self.shard.look_up(&names)),
            ShardMsg::GetAction(key, reply) => reply.send(self.shard.get_action(&key)),
            settled => {
                self.commit();
                match settled {
                    ShardMsg::Delete(digest, reply) => reply.send(self.shard.delete(&digest)),
                    ShardMsg::DeleteAction(key, reply) => {
                        reply.send(self.shard.delete_action(&key));
                    }
                    ShardMsg::List(reply) => reply.send(self.shard.list()),
                    ShardMsg::Usage(reply) => reply.send(self.shard.usage()),
                    ShardMsg::Ages(reply) => reply.send(self.shard.ages()),
                    ShardMsg::UsedBefore(before, limit, reply) => {
                        reply.send(self.shard.used_before(before, limit));
                    }
                    ShardMsg::RecordsAfter(after, limit, reply) => {
                        reply.send(self.shard.records_after(after, limit));
                    }
                    ShardMsg::Evict(plan, started, reply) => {
                        reply.send(self.evict(&plan, started));
                    }
                    ShardMsg::Compact(reply) => reply.send(self.shard.compact()),
                    ShardMsg::Check(listed, reply) => reply.send(self.shard.check(&listed)),
                    _ => unreachable!("handled above"),
                }
            }
        }
        if self.shard.uses.is_due() {
            self.take_uses();
        }
        self.commit_later(ctx);
    }

    fn stopped(&mut self, _reason: &ExitReason) {
        self.commit();
        self.shard.close();
    }
}

fn bytes_in_memory(put: &Put) -> u64 {
    match put {
        Put::Action(_, entry, _) => entry.len() as u64,
        Put::Link(..) => 0,
        Put::Blob(verified, _) => match verified.content() {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Staged(_) => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fifth was made by the shard itself, which served nobody meanwhile.
    #[test]
    fn more_checks_than_may_run_wait_for_their_turn() {
        let mut checks = Checks::default();
        let begun: Vec<i32> = (0..7).filter_map(|check| checks.begin(check)).collect();
        assert_eq!(begun, [0, 1, 2, 3]);
        for next in 4..7 {
            assert_eq!(checks.ended(), Some(next));
        }
        for _ in 0..MAX_CHECKS {
            assert_eq!(checks.ended(), None);
        }
        assert_eq!(checks.begin(7), Some(7));
    }
}
