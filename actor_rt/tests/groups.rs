//! Siblings that restart together: who is concerned, in which order, and what they wait for.

use actor_rt::testkit::{Simulation, each_seed};
use actor_rt::{Actor, ActorRef, Context, ExitReason, Failure, Restart, Strategy};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MEMBERS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Started(usize),
    Ended(usize),
    /// What the parent awaited has come.
    Answered,
}
use Event::{Answered, Ended, Started};

type Log = Arc<Mutex<Vec<Event>>>;

/// Fails when it is told `true`.
struct Member {
    number: usize,
    log: Log,
}

impl Actor for Member {
    type Msg = bool;
    fn started(&mut self, _ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        self.log
            .lock()
            .expect("not poisoned")
            .push(Started(self.number));
        Ok(())
    }
    fn handle(&mut self, fail: bool, _ctx: &mut Context<'_, Self>) {
        assert!(!fail, "as told");
    }
    fn stopped(&mut self, _reason: &ExitReason) {
        self.log
            .lock()
            .expect("not poisoned")
            .push(Ended(self.number));
    }
}

struct Parent {
    log: Log,
    policies: Vec<Restart>,
    members: Arc<Mutex<Vec<ActorRef<bool>>>>,
    /// Resolves what the parent awaits.
    gate: Arc<tokio::sync::Notify>,
}

impl Actor for Parent {
    type Msg = ();
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        let mut members = self.members.lock().expect("not poisoned");
        for (number, policy) in self.policies.iter().enumerate() {
            let log = Arc::clone(&self.log);
            let factory = move || Member {
                number,
                log: Arc::clone(&log),
            };
            members.push(ctx.actor(factory).restart(policy.clone()).spawn());
        }
        let gate = Arc::clone(&self.gate);
        ctx.pipe(async move { gate.notified().await }, |()| ());
        Ok(())
    }
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        self.log.lock().expect("not poisoned").push(Answered);
    }
}

struct Family {
    simulation: Simulation,
    log: Log,
    parent: ActorRef<()>,
    members: Vec<ActorRef<bool>>,
    gate: Arc<tokio::sync::Notify>,
}

impl Family {
    fn new(seed: u64, strategy: Strategy, policies: Vec<Restart>) -> Self {
        let simulation = Simulation::new(seed);
        let (log, members) = (Log::default(), Arc::default());
        let gate = Arc::new(tokio::sync::Notify::new());
        let factory = {
            let (log, members) = (Arc::clone(&log), Arc::clone(&members));
            let gate = Arc::clone(&gate);
            move || Parent {
                log: Arc::clone(&log),
                policies: policies.clone(),
                members: Arc::clone(&members),
                gate: Arc::clone(&gate),
            }
        };
        let parent = simulation.system().actor(factory).strategy(strategy);
        let parent = parent.spawn();
        simulation.run();
        let members = members.lock().expect("not poisoned").clone();
        let family = Self {
            simulation,
            log,
            parent,
            members,
            gate,
        };
        family.take_log();
        family
    }

    fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.log.lock().expect("not poisoned"))
    }

    fn fail(&self, number: usize) {
        // It may have ended.
        let _ = self.members[number].tell(true);
    }
}

fn has_ended<M: Send + 'static>(actor: &ActorRef<M>) -> bool {
    let mut task = std::task::Context::from_waker(Waker::noop());
    pin!(actor.closed()).poll(&mut task).is_ready()
}

fn usual() -> Vec<Restart> {
    vec![Restart::on_failure(); MEMBERS]
}

#[test]
fn the_right_siblings_end_and_then_start_in_order() {
    for (strategy, concerned) in [
        (Strategy::OneForOne, 1..2),
        (Strategy::OneForAll, 0..MEMBERS),
        (Strategy::RestForOne, 1..MEMBERS),
    ] {
        each_seed(0..50, |seed| {
            let family = Family::new(seed, strategy, usual());
            family.fail(1);
            family.simulation.run();
            let log = family.take_log();
            let (ends, starts) = log.split_at(concerned.len());
            let mut ends = ends.to_vec();
            ends.sort_by_key(|event| concerned.clone().position(|n| *event == Ended(n)));
            assert_eq!(
                ends,
                concerned.clone().map(Ended).collect::<Vec<_>>(),
                "{log:?}"
            );
            assert_eq!(starts, concerned.clone().map(Started).collect::<Vec<_>>());
        });
    }
}

