//! What a handler can reach: itself, its children, its system.
//!
//! Owns: the contexts. Does not know: how orders are carried out (see `shell`).

use crate::actor::{Actor, AsyncActor};
use crate::actor_ref::ActorRef;
use crate::builder::ActorBuilder;
use crate::cell::{CellPtr, control};
use crate::exit::{ExitReason, Failure};
use crate::system::System;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

/// What a synchronous handler can reach.
pub struct Context<'a, A: Actor> {
    inner: Inner,
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
            System::of(self.inner.cell.runtime)
        }

        /// Stops this actor after the current message. What is still queued becomes dead letters.
        pub fn stop(&mut self) {
            self.inner.stop();
        }

        /// Fails this actor after the current message, like a panic but in words.
        pub fn fail(&mut self, failure: impl Into<Failure>) {
            self.inner.fail(failure.into());
        }

        /// Describes a child of this actor; see [`System::actor`].
        pub fn actor<F>(&mut self, factory: F) -> ActorBuilder<'_, F> {
            ActorBuilder::new(self.inner.cell.runtime, Some(self.inner.cell), factory)
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

        /// How many children this actor has.
        #[must_use]
        pub fn children(&self) -> usize {
            self.inner.cell.children.count()
        }

        /// Messages that wait in this actor's mailbox.
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
            actor: PhantomData,
        }
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
