//! Several systems of one process, and which cores each of them takes. One test: the cores are the process's.
#![cfg(target_os = "linux")]

use actor_rt::{Actor, Context, Reply, System};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

const LONG: Duration = Duration::from_secs(60);

/// Tells on which cores its worker may run.
struct Where;

impl Actor for Where {
    type Msg = Reply<Vec<usize>>;
    fn handle(&mut self, reply: Self::Msg, _ctx: &mut Context<'_, Self>) {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        reply.send(cores.into_iter().map(|core| core.id).collect());
    }
}

/// A system of one worker, and the core that it has.
fn system() -> (System, usize) {
    let builder = System::builder().workers(1).pin(true);
    let system = builder.build().expect("threads");
    let here = system.spawn(|| Where);
    let cores = here.ask(|reply| reply).timeout(LONG).wait();
    match *cores.expect("an answer") {
        [core] => (system, core),
        ref cores => panic!("a pinned worker has one core, not {cores:?}"),
    }
}

/// Counts what is said of shared cores.
#[derive(Clone, Default)]
struct Shared(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Shared {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.fields().any(|field| field.name() == "shared") {
            assert_eq!(*event.metadata().level(), tracing::Level::INFO);
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn systems_take_the_cores_that_others_have_not() {
    let cores = core_affinity::get_core_ids().expect("the cores of this process");
    // Where a thread may not choose its core, there is nothing to see.
    let may_pin = std::thread::spawn(move || core_affinity::set_for_current(cores[0]));
    if !may_pin.join().expect("no panic") {
        return;
    }
    let cores = core_affinity::get_core_ids().expect("the cores of this process");
    let said = Shared::default();
    let subscriber = tracing_subscriber::registry().with(said.clone());
    let _heard = tracing::subscriber::set_default(subscriber);
    let (first, core) = system();
    assert_eq!(core, cores[0].id, "alone it takes the first one");
    let others: Vec<_> = cores[1..].iter().map(|_| system()).collect();
    let taken: BTreeSet<_> = others.iter().map(|(_, core)| *core).collect();
    assert_eq!(taken, cores[1..].iter().map(|core| core.id).collect());
    assert_eq!(said.0.load(Ordering::Relaxed), 0);
    // No core is free; this one shares, and says so.
    let (shares, _) = system();
    assert_eq!(said.0.load(Ordering::Relaxed), 1);
    shares.shutdown(LONG).expect("everything ends");
    // Back come the cores of those that were shut down, and of those whose last handle was dropped.
    first.shutdown(LONG).expect("everything ends");
    let (second, core) = system();
    assert_eq!(core, cores[0].id);
    drop(second);
    let (third, core) = system();
    assert_eq!(core, cores[0].id);
    drop((third, others));
}
