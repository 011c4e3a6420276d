//! `actix`, `do_send` and `send`: every actor on one arbiter (a single-threaded event loop), or spread over one for each core.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use actix::prelude::*;

use crate::actor::{Kit, Msg, Ops, Role, Setup};

/// `actix` with one arbiter: actors that talk to each other belong on the same one.
pub type Actix = ActixOn<false>;

/// `actix` with an arbiter on each core, on which actors are started in turn.
pub type ActixArbiters = ActixOn<true>;

/// `actix`, which spreads its actors or does not.
pub struct ActixOn<const SPREAD: bool> {
    places: Arc<Places>,
    system: System,
    thread: std::thread::JoinHandle<()>,
    /// Those beside the system's own.
    arbiters: Vec<Arbiter>,
}

/// The arbiters that actors are started on.
struct Places {
    arbiters: Vec<ArbiterHandle>,
    next: AtomicUsize,
}

impl Places {
    /// The next in turn.
    fn next(&self) -> &ArbiterHandle {
        &self.arbiters[self.next.fetch_add(1, Ordering::Relaxed) % self.arbiters.len()]
    }

    fn start(self: &Arc<Self>, role: Role<ActixRef>) -> ActixRef {
        let places = Arc::clone(self);
        ActixRef(Node::start_in_arbiter(self.next(), |_| Node {
            role,
            places,
        }))
    }
}

/// The address of an actix actor.
#[derive(Clone)]
pub struct ActixRef(Addr<Node>);

/// The actor behind an [`ActixRef`].
pub struct Node {
    role: Role<ActixRef>,
    places: Arc<Places>,
}

struct NodeOps<'a> {
    ctx: &'a mut Context<Node>,
    places: &'a Arc<Places>,
}

impl Actor for Node {
    type Context = Context<Self>;
}

impl Message for Msg<ActixRef> {
    type Result = ();
}

impl Handler<Msg<ActixRef>> for Node {
    type Result = ();

    fn handle(&mut self, msg: Msg<ActixRef>, ctx: &mut Context<Self>) {
        let Self { role, places } = self;
        role.on(msg, &mut NodeOps { ctx, places });
    }
}

impl Ops<ActixRef> for NodeOps<'_> {
    fn tell(&mut self, to: &ActixRef, msg: Msg<ActixRef>) -> Result<(), Msg<ActixRef>> {
        to.0.do_send(msg);
        Ok(())
    }

    fn me(&mut self) -> ActixRef {
        ActixRef(self.ctx.address())
    }

    fn spawn(&mut self, role: Role<ActixRef>) -> ActixRef {
        if self.places.arbiters.len() > 1 {
            return self.places.start(role);
        }
        let places = Arc::clone(self.places);
        ActixRef(Node { role, places }.start())
    }

    fn later(&mut self, after: Duration, msg: Msg<ActixRef>) {
        self.ctx.notify_later(msg, after);
    }

    fn stop(&mut self) {
        ActorContext::stop(self.ctx);
    }
}

impl<const SPREAD: bool> Kit for ActixOn<SPREAD> {
    const NAME: &'static str = if SPREAD { "actix_arbiters" } else { "actix" };
    type Ref = ActixRef;

    fn start(setup: &Setup) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (first, others) = setup.cores.split_first().expect("there is a core");
        let (first, others) = (*first, if SPREAD { others } else { &[] }.to_vec());
        let thread = std::thread::spawn(move || {
            crate::pin::to(first);
            let runner = System::new();
            runner.block_on(async {
                let started = others.into_iter().map(|core| {
                    let arbiter = Arbiter::new();
                    arbiter.spawn_fn(move || crate::pin::to(core));
                    arbiter
                });
                let started: Vec<Arbiter> = started.collect();
                let _ = sender.send((Arbiter::current(), System::current(), started));
            });
            let _ = runner.run();
        });
        let (own, system, arbiters) = receiver.recv().expect("the arbiter starts");
        let handles = arbiters.iter().map(Arbiter::handle);
        let places = Places {
            arbiters: std::iter::once(own).chain(handles).collect(),
            next: AtomicUsize::new(0),
        };
        Self {
            places: Arc::new(places),
            system,
            thread,
            arbiters,
        }
    }

    fn spawn(&self, role: Role<ActixRef>) -> ActixRef {
        self.places.start(role)
    }

    fn tell(&self, to: &ActixRef, msg: Msg<ActixRef>) {
        to.0.do_send(msg);
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        self.places.next().spawn_fn(move || {
            let answerer = Answerer.start();
            Asker { answerer, done }.start().do_send(Count(count));
        });
    }

    fn stop(self) {
        self.system.stop();
        self.thread.join().expect("the arbiter ends");
        for arbiter in self.arbiters {
            arbiter.join().expect("the arbiter ends");
        }
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
