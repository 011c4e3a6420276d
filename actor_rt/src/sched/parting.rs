//! The end of a system whose last handle is dropped without a shutdown.
//!
//! Owns: how long the dropping thread waits for actors and threads, and which threads never wait.
//! Does not know: how actors end.
//! Invariant: a thread that runs actors, timers, the reactor or what blocks waits for nobody: it may be what the others
//! wait for.

use super::{Runtime, Simulated};
use crate::cell::control;
use crate::clock::later;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the last handle waits; long enough for whoever only has to put things away.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the last handle found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    /// It did not wait.
    Unwaited,
    /// All actors have ended, and all threads.
    Ended,
    /// Somebody was late.
    LeftBehind,
}

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Marks the calling thread as one of the runtime's own, for good.
pub(crate) fn mark_thread() {
    OURS.set(true);
}

/// Whether the calling thread is one of the runtime's own. A thread that is about to end may be.
fn is_ours() -> bool {
    OURS.try_with(Cell::get).unwrap_or(true)
}

impl Runtime {
    /// At the drop of the last handle: orders everybody to stop, waits a while until they have, and joins the threads.
    pub(crate) fn part(&self) {
        self.part_within(PATIENCE);
    }

    /// At the end of a simulation: ends everybody, and all that holds actors within the runtime, which would keep it for ever.
    pub(crate) fn end_simulation(&self, simulated: &Simulated) {
        simulated.set_faults(0);
        simulated.set_rule(None);
        self.close();
        self.order_all(control::KILL);
        while self.simulate_turn() {}
        simulated.end_time();
        // What was to come may have woken somebody when it was dropped.
        while self.simulate_turn() {}
        // Unless an actor with a thread of its own is still in a handler.
        if self.live() == 0 && !is_ours() {
            self.join_threads(later(Instant::now(), PATIENCE));
        } else if let Some(io) = self.io.get() {
            io.order_stop();
        }
    }

