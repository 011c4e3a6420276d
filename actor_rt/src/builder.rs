//! Describing an actor before it is started.
//!
//! Owns: [`ActorBuilder`], [`Placement`], the making of cells.
//! Does not know: what the actor does.

use crate::actor::{Actor, AsyncActor};
use crate::actor_ref::ActorRef;
use crate::awaiting::Awaiting;
use crate::cell::{ANYWHERE, CellPtr, CellRef, Outcome, Parts, Table, control};
use crate::dedicated::{self, Dedicated};
use crate::family;
use crate::mailbox::{Front, LARGEST_BOUND};
use crate::meter::{self, Meter, Metered};
use crate::overflow::Overflow;
use crate::plain::Plain;
use crate::restart::{Care, Intensity, Restart, Strategy};
use crate::sched::RuntimeRef;
use crate::shell::{Behaviour, Shell};
use std::any::{TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Messages that a mailbox holds unless told otherwise.
pub const DEFAULT_MAILBOX: usize = 1024;

/// Where an actor runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// On whichever worker is free.
    #[default]
    Anywhere,
    /// On this worker only, counted from zero, modulo the number of workers. With pinning, worker `n`
    /// has the `n`-th core that the process may use, or of those that its system has where there are several (see
    /// [`SystemBuilder::pin`](crate::SystemBuilder::pin)).
    Core(usize),
    /// On one worker of this NUMA node, the one with the fewest placed actors and the shortest queue of them;
    /// anywhere if it has none. Where [`SystemBuilder::near_first`](crate::SystemBuilder::near_first) has no effect, all workers
    /// count as of node 0.
    Node(u32),
}

/// An actor to be: give it a name, a bound, a policy, and end with one of the `spawn`s.
///
/// ```
/// use actor_rt::{Actor, Context, Overflow, Restart, System};
/// struct Echo;
/// impl Actor for Echo {
///     type Msg = String;
///     fn handle(&mut self, msg: String, _ctx: &mut Context<'_, Self>) {
///         println!("{msg}");
///     }
/// }
/// let system = System::new()?;
/// let echo = system
///     .actor(|| Echo)
///     .name("echo")
///     .mailbox(64)
///     .overflow(Overflow::DropOldest)
///     .restart(Restart::never())
///     .spawn();
/// echo.tell("hello".into()).expect("room");
/// # Ok::<(), actor_rt::StartError>(())
/// ```
#[must_use = "an actor is started by `spawn`, `spawn_async` or `spawn_dedicated`"]
pub struct ActorBuilder<'a, F> {
    runtime: RuntimeRef,
    parent: Option<CellPtr>,
    factory: F,
    name: Option<Arc<str>>,
    bound: u32,
    overflow: Overflow,
    care: Care,
    strategy: Strategy,
    intensity: Option<Intensity>,
    placement: Placement,
    metered: bool,
    stack_bytes: Option<usize>,
    is_errand: bool,
    lifetime: PhantomData<&'a ()>,
}

impl<F> fmt::Debug for ActorBuilder<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorBuilder")
            .field("name", &self.name)
            .field("mailbox", &self.bound)
            .field("overflow", &self.overflow)
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

