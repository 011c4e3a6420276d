//! Fairness, and machines of every shape: one core, more workers than cores, no pinning, a small cpuset.

use actor_rt::{
    Actor, ActorRef, AskError, AsyncActor, AsyncContext, Context, ExitReason, Failure, Overflow,
    Placement, Reply, System,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

/// Never runs out of messages: each one sends itself again.
struct Flooded;
impl Actor for Flooded {
    type Msg = u32;
    fn handle(&mut self, n: u32, ctx: &mut Context<'_, Self>) {
        // It may be stopping.
        let _ = ctx.me().tell(n);
    }
}

/// Answers, at once or after a while.
struct Neighbour;
enum Ask {
    Now(Reply<u32>),
    Later(Reply<u32>),
}
impl Actor for Neighbour {
    type Msg = Ask;
    fn handle(&mut self, ask: Ask, ctx: &mut Context<'_, Self>) {
        match ask {
            Ask::Now(reply) => reply.send(1),
            Ask::Later(reply) => {
                ctx.after(Duration::from_millis(2), Ask::Now(reply));
            }
        }
    }
}

fn flood(system: &System, actors: usize) {
    for n in 0..actors {
        let flooded = system.actor(|| Flooded).mailbox(512).spawn();
        let mut messages = vec![n as u32; 500];
        assert_eq!(flooded.tell_batch(&mut messages).expect("open"), 500);
    }
}

#[test]
fn floods_on_every_worker_starve_neither_neighbours_nor_timers() {
    for placement in [Placement::Anywhere, Placement::Core(0)] {
        let system = System::builder().workers(1).build().expect("threads");
        flood(&system, 3);
        let neighbour = system.spawn_on(placement, || Neighbour);
        for _ in 0..200 {
            assert_eq!(neighbour.ask(Ask::Now).timeout(LONG).wait(), Ok(1));
        }
        for _ in 0..5 {
            assert_eq!(neighbour.ask(Ask::Later).timeout(LONG).wait(), Ok(1));
        }
        // What comes from another thread is not starved either.
        let late = system.spawn(|| Neighbour);
        assert_eq!(late.ask(Ask::Now).timeout(LONG).wait(), Ok(1));
        system.shutdown(LONG).expect("everything ends");
    }
}

fn works(system: &System) {
    let neighbours: Vec<_> = (0..50).map(|_| system.spawn(|| Neighbour)).collect();
    let asks = |make: fn(Reply<u32>) -> Ask| -> Result<u32, AskError> {
        let asked: Vec<_> = neighbours.iter().map(|n| n.ask(make)).collect();
        asked.into_iter().map(|ask| ask.timeout(LONG).wait()).sum()
    };
    for _ in 0..20 {
        assert_eq!(asks(Ask::Now), Ok(50));
    }
    assert_eq!(asks(Ask::Later), Ok(50));
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn one_worker_many_workers_and_unpinned_ones_all_work() {
    for workers in [1, 2, 3, 16] {
        for pin in [true, false] {
            for near in [true, false] {
                let builder = System::builder().workers(workers).pin(pin);
                let system = builder.near_first(near).build().expect("threads");
                assert_eq!(system.workers(), workers);
                works(&system);
            }
        }
    }
}

#[test]
fn a_process_that_may_use_one_core_gets_one_worker() {
    let system = std::thread::spawn(|| {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        // Where a thread may not choose its core, there is nothing to see.
        let first = cores.into_iter().next();
        let limited = first.is_some_and(core_affinity::set_for_current);
        (limited, System::new().expect("threads"))
    });
    let (limited, system) = system.join().expect("no panic");
    if limited {
        assert_eq!(system.workers(), 1);
    }
    works(&system);
}

struct Gate(Arc<Mutex<Receiver<()>>>);
impl Actor for Gate {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        let gate = self.0.lock().expect("not poisoned");
        // Open for good once the test has dropped its end.
        let _ = gate.recv();
    }
}

/// An actor in its handler, with a full mailbox.
fn full(system: &System) -> (ActorRef<()>, Sender<()>) {
    let (open, gate) = channel();
    let gate = Arc::new(Mutex::new(gate));
    let actor = system
        .actor(move || Gate(Arc::clone(&gate)))
        .mailbox(2)
        .overflow(Overflow::Fail)
        .spawn();
    let mut accepted = 0;
    while accepted < 3 {
        match actor.tell(()) {
            Ok(()) => accepted += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    assert!(actor.tell(()).is_err());
    (actor, open)
}

#[test]
fn orders_reach_an_actor_whose_mailbox_is_full() {
    let system = System::new().expect("threads");
    for (order, reason) in [
        (ActorRef::kill as fn(&ActorRef<()>), ExitReason::Killed),
        (ActorRef::stop, ExitReason::Stopped),
    ] {
        let (actor, open) = full(&system);
        order(&actor);
        drop(open);
        assert_eq!(actor.join(), reason);
    }
    system.shutdown(LONG).expect("everything ends");
}

struct Child;
impl Actor for Child {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}
struct Parent;
impl Actor for Parent {
    type Msg = ();
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        for n in 0..10 {
            ctx.actor(|| Child).on(Placement::Core(n)).spawn();
        }
        Ok(())
    }
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

#[test]
fn families_spread_over_placed_workers_end_together() {
    let system = System::builder().workers(4).build().expect("threads");
    for _ in 0..50 {
        let parent = system.spawn(|| Parent);
        parent.drain();
        assert_eq!(parent.join(), ExitReason::Drained);
    }
    system.shutdown(LONG).expect("everything ends");
    assert_eq!(system.stats().live, 0);
}

/// Notes its letter for each message.
struct Scribe(char, Arc<Mutex<String>>);
impl Actor for Scribe {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        self.1.lock().expect("not poisoned").push(self.0);
    }
}

/// Sends both scribes so many messages before any of them can run: there is one worker.
struct Starter([ActorRef<()>; 2]);
impl Actor for Starter {
    type Msg = (u32, Reply<()>);
    fn handle(&mut self, (count, reply): Self::Msg, _ctx: &mut Context<'_, Self>) {
        for scribe in &self.0 {
            (0..count).for_each(|_| scribe.tell(()).expect("room"));
        }
        reply.send(());
    }
}

/// How many messages two busy actors handle in turn, under a time budget: the lengths of the turns of each.
fn turns(budget: Duration, count: u32) -> [Vec<usize>; 2] {
    let system = System::builder().workers(1).turn_budget(budget).build();
    let system = system.expect("threads");
    let log = Arc::new(Mutex::new(String::new()));
    let scribes = ['a', 'b'].map(|letter| {
        let log = Arc::clone(&log);
        let scribe = system.actor(move || Scribe(letter, Arc::clone(&log)));
        scribe.mailbox(count as usize).spawn()
    });
    let starter = system.spawn(move || Starter(scribes.clone()));
    let started = starter.ask(|reply| (count, reply)).wait();
    assert_eq!(started, Ok(()));
    assert!(system.drain(LONG).is_ok());
    let log = std::mem::take(&mut *log.lock().expect("not poisoned"));
    assert_eq!(log.len(), 2 * count as usize);
    ['a', 'b'].map(|letter| {
        let runs = log.split(|other| other != letter);
        runs.map(str::len).filter(|length| *length > 0).collect()
    })
}

#[test]
fn turns_grow_to_1024_messages_while_they_are_cheap() {
    let runs = vec![64, 128, 256, 512, 1024, 1024, 1024, 968];
    assert_eq!(turns(LONG, 5000), [runs.clone(), runs]);
}

#[test]
fn turns_shrink_to_16_messages_while_they_are_dear() {
    // Nothing is cheap where no time is allowed.
    for runs in turns(Duration::ZERO, 1000) {
        assert_eq!(runs[..2], [64, 32]);
        assert!(runs[2..].iter().all(|length| *length <= 16), "{runs:?}");
    }
}

#[test]
fn who_is_placed_is_not_starved_by_what_comes_from_outside() {
    let system = System::builder().workers(1).build().expect("threads");
    flood(&system, 3);
    let placed = system.spawn_on(Placement::Core(0), || Neighbour);
    let enough = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            // More of these than turns between looks at the shared list.
            while !enough.load(Ordering::Relaxed) {
                (0..1000).for_each(|_| system.spawn(|| Neighbour).stop());
            }
        });
        for _ in 0..50 {
            assert_eq!(placed.ask(Ask::Now).timeout(LONG).wait(), Ok(1));
        }
        enough.store(true, Ordering::Relaxed);
    });
    system.shutdown(LONG).expect("everything ends");
}

