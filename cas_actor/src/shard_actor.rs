//! The mailbox side of a shard: messages, and the grouping of puts.
//!
//! Owns: which puts are committed together.
//! Does not know: how anything is stored (`shard`).
//! Invariants: a put or a sync is answered after its group was committed; with the first of a
//! group the shard sends itself `Commit`, which arrives behind everything that waits by then, so a
//! group is what was in the mailbox; whatever needs a settled shard commits first.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;

use actor_rt::{Actor, Context, ExitReason, Reply};

use crate::action::ActionEntry;
use crate::ages::Ages;
use crate::commit::Durability;
use crate::digest::Digest;
use crate::error::{During, GetError, IoFailure, PutError};
use crate::fs::Fs;
use crate::group::Put;
use crate::layout::ActionKey;
use crate::lookup::Lead;
use crate::maintain::{Checked, Compaction, Listed};
use crate::name::BlobName;
use crate::open::LockFile;
use crate::pack::Name;
use crate::pack::{Rewriting, Survey};
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
    /// Answered with what is to be read of segments, if any is worth rewriting.
    PlanCompaction(Compaction, Reply<Result<Option<Survey>, IoFailure>>),
    /// Some of what was planned; answered with the rest.
    Compact(Rewriting, Reply<Result<Rewriting, IoFailure>>),
    Check(Listed, Reply<Result<Checked, IoFailure>>),
    /// Uses that were noted, to be taken.
    TakeUses,
    /// From the shard to itself: commit what was gathered.
    Commit,
}

type GetReply = Reply<Result<Found, GetError>>;

/// The checks beside a shard, and the blobs whose turn is to come. Those are looked for again then: one
/// that waits holds no file, and needs no check where another has told meanwhile.
#[derive(Default)]
struct Checks {
    running: HashSet<Digest>,
    queued: VecDeque<Digest>,
}

impl Checks {
    /// Whether one more begins now.
    fn begin(&mut self, digest: Digest) -> bool {
        if self.running.len() == MAX_CHECKS {
            self.queued.push_back(digest);
            return false;
        }
        self.running.insert(digest)
    }

    /// One has ended: the one that begins in its place. None where it was begun by a shard that was here
    /// before this one, and panicked.
    fn ended(&mut self, digest: &Digest) -> Option<Digest> {
        if !self.running.remove(digest) {
            return None;
        }
        let next = self.queued.pop_front()?;
        self.running.insert(next);
        Some(next)
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
    checks: Checks,
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
        if self.checks.begin(digest)
            && let Err(failure) = self.check(digest, found, ctx)
        {
            self.answer(&digest, Err(failure.into()));
            self.check_next(&digest, ctx);
        }
    }

    /// Begins the check whose turn has come with the end of another; what needs none any more, or cannot
    /// be checked, is answered, and the next begins in its place.
    fn check_next(&mut self, ended: &Digest, ctx: &mut Context<'_, Self>) {
        let mut next = self.checks.ended(ended);
        while let Some(digest) = next {
            let answer = match self.shard.read_file(&digest) {
                Ok(found) if found.unchecked => match self.check(digest, found, ctx) {
                    Ok(()) => return,
                    Err(failure) => Err(failure.into()),
                },
                settled => settled,
            };
            self.answer(&digest, answer);
            next = self.checks.ended(&digest);
        }
    }

    /// Starts a check on a thread of its own.
    fn check(
        &self,
        digest: Digest,
        found: Found,
        ctx: &mut Context<'_, Self>,
    ) -> Result<(), IoFailure> {
        let shard = ctx.me();
        let check = move || {
            let called = found.digest();
            // Refused only when the store closes, which answers who waits.
            let _ = shard.send_blocking(ShardMsg::Checked(digest, found, called));
        };
        let thread = thread::Builder::new().name("store-check".into());
        let path = self.shard.layout.blob(digest.hash());
        let started = thread.spawn(check).during("start a check of", &path);
        started.map(drop)
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
                self.check_next(&digest, ctx);
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
                    ShardMsg::PlanCompaction(which, reply) => {
                        reply.send(self.shard.plan_compaction(which));
                    }
                    ShardMsg::Compact(plan, reply) => {
                        reply.send(self.shard.compact_some(plan));
                    }
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
        let digests: Vec<Digest> = (0..8).map(|number| Digest::new([number; 32], 1)).collect();
        let mut checks = Checks::default();
        let begun = digests[..7].iter().filter(|digest| checks.begin(**digest));
        assert_eq!(begun.count(), MAX_CHECKS);
        for (ended, next) in digests[..3].iter().zip(&digests[4..7]) {
            assert_eq!(checks.ended(ended), Some(*next));
        }
        for ended in &digests[3..7] {
            assert_eq!(checks.ended(ended), None);
        }
        assert!(checks.begin(digests[7]));
    }

    /// It took the number of running checks below none, and the shard panicked again.
    #[test]
    fn a_check_that_an_earlier_shard_began_ends_none_of_this_one() {
        let mut checks = Checks::default();
        let [ours, other] = [1, 2].map(|number| Digest::new([number; 32], 1));
        assert!(checks.begin(ours));
        assert_eq!(checks.ended(&other), None);
        assert_eq!((checks.ended(&ours), checks.running.len()), (None, 0));
    }
}
