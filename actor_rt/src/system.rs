//! Systems: where actors live.
//!
//! Owns: [`System`], its builder, its orderly end.
//! Does not know: scheduling (see `sched`).

use crate::actor::{Actor, AsyncActor};
use crate::actor_ref::ActorRef;
use crate::builder::{ActorBuilder, Placement};
use crate::cell::control;
use crate::clock::later;
use crate::dead_letter::{DeadLetter, DeadLetterHook};
use crate::family;
use crate::memory::MemoryStats;
use crate::sched::watch::{self, StuckHandler, StuckHook};
use crate::sched::{Runtime, RuntimeRef, Settings, is_worker};
use std::any::TypeId;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The system could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the actor system's worker threads: {source}")]
pub struct StartError {
    #[from]
    source: std::io::Error,
}

/// Actors were still running at the deadline of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{still_running} actors were still running at the deadline; a handler is stuck or slow")]
pub struct ShutdownError {
    /// How many.
    pub still_running: usize,
}

/// A handle to a system of actors: its workers, its names, its end. Cheap to clone.
///
/// When the last handle is dropped (those in actors' state count), every actor is asked to stop, and the threads end
/// once the last actor has. The drop waits for that and for work that blocks ([`Context::blocking`](crate::Context::blocking),
/// tokio's `spawn_blocking`), up to five seconds in all: after that it leaves the threads behind with a warning. On a thread
/// of a system, which runs actors, timers, tokio's tasks or work that blocks, it does not wait at all, and the thread for
/// I/O stays. [`System::shutdown`] waits as long as it is told to, kills who is late, and says so.
pub struct System {
    runtime: RuntimeRef,
}

/// Describes a system before it starts.
#[derive(Clone)]
#[must_use = "a system is started by `build`"]
pub struct SystemBuilder {
    settings: Settings,
    dead_letters: Option<DeadLetterHook>,
    watchdog: Option<Duration>,
    stuck: Option<StuckHook>,
}

impl fmt::Debug for SystemBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl SystemBuilder {
    /// How many workers run actors (default: one per core that the process may use). At least one, at most 65,535.
    pub fn workers(mut self, count: usize) -> Self {
        self.settings.workers = count.clamp(1, usize::from(u16::MAX));
        self
    }

    /// Whether each worker is pinned to a core of the thread that builds the system (default: yes, unless the process may use more cores
    /// than it has time for, as in a container with a quota: others like it would choose the same cores). Cores that no other system of
    /// the process has come first, and sharing is said (`info`). Refused, or with more workers than cores, the system runs unpinned.
    pub fn pin(mut self, pin: bool) -> Self {
        self.settings.pin = Some(pin);
        self
    }

    /// Whether idle workers take actors that wait at busy ones (default: yes). Without, an actor runs where it was woken, be it behind a
    /// handler that takes long; what is woken from other threads, or does not fit into a worker's queue of 256, is shared still.
    pub fn steal(mut self, steal: bool) -> Self {
        self.settings.steal = steal;
        self
    }

    /// Whether idle workers rob those first that share a cache or a NUMA node, and actors lie in the memory of their worker's node
    /// (default: yes). Takes effect with more than two workers, pinned, and the `topology` feature; off for comparisons.
    pub fn near_first(mut self, near: bool) -> Self {
        self.settings.near = near;
        self
    }

    /// The prefix of the names of the system's threads (default `actor`).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// How long an actor with many messages keeps its worker before others get their turn (default
    /// 100 µs). A handler is never interrupted, and the clock is read once in up to 128 messages while they are quick.
    pub fn turn_budget(mut self, budget: Duration) -> Self {
        self.settings.turn_budget = budget;
        self
    }

    /// How long a worker that has nothing else to do waits for an actor's next message, where messages come
    /// from other threads (default 20 µs; zero: not at all). Longer means less latency and more use of the
    /// processor. Workers that outnumber the cores never wait.
    pub fn linger(mut self, patience: Duration) -> Self {
        self.settings.linger = patience;
        self
    }

