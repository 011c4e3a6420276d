//! The runtime's own invariants over many seeds, and that a seed repeats a run.
//!
//! A failing seed prints the command that reruns it alone.

use actor_rt::testkit::{Fault, Probe, Simulation, each_seed};
use actor_rt::{
    Actor, ActorRef, AskError, AsyncActor, AsyncContext, Context, ExitReason, Overflow, Reply,
    Restart, System,
};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What all nodes of one run write down.
#[derive(Default)]
struct Record {
    accepted: AtomicU64,
    alive: Mutex<HashMap<usize, u32>>,
    /// Last number seen per (receiver, sender).
    last: Mutex<HashMap<(usize, usize), u64>>,
    log: Mutex<Vec<(usize, u64)>>,
    /// A delayed message comes after those that were sent later.
    reordered: AtomicBool,
}

struct Message {
    from: usize,
    number: u64,
    hops: u32,
}

struct Node {
    me: usize,
    record: Arc<Record>,
    peers: Arc<Mutex<Vec<ActorRef<Message>>>>,
    next: Arc<AtomicU64>,
    random: Cell<u64>,
}

impl Node {
    fn made(
        me: usize,
        record: &Arc<Record>,
        peers: &Arc<Mutex<Vec<ActorRef<Message>>>>,
        next: &Arc<AtomicU64>,
    ) -> Self {
        let mut alive = record.alive.lock().expect("not poisoned");
        let count = alive.entry(me).or_default();
        *count += 1;
        assert_eq!(*count, 1, "two incarnations of node {me} at a time");
        drop(alive);
        Self {
            me,
            record: Arc::clone(record),
            peers: Arc::clone(peers),
            next: Arc::clone(next),
            random: Cell::new(me as u64 + 1),
        }
    }

    fn random(&self) -> usize {
        let next = self
            .random
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.random.set(next);
        (next >> 33) as usize
    }

    /// Takes note of a message; how many are to be sent on.
    fn receive(&self, message: &Message) -> usize {
        let Message { from, number, hops } = *message;
        let (me, record) = (self.me, &self.record);
        record.log.lock().expect("not poisoned").push((me, number));
        let mut last = record.last.lock().expect("not poisoned");
        let before = last.insert((me, from), number);
        drop(last);
        assert!(
            before.is_none_or(|before| before < number) || record.reordered.load(Ordering::Relaxed),
            "order of {from} at {me}"
        );
        if hops == 0 { 0 } else { 1 + self.random() % 2 }
    }

    /// A peer, and the next message for it.
    fn next(&self, hops: u32) -> (ActorRef<Message>, Message) {
        let peers = self.peers.lock().expect("not poisoned");
        let peer = peers[self.random() % peers.len()].clone();
        (peer, self.message(hops))
    }

    fn message(&self, hops: u32) -> Message {
        Message {
            from: self.me,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            hops: hops - 1,
        }
    }

