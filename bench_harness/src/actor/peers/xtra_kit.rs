//! `xtra` on tokio: `send` awaited for an answer, or detached.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;
use std::time::Duration;

use xtra::prelude::*;

use super::runtime;
use crate::actor::{Kit, Msg, Ops, Role, Setup};

/// `xtra`.
pub struct Xtra(tokio::runtime::Runtime);

/// The address of an xtra actor.
#[derive(Clone)]
pub struct XtraRef(Address<Node>);

/// The actor behind an [`XtraRef`].
#[derive(xtra::Actor)]
pub struct Node {
    role: Role<XtraRef>,
    /// An actor holds itself: it ends when it says so, or with the runtime.
    me: XtraRef,
    /// Sending is asynchronous: what a role sends is kept and awaited after it.
    outbox: Vec<(XtraRef, Msg<XtraRef>)>,
}

struct NodeOps<'a> {
    ctx: &'a mut Context<Node>,
    me: &'a XtraRef,
    outbox: &'a mut Vec<(XtraRef, Msg<XtraRef>)>,
}

impl Handler<Msg<XtraRef>> for Node {
    type Return = ();

    async fn handle(&mut self, msg: Msg<XtraRef>, ctx: &mut Context<Self>) {
        self.role.on(
            msg,
            &mut NodeOps {
                ctx,
                me: &self.me,
                outbox: &mut self.outbox,
            },
        );
        for (to, msg) in self.outbox.drain(..) {
            let _ = to.0.send(msg).detach().await;
        }
    }
}

fn spawn(role: Role<XtraRef>) -> XtraRef {
    let (address, mailbox) = Mailbox::unbounded();
    let me = XtraRef(address.clone());
    let node = Node {
        role,
        me: me.clone(),
        outbox: Vec::new(),
    };
    xtra::spawn_tokio(node, (address, mailbox));
    me
}

impl Ops<XtraRef> for NodeOps<'_> {
    fn tell(&mut self, to: &XtraRef, msg: Msg<XtraRef>) -> Result<(), Msg<XtraRef>> {
        self.outbox.push((to.clone(), msg));
        Ok(())
    }

    fn me(&mut self) -> XtraRef {
        self.me.clone()
    }

    fn spawn(&mut self, role: Role<XtraRef>) -> XtraRef {
        spawn(role)
    }

    fn later(&mut self, after: Duration, msg: Msg<XtraRef>) {
        let me = self.me.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = me.0.send(msg).detach().await;
        });
    }

    fn stop(&mut self) {
        self.ctx.stop_self();
    }
}

impl Kit for Xtra {
    const NAME: &'static str = "xtra";
    type Ref = XtraRef;

    fn start(setup: &Setup) -> Self {
        Self(runtime(&setup.cores))
    }

    fn spawn(&self, role: Role<XtraRef>) -> XtraRef {
        let _entered = self.0.enter();
        spawn(role)
    }

    fn tell(&self, to: &XtraRef, msg: Msg<XtraRef>) {
        let sent = self.0.block_on(async { to.0.send(msg).detach().await });
        assert!(sent.is_ok(), "the actor has ended");
    }

    fn flood(&self, to: &XtraRef, from: u64, count: u64) {
        self.0.block_on(async {
            for item in from..from + count {
                let _ = to.0.send(Msg::Item(item)).detach().await;
            }
        });
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        let _entered = self.0.enter();
        let answerer = xtra::spawn_tokio(Answerer, Mailbox::unbounded());
        let asker = xtra::spawn_tokio(Asker { answerer, done }, Mailbox::unbounded());
        self.0.spawn(async move {
            let _ = asker.send(count).await;
        });
    }

    fn stop(self) {
        drop(self.0);
    }
}

struct Question(u64);

#[derive(xtra::Actor)]
struct Answerer;

impl Handler<Question> for Answerer {
    type Return = u64;

    async fn handle(&mut self, msg: Question, _: &mut Context<Self>) -> u64 {
        msg.0
    }
}

#[derive(xtra::Actor)]
struct Asker {
    answerer: Address<Answerer>,
    done: Sender<u64>,
}

impl Handler<u64> for Asker {
    type Return = ();

    async fn handle(&mut self, count: u64, _: &mut Context<Self>) {
        let mut sum = 0_u64;
        for number in 0..count {
            sum = sum.wrapping_add(
                self.answerer
                    .send(Question(number))
                    .await
                    .expect("an answer"),
            );
        }
        let _ = self.done.send(sum);
    }
}