#[test]
fn who_depends_on_the_failed_one_waits_for_its_back_off() {
    each_seed(0..50, |seed| {
        let mut policies = usual();
        policies[1] = Restart::on_failure().backoff(SECOND, SECOND);
        let family = Family::new(seed, Strategy::RestForOne, policies);
        // The first restart is immediate, the second one is not.
        family.fail(1);
        family.simulation.run();
        family.take_log();
        family.fail(1);
        family.simulation.run();
        family.simulation.advance(SECOND / 2);
        let log = family.take_log();
        assert!(log.iter().all(|event| matches!(event, Ended(_))), "{log:?}");
        assert_eq!(log.len(), MEMBERS - 1);
        family.simulation.advance(SECOND);
        assert_eq!(family.take_log(), [1, 2, 3, 4].map(Started));
    });
}

#[test]
fn who_never_restarts_ends_with_the_group() {
    each_seed(0..50, |seed| {
        let mut policies = usual();
        policies[2] = Restart::never();
        let family = Family::new(seed, Strategy::OneForAll, policies);
        family.fail(4);
        family.simulation.run();
        assert_eq!(family.members[2].join(), ExitReason::SiblingFailed);
        let log = family.take_log();
        assert_eq!(log[MEMBERS..], [0, 1, 3, 4].map(Started));
    });
}

#[test]
fn what_the_parent_awaits_is_no_sibling() {
    each_seed(0..50, |seed| {
        let family = Family::new(seed, Strategy::OneForAll, usual());
        family.fail(1);
        family.simulation.run();
        family.gate.notify_one();
        family.simulation.run();
        assert_eq!(family.take_log().last(), Some(&Answered));
    });
}

#[test]
fn a_drain_waits_for_what_is_awaited() {
    each_seed(0..50, |seed| {
        let family = Family::new(seed, Strategy::OneForOne, usual());
        family.parent.drain();
        family.simulation.run();
        assert!(!has_ended(&family.parent), "its answer has not come");
        family.gate.notify_one();
        family.simulation.run();
        assert_eq!(family.parent.join(), ExitReason::Drained);
        assert!(family.take_log().contains(&Answered));
    });
}

/// Whatever fails when: nobody starts again while one before it is down, or one after it is up; and in the end all
/// are up that did not end for good.
#[test]
fn groups_keep_their_order_whatever_fails() {
    each_seed(0..2000, |seed| {
        let mut random = seed;
        let mut below = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % bound
        };
        let strategy = [Strategy::OneForAll, Strategy::RestForOne][seed as usize % 2];
        let policies = (0..MEMBERS).map(|_| {
            let delay = Duration::from_millis(below(50));
            let often = Restart::on_failure().at_most(1 + below(20) as u32, 100 * SECOND);
            often.backoff(delay, 2 * delay)
        });
        let family = Family::new(seed, strategy, policies.collect());
        for _ in 0..below(20) {
            let member = below(MEMBERS as u64) as usize;
            match below(12) {
                0 => family.members[member].stop(),
                1 => family.members[member].kill(),
                2 => family.members[member].drain(),
                _ => family.fail(member),
            }
            match below(3) {
                0 => {}
                1 => family.simulation.run(),
                _ => family.simulation.advance(Duration::from_millis(below(40))),
            }
        }
        family.simulation.advance(1000 * SECOND);
        let log = family.take_log();
        let is_gone = |member: usize, after: usize| {
            has_ended(&family.members[member]) && !log[after..].contains(&Started(member))
        };
        let mut up = [true; MEMBERS];
        for (at, event) in log.iter().enumerate() {
            match *event {
                Started(member) => {
                    assert!(!up[member], "{log:?}");
                    for other in 0..MEMBERS {
                        let is_right = match other {
                            before if before < member => up[before] || is_gone(before, at),
                            after if after > member => !up[after],
                            _ => true,
                        };
                        assert!(is_right, "{other} at event {at}: {log:?}");
                    }
                    up[member] = true;
                }
                Ended(member) => up[member] = false,
                Answered => panic!("nothing came"),
            }
        }
        for (member, reference) in family.members.iter().enumerate() {
            assert_eq!(
                up[member],
                !has_ended(reference),
                "member {member}: {log:?}"
            );
        }
    });
}
