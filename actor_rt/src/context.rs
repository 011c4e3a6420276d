//! What a handler can reach: itself, its children, its system.
//!
//! Owns: the contexts. Does not know: how orders are carried out (see `shell`).

use crate::actor::{Actor, AsyncActor};
use crate::actor_ref::ActorRef;
use crate::arena::Arena;
use crate::builder::ActorBuilder;
use crate::cell::{CellPtr, Monitor, control};
use crate::exit::{ExitReason, Failure};
use crate::pipe;
use crate::system::System;
use crate::timer::{self, Timer};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a synchronous handler can reach.
pub struct Context<'a, A: Actor> {
    inner: Inner,
    arena: Arena,
    actor: PhantomData<&'a mut A>,
}

/// What an asynchronous handler can reach.
pub struct AsyncContext<A: AsyncActor> {
    inner: Inner,
    actor: PhantomData<fn(A)>,
}

struct Inner {
    cell: CellPtr,
    stop: bool,
}

impl Inner {
    fn fail(&mut self, failure: Failure) {
        self.cell.leave_failure(ExitReason::Failed(failure));
        self.cell.control.fetch_or(control::FAIL, Ordering::AcqRel);
    }

    fn stop(&mut self) {
        self.stop = true;
        self.cell.control.fetch_or(control::STOP, Ordering::AcqRel);
    }
}

macro_rules! context_methods {
    () => {
        pub(crate) fn wants_stop(&self) -> bool {
            self.inner.stop
        }

        /// A reference to this actor.
        #[must_use]
        pub fn me(&self) -> ActorRef<A::Msg> {
            ActorRef::from_cell(self.inner.cell.to_ref())
        }

        /// The system that this actor lives in.
        #[must_use]
        pub fn system(&self) -> System {
            System::of(&self.inner.cell.runtime)
        }

        /// Stops this actor after the current message (an asynchronous one where it next awaits). What
        /// is still queued becomes dead letters.
        pub fn stop(&mut self) {
            self.inner.stop();
        }

        /// Fails this actor after the current message (an asynchronous one where it next awaits): like a
        /// panic, but in words.
        pub fn fail(&mut self, failure: impl Into<Failure>) {
            self.inner.fail(failure.into());
        }

        /// Describes a child of this actor; see [`System::actor`].
        pub fn actor<F>(&mut self, factory: F) -> ActorBuilder<'_, F> {
            ActorBuilder::new(&self.inner.cell.runtime, Some(self.inner.cell), factory)
        }

        /// Starts a child: it ends before this actor does, and does not survive a restart of it.
        pub fn spawn<C, F>(&mut self, factory: F) -> ActorRef<C::Msg>
        where
            C: Actor + Send,
            F: FnMut() -> C + Send + 'static,
        {
            self.actor(factory).spawn()
        }

        /// Starts an asynchronous child, see [`AsyncActor`].
        pub fn spawn_async<C, F>(&mut self, factory: F) -> ActorRef<C::Msg>
        where
            C: AsyncActor,
            F: FnMut() -> C + Send + 'static,
        {
            self.actor(factory).spawn_async()
        }

        /// Starts a child with a thread of its own, see [`System::spawn_dedicated`].
        pub fn spawn_dedicated<C, F>(&mut self, factory: F) -> ActorRef<C::Msg>
        where
            C: Actor,
            F: FnMut() -> C + Send + 'static,
        {
            self.actor(factory).spawn_dedicated()
        }

        /// Sends this actor a message after a time, by its own lane. See [`Timer`] for what that is and how it ends.
        pub fn after(&mut self, delay: Duration, message: A::Msg) -> Timer {
            timer::once(self.inner.cell, delay, message)
        }

        /// Sends this actor a message every `period`, the first one after one period. The next one is planned when the last one was
        /// put into the actor's own lane, which holds no more of these than the mailbox holds messages. A panic of `make` is a
        /// failure of this actor.
        ///
        /// # Panics
        /// If the period is zero.
        pub fn every(
            &mut self,
            period: Duration,
            make: impl FnMut() -> A::Msg + Send + 'static,
        ) -> Timer {
            assert!(!period.is_zero(), "a period takes some time");
            timer::every(self.inner.cell, period, make)
        }

        /// Awaits `future` and then sends this actor what `make` builds from its output: how a synchronous
        /// handler asks another actor without waiting for it. The waiting is done by a child, so it ends when
        /// this incarnation does, and a panic of the future is a failure of this actor.
        ///
        /// ```
        /// # use actor_rt::{Actor, ActorRef, AskError, Context, Reply};
        /// enum Msg { Refresh, Price(Result<u64, AskError>) }
        /// struct Shop { prices: ActorRef<Reply<u64>>, price: u64 }
        /// impl Actor for Shop {
        ///     type Msg = Msg;
        ///     fn handle(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) {
        ///         match msg {
        ///             Msg::Refresh => ctx.pipe(self.prices.ask(|reply| reply), Msg::Price),
        ///             Msg::Price(price) => self.price = price.unwrap_or(self.price),
        ///         }
        ///     }
        /// }
        /// ```
        pub fn pipe<F, T>(&mut self, future: F, make: impl FnOnce(T) -> A::Msg + Send + 'static)
        where
            F: Future<Output = T> + Send + 'static,
            T: Send + 'static,
        {
            pipe::pipe(self.inner.cell, future, make);
        }

        /// Runs `work` on a thread that may block and then sends this actor what `make` builds from its
        /// result. As for [`Self::pipe`], a panic of `work` is a failure of this actor; `work` itself is not
        /// interrupted when the actor ends. For many such jobs there is [`Pool`](crate::Pool).
        ///
        /// ```
        /// # use actor_rt::{Actor, Context};
        /// enum Msg { Load(String), Loaded(std::io::Result<String>) }
        /// struct Files { bytes: usize }
        /// impl Actor for Files {
        ///     type Msg = Msg;
        ///     fn handle(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) {
        ///         match msg {
        ///             Msg::Load(path) => ctx.blocking(|| std::fs::read_to_string(path), Msg::Loaded),
        ///             Msg::Loaded(text) => self.bytes += text.map_or(0, |text| text.len()),
        ///         }
        ///     }
        /// }
        /// ```
        pub fn blocking<T: Send + 'static>(
            &mut self,
            work: impl FnOnce() -> T + Send + 'static,
            make: impl FnOnce(T) -> A::Msg + Send + 'static,
        ) {
            pipe::blocking(self.inner.cell, work, make);
        }

        /// Monitors another actor: when it ends (or if it has), this actor gets the message that `make`
        /// builds from the reason, by its own lane (see [`Timer`]). A restart of this actor forgets the monitor; a panic of
        /// `make` is a failure of this actor.
        pub fn monitor<M: Send + 'static>(
            &mut self,
            other: &ActorRef<M>,
            make: impl FnOnce(&ExitReason) -> A::Msg + Send + 'static,
        ) -> Monitor {
            let monitor = Monitor::new(self.inner.cell.to_ref());
            let notified = monitor.clone();
            other.cell().monitor(monitor.clone(), move |reason| {
                notified.notify(|| make(reason));
            });
            monitor
        }

        /// Links this actor and another: when one of them ends by a failure or is killed, the other one
        /// fails, and its restart policy decides. Ending in peace breaks the link.
        pub fn link<M: Send + 'static>(&mut self, other: &ActorRef<M>) {
            other.cell().bequeath(self.inner.cell.to_ref());
            self.inner.cell.bequeath(other.cell().clone());
        }

        /// Breaks the link with another actor, if there is one.
        pub fn unlink<M: Send + 'static>(&mut self, other: &ActorRef<M>) {
            other.cell().disinherit(self.inner.cell);
            self.inner.cell.disinherit(other.cell().ptr());
        }

        /// How many children this actor has.
        #[must_use]
        pub fn children(&self) -> usize {
            self.inner.cell.children.count()
        }

        /// See [`ActorRef::queued`].
        #[must_use]
        pub fn queued(&self) -> usize {
            self.me().queued()
        }
    };
}

