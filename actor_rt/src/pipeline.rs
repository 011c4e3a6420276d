//! Pipelines: stages of actors, each with a bounded mailbox in front of it.
//!
//! Owns: the chain of stages, the way of an item through it, its orderly end.
//! Does not know: what stages do.
//! Invariant: a stage that waits for room in the next one takes nothing from its own mailbox, so fullness
//! travels from the end to the sender, and no more items are under way than the mailboxes hold.

use crate::actor::{Actor, AsyncActor};
use crate::actor_ref::{ActorRef, Closed};
use crate::block::block_on;
use crate::cell::CellRef;
use crate::context::{AsyncContext, Context};
use crate::sched::is_worker;
use crate::system::System;
use crate::tell_error::TellError;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// A chain of stages that items of type `I` go through.
///
/// A stage handles one item at a time and in order, unless it was started with several actors. When the last
/// stage is slower than the first, mailboxes fill up from the end, and [`Pipeline::send`] waits.
///
/// ```
/// use actor_rt::{Pipeline, System};
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use std::time::Duration;
///
/// let system = System::new()?;
/// let sum = Arc::new(AtomicU64::new(0));
/// let total = Arc::clone(&sum);
/// let pipeline = Pipeline::new(&system, 16)                      // messages that wait per actor
///     .stage("parse", |line: &'static str| line.parse::<u64>().ok())   // `None`: goes no further
///     .parallel("square", 4, |n| Some(n * n))                    // four actors, so in no order
///     .sink("sum", move |n| { total.fetch_add(n, Ordering::Relaxed); });
/// for line in ["1", "two", "3"] {
///     pipeline.send_blocking(line).expect("every stage lives");
/// }
/// pipeline.finish_blocking();                                    // stage by stage, nothing is lost
/// assert_eq!(sum.load(Ordering::Relaxed), 10);
/// # Ok::<(), actor_rt::StartError>(())
/// ```
pub struct Pipeline<I> {
    entry: Next<I>,
    /// First to last; each is one actor or several.
    stages: Vec<Vec<CellRef>>,
}

/// A pipeline under construction: items of type `I` go in, items of type `O` come out so far.
#[must_use = "a pipeline is started by `sink`"]
pub struct Stages<I, O> {
    system: System,
    bound: usize,
    /// Starts the stages so far, last one first, given what comes after them.
    start: Box<dyn FnOnce(Next<O>) -> Pipeline<I>>,
}

/// The actors of the next stage.
struct Next<O> {
    actors: Arc<[ActorRef<O>]>,
}

impl<O> Clone for Next<O> {
    fn clone(&self) -> Self {
        let actors = Arc::clone(&self.actors);
        Self { actors }
    }
}

impl<O: Send + 'static> Next<O> {
    /// Whoever has the fewest items waiting.
    fn choose(&self) -> &ActorRef<O> {
        let chosen = self.actors.iter().min_by_key(|actor| actor.queued());
        match chosen {
            Some(chosen) => chosen,
            None => unreachable!("a stage has an actor"),
        }
    }

    fn cells(&self) -> Vec<CellRef> {
        self.actors
            .iter()
            .map(|actor| actor.cell().clone())
            .collect()
    }
}

struct Stage<F, I, O> {
    work: Arc<F>,
    next: Next<O>,
    item: PhantomData<fn(I)>,
}

impl<F, I, O> AsyncActor for Stage<F, I, O>
where
    F: Fn(I) -> Option<O> + Send + Sync + 'static,
    I: Send + 'static,
    O: Send + 'static,
{
    type Msg = I;

    async fn handle(&mut self, item: I, ctx: &mut AsyncContext<Self>) {
        if let Some(item) = (self.work)(item)
            && self.next.choose().send(item).await.is_err()
        {
            // Whoever sends to this stage shall find out too.
            ctx.stop();
        }
    }
}

struct Sink<F, I> {
    work: Arc<Mutex<F>>,
    item: PhantomData<fn(I)>,
}

impl<F: FnMut(I) + Send + 'static, I: Send + 'static> Actor for Sink<F, I> {
    type Msg = I;

    fn handle(&mut self, item: I, _ctx: &mut Context<'_, Self>) {
        // Held by this actor alone; kept between its incarnations.
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work(item);
    }
}

