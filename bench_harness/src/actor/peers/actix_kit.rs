//! `actix`: every actor on one arbiter (its single-threaded event loop), `do_send` and `send`.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;
use std::time::Duration;

use actix::prelude::*;

use crate::actor::{Kit, Msg, Ops, Role, Setup};

/// `actix`, with one arbiter: actors that talk to each other belong on the same one.
pub struct Actix {
    arbiter: ArbiterHandle,
    system: System,
    thread: std::thread::JoinHandle<()>,
}

/// The address of an actix actor.
#[derive(Clone)]
pub struct ActixRef(Addr<Node>);

/// The actor behind an [`ActixRef`].
pub struct Node(Role<ActixRef>);

impl Actor for Node {
    type Context = Context<Self>;
}

impl Message for Msg<ActixRef> {
    type Result = ();
}

impl Handler<Msg<ActixRef>> for Node {
    type Result = ();

    fn handle(&mut self, msg: Msg<ActixRef>, ctx: &mut Context<Self>) {
        self.0.on(msg, ctx);
    }
}

impl Ops<ActixRef> for Context<Node> {
    fn tell(&mut self, to: &ActixRef, msg: Msg<ActixRef>) -> Result<(), Msg<ActixRef>> {
        to.0.do_send(msg);
        Ok(())
    }

    fn me(&mut self) -> ActixRef {
        ActixRef(self.address())
    }

    fn spawn(&mut self, role: Role<ActixRef>) -> ActixRef {
        ActixRef(Node(role).start())
    }

    fn later(&mut self, after: Duration, msg: Msg<ActixRef>) {
        self.notify_later(msg, after);
    }

    fn stop(&mut self) {
        ActorContext::stop(self);
    }
}

impl Kit for Actix {
    const NAME: &'static str = "actix";
    type Ref = ActixRef;

    fn start(setup: &Setup) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        let core = setup.cores[0];
        let thread = std::thread::spawn(move || {
            crate::pin::to(core);
            let runner = System::new();
            runner.block_on(async {
                let _ = sender.send((Arbiter::current(), System::current()));
            });
            let _ = runner.run();
        });
        let (arbiter, system) = receiver.recv().expect("the arbiter starts");
        Self {
            arbiter,
            system,
            thread,
        }
    }

    fn spawn(&self, role: Role<ActixRef>) -> ActixRef {
        ActixRef(Node::start_in_arbiter(&self.arbiter, |_| Node(role)))
    }

    fn tell(&self, to: &ActixRef, msg: Msg<ActixRef>) {
        to.0.do_send(msg);
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        self.arbiter.spawn_fn(move || {
            let answerer = Answerer.start();
            Asker { answerer, done }.start().do_send(Count(count));
        });
    }

    fn stop(self) {
        self.system.stop();
        self.thread.join().expect("the arbiter ends");
    }
}

struct Question(u64);

impl Message for Question {
    type Result = u64;
}

struct Count(u64);

impl Message for Count {
    type Result = ();
}

struct Answerer;

impl Actor for Answerer {
    type Context = Context<Self>;
}

impl Handler<Question> for Answerer {
    type Result = u64;

    fn handle(&mut self, msg: Question, _: &mut Context<Self>) -> u64 {
        msg.0
    }
}

struct Asker {
    answerer: Addr<Answerer>,
    done: Sender<u64>,
}

impl Actor for Asker {
    type Context = Context<Self>;
}

impl Handler<Count> for Asker {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, count: Count, _: &mut Context<Self>) -> ResponseFuture<()> {
        let (answerer, done) = (self.answerer.clone(), self.done.clone());
        Box::pin(async move {
            let mut sum = 0_u64;
            for number in 0..count.0 {
                sum = sum.wrapping_add(answerer.send(Question(number)).await.expect("an answer"));
            }
            let _ = done.send(sum);
        })
    }
}
