//! `kompact`: components on its work-stealing pool, strong references on the hot path, `ask` by promise.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;

use kompact::prelude::*;

use crate::actor::{Kit, Msg, Ops, Role};

/// `kompact`.
pub struct Kompact(KompactSystem);

/// A reference to a kompact actor.
#[derive(Clone)]
pub struct KompactRef(ActorRefStrong<Msg<Self>>);

/// The component behind a [`KompactRef`].
#[derive(ComponentDefinition)]
pub struct Node {
    ctx: ComponentContext<Self>,
    role: Role<KompactRef>,
}

ignore_lifecycle!(Node);

impl Actor for Node {
    type Message = Msg<KompactRef>;

    fn receive_local(&mut self, msg: Self::Message) -> HandlerResult {
        self.role.on(msg, &mut self.ctx);
        Handled::OK
    }
}

fn spawn(system: &KompactSystem, role: Role<KompactRef>) -> KompactRef {
    let component = system.create(|| Node {
        ctx: ComponentContext::uninitialised(),
        role,
    });
    let actor = component.actor_ref().hold().expect("just made");
    system.start(&component);
    KompactRef(actor)
}

impl Ops<KompactRef> for ComponentContext<Node> {
    fn tell(&mut self, to: &KompactRef, msg: Msg<KompactRef>) -> Result<(), Msg<KompactRef>> {
        to.0.tell(msg);
        Ok(())
    }

    fn me(&mut self) -> KompactRef {
        KompactRef(self.actor_ref().hold().expect("alive"))
    }

    fn spawn(&mut self, role: Role<KompactRef>) -> KompactRef {
        let component = self.system().create(|| Node {
            ctx: ComponentContext::uninitialised(),
            role,
        });
        let actor = component.actor_ref().hold().expect("just made");
        self.system().start(&component);
        KompactRef(actor)
    }

    fn stop(&mut self) {
        self.suicide();
    }
}

impl Kit for Kompact {
    const NAME: &'static str = "kompact";
    type Ref = KompactRef;

    fn start(workers: usize) -> Self {
        let mut config = KompactConfig::default();
        config.set_config_value(&kompact::config_keys::system::THREADS, workers);
        Self(config.build().wait().expect("the system starts"))
    }

    fn spawn(&self, role: Role<KompactRef>) -> KompactRef {
        spawn(&self.0, role)
    }

    fn tell(&self, to: &KompactRef, msg: Msg<KompactRef>) {
        to.0.tell(msg);
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        let answerer = self.0.create(|| Answerer {
            ctx: ComponentContext::uninitialised(),
        });
        let actor = answerer.actor_ref();
        let asker = self.0.create(|| Asker {
            ctx: ComponentContext::uninitialised(),
            answerer: actor,
            done,
        });
        let actor = asker.actor_ref();
        self.0.start(&answerer);
        self.0.start(&asker);
        actor.tell(count);
    }

    fn stop(self) {
        let _ = self.0.shutdown().wait();
    }
}

#[derive(ComponentDefinition)]
struct Answerer {
    ctx: ComponentContext<Self>,
}

ignore_lifecycle!(Answerer);

impl Actor for Answerer {
    type Message = Ask<u64, u64>;

    fn receive_local(&mut self, msg: Self::Message) -> HandlerResult {
        let number = *msg.request();
        let _ = msg.reply(number);
        Handled::OK
    }
}

#[derive(ComponentDefinition)]
struct Asker {
    ctx: ComponentContext<Self>,
    answerer: ActorRef<Ask<u64, u64>>,
    done: Sender<u64>,
}

ignore_lifecycle!(Asker);

impl Actor for Asker {
    type Message = u64;

    fn receive_local(&mut self, count: u64) -> HandlerResult {
        Handled::block_on(self, async move |asker| {
            let mut sum = 0_u64;
            for number in 0..count {
                let answer = asker
                    .answerer
                    .ask_with(|promise| Ask::new(promise, number))
                    .await;
                sum = sum.wrapping_add(answer.expect("an answer"));
            }
            let _ = asker.done.send(sum);
            Handled::OK
        })
    }
}