/// What a handler does that takes its time.
fn work_for(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {}
}

/// Awaits nothing, and takes its time.
struct Slow(Arc<AtomicUsize>);
impl AsyncActor for Slow {
    type Msg = ();
    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        work_for(Duration::from_millis(1));
    }
}

/// Looks again and again at how much the slow one has done, and tells once it is enough what it saw.
struct Witness {
    done: Arc<AtomicUsize>,
    seen: Vec<usize>,
}
impl Actor for Witness {
    type Msg = Reply<Vec<usize>>;
    fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
        self.seen.push(self.done.load(Ordering::Relaxed));
        self.seen.dedup();
        if self.seen.last() >= Some(&300) {
            reply.send(std::mem::take(&mut self.seen));
        } else {
            ctx.me().tell(reply).expect("room");
        }
    }
}

#[test]
fn an_actor_that_awaits_keeps_to_its_time_as_well() {
    let system = System::builder().workers(1).build().expect("threads");
    let done = Arc::new(AtomicUsize::new(0));
    let (counter, counted) = (Arc::clone(&done), Arc::clone(&done));
    let slow = system
        .actor(move || Slow(Arc::clone(&counter)))
        .mailbox(1024)
        .spawn_async();
    let witness = system.spawn(move || Witness {
        done: Arc::clone(&counted),
        seen: Vec::new(),
    });
    // It looks from before the first message on.
    let witnessed = witness.ask(|reply| reply).timeout(LONG);
    let mut messages = vec![(); 600];
    assert_eq!(slow.tell_batch(&mut messages).expect("open"), 600);
    let seen = witnessed.wait().expect("an answer");
    // A turn of 100 µs has room for one of them, and others are looked for after a few of those.
    let longest = seen.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest.is_some_and(|step| step <= 16), "{seen:?}");
    slow.kill();
    system.shutdown(LONG).expect("everything ends");
}

/// Starts others, and keeps its worker until they would have been taken.
struct Keeper(Sender<String>);
struct Named(Sender<String>);
impl Actor for Named {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        let name = std::thread::current().name().map(str::to_owned);
        self.0
            .send(name.expect("workers have names"))
            .expect("the test listens");
    }
}
impl Actor for Keeper {
    type Msg = ();
    fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
        for _ in 0..50 {
            let sender = self.0.clone();
            ctx.spawn(move || Named(sender.clone()))
                .tell(())
                .expect("room");
        }
        work_for(Duration::from_millis(20));
    }
}

#[test]
fn where_nobody_steals_actors_run_where_they_were_woken() {
    let system = System::builder()
        .workers(2)
        .steal(false)
        .build()
        .expect("threads");
    let (sender, names) = channel();
    let keeper = system.spawn(move || Keeper(sender.clone()));
    keeper.tell(()).expect("room");
    let names: Vec<_> = (0..50)
        .map(|_| names.recv_timeout(LONG).expect("a report"))
        .collect();
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    works(&system);
}
