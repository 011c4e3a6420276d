//! Actors that fail at every message and are restarted, a hundred of them at once.
//!
//! Every incarnation sends itself the message that it fails at, because not every library keeps a mailbox over a
//! restart. The failure unwinds without the panic hook, so that nobody is measured printing.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use actor_rt::{Actor, Context, Failure, Restart};

use super::actors::{wait, workers};
use super::{Family, Scenario};
use crate::actor::Done;
use crate::actor::ours::system;
use crate::elapsed::timed;
use crate::measure::{Case, OURS, Sample, Unit};
use crate::threads::Threads;

/// `restart_storm`.
pub const SCENARIO: Scenario = Scenario {
    name: "restart_storm",
    family: Family::Actors,
    about: "100 actors that panic and are restarted, again and again",
    unit: Unit::ThousandPerSecond("restarts"),
    cases: |options| {
        let (cores, faults) = (workers(options), options.count(2_000, 10));
        let case = |implementation, run: fn(&[usize], u64) -> Sample| {
            let (threads, cores) = (Threads::yielding(cores.iter().copied()), cores.clone());
            Case::new(implementation, "100 actors", threads, move || {
                run(&cores, faults)
            })
            .expecting(move || ACTORS * faults)
        };
        #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
        let mut cases = vec![case(OURS, ours)];
        #[cfg(feature = "peers")]
        if options.peers {
            cases.push(case("tokio mpsc", peer::tokio_tasks));
            cases.push(case("ractor", peer::ractor));
        }
        cases
    },
};

const ACTORS: u64 = 100;

/// What survives an incarnation.
struct Fate {
    faults: u64,
    left: AtomicU64,
    done: Done,
}

impl Fate {
    fn new(faults: u64, done: Done) -> Arc<Self> {
        Arc::new(Self {
            faults,
            left: AtomicU64::new(faults),
            done,
        })
    }

    /// Fails, or reports that it has failed often enough.
    fn meet(&self) {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            let _ = self.done.send(self.faults);
            return;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new("injected fault"));
    }
}

struct Doomed(Arc<Fate>);

impl Actor for Doomed {
    type Msg = ();

    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        ctx.me().tell(())?;
        Ok(())
    }

    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        self.0.meet();
    }
}

fn ours(cores: &[usize], faults: u64) -> Sample {
    let system = system(cores);
    let (done, finished) = channel();
    let at_once = Restart::on_failure()
        .at_most(u32::MAX, Duration::from_secs(1))
        .backoff(Duration::ZERO, Duration::ZERO);
    let (elapsed, ended) = timed(|| {
        for _ in 0..ACTORS {
            let fate = Fate::new(faults, done.clone());
            let make = move || Doomed(Arc::clone(&fate));
            system.actor(make).restart(at_once.clone()).spawn();
        }
        wait(&finished, ACTORS)
    });
    system
        .shutdown(Duration::from_secs(60))
        .expect("every actor ends");
    Sample::kilo_rate(ACTORS * faults, elapsed, ended)
}

#[cfg(feature = "peers")]
mod peer {
    use std::panic::AssertUnwindSafe;

    use futures_util::FutureExt as _;
    use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
    use tokio::sync::mpsc;

    use super::{ACTORS, Arc, Fate, Sample, channel, timed, wait};
    use crate::actor::peers::runtime;
    use crate::options::MAILBOX;

    /// A task that catches its own panics and goes on with the same channel: the least that a supervisor can be.
    pub(super) fn tokio_tasks(cores: &[usize], faults: u64) -> Sample {
        let runtime = runtime(cores);
        let (done, finished) = channel();
        let (elapsed, ended) = timed(|| {
            for _ in 0..ACTORS {
                let fate = Fate::new(faults, done.clone());
                runtime.spawn(async move {
                    let (sender, mut receiver) = mpsc::channel::<()>(MAILBOX);
                    loop {
                        let incarnation = async {
                            let _ = sender.send(()).await;
                            while receiver.recv().await.is_some() {
                                fate.meet();
                            }
                        };
                        let _ = AssertUnwindSafe(incarnation).catch_unwind().await;
                    }
                });
            }
            wait(&finished, ACTORS)
        });
        Sample::kilo_rate(ACTORS * faults, elapsed, ended)
    }

    /// Starts its child again when that fails.
    struct Supervisor;
    struct Doomed;

    impl Actor for Supervisor {
        type Msg = ();
        type State = Arc<Fate>;
        type Arguments = Arc<Fate>;

        async fn pre_start(
            &self,
            me: ActorRef<()>,
            fate: Arc<Fate>,
        ) -> Result<Self::State, ActorProcessingErr> {
            Actor::spawn_linked(None, Doomed, Arc::clone(&fate), me.get_cell()).await?;
            Ok(fate)
        }

        async fn handle_supervisor_evt(
            &self,
            me: ActorRef<()>,
            event: SupervisionEvent,
            fate: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            if let SupervisionEvent::ActorFailed(..) = event {
                Actor::spawn_linked(None, Doomed, Arc::clone(fate), me.get_cell()).await?;
            }
            Ok(())
        }
    }

    impl Actor for Doomed {
        type Msg = ();
        type State = Arc<Fate>;
        type Arguments = Arc<Fate>;

        async fn pre_start(
            &self,
            me: ActorRef<()>,
            fate: Arc<Fate>,
        ) -> Result<Self::State, ActorProcessingErr> {
            me.cast(())?;
            Ok(fate)
        }

        async fn handle(
            &self,
            _: ActorRef<()>,
            (): (),
            fate: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            fate.meet();
            Ok(())
        }
    }

    pub(super) fn ractor(cores: &[usize], faults: u64) -> Sample {
        let runtime = runtime(cores);
        let (done, finished) = channel();
        let (elapsed, ended) = timed(|| {
            for _ in 0..ACTORS {
                let fate = Fate::new(faults, done.clone());
                runtime.spawn(async move {
                    let started = Actor::spawn(None, Supervisor, fate).await;
                    assert!(started.is_ok(), "the supervisor starts");
                });
            }
            wait(&finished, ACTORS)
        });
        Sample::kilo_rate(ACTORS * faults, elapsed, ended)
    }
}
