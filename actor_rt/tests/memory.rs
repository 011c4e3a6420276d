//! What stays in memory. A program of its own: what is counted is the whole process's.

use actor_rt::testkit::{Fault, Simulation};
use actor_rt::{Actor, ActorRef, AsyncActor, AsyncContext, Context, Failure, Reply, System, Timer};
use std::alloc::{GlobalAlloc, Layout, System as SystemAllocator};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counts what is handed out.
struct Counting;

static HANDED_OUT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HANDED_OUT.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { SystemAllocator.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HANDED_OUT.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { SystemAllocator.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time.
static ALONE: Mutex<()> = Mutex::new(());

struct Idle;
impl Actor for Idle {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

/// A short life beside a long one: monitors it, is linked to it, ends.
struct Session(ActorRef<()>);
impl Actor for Session {
    type Msg = ();
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        ctx.monitor(&self.0, |_| ());
        ctx.link(&self.0);
        ctx.stop();
        Ok(())
    }
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

const SESSIONS: u32 = 20_000;

#[test]
fn who_lives_long_does_not_remember_all_who_watched_it() {
    let _alone = ALONE.lock();
    let simulation = Simulation::new(4);
    let system = simulation.system();
    let registry = system.spawn(|| Idle);
    let in_use_after = |sessions: u32| {
        for _ in 0..sessions {
            let watched = registry.clone();
            system.spawn(move || Session(watched.clone()));
            simulation.run();
        }
        assert_eq!(system.stats().live, 1);
        System::memory().in_use_bytes
    };
    let before = in_use_after(100);
    let after = in_use_after(SESSIONS);
    // No actor is smaller than four lines.
    assert!(
        after < before + u64::from(SESSIONS / 2) * 256,
        "{before} bytes, then {after}: sessions stay"
    );
}

const HOUR: Duration = Duration::from_secs(3600);

fn held(actor: &ActorRef<Work>, token: &Arc<()>) -> Work {
    let (_actor, _token) = (actor.clone(), Arc::clone(token));
    Work::Later { _actor, _token }
}

/// Has all that may still be to come when a simulation ends.
struct Busy {
    /// Shared by all that one seed makes.
    token: Arc<()>,
    timers: Arc<Mutex<Vec<Timer>>>,
    unanswered: Option<Reply<()>>,
}

enum Work {
    Begin(Reply<()>),
    Later {
        _actor: ActorRef<Work>,
        _token: Arc<()>,
    },
}

impl Actor for Busy {
    type Msg = Work;
    fn handle(&mut self, work: Work, ctx: &mut Context<'_, Self>) {
        let Work::Begin(reply) = work else {
            return;
        };
        self.unanswered = Some(reply);
        let (me, token) = (ctx.me(), Arc::clone(&self.token));
        let later = move || held(&me, &token);
        let timer = ctx.after(HOUR, later());
        self.timers.lock().expect("not poisoned").push(timer);
        ctx.every(HOUR, later.clone());
        ctx.pipe(std::future::pending(), move |()| later());
        // It ends when it has its answer.
        ctx.me().drain_within(HOUR);
    }
}

/// Waits for an answer that does not come.
struct Asker {
    target: ActorRef<Work>,
    _token: Arc<()>,
}

impl AsyncActor for Asker {
    type Msg = ();
    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {
        let answer = self.target.ask(Work::Begin).timeout(HOUR);
        assert!(answer.await.is_err());
    }
}

/// What outlives a simulation for a while.
type Left = (ActorRef<Work>, System, Arc<Mutex<Vec<Timer>>>);

fn one(seed: u64) -> (Arc<()>, Left) {
    let simulation = Simulation::new(seed);
    let (token, timers) = (Arc::new(()), Arc::default());
    let system = simulation.system();
    let (of_busy, of_asker, kept) = (Arc::clone(&token), Arc::clone(&token), Arc::clone(&timers));
    let busy = system.actor(move || Busy {
        token: Arc::clone(&of_busy),
        timers: Arc::clone(&kept),
        unanswered: None,
    });
    let busy = busy.name("busy").metered().spawn();
    system.group("all").join(&busy);
    let target = busy.clone();
    let asker = system.spawn_async(move || Asker {
        target: target.clone(),
        _token: Arc::clone(&of_asker),
    });
    asker.tell(()).expect("room");
    // One message is in the hands of a rule, which holds an actor, too.
    let delayed = held(&busy, &token);
    simulation.on_delivery(move |delivery| match (delivery.message(), &delayed) {
        (Some(Work::Later { .. }), Work::Later { .. }) => Fault::Delay(HOUR),
        _ => Fault::None,
    });
    busy.tell(held(&busy, &token)).expect("room");
    simulation.advance(Duration::from_millis(1));
    assert_eq!(simulation.delayed(), 1);
    assert_eq!(timers.lock().expect("not poisoned").len(), 1);
    assert_eq!(system.stats().live, 3);
    let system = system.clone();
    (token, (busy, system, timers))
}

#[test]
fn simulations_are_given_back() {
    let _alone = ALONE.lock();
    let bytes_after = |seeds: Range<u64>| {
        for seed in seeds {
            let (token, (busy, system, timers)) = one(seed);
            assert_eq!(Arc::strong_count(&token), 1, "what was to come is gone");
            // What is left is good for nothing, but for asking.
            assert!(busy.is_closed() && system.stats().live == 0);
            timers
                .lock()
                .expect("not poisoned")
                .iter()
                .for_each(Timer::cancel);
            busy.stop_within(HOUR);
        }
        HANDED_OUT.load(Ordering::Relaxed) as u64 + System::memory().in_use_bytes
    };
    const SEEDS: u64 = 1000;
    let before = bytes_after(0..100);
    let after = bytes_after(100..SEEDS);
    // The wheel of a simulation's clock alone takes 5 KiB.
    assert!(
        after < before + SEEDS * 100,
        "{before} bytes, then {after}: seeds stay"
    );
    #[cfg(target_os = "linux")]
    assert_eq!(reactors(), 0, "threads for I/O stay");
}

/// Threads for I/O of this process.
#[cfg(target_os = "linux")]
fn reactors() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").expect("a list of threads");
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        // One that has just ended has no name.
        let path = thread.expect("an entry").path().join("comm");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    threads
        .map(name)
        .filter(|name| name.trim() == "actor-io")
        .count()
}

/// Has a thread of its own, and stays in its handler until it is let go.
struct Stuck {
    begun: Sender<()>,
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Actor for Stuck {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {
        let _ = self.begun.send(());
        let _ = self.gate.lock().expect("not poisoned").recv();
    }
}

#[test]
fn who_outlives_its_simulation_ends_by_itself() {
    let _alone = ALONE.lock();
    for seed in 0..100 {
        let simulation = Simulation::new(seed);
        let ((begun, begins), (release, gate)) = (channel(), channel());
        let gate = Arc::new(Mutex::new(gate));
        let stuck = simulation.system().spawn_dedicated(move || Stuck {
            begun: begun.clone(),
            gate: Arc::clone(&gate),
        });
        stuck.tell(()).expect("room");
        begins.recv().expect("it is in its handler");
        drop((simulation, stuck));
        // It has the last reference to its simulation.
        drop(release);
        assert!(begins.recv().is_err(), "its factory is gone, and all else");
    }
}
