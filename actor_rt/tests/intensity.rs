//! How often the children of one actor may restart, all together.

use actor_rt::testkit::{Simulation, each_seed};
use actor_rt::{Actor, ActorBuilder, ActorRef, Context, ExitReason, Failure, Restart, Strategy};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MEMBERS: usize = 10;
/// Restarts that all members together have within ten seconds.
const LIMIT: u32 = 4;

/// Fails when it is told to.
struct Member;

impl Actor for Member {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        panic!("as told");
    }
}

/// Stops, and fails in the same handler.
struct Leaver;

impl Actor for Leaver {
    type Msg = ();
    fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
        ctx.stop();
        panic!("too late");
    }
}

/// The members of each incarnation of the boss.
type Members = Arc<Mutex<Vec<Vec<ActorRef<()>>>>>;

struct Boss {
    policy: Restart,
    members: Members,
}

impl Actor for Boss {
    type Msg = ();
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        let member = |number| {
            let member = ctx.actor(|| Member).name(format!("member {number}"));
            member.restart(self.policy.clone()).spawn()
        };
        let members = (0..MEMBERS).map(member).collect();
        self.members.lock().expect("not poisoned").push(members);
        Ok(())
    }
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

type Factory = Box<dyn FnMut() -> Boss + Send>;
type Builder<'a> = ActorBuilder<'a, Factory>;

struct Office {
    simulation: Simulation,
    members: Members,
    boss: ActorRef<()>,
}

