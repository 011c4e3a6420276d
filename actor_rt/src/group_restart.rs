//! The restart of a group of siblings, as their parent's strategy says.
//!
//! Owns: who is concerned by a failure, and in which order they start again.
//! Does not know: phases (`shell` asks here), how an incarnation ends or starts.
//!
//! # Rules
//! 1. All that are concerned end their incarnations before any of them starts again; the one that failed waits its back-off
//!    first. Their mailboxes and references stay.
//! 2. They start again one after another, in the order in which they were started at first. Each waits until the one before it
//!    has started; who ends instead, or cannot, is waited for no longer.
//! 3. Who fails while it starts gathers the group anew.
//! 4. Work that the parent waits for (`ctx.pipe`, `ctx.blocking`) is no sibling and goes on.
//!
//! Four bits say of each sibling how far it is. They are changed under the lock of the parent's children only, where those that
//! the others wait for are counted: when the last of them has gathered, started or left, the oldest of the gathered has its
//! turn. So each change looks at one sibling, and the turns of a group look at each once.
//!
//! A failure looks at those whom it tells of it, and at few others, so that any number of failures at a time tell each once. Those
//! who know already, because they gather or are gathered, lie side by side: whoever was started after one of them knows, but for
//! those who were started since, who are `LATE` and the newest of all. So the look at the newer ones ends at the first who knows,
//! and who fails knowing itself looks at the late ones only.

use crate::cell::{CellPtr, CellRef, Chain, control};
use crate::restart::Strategy;
use std::sync::atomic::Ordering;

/// Whether somebody with these bits is on the way to the gathered, has its turn or starts.
fn is_awaited(bits: u32) -> bool {
    bits & (control::TURN | control::STARTS) != 0
        || bits & (control::REGROUP | control::GATHERED) == control::REGROUP
}

/// Whether the incarnation of somebody with these bits ends for the group, or has ended and waits: another failure says nothing
/// new to it. Who has its turn is to give it back.
fn is_gathering(bits: u32) -> bool {
    bits & control::REGROUP != 0 || bits & (control::GATHERED | control::TURN) == control::GATHERED
}

/// Raises and lowers some of the four bits of a sibling, and counts it. Returns what they were.
fn change(siblings: &Chain, sibling: CellPtr, raise: u32, lower: u32) -> u32 {
    // AcqRel: pairs with the Acquire of `control`, by which the sibling learns of it.
    let before = sibling.control.fetch_or(raise, Ordering::AcqRel);
    let raised = sibling.control.fetch_and(!lower, Ordering::AcqRel);
    let (was, is) = (is_awaited(before), is_awaited(raised & !lower));
    let awaited = siblings.awaited.get() + u32::from(is) - u32::from(was);
    siblings.awaited.set(awaited);
    before
}

/// An actor fails and will restart: its siblings end theirs, as far as the strategy concerns them.
#[allow(unsafe_code)]
pub(crate) fn begin(cell: CellPtr) {
    // SAFETY: the owner.
    let Some(parent) = (unsafe { cell.parent() }) else {
        return;
    };
    let is_errand = cell.control() & control::ERRAND != 0;
    if parent.strategy == Strategy::OneForOne || is_errand {
        return;
    }
    let to_oldest = parent.strategy == Strategy::OneForAll;
    parent.children.locked(|siblings| {
        let before = change(siblings, cell, control::REGROUP, control::STARTS);
        let concern = |sibling: CellPtr| {
            if sibling.control() & control::ERRAND == 0 && !is_gathering(sibling.control()) {
                change(siblings, sibling, control::REGROUP, 0);
                sibling.nudge();
            }
        };
        if before & control::REGROUP == 0 {
            let is_new = |sibling: &CellPtr| !is_gathering(sibling.control());
            siblings
                .newer_than(cell)
                .take_while(is_new)
                .for_each(concern);
            if to_oldest {
                siblings.older_than(cell).for_each(concern);
            }
        }
        let is_late = |sibling: &CellPtr| {
            sibling.control() & control::LATE != 0 && (to_oldest || *sibling != cell)
        };
        siblings.all().take_while(is_late).for_each(concern);
        debug_assert!(has_concerned_all(siblings, cell, to_oldest));
    });
}

/// Whether `begin` has left nobody out, for groups that can be looked at each time.
fn has_concerned_all(siblings: &Chain, cell: CellPtr, to_oldest: bool) -> bool {
    const FEW: usize = 64;
    let mut concerned = siblings
        .all()
        .take_while(|sibling| to_oldest || *sibling != cell)
        .filter(|sibling| sibling.control() & control::ERRAND == 0);
    siblings.count() > FEW || concerned.all(|sibling| is_gathering(sibling.control()))
}

/// Whether the actor, whose incarnation has ended, is to wait for others before it starts again.
pub(crate) fn concerns(cell: CellPtr) -> bool {
    cell.control() & control::REGROUP != 0
}

