//! Actors that watch, time, route and publish: timers, monitors, links, recipients, routers, topics.

use actor_rt::testkit::{Probe, Simulation};
use actor_rt::{
    Actor, ActorRef, Context, ExitReason, Failure, Overflow, Restart, Route, Router, System,
    TellError, Timer, Topic,
};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

struct Clockwork {
    out: ActorRef<&'static str>,
    timers: Vec<Timer>,
}

enum Tick {
    Once,
    Beat,
    Silence,
    Panic,
}

impl Actor for Clockwork {
    type Msg = Tick;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        ctx.after(5 * SECOND, Tick::Once);
        self.timers.push(ctx.every(2 * SECOND, || Tick::Beat));
        Ok(())
    }
    fn handle(&mut self, tick: Tick, _ctx: &mut Context<'_, Self>) {
        let text = match tick {
            Tick::Once => "once",
            Tick::Beat => "beat",
            Tick::Silence => {
                self.timers.iter().for_each(Timer::cancel);
                return;
            }
            Tick::Panic => panic!("as told"),
        };
        self.out.tell(text).expect("room");
    }
}

fn clockwork(simulation: &Simulation) -> (Probe<&'static str>, ActorRef<Tick>) {
    let probe = Probe::new(simulation.system());
    let out = probe.actor().clone();
    let actor = simulation.system().spawn(move || Clockwork {
        out: out.clone(),
        timers: Vec::new(),
    });
    (probe, actor)
}

#[test]
fn timers_fire_in_order_until_cancelled() {
    let simulation = Simulation::new(1);
    let (probe, actor) = clockwork(&simulation);
    simulation.advance(7 * SECOND);
    let seen: Vec<_> = std::iter::from_fn(|| probe.received()).collect();
    assert_eq!(seen, ["beat", "beat", "once", "beat"]);
    actor.tell(Tick::Silence).expect("room");
    simulation.advance(60 * SECOND);
    assert_eq!(probe.received(), None);
}

#[test]
fn a_restart_silences_the_old_incarnations_timers() {
    let simulation = Simulation::new(2);
    let (probe, actor) = clockwork(&simulation);
    simulation.advance(3 * SECOND);
    assert_eq!(probe.received(), Some("beat"));
    actor.tell(Tick::Panic).expect("room");
    // The new incarnation's timers start over; the old `once` at 5 s does not come.
    simulation.advance(3 * SECOND);
    let seen: Vec<_> = std::iter::from_fn(|| probe.received()).collect();
    assert_eq!(seen, ["beat"]);
}

struct Watcher {
    watched: ActorRef<bool>,
    out: ActorRef<String>,
    link: bool,
}

struct Mortal;

impl Actor for Mortal {
    type Msg = bool;
    fn handle(&mut self, fail: bool, _ctx: &mut Context<'_, Self>) {
        assert!(!fail, "as told");
    }
}

impl Actor for Watcher {
    type Msg = String;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        if self.link {
            ctx.link(&self.watched);
        } else {
            ctx.monitor(&self.watched, ToString::to_string);
        }
        Ok(())
    }
    fn handle(&mut self, text: String, _ctx: &mut Context<'_, Self>) {
        self.out.tell(text).expect("room");
    }
    fn stopped(&mut self, reason: &ExitReason) {
        let _ = self.out.tell(format!("watcher: {reason}"));
    }
}

fn watched(system: &System, link: bool) -> (Probe<String>, ActorRef<bool>, ActorRef<String>) {
    let probe = Probe::new(system);
    let mortal = system
        .actor(|| Mortal)
        .name("mortal")
        .restart(Restart::never())
        .spawn();
    let (watched, out) = (mortal.clone(), probe.actor().clone());
    let watcher = system
        .actor(move || Watcher {
            watched: watched.clone(),
            out: out.clone(),
            link,
        })
        .restart(Restart::never())
        .spawn();
    (probe, mortal, watcher)
}