impl<F> ActorBuilder<'_, F> {
    pub(crate) fn new(runtime: &RuntimeRef, parent: Option<CellPtr>, factory: F) -> Self {
        Self {
            runtime: runtime.clone(),
            parent,
            factory,
            name: None,
            bound: DEFAULT_MAILBOX as u32,
            overflow: Overflow::Wait,
            care: Care::Usual,
            strategy: Strategy::OneForOne,
            intensity: None,
            placement: Placement::Anywhere,
            metered: runtime.settings.metered,
            stack_bytes: None,
            is_errand: false,
            lifetime: PhantomData,
        }
    }

    /// Registers the actor under a name, see [`System::lookup`](crate::System::lookup). A name that is
    /// taken stays with its holder, and a warning says so; the new actor still carries it in messages
    /// to people.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(name.as_ref().into());
        self
    }

    /// Bounds the mailbox to exactly `messages` (default [`DEFAULT_MAILBOX`]). A message counts until its
    /// handler returns; in a mailbox of fewer than eight only until its handler begins, so that an actor with
    /// room for one message can send to itself. Memory is taken as it is needed, so a large bound costs
    /// nothing while it is not used.
    ///
    /// # Panics
    /// If `messages` is zero or above 16,777,216.
    pub fn mailbox(mut self, messages: usize) -> Self {
        let largest = LARGEST_BOUND as usize;
        assert!(
            (1..=largest).contains(&messages),
            "a mailbox holds 1 to {largest} messages"
        );
        self.bound = messages as u32;
        self
    }

    /// What happens when the mailbox is full (default [`Overflow::Wait`]).
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// What happens when the actor fails (default [`Restart::on_failure`]).
    pub fn restart(mut self, policy: Restart) -> Self {
        self.care = policy.into();
        self
    }

    /// What the restart of one of its children means for the others (default
    /// [`Strategy::OneForOne`]).
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How often its children may restart, all together: when one of them fails after `limit` restarts within `window`, it
    /// ends, and this actor fails, for its own policy to deal with. So children that each fail seldom enough are noticed
    /// when there are many. The restart of a group counts once, and a new incarnation counts anew. By default there is no
    /// limit but each child's own.
    ///
    /// ```
    /// use actor_rt::{Actor, Context, Failure, Restart, System};
    /// use std::time::Duration;
    /// struct Reader;
    /// impl Actor for Reader {
    ///     type Msg = ();
    ///     fn started(&mut self, _ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
    ///         Err(Failure::new("no disk"))
    ///     }
    ///     fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
    /// }
    /// struct Readers;
    /// impl Actor for Readers {
    ///     type Msg = ();
    ///     fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
    ///         // Each may restart five times in ten seconds.
    ///         (0..10).for_each(|_| drop(ctx.spawn(|| Reader)));
    ///         Ok(())
    ///     }
    ///     fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
    /// }
    /// let system = System::new()?;
    /// let readers = system
    ///     .actor(|| Readers)
    ///     .name("readers")
    ///     .intensity(20, Duration::from_secs(60))
    ///     .restart(Restart::never())
    ///     .spawn();
    /// let reason = readers.join().to_string();
    /// assert!(reason.contains("the children of readers restart more often than 20 in 60s"), "{reason}");
    /// # Ok::<(), actor_rt::StartError>(())
    /// ```
    pub fn intensity(mut self, limit: u32, window: Duration) -> Self {
        self.intensity = Some(Intensity { limit, window });
        self
    }

    /// The actor is work that its parent waits for: what happens to its siblings does not concern it.
    pub(crate) fn errand(mut self) -> Self {
        self.is_errand = true;
        self
    }

    /// Where the actor runs (default [`Placement::Anywhere`]).
    pub fn on(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Measures how long messages wait and how long handling them takes, see
    /// [`ActorRef::latencies`]. Costs about 10 KiB, and some 50 ns for each message that is measured (see
    /// [`Latencies`](crate::Latencies)); other actors pay nothing.
    pub fn metered(mut self) -> Self {
        self.metered = true;
        self
    }

    /// The stack of a dedicated actor's thread, if there is address space for it (by default what threads usually
    /// have). Pages are taken as far as they are touched.
    pub fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = Some(bytes);
        self
    }

    /// Starts the actor on the workers.
    ///
    /// # Panics
    /// If the overflow policy falls back to an actor with another type of messages.
    pub fn spawn<A>(self) -> ActorRef<A::Msg>
    where
        A: Actor + Send,
        F: FnMut() -> A + Send + 'static,
    {
        let metered = self.metered;
        let (parts, care, factory) = self.into_parts::<A::Msg>();
        start::<A, _>(parts, Shell::new(Plain::new(factory), care), metered)
    }

    /// Starts an asynchronous actor, see [`AsyncActor`].
    ///
    /// # Panics
    /// As [`ActorBuilder::spawn`].
    pub fn spawn_async<A>(self) -> ActorRef<A::Msg>
    where
        A: AsyncActor,
        F: FnMut() -> A + Send + 'static,
    {
        let metered = self.metered;
        let (parts, care, factory) = self.into_parts::<A::Msg>();
        start::<A, _>(parts, Shell::new(Awaiting::new(factory), care), metered)
    }

    /// Starts the actor with a thread of its own. The factory runs on that thread, so the actor need
    /// not be `Send`; its handlers may block.
    ///
    /// # Panics
    /// As [`ActorBuilder::spawn`].
    pub fn spawn_dedicated<A>(self) -> ActorRef<A::Msg>
    where
        A: Actor,
        F: FnMut() -> A + Send + 'static,
    {
        let metered = self.metered;
        let stack_bytes = self.stack_bytes;
        let (mut parts, care, factory) = self.into_parts::<A::Msg>();
        // Its thread is its own.
        parts.home = ANYWHERE;
        let meter = metered.then(|| Meter::new(&parts.runtime));
        let table = dedicated::table::<A, F>(metered);
        let body = Dedicated::new(Shell::new(Plain::new(factory), care), meter);
        let parent = parts.parent.as_ref().map(CellRef::ptr);
        let cell = CellRef::new(parts, table, body);
        launch(&cell, parent, || {
            dedicated::launch::<A, F>(&cell, stack_bytes)
        });
        ActorRef::from_cell(cell)
    }

    fn into_parts<M: Send + 'static>(self) -> (Parts, Care, F) {
        if let Overflow::Fallback(fallback) = &self.overflow {
            assert!(
                fallback.takes(TypeId::of::<M>()),
                "the fallback actor must take messages of type {}",
                type_name::<M>()
            );
        }
        let home = match self.placement {
            Placement::Anywhere => ANYWHERE,
            Placement::Node(node) => self
                .runtime
                .worker_of_node(node)
                .map_or(ANYWHERE, |worker| worker as u16),
            Placement::Core(core) => (core % self.runtime.worker_count()) as u16,
        };
        let front = Front::new(self.bound, matches!(self.overflow, Overflow::DropOldest));
        if home != ANYWHERE {
            front.memory.set(self.runtime.memory_of(home));
        }
        let parts = Parts {
            front,
            runtime: self.runtime,
            home,
            overflow: self.overflow,
            strategy: self.strategy,
            intensity: self.intensity,
            parent: self.parent.map(CellPtr::lend_ref),
            name: self.name,
            is_errand: self.is_errand,
        };
        (parts, self.care, self.factory)
    }
}

