//! What an actor sets going itself: due timers, notices, piped answers. Others can neither fill its lane nor starve it.

use actor_rt::testkit::{Probe, Simulation};
use actor_rt::{
    Actor, ActorRef, Ask, AskError, AsyncActor, AsyncContext, Context, ExitReason, Failure,
    Overflow, Reply, Restart, System, Timer,
};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Wake, Waker};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

enum Msg {
    /// From others.
    Work,
    /// From the actor's own lane.
    Due(u32),
}

/// Sets three timers and a monitor, and reports what comes of its own.
struct Busy {
    watched: ActorRef<()>,
    out: ActorRef<u32>,
}

impl Actor for Busy {
    type Msg = Msg;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        for n in 1..=3 {
            ctx.after(n * SECOND, Msg::Due(n));
        }
        ctx.monitor(&self.watched, |_| Msg::Due(0));
        Ok(())
    }
    fn handle(&mut self, message: Msg, _ctx: &mut Context<'_, Self>) {
        if let Msg::Due(n) = message {
            self.out.tell(n).expect("room");
        }
    }
}

struct Idle;
impl Actor for Idle {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

#[test]
fn no_overflow_policy_loses_what_an_actor_set_going() {
    let policies = [
        Overflow::Fail,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Wait,
    ];
    for policy in policies {
        for bound in [1, 4, 64] {
            let simulation = Simulation::new(bound as u64);
            let system = simulation.system();
            let probe = Probe::new(system);
            let out = probe.actor().clone();
            let watched = system.spawn(|| Idle);
            let ending = watched.clone();
            let factory = move || Busy {
                watched: watched.clone(),
                out: out.clone(),
            };
            let busy = system
                .actor(factory)
                .mailbox(bound)
                .overflow(policy.clone())
                .spawn();
            simulation.run();
            ending.stop();
            simulation.run();
            for n in 0..=3 {
                // Full, before the time comes and after.
                (0..2 * bound).for_each(|_| drop(busy.tell(Msg::Work)));
                if n > 0 {
                    simulation.advance(SECOND);
                }
                (0..2 * bound).for_each(|_| drop(busy.tell(Msg::Work)));
                simulation.run();
                assert_eq!(probe.received(), Some(n), "{policy:?}, {bound} places");
            }
            assert_eq!(probe.received(), None);
        }
    }
}

/// Counts its own ticks, and lets go of whoever floods it after enough of them.
struct Ticking {
    enough: Arc<AtomicBool>,
    ticks: u32,
    worked: Arc<AtomicUsize>,
}

impl Actor for Ticking {
    type Msg = Msg;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        ctx.every(Duration::from_micros(200), || Msg::Due(1));
        Ok(())
    }
    fn handle(&mut self, message: Msg, _ctx: &mut Context<'_, Self>) {
        match message {
            Msg::Work => _ = self.worked.fetch_add(1, Ordering::Relaxed),
            Msg::Due(n) => {
                self.ticks += n;
                // Slower than its own ticks come: the others get their turn all the same.
                let until = Instant::now() + Duration::from_micros(300);
                while Instant::now() < until {}
                if self.ticks > 200 && self.worked.load(Ordering::Relaxed) > 200 {
                    self.enough.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

#[test]
fn a_flooded_actor_gets_its_own_ticks_and_its_ticks_do_not_starve_the_flood() {
    let system = System::builder().workers(1).build().expect("threads");
    for policy in [Overflow::Fail, Overflow::DropOldest] {
        let enough = Arc::new(AtomicBool::new(false));
        let worked = Arc::new(AtomicUsize::new(0));
        let (end, count) = (Arc::clone(&enough), Arc::clone(&worked));
        let factory = move || Ticking {
            enough: Arc::clone(&end),
            ticks: 0,
            worked: Arc::clone(&count),
        };
        let actor = system.actor(factory).mailbox(16).overflow(policy).spawn();
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while !enough.load(Ordering::Relaxed) {
                        if actor.tell(Msg::Work).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        actor.stop();
    }
    system.shutdown(LONG).expect("everything ends");
}

/// Monitors with a closure that panics, and counts its incarnations.
struct Clumsy {
    watched: ActorRef<()>,
    made: Arc<AtomicUsize>,
}

impl Actor for Clumsy {
    type Msg = Reply<()>;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        if self.made.fetch_add(1, Ordering::Relaxed) == 0 {
            ctx.monitor(&self.watched, |_| panic!("as told"));
        }
        Ok(())
    }
    fn handle(&mut self, reply: Reply<()>, _ctx: &mut Context<'_, Self>) {
        reply.send(());
    }
}

#[test]
fn a_notice_that_cannot_be_made_is_a_failure_of_who_wanted_it() {
    let system = System::builder().workers(1).build().expect("threads");
    let watched = system.spawn(|| Idle);
    let made = Arc::new(AtomicUsize::new(0));
    let (target, count) = (watched.clone(), Arc::clone(&made));
    let factory = move || Clumsy {
        watched: target.clone(),
        made: Arc::clone(&count),
    };
    let clumsy = system.actor(factory).restart(Restart::on_failure()).spawn();
    assert_eq!(clumsy.ask(|reply| reply).timeout(LONG).wait(), Ok(()));
    watched.stop();
    assert_eq!(watched.join(), ExitReason::Stopped);
    while made.load(Ordering::Relaxed) < 2 {
        std::thread::yield_now();
    }
    assert_eq!(clumsy.ask(|reply| reply).timeout(LONG).wait(), Ok(()));
    assert_eq!((system.stats().panics, system.stats().restarts), (1, 1));
    system.shutdown(LONG).expect("the worker lives");
}

/// Watches, or is linked to, another one, and stops watching when told.
struct Fickle {
    watched: ActorRef<()>,
    out: ActorRef<&'static str>,
}

impl Actor for Fickle {
    type Msg = bool;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        let kept = ctx.monitor(&self.watched, |_| true);
        let dropped = ctx.monitor(&self.watched, |_| false);
        dropped.cancel();
        drop(kept);
        ctx.link(&self.watched);
        ctx.unlink(&self.watched);
        Ok(())
    }
    fn handle(&mut self, kept: bool, _ctx: &mut Context<'_, Self>) {
        let text = if kept { "noticed" } else { "noticed in vain" };
        self.out.tell(text).expect("room");
    }
}

#[test]
fn a_watch_and_a_link_can_be_ended() {
    let simulation = Simulation::new(3);
    let probe = Probe::new(simulation.system());
    let out = probe.actor().clone();
    let watched = simulation.system().spawn(|| Idle);
    let target = watched.clone();
    let fickle = simulation.system().spawn(move || Fickle {
        watched: target.clone(),
        out: out.clone(),
    });
    simulation.run();
    // A bad end, which a link would hand on.
    watched.kill();
    simulation.run();
    assert_eq!(
        (probe.received(), probe.received()),
        (Some("noticed"), None)
    );
    assert!(!fickle.is_closed());
    assert_eq!(simulation.system().stats().failures, 0);
}

/// Asks somebody who never answers.
struct Patient {
    silent: ActorRef<Reply<u32>>,
    out: ActorRef<Result<u32, AskError>>,
}

impl AsyncActor for Patient {
    type Msg = ();
    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {
        let ask: Ask<u32> = self.silent.ask(|reply| reply);
        let answer = ask.timeout(3600 * SECOND).await;
        self.out.tell(answer).expect("room");
    }
}

struct Silent(Vec<Reply<u32>>);
impl Actor for Silent {
    type Msg = Reply<u32>;
    fn handle(&mut self, reply: Reply<u32>, _ctx: &mut Context<'_, Self>) {
        self.0.push(reply);
    }
}

#[test]
fn questions_are_given_up_by_the_time_of_the_simulation() {
    let simulation = Simulation::new(5);
    let probe = Probe::new(simulation.system());
    let out = probe.actor().clone();
    let silent = simulation.system().spawn(|| Silent(Vec::new()));
    let patient = simulation.system().spawn_async(move || Patient {
        silent: silent.clone(),
        out: out.clone(),
    });
    patient.tell(()).expect("room");
    simulation.advance(3599 * SECOND);
    assert_eq!(probe.received(), None);
    simulation.advance(SECOND);
    assert_eq!(probe.received(), Some(Err(AskError::Timeout)));
}

#[test]
fn futures_that_no_longer_wait_for_an_end_are_forgotten() {
    let simulation = Simulation::new(6);
    let watched = simulation.system().spawn(|| Idle);
    let waits = Arc::new(Waits);
    for _ in 0..100 {
        let waker = Waker::from(Arc::clone(&waits));
        let mut task = TaskContext::from_waker(&waker);
        let mut first = Box::pin(watched.closed());
        let mut second = Box::pin(watched.closed());
        assert!(first.as_mut().poll(&mut task).is_pending());
        assert!(second.as_mut().poll(&mut task).is_pending());
        assert!(first.as_mut().poll(&mut task).is_pending());
        drop(first);
        // The one of `second`, and ours.
        assert_eq!(Arc::strong_count(&waits), 3);
    }
    assert_eq!(Arc::strong_count(&waits), 1);
}

struct Waits;
impl Wake for Waits {
    fn wake(self: Arc<Self>) {}
}

/// Gets three notices at once, and fails at the first one.
struct Brittle(ActorRef<()>);
impl Actor for Brittle {
    type Msg = bool;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        (0..3).for_each(|_| drop(ctx.monitor(&self.0, |_| true)));
        Ok(())
    }
    fn handle(&mut self, ended: bool, _ctx: &mut Context<'_, Self>) {
        assert!(!ended, "as told");
    }
}

#[test]
fn what_was_due_when_its_incarnation_ended_is_a_dead_letter() {
    let simulation = Simulation::new(7);
    let ended = simulation.system().spawn(|| Idle);
    ended.stop();
    simulation.run();
    let brittle = simulation.system().actor(move || Brittle(ended.clone()));
    let actor = brittle.restart(Restart::never()).spawn();
    simulation.run();
    assert!(actor.is_closed());
    let stats = simulation.system().stats();
    assert_eq!((stats.failures, stats.dead_letters), (1, 2));
}

/// Sets a far timer that holds a token at each message, and takes the one before back.
struct Rearms {
    token: Arc<()>,
    timer: Option<Timer>,
}

impl Actor for Rearms {
    type Msg = Option<Arc<()>>;
    fn handle(&mut self, due: Self::Msg, ctx: &mut Context<'_, Self>) {
        assert!(due.is_none(), "an hour has not passed");
        let held = Some(Arc::clone(&self.token));
        let timer = ctx.after(3600 * SECOND, held);
        if let Some(before) = self.timer.replace(timer) {
            before.cancel();
        }
    }
}

#[test]
fn cancelled_timers_and_those_of_the_ended_are_dropped_before_their_time() {
    let system = System::new().expect("threads");
    let token = Arc::new(());
    let made = Arc::clone(&token);
    let rearms = move || Rearms {
        token: Arc::clone(&made),
        timer: None,
    };
    let actor = system.actor(rearms.clone()).mailbox(100_000).spawn();
    for _ in 0..50_000 {
        actor.tell(None).expect("room");
    }
    // Half of what the clock holds may be of that kind, and a few thousand in any case.
    while actor.handled() < 50_000 || Arc::strong_count(&token) > 5_000 {
        std::thread::yield_now();
    }
    let others: Vec<_> = (0..5_000).map(|_| system.spawn(rearms.clone())).collect();
    for other in &others {
        other.tell(None).expect("room");
        other.drain();
    }
    for other in &others {
        assert_eq!(other.join(), ExitReason::Drained);
    }
    drop((others, rearms));
    while Arc::strong_count(&token) > 5_000 {
        std::thread::yield_now();
    }
}

#[test]
fn durations_without_an_end_are_as_good_as_never() {
    let simulation = Simulation::new(1);
    let forever = Duration::MAX;
    let system = simulation.system();
    let policy = Restart::on_failure().backoff(forever, forever);
    let fails = system.actor(|| Fails).restart(policy).spawn();
    // The first restart is at once, the second one never.
    for _ in 0..2 {
        fails.tell(()).expect("room");
        simulation.run();
    }
    fails.stop_within(forever);
    simulation.run();
    assert_eq!(fails.join(), ExitReason::Stopped);

    let system = System::builder().workers(1).build().expect("threads");
    let fails = system.actor(|| Fails).spawn();
    fails.tell(()).expect("room");
    fails.drain_within(forever);
    assert_eq!(fails.join(), ExitReason::Drained);
    system.shutdown(forever).expect("nobody is left");
}

struct Fails;
impl Actor for Fails {
    type Msg = ();
    fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
        ctx.fail(Failure::new("as told"));
    }
}

/// Leaves three messages to an actor that nobody will handle.
struct Leaves;
impl Actor for Leaves {
    type Msg = Reply<ActorRef<()>>;
    fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
        // There is one worker, so it does not run before this handler returns.
        let idle = ctx.system().spawn(|| Idle);
        for _ in 0..3 {
            idle.tell(()).expect("room");
        }
        idle.kill();
        reply.send(idle);
    }
}

#[test]
fn a_hook_that_panics_costs_no_worker() {
    let (sender, letters) = std::sync::mpsc::channel();
    let system = System::builder()
        .workers(1)
        .on_dead_letter(move |_| {
            sender.send(()).expect("the test listens");
            panic!("as told")
        })
        .build()
        .expect("threads");
    let leaves = system.spawn(|| Leaves);
    let idle = leaves.ask(|reply| reply).wait().expect("an answer");
    assert_eq!(idle.join(), ExitReason::Killed);
    let again = leaves
        .ask(|reply| reply)
        .wait()
        .expect("the worker is there");
    assert_eq!(again.join(), ExitReason::Killed);
    assert_eq!(letters.try_iter().count(), 6);
}