    fn accept(&self, count: usize) {
        let accepted = &self.record.accepted;
        accepted.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn end(&self) {
        let mut alive = self.record.alive.lock().expect("not poisoned");
        *alive.entry(self.me).or_default() -= 1;
    }
}

impl Actor for Node {
    type Msg = Message;
    fn handle(&mut self, message: Message, ctx: &mut Context<'_, Self>) {
        let (count, hops) = (self.receive(&message), message.hops);
        if hops == HOPS && self.random().is_multiple_of(40) {
            ctx.stop();
        }
        for _ in 0..count {
            let (peer, message) = self.next(hops);
            if self.random().is_multiple_of(4) {
                let mut batch = vec![message, self.message(hops), self.message(hops)];
                self.accept(peer.tell_batch(&mut batch).unwrap_or(0));
            } else {
                self.accept(usize::from(peer.tell(message).is_ok()));
            }
        }
    }
    fn stopped(&mut self, _reason: &ExitReason) {
        self.end();
    }
}

/// A node that waits for room.
struct Patient(Node);

impl AsyncActor for Patient {
    type Msg = Message;
    async fn handle(&mut self, message: Message, _ctx: &mut AsyncContext<Self>) {
        for _ in 0..self.0.receive(&message) {
            let (peer, message) = self.0.next(message.hops);
            let sent = peer.send(message).await.is_ok();
            self.0.accept(usize::from(sent));
        }
    }
    fn stopped(&mut self, _reason: &ExitReason) {
        self.0.end();
    }
}

/// How many nodes there are; the last ones wait for room.
const NODES: usize = 8;
const PATIENT: usize = 2;
/// How often a message is passed on.
const HOPS: u32 = 4;

/// Runs one seed and returns what happened, in order.
fn run(seed: u64, lossy: bool) -> Vec<(usize, u64)> {
    let simulation = Simulation::new(seed);
    let record = Arc::new(Record::default());
    let peers = Arc::new(Mutex::new(Vec::new()));
    for me in 0..NODES {
        let (record, shared, next) = (
            Arc::clone(&record),
            Arc::clone(&peers),
            Arc::new(AtomicU64::new(1)),
        );
        let overflow = match me % 4 {
            0 => Overflow::Fail,
            1 => Overflow::DropNewest,
            2 => Overflow::DropOldest,
            _ => Overflow::Wait,
        };
        let policy = Restart::on_failure().at_most(3, Duration::from_secs(5));
        let bound = 1 + simulation.random() as usize % 20;
        let node = move || Node::made(me, &record, &shared, &next);
        let system = simulation.system();
        let actor = if me < NODES - PATIENT {
            let actor = system.actor(node).mailbox(bound).overflow(overflow);
            actor.restart(policy).spawn()
        } else {
            let actor = system.actor(move || Patient(node())).mailbox(bound);
            actor.overflow(overflow).restart(policy).spawn_async()
        };
        peers.lock().expect("not poisoned").push(actor);
    }
    simulation.inject_faults(10);
    record.reordered.store(lossy, Ordering::Relaxed);
    if lossy {
        simulation.on_delivery(|delivery| {
            assert!(delivery.message::<Message>().is_some());
            match (delivery.chance(50), delivery.chance(100)) {
                (true, _) => Fault::Drop,
                (_, true) => Fault::Delay(Duration::from_millis(7)),
                _ => Fault::None,
            }
        });
    }
    for number in 1..=60 {
        let target =
            peers.lock().expect("not poisoned")[simulation.random() as usize % NODES].clone();
        let message = Message {
            from: usize::MAX,
            number,
            hops: HOPS,
        };
        match simulation.random() % 40 {
            0 => target.stop(),
            1 => target.drain(),
            2 => target.kill(),
            3 => simulation.advance(Duration::from_millis(20)),
            _ => {
                if target.tell(message).is_ok() {
                    record.accepted.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        for _ in 0..simulation.random() % 8 {
            simulation.step();
        }
        check(&simulation, &record);
    }
    simulation.advance(Duration::from_secs(60));
    check(&simulation, &record);
    let log = record.log.lock().expect("not poisoned").clone();
    // The actors hold references to each other.
    peers.lock().expect("not poisoned").clear();
    log
}

fn check(simulation: &Simulation, record: &Record) {
    let stats = simulation.system().messages();
    let accepted = record.accepted.load(Ordering::Relaxed);
    let dead = simulation.system().stats().dead_letters;
    assert_eq!(
        accepted,
        stats.handled + stats.queued + dead + simulation.delayed(),
        "accepted = handled + queued + dead + delayed"
    );
}

#[test]
fn nothing_is_lost_or_handled_twice_over_many_seeds() {
    each_seed(0..2000, |seed| {
        run(seed, false);
    });
}

#[test]
fn nothing_is_lost_either_when_messages_are_dropped_and_delayed() {
    each_seed(10_000..12_000, |seed| {
        run(seed, true);
    });
}

#[test]
fn a_seed_repeats_its_run() {
    for seed in [3, 77, 1234] {
        for lossy in [false, true] {
            assert_eq!(run(seed, lossy), run(seed, lossy));
        }
    }
    assert_ne!(run(1, false), run(2, false));
}

/// Does what blocks elsewhere.
struct Elsewhere;

impl AsyncActor for Elsewhere {
    type Msg = Reply<u8>;
    async fn handle(&mut self, reply: Reply<u8>, _ctx: &mut AsyncContext<Self>) {
        let work = tokio::task::spawn_blocking(|| 7);
        reply.send(work.await.expect("its runtime is there"));
    }
}

/// Runs a simulation on its worker.
struct Experimenter;

impl Actor for Experimenter {
    type Msg = Reply<u64>;
    fn handle(&mut self, reply: Reply<u64>, _ctx: &mut Context<'_, Self>) {
        let simulation = Simulation::new(1);
        simulation.system().spawn_async(|| Elsewhere);
        simulation.run();
        reply.send(simulation.system().stats().spawned);
    }
}

#[test]
fn a_simulation_on_a_worker_leaves_the_tokio_runtime_of_its_system_alone() {
    let system = System::builder().workers(1).build().expect("threads");
    let experimenter = system.spawn(|| Experimenter);
    assert_eq!(experimenter.ask(|reply| reply).wait(), Ok(1));
    let elsewhere = system.spawn_async(|| Elsewhere);
    assert_eq!(elsewhere.ask(|reply| reply).wait(), Ok(7));
}

/// Never answers.
struct Mute(Vec<Reply<()>>);
impl Actor for Mute {
    type Msg = Reply<()>;
    fn handle(&mut self, reply: Reply<()>, _ctx: &mut Context<'_, Self>) {
        self.0.push(reply);
    }
}

/// Runs a simulation in its handler, then asks, and tells what came of it.
struct Nesting {
    mute: ActorRef<Reply<()>>,
    out: ActorRef<Result<(), AskError>>,
}
impl AsyncActor for Nesting {
    type Msg = ();
    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {
        {
            let inner = Simulation::new(1);
            inner.system().spawn(|| Mute(Vec::new()));
            inner.run();
        }
        let question = self.mute.ask(|reply| reply);
        let answer = question.timeout(Duration::from_secs(3600)).await;
        self.out.tell(answer).expect("room");
    }
}

/// It forgot whose turn it was, and so whose time.
#[test]
fn an_actor_that_runs_a_simulation_keeps_to_its_own_time() {
    let simulation = Simulation::new(1);
    let system = simulation.system();
    let probe = Probe::new(system);
    let (mute, out) = (system.spawn(|| Mute(Vec::new())), probe.actor().clone());
    let nesting = system.spawn_async(move || Nesting {
        mute: mute.clone(),
        out: out.clone(),
    });
    nesting.tell(()).expect("room");
    simulation.advance(Duration::from_secs(3599));
    assert_eq!(probe.received(), None);
    simulation.advance(Duration::from_secs(2));
    assert_eq!(probe.received(), Some(Err(AskError::Timeout)));
}