impl<A: Actor> Context<'_, A> {
    #[inline]
    pub(crate) fn new(cell: CellPtr) -> Self {
        Self {
            inner: Inner { cell, stop: false },
            arena: Arena::default(),
            actor: PhantomData,
        }
    }

    /// Memory for the length of this batch: what is put there costs a pointer's move, is not dropped, and is
    /// gone after the actor's turn. Once warm, a batch that needs no more than the last one allocates nothing.
    ///
    /// ```
    /// # use actor_rt::{Actor, Context};
    /// struct Tokens { seen: usize }
    /// impl Actor for Tokens {
    ///     type Msg = String;
    ///     fn handle(&mut self, line: String, ctx: &mut Context<'_, Self>) {
    ///         let words = bumpalo::collections::Vec::from_iter_in(line.split(' '), ctx.arena());
    ///         self.seen += words.len();
    ///     }
    /// }
    /// ```
    pub fn arena(&self) -> &bumpalo::Bump {
        self.arena.get()
    }

    context_methods!();
}

impl<A: AsyncActor> AsyncContext<A> {
    pub(crate) fn new(cell: CellPtr) -> Self {
        Self {
            inner: Inner { cell, stop: false },
            actor: PhantomData,
        }
    }

    context_methods!();
}

impl<A: Actor> fmt::Debug for Context<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.inner.cell.label())
    }
}

impl<A: AsyncActor> fmt::Debug for AsyncContext<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncContext({})", self.inner.cell.label())
    }
}