/// The actor has no incarnation and waits for its turn.
pub(crate) fn gather(cell: CellPtr) {
    among_siblings(cell, |siblings| {
        let done = control::REGROUP | control::STARTS;
        change(siblings, cell, control::GATHERED, done);
        go_on(siblings, None);
    });
}

/// Whether it is the turn of a gathered actor; it starts then.
pub(crate) fn take_turn(cell: CellPtr) -> bool {
    if cell.control() & (control::TURN | control::REGROUP) == 0 {
        return false;
    }
    let mut starts = false;
    among_siblings(cell, |siblings| {
        let orders = cell.control() & (control::TURN | control::REGROUP);
        if orders == control::TURN {
            let done = control::TURN | control::GATHERED;
            change(siblings, cell, control::STARTS, done);
            starts = true;
        } else {
            // One that failed since must restart first.
            change(siblings, cell, 0, orders);
            go_on(siblings, None);
        }
    });
    starts
}

/// The actor runs: if that was its turn, the next one has it.
pub(crate) fn started(cell: CellPtr) {
    if cell.control() & control::STARTS != 0 {
        among_siblings(cell, |siblings| {
            change(siblings, cell, 0, control::STARTS);
            go_on(siblings, Some(cell));
        });
    }
}

/// The actor ends and leaves its siblings, who wait for it no longer; `true` if it was the last.
pub(crate) fn leave(parent: &CellRef, cell: CellPtr) -> bool {
    parent.children.locked(|siblings| {
        let bits = cell.control();
        if is_awaited(bits) {
            let all = control::REGROUP | control::GATHERED | control::TURN | control::STARTS;
            change(siblings, cell, 0, all);
            // Whom nobody has concerned since it got its turn was the oldest of all that are gathered.
            go_on(siblings, (bits & control::REGROUP == 0).then_some(cell));
        }
        siblings.unlink(cell)
    })
}

#[allow(unsafe_code)]
fn among_siblings(cell: CellPtr, work: impl FnOnce(&Chain)) {
    // SAFETY: the owner.
    if let Some(parent) = unsafe { cell.parent() } {
        parent.children.locked(|siblings| work(siblings));
    }
}

