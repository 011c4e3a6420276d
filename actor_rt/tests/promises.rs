//! Promises to users that no other file is about: stash, deadlines of orders to a family, the dump of the tree, dead
//! letters and their reasons, references that raise no bound.

use actor_rt::testkit::{Probe, Simulation};
use actor_rt::{
    Actor, ActorRef, AsyncActor, AsyncContext, Context, DeadReason, ExitReason, Overflow, Reply,
    Stash, System, TellError,
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Puts jobs aside until it is ready.
struct Worker {
    ready: bool,
    stash: Stash<Msg>,
    done: Vec<u32>,
}

enum Msg {
    Job(u32),
    Ready,
    Done(Reply<Vec<u32>>),
}

impl Actor for Worker {
    type Msg = Msg;
    fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
        match msg {
            Msg::Job(_) if !self.ready => {
                if let Err(Msg::Job(number)) = self.stash.put(msg) {
                    // The stash is full and has handed the job back.
                    self.done.push(number);
                }
            }
            Msg::Job(number) => self.done.push(number),
            Msg::Ready => {
                self.ready = true;
                assert_eq!(self.stash.len(), 3);
                let first = self.stash.take_first();
                for job in first.into_iter().chain(self.stash.take_all()) {
                    if let Msg::Job(number) = job {
                        self.done.push(number);
                    }
                }
                assert!(self.stash.is_empty());
            }
            Msg::Done(reply) => reply.send(self.done.clone()),
        }
    }
}

#[test]
fn a_stash_keeps_the_order_and_its_bound() {
    let system = System::builder().workers(1).build().expect("threads");
    let worker = system.spawn(|| Worker {
        ready: false,
        stash: Stash::new(3),
        done: Vec::new(),
    });
    for number in 1..=4 {
        worker.tell(Msg::Job(number)).expect("room");
    }
    worker.tell(Msg::Ready).expect("room");
    worker.tell(Msg::Job(5)).expect("room");
    assert_eq!(worker.ask(Msg::Done).wait(), Ok(vec![4, 1, 2, 3, 5]));
    system.shutdown(LONG).expect("everything ends");
}

/// Has one child that sends itself messages for ever.
struct Parent;
struct Busy;

impl Actor for Busy {
    type Msg = ();
    fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
        ctx.after(Duration::from_millis(5), ());
    }
}

impl Actor for Parent {
    type Msg = Reply<ActorRef<()>>;
    fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
        let child = ctx.actor(|| Busy).name("busy").spawn();
        child.tell(()).expect("room");
        reply.send(child);
    }
}

#[test]
fn the_tree_is_told_with_names_kinds_and_depth() {
    let simulation = Simulation::new(1);
    let system = simulation.system();
    let parent = system.actor(|| Parent).name("parent").spawn();
    let child = parent.ask(|reply| reply);
    simulation.run();
    assert!(child.wait().is_ok());
    let tree = system.tree();
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!(
        lines,
        [
            "parent (promises::Parent) handled=1 queued=0",
            "  busy (promises::Busy) handled=1 queued=0",
            "depths of mailboxes: p50<=1 p99<=1 max<=1 in 2 turns",
        ]
    );
    let names: Vec<_> = system.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["busy", "parent"]);
}

/// Holds its handler until the test drops its end.
struct Held(Sender<()>, Arc<Mutex<Receiver<()>>>);

impl Actor for Held {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        self.0.send(()).expect("the test listens");
        let _ = self.1.lock().expect("not poisoned").recv();
    }
}

/// Says that it has begun its first message, and waits for ever.
struct Never(Sender<()>);
impl AsyncActor for Never {
    type Msg = ();
    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {
        let _ = self.0.send(());
        std::future::pending().await
    }
}

#[test]
fn a_drain_that_takes_too_long_becomes_a_kill() {
    let simulation = Simulation::new(2);
    // In virtual time: the order to kill comes after a minute, and only to who is still there.
    let probe = Probe::<u32>::new(simulation.system());
    let (begun, begins) = channel();
    let never = simulation
        .system()
        .spawn_async(move || Never(begun.clone()));
    never.tell(()).expect("room");
    simulation.run();
    begins.recv_timeout(LONG).expect("it waits");
    probe.actor().drain_within(LONG);
    never.drain_within(LONG);
    simulation.advance(LONG - Duration::from_millis(1));
    assert_eq!(probe.actor().join(), ExitReason::Drained);
    assert_eq!(simulation.system().stats().live, 1, "its time is not up");
    simulation.advance(Duration::from_millis(1));
    assert_eq!(never.join(), ExitReason::Killed);
    assert_eq!(simulation.system().stats().live, 0);
}

#[test]
fn a_system_kills_who_is_late_and_says_who_cannot_be() {
    let system = System::builder().workers(1).build().expect("threads");
    let (begun, begins) = channel();
    let never = system.spawn_async(move || Never(begun.clone()));
    never.tell(()).expect("room");
    begins.recv_timeout(LONG).expect("it waits");
    // An error where the worker itself is held up for longer than the grace; the orders stand all the same. The first one is to
    // stop, which ends who awaits, and the second one, right after it, to be killed.
    let _ = system.drain(Duration::from_millis(50));
    let reason = never.join();
    assert!(
        matches!(reason, ExitReason::Stopped | ExitReason::Killed),
        "{reason}"
    );
    // One in a handler that does not return cannot.
    let (open, gate) = channel::<()>();
    let (begun, begins) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let system = System::builder().workers(1).build().expect("threads");
    let held = system.spawn(move || Held(begun.clone(), Arc::clone(&gate)));
    held.tell(()).expect("room");
    begins.recv_timeout(LONG).expect("it handles it");
    let late = system
        .shutdown(Duration::from_millis(50))
        .expect_err("it is in its handler");
    assert_eq!(late.still_running, 1);
    drop(open);
    assert_eq!(held.join(), ExitReason::Killed);
}

#[test]
fn an_actor_in_its_handler_is_killed_right_after_it() {
    let (begun, begins) = channel();
    let (open, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let (letters, dead) = channel();
    let system = System::builder()
        .workers(1)
        .on_dead_letter(move |letter| {
            letters
                .send((letter.actor.clone(), letter.message_type, letter.reason))
                .expect("the test listens");
        })
        .build()
        .expect("threads");
    let held = system
        .actor(move || Held(begun.clone(), Arc::clone(&gate)))
        .name("held")
        .spawn();
    for _ in 0..3 {
        held.tell(()).expect("room");
    }
    begins.recv_timeout(LONG).expect("the handler runs");
    held.kill();
    drop(open);
    assert_eq!(held.join(), ExitReason::Killed);
    for _ in 0..2 {
        let letter = dead.recv_timeout(LONG).expect("a dead letter");
        assert_eq!(letter, ("held".to_owned(), "()", DeadReason::ActorEnded));
    }
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn references_do_not_raise_the_bound() {
    let simulation = Simulation::new(3);
    let actor = simulation
        .system()
        .actor(|| Busy)
        .mailbox(3)
        .overflow(Overflow::Fail)
        .spawn();
    let clones: Vec<_> = (0..10).map(|_| actor.clone()).collect();
    let taken = clones.iter().filter(|clone| clone.tell(()).is_ok()).count();
    assert_eq!((taken, actor.queued()), (3, 3));
    assert!(matches!(actor.tell(()), Err(TellError::Full(()))));
}
