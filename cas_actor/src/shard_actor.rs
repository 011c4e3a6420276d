//! The mailbox side of a shard: messages, and the grouping of puts.
//!
//! Owns: which puts are committed together.
//! Does not know: how anything is stored (`shard`).
//! Invariants: a put is answered after its group was committed; with the first put of a group
//! the shard sends itself `Commit`, which arrives behind everything that waits by then, so a
//! group is what was in the mailbox; whatever needs a settled shard commits first.
#![forbid(unsafe_code)]

use std::sync::Arc;

use actor_rt::{Actor, Context, ExitReason, Reply};

use crate::action::ActionEntry;
use crate::digest::Digest;
use crate::error::{GetError, IoFailure, PutError};
use crate::fs::RealFs;
use crate::group::Put;
use crate::layout::ActionKey;
use crate::maintain::{Checked, Listed};
use crate::open::LockFile;
use crate::shard::{Found, PutOutcome, Shard};
use crate::staging::Content;
use crate::stats::Usage;

/// A group is committed at this many puts, whatever still waits.
const GROUP_PUTS: usize = 256;
/// A group is committed when it holds this many bytes in memory.
const GROUP_BYTES: u64 = 16 * 1024 * 1024;

/// What a shard can be asked.
pub(crate) enum ShardMsg {
    Put(Put, Reply<Result<PutOutcome, PutError>>),
    Get(Digest, Reply<Result<Found, GetError>>),
    Contains(Vec<Digest>, Reply<Vec<bool>>),
    Delete(Digest, Reply<Result<bool, IoFailure>>),
    GetAction(ActionKey, Reply<Result<Option<ActionEntry>, IoFailure>>),
    DeleteAction(ActionKey, Reply<Result<bool, IoFailure>>),
    Sync(Reply<Result<(), IoFailure>>),
    List(Reply<Result<Vec<Listed>, IoFailure>>),
    Usage(Reply<Result<Usage, IoFailure>>),
    /// What to evict unless it was used at this second or later.
    Evict(Vec<Listed>, u32, Reply<Result<(u64, u64), IoFailure>>),
    Compact(Reply<Result<u64, IoFailure>>),
    Check(Listed, Reply<Result<Checked, IoFailure>>),
    /// From the shard to itself: commit what was gathered.
    Commit,
}

/// A shard behind a mailbox.
pub(crate) struct ShardActor {
    shard: Shard<RealFs>,
    gathered: Vec<Put>,
    waiting: Vec<Reply<Result<PutOutcome, PutError>>>,
    gathered_bytes: u64,
    /// Dropped, and so let go of, after the shard.
    _lock: Arc<LockFile>,
}

impl ShardActor {
    pub(crate) fn new(shard: Shard<RealFs>, lock: Arc<LockFile>) -> Self {
        Self {
            shard,
            _lock: lock,
            gathered: Vec::new(),
            waiting: Vec::new(),
            gathered_bytes: 0,
        }
    }

    fn gather(
        &mut self,
        put: Put,
        reply: Reply<Result<PutOutcome, PutError>>,
        ctx: &mut Context<'_, Self>,
    ) {
        self.gathered_bytes += bytes_in_memory(&put);
        self.gathered.push(put);
        self.waiting.push(reply);
        let full = self.gathered.len() >= GROUP_PUTS || self.gathered_bytes >= GROUP_BYTES;
        let first = self.gathered.len() == 1;
        if full || (first && ctx.me().tell(ShardMsg::Commit).is_err()) {
            self.commit();
        }
    }

    fn commit(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.gathered_bytes = 0;
        let answers = self.shard.put_group(std::mem::take(&mut self.gathered));
        for (reply, answer) in self.waiting.drain(..).zip(answers) {
            reply.send(answer);
        }
    }

    fn evict(&mut self, plan: &[Listed], started: u32) -> Result<(u64, u64), IoFailure> {
        let (mut number, mut bytes) = (0, 0);
        for listed in plan {
            let freed = self.shard.evict(listed, started)?;
            number += u64::from(freed > 0);
            bytes += freed;
        }
        Ok((number, bytes))
    }
}

impl Actor for ShardActor {
    type Msg = ShardMsg;

    fn handle(&mut self, msg: ShardMsg, ctx: &mut Context<'_, Self>) {
        match msg {
            ShardMsg::Put(put, reply) => self.gather(put, reply, ctx),
            ShardMsg::Commit => self.commit(),
            ShardMsg::Get(digest, reply) => reply.send(self.shard.get(&digest)),
            ShardMsg::Contains(digests, reply) => {
                let present = digests.iter().map(|digest| self.shard.contains(digest));
                reply.send(present.collect());
            }
            ShardMsg::GetAction(key, reply) => reply.send(self.shard.get_action(&key)),
            settled => {
                self.commit();
                match settled {
                    ShardMsg::Delete(digest, reply) => reply.send(self.shard.delete(&digest)),
                    ShardMsg::DeleteAction(key, reply) => {
                        reply.send(self.shard.delete_action(&key));
                    }
                    ShardMsg::Sync(reply) => reply.send(self.shard.sync()),
                    ShardMsg::List(reply) => reply.send(self.shard.list()),
                    ShardMsg::Usage(reply) => reply.send(self.shard.usage()),
                    ShardMsg::Evict(plan, started, reply) => {
                        reply.send(self.evict(&plan, started));
                    }
                    ShardMsg::Compact(reply) => reply.send(self.shard.compact()),
                    ShardMsg::Check(listed, reply) => reply.send(self.shard.check(&listed)),
                    _ => unreachable!("handled above"),
                }
            }
        }
    }

    fn stopped(&mut self, _reason: &ExitReason) {
        self.commit();
        self.shard.close();
    }
}

fn bytes_in_memory(put: &Put) -> u64 {
    match put {
        Put::Action(_, entry, _) => entry.len() as u64,
        Put::Blob(verified, _) => match verified.content() {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Staged(_) => 0,
        },
    }
}