#[test]
fn a_monitor_tells_why_the_other_ended_also_when_it_comes_late() {
    let system = System::new().expect("threads");
    let (probe, mortal, watcher) = watched(&system, false);
    mortal.tell(true).expect("room");
    assert_eq!(probe.expect(), "panicked: as told");
    let (ended, out) = (mortal.clone(), probe.actor().clone());
    let late = system.spawn(move || Watcher {
        watched: ended.clone(),
        out: out.clone(),
        link: false,
    });
    assert_eq!(probe.expect(), "panicked: as told");
    assert!(!watcher.is_closed() && !late.is_closed());
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_link_spreads_failure_both_ways_and_not_peace() {
    let system = System::new().expect("threads");
    let (_probe, mortal, watcher) = watched(&system, true);
    while watcher.queued() + mortal.queued() > 0 {
        std::thread::yield_now();
    }
    mortal.tell(true).expect("room");
    let reason = watcher.join();
    assert_eq!(
        reason.to_string(),
        "failed: the linked actor mortal ended: panicked: as told"
    );

    let (probe, mortal, watcher) = watched(&system, true);
    watcher.tell("ready".into()).expect("room");
    assert_eq!(probe.expect(), "ready");
    watcher.kill();
    assert!(matches!(mortal.join(), ExitReason::Failed(_)));

    let (probe, mortal, watcher) = watched(&system, true);
    watcher.tell("ready".into()).expect("room");
    assert_eq!(probe.expect(), "ready");
    mortal.stop();
    mortal.join();
    watcher.tell("still here".into()).expect("room");
    assert_eq!(probe.expect(), "still here");
    system.shutdown(LONG).expect("everything ends");
}

#[derive(Debug, PartialEq, Eq)]
struct Ping(u32);
#[derive(Debug, PartialEq, Eq)]
struct Text(&'static str);

#[derive(Debug, PartialEq, Eq)]
enum Both {
    Ping(Ping),
    Text(Text),
}
impl From<Ping> for Both {
    fn from(ping: Ping) -> Self {
        Self::Ping(ping)
    }
}
impl From<Text> for Both {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

#[test]
fn recipients_take_one_type_and_hand_back_what_is_refused() {
    let simulation = Simulation::new(3);
    let probe = Probe::<Both>::new(simulation.system());
    let pings = probe.actor().recipient::<Ping>();
    pings.tell(Ping(1)).expect("room");
    probe.actor().tell_from(Text("two")).expect("room");
    simulation.run();
    assert_eq!(probe.expect(), Both::Ping(Ping(1)));
    assert_eq!(probe.expect(), Both::Text(Text("two")));
    probe.actor().stop();
    simulation.run();
    assert!(matches!(
        pings.tell(Ping(3)),
        Err(TellError::Closed(Ping(3)))
    ));
}

#[test]
fn routers_spread_and_pass_over_the_ended() {
    let simulation = Simulation::new(4);
    let probes: Vec<_> = (0..3)
        .map(|_| Probe::<u32>::new(simulation.system()))
        .collect();
    let actors = || {
        probes
            .iter()
            .map(|probe| probe.actor().clone())
            .collect::<Vec<_>>()
    };
    let count = |probe: &Probe<u32>| std::iter::from_fn(|| probe.received()).count();

    let round = Router::new(Route::RoundRobin, actors());
    (0..9).for_each(|n| round.tell(n).expect("room"));
    simulation.run();
    assert_eq!(probes.iter().map(count).collect::<Vec<_>>(), [3, 3, 3]);

    let least = Router::new(Route::LeastLoaded, actors());
    (0..5).for_each(|n| probes[0].actor().tell(n).expect("room"));
    (0..4).for_each(|n| least.tell(n).expect("room"));
    simulation.run();
    assert_eq!(probes.iter().map(count).collect::<Vec<_>>(), [5, 2, 2]);

    (0..30).for_each(|n| round.tell_by_key(&"same", n).expect("room"));
    assert_eq!(round.broadcast(&7), 3);
    simulation.run();
    let mut counts: Vec<_> = probes.iter().map(count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 1, 31]);

    // The end of one target moves only the keys that were its own.
    let owners = || {
        let owner = |key: u32| {
            round.tell_by_key(&key, key).expect("room");
            simulation.run();
            let counts: Vec<usize> = probes.iter().map(count).collect();
            counts.iter().position(|count| *count == 1)
        };
        (0..60_u32).map(owner).collect::<Vec<_>>()
    };
    let before = owners();
    probes[1].actor().kill();
    simulation.run();
    let after = owners();
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b);
    let moved: Vec<_> = moved.map(|(was, _)| *was).collect();
    assert!(!moved.is_empty() && moved.iter().all(|was| *was == Some(1)));
    assert!(!after.contains(&Some(1)));
    (0..10).for_each(|n| round.tell(n).expect("room"));
    simulation.run();
    assert_eq!(count(&probes[0]) + count(&probes[2]), 10);
    probes[0].actor().kill();
    probes[2].actor().kill();
    simulation.run();
    assert!(matches!(round.tell(1), Err(TellError::Closed(1))));
    assert!(matches!(
        round.tell_by_key(&1, 1),
        Err(TellError::Closed(1))
    ));
}

#[test]
fn a_topic_counts_who_missed_and_forgets_who_ended() {
    let simulation = Simulation::new(5);
    let topic = Topic::new();
    let probes: Vec<_> = (0..2)
        .map(|_| Probe::<u8>::new(simulation.system()))
        .collect();
    let narrow = simulation
        .system()
        .actor(|| Deaf)
        .mailbox(1)
        .overflow(Overflow::Fail)
        .spawn();
    for probe in &probes {
        topic.subscribe(probe.actor().clone().into());
    }
    topic.subscribe(narrow.clone().into());
    assert_eq!(topic.publish(&1).delivered, 3);
    let second = topic.publish(&2);
    assert_eq!((second.delivered, second.missed), (2, 1));
    probes[0].actor().kill();
    simulation.run();
    assert_eq!(topic.publish(&3).delivered, 2);
    assert_eq!(topic.subscribers(), 2);
}

struct Deaf;

impl Actor for Deaf {
    type Msg = u8;
    fn handle(&mut self, _n: u8, _ctx: &mut Context<'_, Self>) {}
}

#[test]
fn every_overflow_policy_does_what_it_says() {
    let simulation = Simulation::new(6);
    let system = simulation.system();
    let fallback = Probe::<u8>::new(system);
    for (policy, handled, dead) in [
        (Overflow::DropNewest, 2, 3),
        (Overflow::DropOldest, 2, 3),
        (Overflow::fallback(fallback.actor()), 2, 0),
    ] {
        let before = system.stats().dead_letters;
        let actor = system.actor(|| Deaf).mailbox(2).overflow(policy).spawn();
        (0..5).for_each(|n| actor.tell(n).expect("the policy takes it"));
        simulation.run();
        assert_eq!(actor.handled(), handled);
        assert_eq!(system.stats().dead_letters - before, dead);
    }
    assert_eq!(
        std::iter::from_fn(|| fallback.received()).collect::<Vec<_>>(),
        [2, 3, 4]
    );
}

/// What is narrowed to one type is subject to the same policies.
#[test]
fn every_overflow_policy_holds_for_recipients_too() {
    let simulation = Simulation::new(8);
    let system = simulation.system();
    let fallback = Probe::<Both>::new(system);
    struct Quiet(ActorRef<Both>);
    impl Actor for Quiet {
        type Msg = Both;
        fn handle(&mut self, message: Both, _ctx: &mut Context<'_, Self>) {
            self.0.tell(message).expect("room");
        }
    }
    let all = |probe: &Probe<Both>| {
        let received = std::iter::from_fn(|| probe.received());
        let numbers = received.map(|message| match message {
            Both::Ping(Ping(n)) => n,
            Both::Text(_) => panic!("only pings were sent"),
        });
        numbers.collect::<Vec<_>>()
    };
    for (policy, kept, dead, fell_back) in [
        (Overflow::DropNewest, [0, 1], 3, vec![]),
        (Overflow::DropOldest, [3, 4], 3, vec![]),
        (
            Overflow::fallback(fallback.actor()),
            [0, 1],
            0,
            vec![2, 3, 4],
        ),
    ] {
        let before = system.stats().dead_letters;
        let handled = Probe::new(system);
        let out = handled.actor().clone();
        let actor = system
            .actor(move || Quiet(out.clone()))
            .mailbox(2)
            .overflow(policy)
            .spawn();
        let pings = actor.recipient::<Ping>();
        pings.tell(Ping(0)).expect("room");
        (1..5).for_each(|n| actor.tell_from(Ping(n)).expect("the policy takes it"));
        simulation.run();
        assert_eq!(all(&handled), kept);
        assert_eq!(all(&fallback), fell_back);
        assert_eq!(system.stats().dead_letters - before, dead);
        actor.stop();
        simulation.run();
        let refused = pings.tell(Ping(9));
        assert!(matches!(refused, Err(TellError::Closed(Ping(9)))));
    }
    // Nobody is left to fall back to: what does not fit is a dead letter of the full mailbox.
    let policy = Overflow::fallback(fallback.actor());
    let actor = system.actor(|| Mute).mailbox(1).overflow(policy).spawn();
    fallback.actor().kill();
    simulation.run();
    let before = system.stats().dead_letters;
    (0..3).for_each(|n| actor.tell_from(Ping(n)).expect("the policy takes it"));
    assert_eq!(system.stats().dead_letters - before, 2);
}

struct Mute;

impl Actor for Mute {
    type Msg = Both;
    fn handle(&mut self, _message: Both, _ctx: &mut Context<'_, Self>) {}
}

#[test]
#[should_panic(expected = "the fallback actor must take messages of type u16")]
fn a_fallback_of_another_type_is_refused() {
    let simulation = Simulation::new(7);
    let probe = Probe::<u8>::new(simulation.system());
    struct Other;
    impl Actor for Other {
        type Msg = u16;
        fn handle(&mut self, _n: u16, _ctx: &mut Context<'_, Self>) {}
    }
    let policy = Overflow::fallback(probe.actor());
    simulation.system().actor(|| Other).overflow(policy).spawn();
}
