//! What can be seen of a running system: latencies, lifetimes, counts, stuck handlers, the tree.

use actor_rt::testkit::Simulation;
use actor_rt::{
    Actor, ActorRef, AsyncActor, AsyncContext, Context, ExitReason, Failure, Latencies, Reply,
    Restart, System,
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

struct Idle;
impl Actor for Idle {
    type Msg = u8;
    fn handle(&mut self, n: u8, _ctx: &mut Context<'_, Self>) {
        assert_ne!(n, 13, "as told");
    }
}

/// Near enough for a histogram that is within 6 %.
fn about(seen: Duration, expected: Duration) -> bool {
    let ratio = seen.as_secs_f64() / expected.as_secs_f64();
    (0.93..1.08).contains(&ratio)
}

#[test]
fn a_message_that_waits_is_seen_to_wait_in_virtual_time() {
    let simulation = Simulation::new(1);
    let policy = Restart::on_failure()
        .at_most(9, LONG)
        .backoff(500 * MS, 500 * MS);
    let actor = simulation
        .system()
        .actor(|| Idle)
        .metered()
        .restart(policy)
        .spawn();
    simulation.run();
    assert_eq!(actor.latencies().expect("metered").handling.count, 0);
    actor.tell(1).expect("room");
    simulation.run();
    let at_once = actor.latencies().expect("metered");
    assert_eq!((at_once.wait.count, at_once.handling.count), (1, 1));
    assert!(at_once.wait.max < MS, "{at_once:?}");
    // The second failure is followed by half a second of nothing.
    for n in [13, 13, 1, 2, 3] {
        actor.tell(n).expect("room");
    }
    simulation.advance(600 * MS);
    assert_eq!(actor.handled(), 6);
    let waited = actor.latencies().expect("metered").wait.max;
    assert!(about(waited, 500 * MS), "{waited:?}");
    assert!(simulation.system().tree().contains(" wait: p50="));
    let stats = simulation.system().stats();
    assert_eq!((stats.failures, stats.panics, stats.restarts), (2, 2, 2));
}

#[test]
fn nothing_is_measured_of_those_who_did_not_ask() {
    let simulation = Simulation::new(2);
    let actor = simulation.system().spawn(|| Idle);
    actor.tell(1).expect("room");
    simulation.run();
    assert_eq!(actor.latencies(), None);
    assert_eq!(simulation.system().latencies(), Latencies::default());
    assert!(!simulation.system().tree().contains("wait"));
}

/// Keeps one metered child.
struct Keeper(Option<ActorRef<u8>>);
impl Actor for Keeper {
    type Msg = Reply<ActorRef<u8>>;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        self.0 = Some(ctx.actor(|| Idle).metered().spawn());
        Ok(())
    }
    fn handle(&mut self, reply: Self::Msg, _ctx: &mut Context<'_, Self>) {
        reply.send(self.0.clone().expect("started"));
    }
}

#[test]
fn a_parent_and_the_system_know_how_long_children_lived() {
    let simulation = Simulation::new(3);
    let parent = simulation.system().actor(|| Keeper(None)).metered().spawn();
    let ask = parent.ask(|reply| reply);
    simulation.run();
    let child = ask.wait().expect("an answer");
    (0..10).for_each(|n| child.tell(n).expect("room"));
    simulation.advance(3000 * MS);
    child.stop();
    simulation.run();
    let lifetime = parent.latencies().expect("metered").lifetime;
    assert_eq!(lifetime.count, 1);
    assert!(about(lifetime.p50, 3000 * MS), "{lifetime:?}");
    simulation.advance(3000 * MS);
    parent.stop();
    simulation.run();
    // Each is counted once, and what the child measured is not lost.
    let all = simulation.system().latencies();
    assert_eq!(all.lifetime.count, 2);
    assert!(about(all.lifetime.max, 6000 * MS), "{all:?}");
    assert!(all.wait.count >= 2 && all.handling.count >= 2, "{all:?}");
}

struct Sleeper;
impl AsyncActor for Sleeper {
    type Msg = Reply<()>;
    async fn handle(&mut self, reply: Reply<()>, _ctx: &mut AsyncContext<Self>) {
        tokio::time::sleep(3 * MS).await;
        reply.send(());
    }
}