    /// Called for each message that was never handled, on the thread that found out. Must be quick and
    /// must not panic.
    pub fn on_dead_letter(mut self, hook: impl Fn(&DeadLetter) + Send + Sync + 'static) -> Self {
        self.dead_letters = Some(DeadLetterHook::new(hook));
        self
    }

    /// Measures every actor, see [`ActorBuilder::metered`].
    pub fn metered(mut self, metered: bool) -> Self {
        self.settings.metered = metered;
        self
    }

    /// How long a handler may hold its worker before the watchdog warns, or `None` for no watchdog (default
    /// 10 s). It is noticed at most a quarter of that late, counted in [`SystemStats::stuck`], and told
    /// through `tracing`. Actors with a thread of their own and handlers that await may take as long as they
    /// like.
    pub fn watchdog(mut self, allowed: Option<Duration>) -> Self {
        self.watchdog = allowed;
        self
    }

    /// Called for each turn of an actor that the watchdog finds stuck, once, on the clock's thread. Must be quick.
    ///
    /// ```
    /// use actor_rt::System;
    /// use std::time::Duration;
    /// let system = System::builder()
    ///     .watchdog(Some(Duration::from_secs(1)))
    ///     .on_stuck(|stuck| eprintln!("{} holds worker {}", stuck.actor, stuck.worker))
    ///     .build()?;
    /// # Ok::<(), actor_rt::StartError>(())
    /// ```
    pub fn on_stuck(mut self, hook: impl Fn(&StuckHandler) + Send + Sync + 'static) -> Self {
        self.stuck = Some(Arc::new(hook));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn build(self) -> Result<System, StartError> {
        let runtime = Runtime::start(self.settings)?;
        if let Some(hook) = self.dead_letters {
            // Set once: the runtime is new.
            let _ = runtime.dead_letters.set(hook);
        }
        if let Some(allowed) = self.watchdog {
            watch::start(runtime, allowed, self.stuck);
        }
        let runtime = runtime.into();
        Ok(System { runtime })
    }
}

/// Totals of a system since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemStats {
    /// Actors that have not ended.
    pub live: usize,
    /// Actors started.
    pub spawned: u64,
    /// Failures: panics, and failures reported by actors.
    pub failures: u64,
    /// Those of the failures that were panics.
    pub panics: u64,
    /// Restarts after failures.
    pub restarts: u64,
    /// Handlers that held a worker for longer than the watchdog allows.
    pub stuck: u64,
    /// Messages that were never handled.
    pub dead_letters: u64,
}

/// A count of messages, see [`System::messages`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageStats {
    /// Given to a handler, including those whose handler failed.
    pub handled: u64,
    /// Waiting in mailboxes.
    pub queued: u64,
}

impl System {
    pub(crate) fn simulated(runtime: RuntimeRef) -> Self {
        Self { runtime }
    }

    /// A system with one pinned worker per core that the process may use.
    ///
    /// # Errors
    /// See [`SystemBuilder::build`].
    pub fn new() -> Result<Self, StartError> {
        Self::builder().build()
    }

    /// A system described step by step.
    pub fn builder() -> SystemBuilder {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        SystemBuilder {
            settings: Settings {
                workers,
                pin: None,
                steal: true,
                near: true,
                name: "actor".into(),
                turn_budget: Duration::from_micros(100),
                metered: false,
                linger: Duration::from_micros(20),
            },
            dead_letters: None,
            watchdog: Some(Duration::from_secs(10)),
            stuck: None,
        }
    }

    pub(crate) fn runtime(&self) -> &RuntimeRef {
        &self.runtime
    }

    pub(crate) fn of(runtime: &RuntimeRef) -> Self {
        runtime.handles.fetch_add(1, Ordering::Relaxed);
        let runtime = runtime.clone();
        Self { runtime }
    }

