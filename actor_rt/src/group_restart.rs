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

use crate::cell::{CellPtr, CellRef, Chain, control};
use crate::restart::Strategy;
use std::sync::atomic::Ordering;

/// Whether somebody with these bits is on the way to the gathered, has its turn or starts.
fn is_awaited(bits: u32) -> bool {
    bits & (control::TURN | control::STARTS) != 0
        || bits & (control::REGROUP | control::GATHERED) == control::REGROUP
}

/// Raises and lowers some of the four bits of a sibling, and counts it.
fn change(siblings: &Chain, sibling: CellPtr, raise: u32, lower: u32) {
    // AcqRel: pairs with the Acquire of `control`, by which the sibling learns of it.
    let before = sibling.control.fetch_or(raise, Ordering::AcqRel);
    let raised = sibling.control.fetch_and(!lower, Ordering::AcqRel);
    let (was, is) = (is_awaited(before), is_awaited(raised & !lower));
    let awaited = siblings.awaited.get() + u32::from(is) - u32::from(was);
    siblings.awaited.set(awaited);
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
        change(siblings, cell, control::REGROUP, control::STARTS);
        // Newest first: those before it in the list were started after it.
        let concerned = siblings
            .all()
            .take_while(|sibling| to_oldest || *sibling != cell)
            .filter(|sibling| *sibling != cell && sibling.control() & control::ERRAND == 0);
        for sibling in concerned {
            change(siblings, sibling, control::REGROUP, 0);
            sibling.nudge();
        }
    });
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
    let is_gathered = |sibling: &CellPtr| sibling.control() & control::GATHERED != 0;
    let oldest = match after {
        Some(after) => siblings.newer_than(after).find(is_gathered),
        None => siblings.all().filter(is_gathered).last(),
    };
    if let Some(oldest) = oldest {
        change(siblings, oldest, control::TURN, 0);
        oldest.nudge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::LOOKS;
    use crate::testkit::Simulation;
    use crate::{Actor, ActorRef, Context, Failure, Restart};
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
        are_broken: Arc<AtomicBool>,
    }

    impl Actor for Parent {
        type Msg = ();
        fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
            let mut members = self.members.lock().expect("not poisoned");
            // The oldest is never broken, and starts again when it fails. All others start again with it, or give up.
            members.push(ctx.spawn(|| Member(Arc::default())));
            for _ in 1..MEMBERS {
                let is_broken = Arc::clone(&self.are_broken);
                let member = ctx.actor(move || Member(Arc::clone(&is_broken)));
                let gives_up = Restart::on_failure().at_most(0, Duration::from_secs(1));
                members.push(member.restart(gives_up).spawn());
            }
            Ok(())
        }
        fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
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
            let simulation = Simulation::new(1);
            let system = simulation.system();
            let (members, are_broken) = (Arc::default(), Arc::new(AtomicBool::new(false)));
            let (of_parent, state) = (Arc::clone(&members), Arc::clone(&are_broken));
            let parent = system.actor(move || Parent {
                members: Arc::clone(&of_parent),
                are_broken: Arc::clone(&state),
            });
            let parent = parent.strategy(strategy).spawn();
            simulation.run();
            let oldest = members.lock().expect("not poisoned")[0].clone();
            let fail = || oldest.tell(()).expect("room");
            fail();
            let restart = looks(|| simulation.run());
            assert_eq!(system.stats().live, 1 + MEMBERS);
            // The second time it starts after 10 ms, and the others wait for it.
            fail();
            let wait = looks(|| simulation.advance(Duration::from_millis(5)));
            assert_eq!(system.stats().live, 1 + MEMBERS);
            let end = looks(|| {
                if stops {
                    parent.stop();
                }
                // Otherwise each gives up when it has its turn.
                are_broken.store(true, Ordering::Relaxed);
                simulation.advance(Duration::from_millis(5));
            });
            assert_eq!(system.stats().live, if stops { 0 } else { 2 });
            for looks in [restart, wait, end] {
                assert!((1..FEW * MEMBERS).contains(&looks), "{looks} looks");
            }
        }
    }
}