#[test]
fn awaiting_counts_as_handling_and_every_kind_of_actor_is_measured() {
    let system = System::builder().metered(true).build().expect("threads");
    let sleeper = system.spawn_async(|| Sleeper);
    for _ in 0..3 {
        assert_eq!(sleeper.ask(|reply| reply).timeout(LONG).wait(), Ok(()));
    }
    let own = system.spawn_dedicated(|| Idle);
    let plain = system.spawn(|| Idle);
    for n in 0..10 {
        own.send_blocking(n).expect("open");
        plain.send_blocking(n).expect("open");
    }
    system.drain(LONG).expect("everything ends");
    let slept = sleeper.latencies().expect("metered");
    assert_eq!(slept.handling.count, 3);
    assert!(slept.handling.p50 >= 2 * MS, "{slept:?}");
    for actor in [own, plain] {
        let latencies = actor.latencies().expect("metered");
        assert!(latencies.handling.count >= 1 && latencies.wait.count >= 1);
    }
    assert_eq!(system.latencies().lifetime.count, 3);
}

struct Stuck(Arc<Mutex<Receiver<()>>>);
impl Actor for Stuck {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        let release = self.0.lock().expect("not poisoned");
        release.recv().expect("the test lets it go");
    }
}

fn stuck(system: &System) -> (ActorRef<()>, Sender<()>) {
    let (let_go, release) = channel();
    let release = Arc::new(Mutex::new(release));
    let actor = system
        .actor(move || Stuck(Arc::clone(&release)))
        .name("the stuck one")
        .spawn();
    (actor, let_go)
}

#[test]
fn the_watchdog_names_the_actor_that_holds_a_worker_once() {
    let (sender, reports) = channel();
    // So long that no other turn takes as long, on however slow a machine.
    let allowed = 1000 * MS;
    let system = System::builder()
        .workers(2)
        .watchdog(Some(allowed))
        .on_stuck(move |stuck| sender.send(stuck.clone()).expect("the test listens"))
        .build()
        .expect("threads");
    let (actor, let_go) = stuck(&system);
    actor.tell(()).expect("room");
    let report = reports.recv_timeout(LONG).expect("it is noticed");
    assert_eq!(report.actor, "the stuck one");
    assert!(report.worker < 2 && report.held_for >= allowed);
    // Once is enough; but another one that is stuck is told as well.
    let (other, let_other_go) = stuck(&system);
    other.tell(()).expect("room");
    let second = reports.recv_timeout(LONG).expect("it is noticed");
    assert_ne!(second.worker, report.worker);
    let_go.send(()).expect("the actor waits");
    let_other_go.send(()).expect("the actor waits");
    system.shutdown(LONG).expect("everything ends");
    assert_eq!(system.stats().stuck, 2);
    assert!(reports.try_recv().is_err());
}

/// Holds its thread until the test lets go.
struct Gate(Arc<Mutex<Receiver<()>>>);
impl Actor for Gate {
    type Msg = Reply<()>;
    fn handle(&mut self, reply: Self::Msg, _ctx: &mut Context<'_, Self>) {
        reply.send(());
        let _ = self.0.lock().expect("not poisoned").recv();
    }
}

#[test]
fn workers_and_threads_of_dedicated_actors_count_what_their_turns_find() {
    let (release, gate) = channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let system = System::builder().workers(1).build().expect("threads");
    let idle = system.spawn(|| Idle);
    let held = Arc::clone(&gate);
    let holder = system.spawn(move || Gate(Arc::clone(&held)));
    // The only worker is held, so that all of these wait when it comes to them.
    holder.ask(|reply| reply).wait().expect("held");
    let before = system.depths();
    (0..9).for_each(|_| idle.tell(1).expect("room"));
    drop(release);
    idle.stop();
    holder.stop();
    assert_eq!(idle.join(), ExitReason::Stopped);
    holder.join();
    let depths = system.depths();
    assert_eq!(depths.counts[3] - before.counts[3], 1, "of 8 to 15");
    assert!(depths.messages - before.messages >= 9);

    // Nobody holds this one any more.
    let own = system.spawn_dedicated(move || Gate(Arc::clone(&gate)));
    for _ in 0..3 {
        own.ask(|reply| reply).wait().expect("an answer");
    }
    let with_own = system.depths();
    assert!((1..=3).contains(&(with_own.turns() - depths.turns())));
    assert!((1..=3).contains(&(with_own.messages - depths.messages)));
    system.shutdown(LONG).expect("everything ends");
}