/// Makes and starts an actor that the workers run.
fn start<A, B>(parts: Parts, shell: Shell<B>, metered: bool) -> ActorRef<B::Msg>
where
    A: 'static,
    B: Behaviour,
{
    let parent = parts.parent.as_ref().map(CellRef::ptr);
    let cell = if metered {
        let body = Metered::new(&parts.runtime, shell);
        CellRef::new(parts, &ShellTable::<A, B>::METERED, body)
    } else {
        CellRef::new(parts, &ShellTable::<A, B>::TABLE, shell)
    };
    launch(&cell, parent, || {
        let actor = cell.ptr();
        meter::scheduled(actor);
        actor.runtime.schedule_start(actor);
    });
    ActorRef::from_cell(cell)
}

/// Counts, names and links a new actor, then starts it; a closing system ends it instead.
fn launch(cell: &CellRef, parent: Option<CellPtr>, start: impl FnOnce()) {
    let runtime = &cell.runtime;
    let actor = cell.ptr();
    runtime.actor_made(actor);
    if let Some(name) = actor.name() {
        register(cell, name);
    }
    family::join(actor, parent);
    if runtime.is_closing() {
        // The workers may be gone, so its maker ends it.
        actor
            .control
            .fetch_or(control::KILL, std::sync::atomic::Ordering::AcqRel);
        dedicated::run_to_end(actor);
    } else {
        start();
    }
}

fn register(cell: &CellRef, name: Arc<str>) {
    let mut names = cell
        .runtime
        .names
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if names.contains_key(&name) {
        tracing::warn!(%name, "this name is taken; the new actor cannot be looked up by it");
        return;
    }
    names.insert(name, ((cell.table.message)(), cell.clone()));
}

/// The table of actors that run on the workers.
struct ShellTable<A, B>(PhantomData<(A, B)>);

impl<A: 'static, B: Behaviour> ShellTable<A, B> {
    const TABLE: Table = Table::new::<Shell<B>>(
        Self::run,
        |cell| cell.runtime.schedule(cell),
        type_name::<A>,
        TypeId::of::<B::Msg>,
        B::AWAITS,
    );

    const METERED: Table = Table::new::<Metered<B>>(
        Metered::<B>::run,
        Metered::<B>::schedule,
        type_name::<A>,
        TypeId::of::<B::Msg>,
        B::AWAITS,
    )
    .with_meter(Metered::<B>::meter);

    /// # Safety
    /// Owner only.
    #[allow(unsafe_code)]
    unsafe fn run(cell: CellPtr) -> Outcome {
        // SAFETY: the owner; the table belongs to cells with this body.
        unsafe { cell.body::<Shell<B>>() }.advance(cell)
    }
}