    fn part_within(&self, patience: Duration) -> Parting {
        self.close();
        self.order_all(control::STOP);
        // A shutdown that was given up has waited as long as it was told to.
        if is_ours() || self.simulated.is_some() || self.given_up.load(Ordering::Relaxed) {
            return Parting::Unwaited;
        }
        let deadline = later(Instant::now(), patience);
        if !self.wait_ended(deadline) {
            tracing::warn!(
                system = self.settings.name,
                still_running = self.live(),
                waited = ?patience,
                "a system was dropped while a handler does not return; its threads are left behind. \
                 `System::shutdown` waits as long as it is told to, and says how many are late"
            );
            return Parting::LeftBehind;
        }
        if self.join_threads(deadline) {
            Parting::Ended
        } else {
            Parting::LeftBehind
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::clock;
    use crate::sched::RuntimeRef;
    use crate::{Actor, ActorRef, Context, ExitReason, Failure, Reply, System};
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

    const LONG: Duration = Duration::from_secs(60);

    thread_local! {
        /// Dropped when the thread ends.
        static HELD: RefCell<Vec<Arc<()>>> = const { RefCell::new(Vec::new()) };
    }

    /// Ties a token to its thread and keeps one itself.
    struct Holder(Arc<()>);

    impl Actor for Holder {
        type Msg = Reply<()>;
        fn started(&mut self, _ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
            HELD.with_borrow_mut(|held| held.push(Arc::clone(&self.0)));
            Ok(())
        }
        fn handle(&mut self, reply: Reply<()>, _ctx: &mut Context<'_, Self>) {
            reply.send(());
        }
    }

    #[test]
    fn the_last_handle_waits_for_actors_and_threads() {
        let token = Arc::new(());
        let system = System::builder().workers(2).build().expect("threads");
        let holder = |token: &Arc<()>| {
            let token = Arc::clone(token);
            move || Holder(Arc::clone(&token))
        };
        let actors = [
            system.spawn(holder(&token)),
            system.spawn_dedicated(holder(&token)),
        ];
        for actor in &actors {
            assert_eq!(actor.ask(|reply| reply).wait(), Ok(()));
        }
        let second = system.clone();
        drop(system);
        assert_eq!(actors[0].ask(|reply| reply).wait(), Ok(()), "one is left");
        assert_eq!(part_within(second, LONG), Parting::Ended);
        assert_eq!(Arc::strong_count(&token), 1, "nothing is left");
    }

    /// Stays in its handler until the test lets it go.
    struct Stuck(Receiver<()>);

    impl Actor for Stuck {
        type Msg = Reply<()>;
        fn handle(&mut self, reply: Reply<()>, _ctx: &mut Context<'_, Self>) {
            reply.send(());
            let _ = self.0.recv();
        }
    }

    /// What the drop of this handle, the last one, would find with so much patience.
    fn part_within(system: System, patience: Duration) -> Parting {
        let runtime = system.runtime().clone();
        std::mem::forget(system);
        // On a thread of its own, so that a wait without end fails and hangs nothing.
        let (parted, parting) = channel();
        std::thread::spawn(move || parted.send(runtime.part_within(patience)));
        parting.recv_timeout(LONG).expect("the wait has an end")
    }

    #[test]
    fn the_last_handle_does_not_wait_for_ever() {
        let (release, gate) = channel();
        let mut gate = Some(gate);
        let system = System::builder().workers(1).build().expect("threads");
        let stuck = system.spawn(move || Stuck(gate.take().expect("not restarted")));
        assert_eq!(stuck.ask(|reply| reply).wait(), Ok(()));
        assert_eq!(part_within(system, Duration::ZERO), Parting::LeftBehind);
        assert!(!stuck.is_closed(), "it is still in its handler");
        drop(release);
        assert_eq!(stuck.join(), ExitReason::Stopped);
    }

    #[test]
    fn the_last_handle_does_not_wait_for_ever_for_what_blocks() {
        for on_the_reactor in [false, true] {
            let system = System::builder().workers(1).build().expect("threads");
            let (begun, begins) = channel();
            let (release, gate) = channel::<()>();
            let block = move || {
                begun.send(()).expect("the test listens");
                let _ = gate.recv();
            };
            if on_the_reactor {
                system.tokio().spawn(async move { block() });
            } else {
                system.tokio().spawn_blocking(block);
            }
            begins.recv().expect("it runs");
            assert_eq!(part_within(system, Duration::ZERO), Parting::LeftBehind);
            drop(release);
        }
    }

    #[test]
    fn the_last_handle_waits_for_what_blocks_and_for_the_tasks_it_waits_for() {
        let system = System::builder().workers(1).build().expect("threads");
        let token = Arc::new(());
        let (sender, gate) = channel::<()>();
        // Ends when it is dropped.
        system.tokio().spawn(async move {
            std::future::pending::<()>().await;
            drop(sender);
        });
        let held = Arc::clone(&token);
        system.tokio().spawn_blocking(move || {
            let _ = gate.recv();
            drop(held);
        });
        assert_eq!(part_within(system, LONG), Parting::Ended);
        assert_eq!(Arc::strong_count(&token), 1);
    }

    /// Says what its thread finds as the one that drops the last handle.
    struct Last(RuntimeRef);

    impl Actor for Last {
        type Msg = Reply<Parting>;
        fn handle(&mut self, reply: Reply<Parting>, _ctx: &mut Context<'_, Self>) {
            reply.send(self.0.part_within(Duration::ZERO));
        }
    }

    #[test]
    fn threads_of_the_runtime_wait_for_nobody() {
        for dedicated in [false, true] {
            let system = System::builder().workers(1).build().expect("threads");
            let runtime = system.runtime().clone();
            let last: ActorRef<_> = if dedicated {
                system.spawn_dedicated(move || Last(runtime.clone()))
            } else {
                system.spawn(move || Last(runtime.clone()))
            };
            assert_eq!(last.ask(|reply| reply).wait(), Ok(Parting::Unwaited));
        }
        for thread in ["reactor", "blocking", "clock"] {
            let system = System::builder().workers(1).build().expect("threads");
            let runtime = system.runtime().clone();
            let (parted, parting) = channel();
            let part = move || {
                let _ = parted.send(runtime.part_within(Duration::ZERO));
            };
            match thread {
                "reactor" => drop(system.tokio().spawn(async move { part() })),
                "blocking" => drop(system.tokio().spawn_blocking(part)),
                _ => clock().at(Instant::now(), part),
            }
            let found = parting.recv_timeout(LONG);
            assert_eq!(found, Ok(Parting::Unwaited), "{thread}");
        }
        let system = System::builder().workers(1).build().expect("threads");
        assert_eq!(part_within(system, LONG), Parting::Ended, "nobody's");
    }

    #[test]
    fn the_last_handle_may_be_dropped_by_what_blocks() {
        let system = System::builder().workers(1).build().expect("threads");
        let (dropped, drops) = channel();
        system.tokio().spawn_blocking(move || {
            drop(system);
            dropped.send(()).expect("the test listens");
        });
        assert_eq!(drops.recv_timeout(LONG), Ok(()));
    }
}
