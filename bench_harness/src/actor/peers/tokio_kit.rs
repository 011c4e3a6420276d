//! Bare tokio: a task per actor that reads a bounded channel with `recv_many`.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::runtime;
use crate::actor::{Kit, Msg, Ops, Role, Setup};
use crate::options::MAILBOX;

/// Messages per `recv_many`.
const BATCH: usize = 64;

/// tokio tasks and channels.
pub struct Tokio {
    runtime: tokio::runtime::Runtime,
    mailbox: usize,
}

/// The sending half of a task's channel.
#[derive(Clone)]
pub struct TokioRef(mpsc::Sender<Msg<Self>>);

struct TaskOps<'a> {
    me: &'a TokioRef,
    stop: bool,
}

fn spawn(role: Role<TokioRef>, mailbox: usize) -> TokioRef {
    // A channel allocates in blocks as it fills, so a large bound costs an idle actor nothing.
    let (sender, mut receiver) = mpsc::channel(mailbox);
    // A task holds itself: it ends when it says so, or with the runtime.
    let me = TokioRef(sender.clone());
    tokio::spawn(async move {
        let mut role = role;
        let mut batch = Vec::new();
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            let mut ops = TaskOps {
                me: &me,
                stop: false,
            };
            for msg in batch.drain(..) {
                role.on(msg, &mut ops);
            }
            if ops.stop {
                break;
            }
        }
    });
    TokioRef(sender)
}

impl Ops<TokioRef> for TaskOps<'_> {
    fn tell(&mut self, to: &TokioRef, msg: Msg<TokioRef>) -> Result<(), Msg<TokioRef>> {
        to.0.try_send(msg)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    fn me(&mut self) -> TokioRef {
        self.me.clone()
    }

    fn spawn(&mut self, role: Role<TokioRef>) -> TokioRef {
        spawn(role, MAILBOX)
    }

    fn later(&mut self, after: Duration, msg: Msg<TokioRef>) {
        let me = self.me.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = me.send(msg).await;
        });
    }

    fn stop(&mut self) {
        self.stop = true;
    }
}

impl Kit for Tokio {
    const NAME: &'static str = "tokio mpsc";
    type Ref = TokioRef;

    fn start(setup: &Setup) -> Self {
        Self {
            runtime: runtime(&setup.cores),
            mailbox: setup.mailbox,
        }
    }

    fn spawn(&self, role: Role<TokioRef>) -> TokioRef {
        let _entered = self.runtime.enter();
        spawn(role, self.mailbox)
    }

    fn tell(&self, to: &TokioRef, msg: Msg<TokioRef>) {
        assert!(to.0.blocking_send(msg).is_ok(), "the task has ended");
    }

    // Faster than `blocking_send`, which parks the thread for every full channel.
    fn flood(&self, to: &TokioRef, from: u64, count: u64) {
        for item in from..from + count {
            let mut msg = Msg::Item(item);
            while let Err(refused) = to.0.try_send(msg) {
                msg = refused.into_inner();
                std::thread::yield_now();
            }
        }
    }

    // Room for a whole batch is reserved at once; likewise without parking.
    fn flood_batches(&self, to: &TokioRef, from: u64, count: u64, batch: usize) {
        let (mut next, end) = (from, from + count);
        while next < end {
            let size = batch.min(self.mailbox).min((end - next) as usize);
            match to.0.try_reserve_many(size) {
                Ok(permits) => {
                    for (permit, item) in permits.zip(next..) {
                        permit.send(Msg::Item(item));
                    }
                    next += size as u64;
                }
                Err(mpsc::error::TrySendError::Full(())) => std::thread::yield_now(),
                Err(mpsc::error::TrySendError::Closed(())) => panic!("the task has ended"),
            }
        }
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        let (sender, mut receiver) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(MAILBOX);
        self.runtime.spawn(async move {
            while let Some((number, reply)) = receiver.recv().await {
                let _ = reply.send(number);
            }
        });
        self.runtime.spawn(async move {
            let mut sum = 0_u64;
            for number in 0..count {
                let (reply, answer) = oneshot::channel();
                assert!(sender.send((number, reply)).await.is_ok());
                sum = sum.wrapping_add(answer.await.expect("an answer"));
            }
            let _ = done.send(sum);
        });
    }

    fn stop(self) {
        drop(self.runtime);
    }
}