    /// Describes a top-level actor. The factory makes each incarnation: the first and those after
    /// failures.
    pub fn actor<F>(&self, factory: F) -> ActorBuilder<'_, F> {
        ActorBuilder::new(&self.runtime, None, factory)
    }

    /// Starts an actor with defaults, see [`System::actor`].
    pub fn spawn<A, F>(&self, factory: F) -> ActorRef<A::Msg>
    where
        A: Actor + Send,
        F: FnMut() -> A + Send + 'static,
    {
        self.actor(factory).spawn()
    }

    /// Starts an actor that stays where it is placed: on a core, or on a NUMA node. See [`Placement`].
    ///
    /// ```
    /// use actor_rt::{Actor, Context, Placement, Reply, System};
    /// struct Where;
    /// impl Actor for Where {
    ///     type Msg = Reply<String>;
    ///     fn handle(&mut self, reply: Self::Msg, _ctx: &mut Context<'_, Self>) {
    ///         reply.send(std::thread::current().name().unwrap_or("?").into());
    ///     }
    /// }
    /// let system = System::builder().workers(2).name("w").build()?;
    /// let placed = system.spawn_on(Placement::Core(1), || Where);
    /// assert_eq!(placed.ask(|reply| reply).wait()?, "w-1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_on<A, F>(&self, placement: Placement, factory: F) -> ActorRef<A::Msg>
    where
        A: Actor + Send,
        F: FnMut() -> A + Send + 'static,
    {
        self.actor(factory).on(placement).spawn()
    }

    /// Starts an asynchronous actor with defaults, see [`AsyncActor`].
    pub fn spawn_async<A, F>(&self, factory: F) -> ActorRef<A::Msg>
    where
        A: AsyncActor,
        F: FnMut() -> A + Send + 'static,
    {
        self.actor(factory).spawn_async()
    }

    /// Starts an actor with a thread of its own: its state need not be `Send` (the factory runs on that
    /// thread), and its handlers may block.
    ///
    /// ```
    /// use actor_rt::{Actor, Context, Reply, System};
    /// use std::rc::Rc;
    ///
    /// struct Local { shared: Rc<str> }
    /// impl Actor for Local {
    ///     type Msg = Reply<usize>;
    ///     fn handle(&mut self, reply: Reply<usize>, _ctx: &mut Context<'_, Self>) {
    ///         reply.send(self.shared.len());
    ///     }
    /// }
    /// let system = System::new()?;
    /// let local = system.spawn_dedicated(|| Local { shared: "not Send".into() });
    /// assert_eq!(local.ask(|reply| reply).wait()?, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_dedicated<A, F>(&self, factory: F) -> ActorRef<A::Msg>
    where
        A: Actor,
        F: FnMut() -> A + Send + 'static,
    {
        self.actor(factory).spawn_dedicated()
    }

    /// The actor of this name, if there is one and it takes messages of type `M`.
    #[must_use]
    pub fn lookup<M: Send + 'static>(&self, name: &str) -> Option<ActorRef<M>> {
        let names = self
            .runtime
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (message, cell) = names.get(name)?;
        (*message == TypeId::of::<M>()).then(|| ActorRef::from_cell(cell.clone()))
    }

    /// The names in use, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        let names = self
            .runtime
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = names.keys().cloned().collect();
        names.sort();
        names
    }

    /// How many workers run actors.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.runtime.worker_count()
    }

    /// Totals since the start.
    #[must_use]
    pub fn stats(&self) -> SystemStats {
        let counters = &self.runtime.counters;
        SystemStats {
            live: self.runtime.live(),
            spawned: counters.spawned.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            panics: counters.panics.load(Ordering::Relaxed),
            stuck: counters.stuck.load(Ordering::Relaxed),
            restarts: counters.restarts.load(Ordering::Relaxed),
            dead_letters: counters.dead_letters.load(Ordering::Relaxed),
        }
    }

    /// Messages handled since the start, and messages waiting now, by looking at every actor: exact when
    /// nothing moves.
    #[must_use]
    pub fn messages(&self) -> MessageStats {
        let mut stats = MessageStats::default();
        family::each(&self.runtime.roots, &mut |actor| {
            stats.handled += actor.handled.load(Ordering::Relaxed);
            stats.queued += u64::from(actor.depth());
        });
        stats.handled += self
            .runtime
            .counters
            .handled_by_ended
            .load(Ordering::Relaxed);
        stats
    }

    /// The memory of the slabs, which all systems of the process share: exact when nothing moves.
    ///
    /// ```
    /// use actor_rt::System;
    /// let memory = System::memory();
    /// assert!(memory.in_use_bytes <= memory.reserved_bytes);
    /// ```
    #[must_use]
    pub fn memory() -> MemoryStats {
        let (reserved, in_use) = crate::slab::figures();
        MemoryStats {
            reserved_bytes: reserved as u64,
            in_use_bytes: in_use as u64,
        }
    }

    /// The tree of actors, one line each, indented, for people; then what their turns found waiting.
    #[must_use]
    pub fn tree(&self) -> String {
        let mut text = String::new();
        family::describe(&self.runtime.roots, 0, &mut text);
        let depths = self.depths();
        if depths.turns() > 0 {
            text.push_str(&format!("depths of mailboxes: {depths}\n"));
        }
        text
    }

    /// A handle to the tokio runtime that asynchronous actors run in: for work that is not an actor's.
    #[must_use]
    pub fn tokio(&self) -> tokio::runtime::Handle {
        self.runtime.io().handle().clone()
    }

    /// Stops every actor (children before parents, `stopped` runs for each), kills at the deadline what
    /// has not ended, then joins the threads. New actors end at once from now on.
    ///
    /// Work that blocks ([`Context::blocking`](crate::Context::blocking), tokio's `spawn_blocking`) and tasks that hold tokio's
    /// thread cannot be killed: what still runs a little after the deadline is left behind with a warning, and is no error,
    /// for every actor has ended.
    ///
    /// # Errors
    /// Actors are still running a little after the deadline, because a handler does not return. Their
    /// threads are left behind.
    ///
    /// # Panics
    /// On a worker, which would wait for itself.
    pub fn shutdown(&self, deadline: Duration) -> Result<(), ShutdownError> {
        assert_not_a_worker();
        /// Between the kill and giving up, and at least for the threads.
        const GRACE: Duration = Duration::from_millis(500);
        let end = later(Instant::now(), deadline);
        self.runtime.close();
        self.runtime.order_all(control::STOP);
        if !self.runtime.wait_ended(end) {
            self.runtime.order_all(control::KILL);
            if !self.runtime.wait_ended(Instant::now() + GRACE) {
                self.runtime.give_up();
                let still_running = self.runtime.live();
                return Err(ShutdownError { still_running });
            }
        }
        self.runtime.join_threads(end.max(Instant::now() + GRACE));
        Ok(())
    }

    /// [`System::shutdown`], but every actor first handles what is queued for it, parents before their
    /// children. Actors that are started meanwhile live; if there are such, and they are not children, they
    /// are stopped at the deadline.
    ///
    /// # Errors
    /// As [`System::shutdown`].
    ///
    /// # Panics
    /// As [`System::shutdown`].
    pub fn drain(&self, deadline: Duration) -> Result<(), ShutdownError> {
        assert_not_a_worker();
        let end = later(Instant::now(), deadline);
        self.runtime.drain_all();
        self.runtime.wait_ended(end);
        self.shutdown(end.saturating_duration_since(Instant::now()))
    }
}

fn assert_not_a_worker() {
    assert!(
        !is_worker(),
        "a worker cannot wait for its own system to end"
    );
}

impl Clone for System {
    fn clone(&self) -> Self {
        Self::of(&self.runtime)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // AcqRel: the last handle comes after the uses of the others.
        if self.runtime.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.runtime.part();
        }
    }
}

impl fmt::Debug for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System")
            .field("workers", &self.workers())
            .field("stats", &self.stats())
            .finish()
    }
}
