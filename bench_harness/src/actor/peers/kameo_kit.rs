//! `kameo`: bounded mailboxes by default, `tell` and `ask`.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;
use std::time::Duration;

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn as _};
use kameo::error::{Infallible, SendError};
use kameo::mailbox;
use kameo::message::{Context, Message};

use super::runtime;
use crate::actor::{Kit, Msg, Ops, Role, Setup};
use crate::options::MAILBOX;

/// `kameo`.
pub struct Kameo {
    runtime: tokio::runtime::Runtime,
    mailbox: usize,
}

/// A reference to a kameo actor.
#[derive(Clone)]
pub struct KameoRef(ActorRef<Node>);

/// The actor behind a [`KameoRef`].
pub struct Node(Role<KameoRef>);

impl Actor for Node {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }
}

impl Message<Msg<KameoRef>> for Node {
    type Reply = ();

    async fn handle(&mut self, msg: Msg<KameoRef>, ctx: &mut Context<Self, ()>) {
        self.0.on(msg, &mut NodeOps(ctx));
    }
}

struct NodeOps<'a>(&'a mut Context<Node, ()>);

fn spawn(role: Role<KameoRef>, mailbox: usize) -> KameoRef {
    KameoRef(Node::spawn_with_mailbox(
        Node(role),
        mailbox::bounded(mailbox),
    ))
}

impl Ops<KameoRef> for NodeOps<'_> {
    fn tell(&mut self, to: &KameoRef, msg: Msg<KameoRef>) -> Result<(), Msg<KameoRef>> {
        match to.0.tell(msg).try_send() {
            Ok(()) => Ok(()),
            Err(SendError::MailboxFull(msg) | SendError::ActorNotRunning(msg)) => Err(msg),
            Err(error) => panic!("{error}"),
        }
    }

    fn me(&mut self) -> KameoRef {
        KameoRef(self.0.actor_ref().clone())
    }

    fn spawn(&mut self, role: Role<KameoRef>) -> KameoRef {
        spawn(role, MAILBOX)
    }

    fn later(&mut self, after: Duration, msg: Msg<KameoRef>) {
        let me = self.0.actor_ref().clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = me.tell(msg).await;
        });
    }

    fn stop(&mut self) {
        self.0.stop();
    }
}

impl Kit for Kameo {
    const NAME: &'static str = "kameo";
    type Ref = KameoRef;

    fn start(setup: &Setup) -> Self {
        Self {
            runtime: runtime(&setup.cores),
            mailbox: setup.mailbox,
        }
    }

    fn spawn(&self, role: Role<KameoRef>) -> KameoRef {
        let _entered = self.runtime.enter();
        spawn(role, self.mailbox)
    }

    fn tell(&self, to: &KameoRef, msg: Msg<KameoRef>) {
        assert!(
            to.0.tell(msg).blocking_send().is_ok(),
            "the actor has ended"
        );
    }

    // Faster than `blocking_send`, which parks the thread for every full mailbox.
    fn flood(&self, to: &KameoRef, from: u64, count: u64) {
        for item in from..from + count {
            let mut msg = Msg::Item(item);
            while let Err(SendError::MailboxFull(back)) = to.0.tell(msg).try_send() {
                msg = back;
                std::thread::yield_now();
            }
        }
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        self.runtime.spawn(async move {
            let answerer = Answerer::spawn(Answerer);
            let asker = Asker::spawn(Asker { answerer, done });
            asker.tell(Count(count)).await.expect("it lives");
        });
    }

    fn stop(self) {
        drop(self.runtime);
    }
}

struct Question(u64);
struct Count(u64);

struct Answerer;

impl Actor for Answerer {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }
}

impl Message<Question> for Answerer {
    type Reply = u64;

    async fn handle(&mut self, msg: Question, _: &mut Context<Self, u64>) -> u64 {
        msg.0
    }
}

struct Asker {
    answerer: ActorRef<Answerer>,
    done: Sender<u64>,
}

impl Actor for Asker {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(args: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(args)
    }
}

impl Message<Count> for Asker {
    type Reply = ();

    async fn handle(&mut self, count: Count, _: &mut Context<Self, ()>) {
        let mut sum = 0_u64;
        for number in 0..count.0 {
            sum = sum.wrapping_add(
                self.answerer
                    .ask(Question(number))
                    .await
                    .expect("an answer"),
            );
        }
        let _ = self.done.send(sum);
    }
}