/// Gives the oldest of the gathered its turn, once nobody is awaited. They were all started after `after`, if that is said.
fn go_on(siblings: &Chain, after: Option<CellPtr>) {
    if siblings.awaited.get() > 0 {
        return;
    }
    let is_gathered = |sibling: CellPtr| sibling.control() & control::GATHERED != 0;
    // Nobody who was started before the one whose turn comes is gathered, so nobody was late for it.
    let pass = |sibling: CellPtr| {
        if sibling.control() & control::LATE != 0 {
            sibling.control.fetch_and(!control::LATE, Ordering::Relaxed);
        }
    };
    let oldest = match after {
        Some(after) => siblings.newer_than(after).find(|&sibling| {
            let is_next = is_gathered(sibling);
            if !is_next {
                pass(sibling);
            }
            is_next
        }),
        None => {
            let oldest = siblings
                .all()
                .filter(|&sibling| is_gathered(sibling))
                .last();
            match oldest {
                Some(oldest) => siblings.older_than(oldest).for_each(pass),
                None => siblings.all().for_each(pass),
            }
            oldest
        }
    };
    if let Some(oldest) = oldest {
        change(siblings, oldest, control::TURN, control::LATE);
        oldest.nudge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::LOOKS;
    use crate::testkit::{Simulation, each_seed};
    use crate::{Actor, ActorRef, Context, ExitReason, Failure, Restart};
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const MEMBERS: usize = 1000;
    /// Looks at siblings for each member; it would be thousands if each of them looked at all.
    const FEW: usize = 10;

    /// Fails when it is told to, and does not start while it is broken.
    struct Member(Arc<AtomicBool>);

    impl Actor for Member {
        type Msg = ();
        fn started(&mut self, _ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
            let is_broken = self.0.load(Ordering::Relaxed);
            (!is_broken).then_some(()).ok_or(Failure::new("broken"))
        }
        fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
            panic!("as told");
        }
    }

    struct Parent {
        members: Arc<Mutex<Vec<ActorRef<()>>>>,
        count: usize,
        are_broken: Arc<AtomicBool>,
        /// Of all but the oldest.
        policy: Restart,
    }

    impl Parent {
        fn spawn(&self, ctx: &mut Context<'_, Self>, is_broken: &Arc<AtomicBool>, policy: Restart) {
            let is_broken = Arc::clone(is_broken);
            let member = ctx.actor(move || Member(Arc::clone(&is_broken)));
            let member = member.restart(policy).spawn();
            self.members.lock().expect("not poisoned").push(member);
        }
    }

    impl Actor for Parent {
        type Msg = ();
        fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
            // The oldest is never broken, and starts again when it fails. All others start again with it, or give up.
            self.spawn(ctx, &Arc::default(), Restart::default());
            for _ in 1..self.count {
                self.spawn(ctx, &self.are_broken, self.policy.clone());
            }
            Ok(())
        }
        /// One more.
        fn handle(&mut self, (): (), ctx: &mut Context<'_, Self>) {
            self.spawn(ctx, &Arc::default(), self.policy.clone());
        }
    }

    struct Family {
        simulation: Simulation,
        parent: ActorRef<()>,
        members: Arc<Mutex<Vec<ActorRef<()>>>>,
        are_broken: Arc<AtomicBool>,
    }

    impl Family {
        fn new(seed: u64, strategy: Strategy, count: usize, policy: Restart) -> Self {
            let simulation = Simulation::new(seed);
            let (members, are_broken) = (Arc::default(), Arc::new(AtomicBool::new(false)));
            let (of_parent, state) = (Arc::clone(&members), Arc::clone(&are_broken));
            let parent = simulation.system().actor(move || Parent {
                members: Arc::clone(&of_parent),
                count,
                are_broken: Arc::clone(&state),
                policy: policy.clone(),
            });
            let parent = parent.strategy(strategy).spawn();
            simulation.run();
            Self {
                simulation,
                parent,
                members,
                are_broken,
            }
        }

        fn members(&self) -> Vec<ActorRef<()>> {
            self.members.lock().expect("not poisoned").clone()
        }

        fn live(&self) -> usize {
            self.simulation.system().stats().live
        }
    }

    /// Lets a member fail by itself, in its next turn.
    fn fail(member: &ActorRef<()>) {
        let reason = ExitReason::Failed(Failure::new("as told"));
        member.cell().ptr().fail(reason);
    }

    fn looks(work: impl FnOnce()) -> usize {
        LOOKS.set(0);
        work();
        LOOKS.get()
    }

    #[test]
    fn a_large_group_restarts_and_ends_without_everybody_looking_at_everybody() {
        for (strategy, stops) in [
            (Strategy::OneForAll, false),
            (Strategy::OneForAll, true),
            (Strategy::RestForOne, false),
            (Strategy::RestForOne, true),
        ] {
            let gives_up = Restart::on_failure().at_most(0, Duration::from_secs(1));
            let family = Family::new(1, strategy, MEMBERS, gives_up);
            let simulation = &family.simulation;
            let oldest = family.members()[0].clone();
            let fail = || oldest.tell(()).expect("room");
            fail();
            let restart = looks(|| simulation.run());
            assert_eq!(family.live(), 1 + MEMBERS);
            // The second time it starts after 10 ms, and the others wait for it.
            fail();
            let wait = looks(|| simulation.advance(Duration::from_millis(5)));
            assert_eq!(family.live(), 1 + MEMBERS);
            let end = looks(|| {
                if stops {
                    family.parent.stop();
                }
                // Otherwise each gives up when it has its turn.
                family.are_broken.store(true, Ordering::Relaxed);
                simulation.advance(Duration::from_millis(5));
            });
            assert_eq!(family.live(), if stops { 0 } else { 2 });
            for looks in [restart, wait, end] {
                assert!((1..FEW * MEMBERS).contains(&looks), "{looks} looks");
            }
        }
    }

    #[test]
    fn however_many_fail_at_a_time_each_is_told_once() {
        const MANY: usize = 10_000;
        for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
            let family = Family::new(1, strategy, MANY, Restart::default());
            family.members().iter().for_each(fail);
            let looks = looks(|| family.simulation.run());
            let stats = family.simulation.system().stats();
            assert_eq!(stats.failures, MANY as u64, "each by itself");
            assert_eq!((family.live(), stats.restarts), (1 + MANY, MANY as u64));
            assert!((1..FEW * MANY).contains(&looks), "{looks} looks");
        }
    }

    /// Whoever is started while its siblings restart is concerned by the failures that follow (`begin` sees to it that it leaves out
    /// nobody), and everybody has had its turn in the end.
    #[test]
    fn late_ones_are_concerned_too() {
        const BITS: u32 =
            control::REGROUP | control::GATHERED | control::TURN | control::STARTS | control::LATE;
        let policy = Restart::on_failure()
            .at_most(1000, Duration::from_secs(1))
            .backoff(Duration::ZERO, Duration::ZERO);
        each_seed(0..600, |seed| {
            let strategy = [Strategy::OneForAll, Strategy::RestForOne][seed as usize % 2];
            let family = Family::new(seed, strategy, 4, policy.clone());
            let below = |most: usize| family.simulation.random() as usize % most;
            for _ in 0..60 {
                let members = family.members();
                let member = &members[below(members.len())];
                match below(8) {
                    0 | 1 => family.parent.tell(()).expect("room"),
                    2..=4 => fail(member),
                    5 => member.stop(),
                    _ => {
                        for _ in 0..below(12) {
                            family.simulation.step();
                        }
                    }
                }
            }
            family.simulation.advance(Duration::from_secs(1));
            let members = family.members();
            let live: Vec<_> = members.iter().filter(|it| !it.cell().is_ended()).collect();
            assert_eq!(family.live(), 1 + live.len());
            for member in live {
                assert_eq!(member.cell().control() & BITS, 0);
            }
        });
    }
}