impl<I: Send + 'static> Pipeline<I> {
    /// Begins a pipeline in which at most `bound` items wait for each actor.
    // The stages come before the pipeline.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(system: &System, bound: usize) -> Stages<I, I> {
        Stages {
            system: system.clone(),
            bound,
            start: Box::new(|entry| Pipeline {
                entry,
                stages: Vec::new(),
            }),
        }
    }

    /// Sends an item in, waiting while the first stage is full.
    ///
    /// # Errors
    /// `Closed` with the item if the pipeline has ended, or is about to.
    pub async fn send(&self, item: I) -> Result<(), TellError<I>> {
        self.entry.choose().send(item).await
    }

    /// [`Pipeline::send`] for threads that may block; on a worker it behaves like [`Pipeline::tell`].
    ///
    /// # Errors
    /// As [`Pipeline::send`].
    pub fn send_blocking(&self, item: I) -> Result<(), TellError<I>> {
        self.entry.choose().send_blocking(item)
    }

    /// Sends an item in, if there is room.
    ///
    /// # Errors
    /// Hands the item back if the first stage is full or has ended.
    pub fn tell(&self, item: I) -> Result<(), TellError<I>> {
        self.entry.choose().tell(item)
    }

    /// Items that wait in the mailboxes of all stages.
    #[must_use]
    pub fn queued(&self) -> usize {
        let cells = self.stages.iter().flatten();
        cells.map(|cell| cell.depth() as usize).sum()
    }

    /// Takes no further items, lets every stage handle what it has, first to last, and waits for the end.
    pub async fn finish(&self) {
        for stage in &self.stages {
            for actor in stage {
                actor.ptr().drain();
            }
            for actor in stage {
                Closed::new(actor).await;
            }
        }
    }

    /// [`Pipeline::finish`] for threads that may block.
    ///
    /// # Panics
    /// On a worker, which would wait for itself.
    pub fn finish_blocking(&self) {
        assert!(
            !is_worker(),
            "a worker cannot wait for a pipeline; await `finish` instead"
        );
        block_on(std::pin::pin!(self.finish()), None);
    }
}

impl<I: Send + 'static, O: Send + 'static> Stages<I, O> {
    /// Adds a stage of one actor: items leave it in the order in which they came. What `work` gives goes on
    /// to the next stage; `None` goes nowhere. An item whose work panics is lost, and the stage restarts.
    pub fn stage<P: Send + 'static>(
        self,
        name: &str,
        work: impl Fn(O) -> Option<P> + Send + Sync + 'static,
    ) -> Stages<I, P> {
        self.parallel(name, 1, work)
    }

    /// Adds a stage of several actors: each item goes to the one with the fewest waiting, so they leave in no
    /// particular order.
    ///
    /// # Panics
    /// If `actors` is zero.
    pub fn parallel<P: Send + 'static>(
        self,
        name: &str,
        actors: usize,
        work: impl Fn(O) -> Option<P> + Send + Sync + 'static,
    ) -> Stages<I, P> {
        assert!(actors > 0, "a stage has an actor");
        let (system, bound, before) = (self.system.clone(), self.bound, self.start);
        let name = name.to_owned();
        let work = Arc::new(work);
        let start = move |next: Next<P>| {
            let actor = |number| {
                let (work, next) = (Arc::clone(&work), next.clone());
                let factory = move || Stage {
                    work: Arc::clone(&work),
                    next: next.clone(),
                    item: PhantomData,
                };
                let name = match actors {
                    1 => name.clone(),
                    _ => format!("{name}-{number}"),
                };
                system
                    .actor(factory)
                    .name(name)
                    .mailbox(bound)
                    .spawn_async()
            };
            started(before, (0..actors).map(actor).collect())
        };
        Stages {
            system: self.system,
            bound,
            start: Box::new(start),
        }
    }

    /// Ends the pipeline with an actor that takes what comes out, and starts it.
    pub fn sink(self, name: &str, work: impl FnMut(O) + Send + 'static) -> Pipeline<I> {
        let work = Arc::new(Mutex::new(work));
        let factory = move || Sink {
            work: Arc::clone(&work),
            item: PhantomData,
        };
        let sink = self.system.actor(factory).name(name).mailbox(self.bound);
        started(self.start, [sink.spawn()].into())
    }
}

/// Starts what comes before a stage that has been started.
fn started<I, O: Send + 'static>(
    before: impl FnOnce(Next<O>) -> Pipeline<I>,
    actors: Arc<[ActorRef<O>]>,
) -> Pipeline<I> {
    let here = Next { actors };
    let cells = here.cells();
    let mut pipeline = before(here);
    pipeline.stages.push(cells);
    pipeline
}

impl<I> fmt::Debug for Pipeline<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.stages).finish()
    }
}

impl<I, O> fmt::Debug for Stages<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stages")
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}