impl Office {
    /// A boss as `describe` wants it.
    fn new<D>(seed: u64, policy: &Restart, describe: D) -> Self
    where
        D: FnOnce(Builder<'_>) -> ActorRef<()>,
    {
        let simulation = Simulation::new(seed);
        let members = Members::default();
        let (policy, of_boss) = (policy.clone(), Arc::clone(&members));
        let factory: Factory = Box::new(move || Boss {
            policy: policy.clone(),
            members: Arc::clone(&of_boss),
        });
        let boss = describe(simulation.system().actor(factory).name("boss"));
        simulation.run();
        Self {
            simulation,
            members,
            boss,
        }
    }

    fn incarnations(&self) -> usize {
        self.members.lock().expect("not poisoned").len()
    }

    /// Lets a member of the boss's last incarnation fail.
    fn fail(&self, number: usize) {
        let members = self.members.lock().expect("not poisoned");
        let member = &members.last().expect("it has started")[number % MEMBERS];
        member.tell(()).expect("it is up");
        drop(members);
        self.simulation.run();
    }
}

fn in_ten_seconds(boss: Builder<'_>) -> Builder<'_> {
    boss.intensity(LIMIT, 10 * SECOND)
}

/// A member may restart once, and each fails once only.
fn once() -> Restart {
    Restart::on_failure().at_most(1, 1000 * SECOND)
}

#[test]
fn many_that_each_fail_seldom_are_one_failure_of_their_parent() {
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        each_seed(0..50, |seed| {
            let office = Office::new(seed, &once(), |boss| {
                let boss = in_ten_seconds(boss).strategy(strategy);
                boss.restart(Restart::never()).spawn()
            });
            for number in 0..LIMIT as usize {
                office.fail(number);
                // Each is one restart, however many siblings went with it.
                assert!(!office.boss.is_closed(), "{number} of {strategy:?}");
            }
            office.fail(4);
            let expected = "the children of boss restart more often than 4 in 10s, the last one was \
                            member 4: panicked: as told";
            let expected = ExitReason::Failed(Failure::new(expected));
            assert!(office.boss.is_closed(), "{strategy:?}");
            assert_eq!(office.boss.join(), expected, "{strategy:?}");
            assert_eq!(office.simulation.system().stats().live, 0);
        });
    }
}

#[test]
fn nobody_counts_unless_told() {
    let office = Office::new(1, &once(), |boss| boss.spawn());
    (0..MEMBERS).for_each(|number| office.fail(number));
    assert_eq!(office.incarnations(), 1);
    assert!(!office.simulation.system().tree().contains("restarts="));
}

#[test]
fn restarts_count_for_as_long_as_the_window_is() {
    let office = Office::new(2, &Restart::on_failure(), |boss| {
        in_ten_seconds(boss).spawn()
    });
    // The fifth comes when the first is ten seconds old.
    for number in 0..100 {
        office.fail(number);
        office.simulation.advance(5 * SECOND / 2);
    }
    assert_eq!(office.incarnations(), 1);
    for number in 0..2 {
        office.fail(number);
    }
    assert_eq!(office.incarnations(), 2, "the fifth came sooner");
}

#[test]
fn a_new_incarnation_counts_anew() {
    each_seed(0..50, |seed| {
        let office = Office::new(seed, &Restart::on_failure(), |boss| {
            let unbounded = Restart::on_failure().at_most(1000, SECOND);
            let at_once = unbounded.backoff(Duration::ZERO, Duration::ZERO);
            in_ten_seconds(boss).restart(at_once).spawn()
        });
        for incarnation in 1..5 {
            assert_eq!(office.incarnations(), incarnation);
            for number in 0..LIMIT as usize {
                office.fail(number);
                assert_eq!(office.incarnations(), incarnation);
            }
            office.fail(4);
        }
    });
}

#[test]
fn who_ends_instead_of_restarting_does_not_count() {
    let office = Office::new(3, &Restart::never(), |boss| in_ten_seconds(boss).spawn());
    (0..MEMBERS).for_each(|number| office.fail(number));
    assert_eq!(office.incarnations(), 1);
    assert_eq!(office.simulation.system().stats().live, 1);
}

#[test]
fn the_tree_says_how_many_restarts_count() {
    let office = Office::new(4, &once(), |boss| in_ten_seconds(boss).spawn());
    let tree = || office.simulation.system().tree();
    assert!(tree().contains(" restarts=0 of 4 in 10s\n"), "{}", tree());
    (0..3).for_each(|number| office.fail(number));
    assert!(tree().contains(" restarts=3 of 4 in 10s\n"), "{}", tree());
    office.simulation.advance(10 * SECOND);
    assert!(tree().contains(" restarts=0 of 4 in 10s\n"), "{}", tree());
}

/// The parent of the boss, whose own children are allowed no restart at all.
struct Director(Members);

impl Actor for Director {
    type Msg = ();
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        let members = Arc::clone(&self.0);
        let boss = ctx.actor(move || Boss {
            policy: once(),
            members: Arc::clone(&members),
        });
        boss.name("boss").intensity(0, SECOND).spawn();
        Ok(())
    }
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

#[test]
fn a_parent_that_fails_so_is_itself_a_child_that_restarts() {
    let simulation = Simulation::new(5);
    let members = Members::default();
    let of_director = Arc::clone(&members);
    let director = simulation
        .system()
        .actor(move || Director(Arc::clone(&of_director)))
        .name("director")
        .intensity(0, SECOND)
        .restart(Restart::never())
        .spawn();
    simulation.run();
    let member = members.lock().expect("not poisoned")[0][7].clone();
    member.tell(()).expect("it is up");
    simulation.run();
    assert!(director.is_closed());
    let reason = director.join().to_string();
    let expected = "failed: the children of director restart more often than 0 in 1s, the last one was boss: failed: \
                    the children of boss restart more often than 0 in 1s, the last one was member 7: panicked: as told";
    assert_eq!(reason, expected);
}

/// Has members, and one that leaves.
struct Mixed(Members);

impl Actor for Mixed {
    type Msg = ();
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        let members = vec![ctx.spawn(|| Member), ctx.spawn(|| Leaver)];
        self.0.lock().expect("not poisoned").push(members);
        Ok(())
    }
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

#[test]
fn who_fails_when_it_is_to_end_does_not_count_and_concerns_nobody() {
    let simulation = Simulation::new(6);
    let members = Members::default();
    let of_parent = Arc::clone(&members);
    let parent = simulation
        .system()
        .actor(move || Mixed(Arc::clone(&of_parent)))
        .strategy(Strategy::OneForAll)
        .intensity(0, SECOND)
        .spawn();
    simulation.run();
    let leaver = members.lock().expect("not poisoned")[0][1].clone();
    leaver.tell(()).expect("it is up");
    simulation.run();
    assert_eq!(leaver.join(), ExitReason::Stopped);
    assert!(!parent.is_closed());
    assert_eq!(simulation.system().stats().restarts, 0);
    assert_eq!(simulation.system().stats().live, 2);
}

/// Has a child, stops, and fails in the same handler.
struct Head;

impl Actor for Head {
    type Msg = ();
    fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
        ctx.spawn(|| Member);
        ctx.stop();
        panic!("too late");
    }
}

/// Its mailbox took messages until its children had ended, and nobody handled them.
#[test]
fn who_fails_when_it_is_to_end_takes_nothing_more() {
    let simulation = Simulation::new(7);
    let head = simulation.system().spawn(|| Head);
    simulation.run();
    head.tell(()).expect("it is up");
    assert!(simulation.step());
    assert_eq!(simulation.system().stats().live, 2, "its child is there");
    assert!(head.tell(()).is_err());
    simulation.run();
    assert_eq!(head.join(), ExitReason::Stopped);
}
