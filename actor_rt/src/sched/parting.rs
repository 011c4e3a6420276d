//! The end of a system whose last handle is dropped without a shutdown.
//!
//! Owns: how long the dropping thread waits for actors and threads, and which threads never wait.
//! Does not know: how actors end.
//! Invariant: a thread that runs actors, timers or the reactor waits for nobody: it may be what the others wait for.

use super::Runtime;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the last handle waits; long enough for whoever only has to put things away. Tests have somebody stuck.
const PATIENCE: Duration = if cfg!(test) {
    Duration::from_millis(20)
} else {
    Duration::from_secs(5)
};

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
    /// After the last handle has ordered everybody to stop: waits until they have, and joins the threads.
    pub(crate) fn part(&self) {
        // A shutdown that was given up has waited as long as it was told to.
        if is_ours() || self.simulated.is_some() || self.given_up.load(Ordering::Relaxed) {
            return;
        }
        if self.wait_ended(Instant::now() + PATIENCE) {
            self.join_threads();
            return;
        }
        tracing::warn!(
            system = self.settings.name,
            still_running = self.live(),
            waited = ?PATIENCE,
            "a system was dropped while a handler does not return; its threads are left behind. \
             `System::shutdown` waits as long as it is told to, and says who is late"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, ActorRef, Context, ExitReason, Failure, Reply, System};
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};

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
        drop(second);
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

    #[test]
    fn the_last_handle_does_not_wait_for_ever() {
        let (release, gate) = channel();
        let mut gate = Some(gate);
        let system = System::builder().workers(1).build().expect("threads");
        let stuck = system.spawn(move || Stuck(gate.take().expect("not restarted")));
        assert_eq!(stuck.ask(|reply| reply).wait(), Ok(()));
        drop(system);
        assert!(!stuck.is_closed(), "it is still in its handler");
        drop(release);
        assert_eq!(stuck.join(), ExitReason::Stopped);
    }

    /// Says whether its thread would wait, and lets go of the system.
    struct Last(Option<System>);

    impl Actor for Last {
        type Msg = Reply<bool>;
        fn handle(&mut self, reply: Reply<bool>, _ctx: &mut Context<'_, Self>) {
            reply.send(!is_ours());
            self.0 = None;
        }
    }

    #[test]
    fn threads_of_the_runtime_wait_for_nobody() {
        for dedicated in [false, true] {
            let system = System::builder().workers(1).build().expect("threads");
            let handle = system.clone();
            let make = move || Last(Some(handle.clone()));
            let last: ActorRef<_> = if dedicated {
                system.spawn_dedicated(make)
            } else {
                system.spawn(make)
            };
            let runtime = system.runtime();
            drop(system);
            assert_eq!(last.ask(|reply| reply).wait(), Ok(false));
            // The factory has a handle too, so the system goes on until it is told to end.
            last.stop();
            assert_eq!(last.join(), ExitReason::Stopped);
            assert!(runtime.wait_ended(Instant::now() + Duration::from_secs(60)));
            runtime.join_threads();
        }
        let system = System::builder().workers(1).build().expect("threads");
        let task = system.tokio().spawn(async { is_ours() });
        assert!(system.tokio().block_on(task).expect("no panic"));
        assert!(!is_ours());
    }
}
