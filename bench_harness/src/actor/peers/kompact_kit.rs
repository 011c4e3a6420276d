//! `kompact`: components on its work-stealing pool, strong references on the hot path, `ask` by promise.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;
use std::time::Duration;

use kompact::prelude::*;

use crate::actor::{Kit, Msg, Ops, Role, Setup};

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
    /// Only a component itself can set timers, not the context that a role has.
    later: Vec<(Duration, Msg<KompactRef>)>,
}

impl Node {
    fn new(role: Role<KompactRef>) -> Self {
        Self {
            ctx: ComponentContext::uninitialised(),
            role,
            later: Vec::new(),
        }
    }
}

struct NodeOps<'a> {
    ctx: &'a mut ComponentContext<Node>,
    later: &'a mut Vec<(Duration, Msg<KompactRef>)>,
}

ignore_lifecycle!(Node);

impl Actor for Node {
    type Message = Msg<KompactRef>;

    fn receive_local(&mut self, msg: Self::Message) -> HandlerResult {
        let mut ops = NodeOps {
            ctx: &mut self.ctx,
            later: &mut self.later,
        };
        self.role.on(msg, &mut ops);
        while let Some((after, msg)) = self.later.pop() {
            self.schedule_once(after, move |node, _| node.receive_local(msg));
        }
        Handled::OK
    }
}

fn spawn(system: &impl SystemHandle, role: Role<KompactRef>) -> KompactRef {
    let component = system.create(|| Node::new(role));
    let actor = component.actor_ref().hold().expect("just made");
    system.start(&component);
    KompactRef(actor)
}

impl Ops<KompactRef> for NodeOps<'_> {
    fn tell(&mut self, to: &KompactRef, msg: Msg<KompactRef>) -> Result<(), Msg<KompactRef>> {
        to.0.tell(msg);
        Ok(())
    }

    fn me(&mut self) -> KompactRef {
        KompactRef(self.ctx.actor_ref().hold().expect("alive"))
    }

    fn spawn(&mut self, role: Role<KompactRef>) -> KompactRef {
        spawn(&self.ctx.system(), role)
    }

    fn later(&mut self, after: Duration, msg: Msg<KompactRef>) {
        self.later.push((after, msg));
    }

    fn stop(&mut self) {
        self.ctx.suicide();
    }
}

impl Kit for Kompact {
    const NAME: &'static str = "kompact";
    type Ref = KompactRef;

    fn start(setup: &Setup) -> Self {
        let mut config = KompactConfig::default();
        config.set_config_value(&kompact::config_keys::system::THREADS, setup.cores.len());
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
        let actor = answerer.actor_ref().hold().expect("just made");
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
    answerer: ActorRefStrong<Ask<u64, u64>>,
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
