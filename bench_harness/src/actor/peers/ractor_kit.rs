//! `ractor`: unbounded mailboxes, `cast` and `call`.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::runtime;
use crate::actor::{Kit, Msg, Ops, Role, Setup};

/// `ractor`.
pub struct Ractor(tokio::runtime::Runtime);

/// A reference to a ractor actor.
#[derive(Clone)]
pub struct RactorRef(ActorRef<Msg<Self>>);

struct Node;

impl Actor for Node {
    type Msg = Msg<RactorRef>;
    type State = Role<RactorRef>;
    type Arguments = Role<RactorRef>;

    async fn pre_start(
        &self,
        _me: ActorRef<Self::Msg>,
        role: Role<RactorRef>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(role)
    }

    async fn handle(
        &self,
        mut me: ActorRef<Self::Msg>,
        msg: Self::Msg,
        role: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        role.on(msg, &mut me);
        Ok(())
    }
}

fn spawn(role: Role<RactorRef>) -> RactorRef {
    let (actor, _) =
        ractor::ActorRuntime::spawn_instant(None, Node, role).expect("an actor without a name");
    RactorRef(actor)
}

impl Ops<RactorRef> for ActorRef<Msg<RactorRef>> {
    fn tell(&mut self, to: &RactorRef, msg: Msg<RactorRef>) -> Result<(), Msg<RactorRef>> {
        assert!(to.0.cast(msg).is_ok(), "the actor has ended");
        Ok(())
    }

    fn me(&mut self) -> RactorRef {
        RactorRef(self.clone())
    }

    fn spawn(&mut self, role: Role<RactorRef>) -> RactorRef {
        spawn(role)
    }

    fn later(&mut self, after: Duration, msg: Msg<RactorRef>) {
        // Tells tokio to wait and then casts.
        self.send_after(after, move || msg);
    }

    fn stop(&mut self) {
        self.get_cell().stop(None);
    }
}

impl Kit for Ractor {
    const NAME: &'static str = "ractor";
    type Ref = RactorRef;

    fn start(setup: &Setup) -> Self {
        Self(runtime(&setup.cores))
    }

    fn spawn(&self, role: Role<RactorRef>) -> RactorRef {
        let _entered = self.0.enter();
        spawn(role)
    }

    fn tell(&self, to: &RactorRef, msg: Msg<RactorRef>) {
        assert!(to.0.cast(msg).is_ok(), "the actor has ended");
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        self.0.spawn(async move {
            let (answerer, _) = Actor::spawn(None, Answerer, ()).await.expect("starts");
            let (asker, _) = Actor::spawn(None, Asker, (answerer, done))
                .await
                .expect("starts");
            asker.cast(count).expect("it lives");
        });
    }

    fn stop(self) {
        drop(self.0);
    }
}

struct Question(u64, RpcReplyPort<u64>);
struct Answerer;
struct Asker;

impl Actor for Answerer {
    type Msg = Question;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Question>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Question>,
        msg: Question,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let _ = msg.1.send(msg.0);
        Ok(())
    }
}

impl Actor for Asker {
    type Msg = u64;
    type State = (ActorRef<Question>, Sender<u64>);
    type Arguments = Self::State;

    async fn pre_start(
        &self,
        _: ActorRef<u64>,
        state: Self::State,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<u64>,
        count: u64,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut sum = 0_u64;
        for number in 0..count {
            sum = sum.wrapping_add(ractor::call!(state.0, Question, number)?);
        }
        let _ = state.1.send(sum);
        Ok(())
    }
}
