//! References to actors: telling, asking, stopping, waiting for the end.
//!
//! Owns: [`ActorRef`].
//! Does not know: what kind of actor is behind it; only the type of its messages.
//! Invariant: an `ActorRef<M>` is only made for a cell whose messages are `M`.

use crate::ask::{Ask, Reply};
use crate::block::block_on;
use crate::cell::{CellRef, EndTicket, control};
use crate::dead_letter::DeadReason;
use crate::exit::ExitReason;
use crate::mailbox::{Mailbox, Refused, Ticket};
use crate::overflow::Overflow;
use crate::payload::Due;
use crate::recipient::Recipient;
use crate::sched::{is_worker, yield_turn};
use crate::shell::bury;
use crate::tell_error::TellError;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often a thread that met a full mailbox tries again before it sleeps, and the pauses (of 10 to 50 ns)
/// before each time.
const ROUNDS_BEFORE_SLEEP: u32 = 16;
const PAUSES_PER_ROUND: u32 = 32;

/// A reference to an actor that takes messages of type `M`. Cheap to clone; any thread may use it.
///
/// An actor lives until it is stopped, its parent ends or its system shuts down: dropping references
/// does not stop it.
pub struct ActorRef<M> {
    cell: CellRef,
    message: PhantomData<fn(M)>,
}

/// Kills an actor, unless it has ended.
struct LateKill(CellRef);

impl Due for LateKill {
    fn run(self) {
        self.0.ptr().order(control::KILL);
    }

    fn is_wanted(&self) -> bool {
        !self.0.is_ended()
    }
}

impl<M> Clone for ActorRef<M> {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            cell: self.cell.clone(),
            message: PhantomData,
        }
    }
}

impl<M> PartialEq for ActorRef<M> {
    /// The same actor, not an equal one.
    fn eq(&self, other: &Self) -> bool {
        self.cell.ptr() == other.cell.ptr()
    }
}
impl<M> Eq for ActorRef<M> {}

impl<M> std::hash::Hash for ActorRef<M> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.cell.ptr().as_ptr().hash(state);
    }
}

impl<M> fmt::Debug for ActorRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorRef({:?})", self.cell)
    }
}

impl<M: Send + 'static> ActorRef<M> {
    /// The caller sees to the invariant of this module.
    #[inline]
    pub(crate) fn from_cell(cell: CellRef) -> Self {
        debug_assert!((cell.table.message)() == std::any::TypeId::of::<M>());
        Self {
            cell,
            message: PhantomData,
        }
    }

    pub(crate) fn cell(&self) -> &CellRef {
        &self.cell
    }

    #[allow(unsafe_code)]
    #[inline(always)]
    fn mailbox(&self) -> Mailbox<'_, M> {
        // SAFETY: the invariant of this module.
        unsafe { self.cell.ptr().mailbox::<M>() }.outside(!is_worker())
    }

    /// Puts a message into the actor's mailbox. Never blocks.
    ///
    /// Messages that one thread or actor tells arrive in that order.
    ///
    /// # Errors
    /// The message comes back if the mailbox is full (and its [`Overflow`] policy does not say
    /// otherwise) or the actor takes no more messages.
    #[inline]
    pub fn tell(&self, message: M) -> Result<(), TellError<M>> {
        match self.mailbox().push(message) {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.cell.ptr().schedule();
                Ok(())
            }
            Err(Refused::Full(message)) => self.overflow(message),
            Err(Refused::Closed(message)) => Err(TellError::Closed(message)),
        }
    }

    /// What the mailbox's policy makes of a message that it has no room for.
    #[cold]
    #[inline(never)]
    fn overflow<T>(&self, mut message: T) -> Result<(), TellError<T>>
    where
        M: From<T>,
    {
        let cell = self.cell.ptr();
        match &self.cell.overflow {
            Overflow::Wait | Overflow::Fail => {
                yield_turn();
                Err(TellError::Full(message))
            }
            Overflow::DropNewest => {
                bury(cell, M::from(message), DeadReason::DroppedNewest);
                Ok(())
            }
            Overflow::DropOldest => loop {
                match self.mailbox().take_oldest() {
                    Some(oldest) => bury(cell, oldest, DeadReason::DroppedOldest),
                    None if self.mailbox().depth() >= cell.front().bound() => {
                        bury(cell, M::from(message), DeadReason::DroppedNewest);
                        return Ok(());
                    }
                    None => {}
                }
                match self.mailbox().push_from(message, || cell.schedule()) {
                    Ok(()) => return Ok(()),
                    Err(Refused::Full(back)) => message = back,
                    Err(Refused::Closed(back)) => return Err(TellError::Closed(back)),
                }
            },
            Overflow::Fallback(fallback) => {
                match Self::from_cell(fallback.cell().clone()).tell_from(message) {
                    Ok(()) => {}
                    Err(refused) => {
                        let message = M::from(refused.into_message());
                        bury(cell, message, DeadReason::FallbackRefused);
                    }
                }
                Ok(())
            }
        }
    }

    /// [`ActorRef::tell`] for anything that turns into a message; what is not accepted comes back as it
    /// was.
    ///
    /// # Errors
    /// As [`ActorRef::tell`].
    pub fn tell_from<T>(&self, message: T) -> Result<(), TellError<T>>
    where
        M: From<T>,
    {
        let schedule = || self.cell.ptr().schedule();
        match self.mailbox().push_from(message, schedule) {
            Ok(()) => Ok(()),
            Err(Refused::Full(message)) => self.overflow(message),
            Err(Refused::Closed(message)) => Err(TellError::Closed(message)),
        }
    }

    /// A reference that only takes messages of type `T`.
    #[must_use]
    pub fn recipient<T: Send + 'static>(&self) -> Recipient<T>
    where
        M: From<T>,
    {
        Recipient::narrow(self.clone())
    }

    /// Puts in as many messages as fit, from the front of `messages`, with one claim; what does not
    /// fit stays there. Returns how many went in. Overflow policies other than handing back do not
    /// apply to batches.
    ///
    /// # Errors
    /// `Closed` if the actor takes no more messages; `messages` is then untouched.
    pub fn tell_batch(&self, messages: &mut Vec<M>) -> Result<usize, TellError<()>> {
        if messages.is_empty() {
            return Ok(0);
        }
        match self.mailbox().push_many(messages) {
            Ok((count, schedule)) => {
                if schedule {
                    self.cell.ptr().schedule();
                }
                Ok(count as usize)
            }
            Err(Refused::Full(())) => {
                yield_turn();
                Ok(0)
            }
            Err(Refused::Closed(())) => Err(TellError::Closed(())),
        }
    }

    /// Puts a message in, waiting for space if the policy is [`Overflow::Wait`].
    ///
    /// ```
    /// # use actor_rt::{Actor, AsyncActor, AsyncContext, ActorRef};
    /// struct Feeder { sink: ActorRef<u64> }
    /// impl AsyncActor for Feeder {
    ///     type Msg = u64;
    ///     async fn handle(&mut self, msg: u64, _ctx: &mut AsyncContext<Self>) {
    ///         if self.sink.send(msg).await.is_err() {
    ///             eprintln!("the sink has ended");
    ///         }
    ///     }
    /// }
    /// ```
    pub fn send(&self, message: M) -> Sending<'_, M> {
        Sending {
            actor: self,
            message: Some(message),
            ticket: Ticket::default(),
        }
    }

    /// Puts a message in, blocking the thread while there is no space, if the policy is
    /// [`Overflow::Wait`]. A worker never blocks: called from a handler on a worker it behaves like
    /// [`ActorRef::tell`].
    ///
    /// # Errors
    /// As [`ActorRef::tell`].
    pub fn send_blocking(&self, message: M) -> Result<(), TellError<M>> {
        match self.tell(message) {
            Err(TellError::Full(message)) if self.waits() && !is_worker() => {
                self.send_patiently(message)
            }
            done => done,
        }
    }

    /// Sleeping and being woken costs as much as hundreds of messages, and a busy actor has room again
    /// sooner: first it is given that time, and with it the processor.
    #[cold]
    #[inline(never)]
    fn send_patiently(&self, mut message: M) -> Result<(), TellError<M>> {
        for _ in 0..ROUNDS_BEFORE_SLEEP {
            // Without looking: a look takes the actor's cache line away from it.
            (0..PAUSES_PER_ROUND).for_each(|_| std::hint::spin_loop());
            std::thread::yield_now();
            match self.tell(message) {
                Err(TellError::Full(back)) => message = back,
                done => return done,
            }
        }
        block_on(self.send(message), None).unwrap_or_else(|| unreachable!("there is no deadline"))
    }

    fn waits(&self) -> bool {
        matches!(self.cell.overflow, Overflow::Wait)
    }

    /// Asks: sends the message that `make` builds around a [`Reply`], or what turns into one, and gives the
    /// answer to come. The question is sent at once, whether or not the answer is waited for.
    ///
    /// ```
    /// # use actor_rt::{ActorRef, AskError, Reply};
    /// # use std::time::Duration;
    /// enum Msg { Total(Reply<u64>) }
    /// fn total(counter: &ActorRef<Msg>) -> Result<u64, AskError> {
    ///     counter.ask(Msg::Total).timeout(Duration::from_secs(1)).wait()
    /// }
    /// ```
    #[inline]
    pub fn ask<R: Send + 'static, T>(&self, make: impl FnOnce(Reply<R>) -> T) -> Ask<R>
    where
        M: From<T>,
    {
        let (reply, ask) = Reply::pair();
        match self.tell(make(reply).into()) {
            Ok(()) => ask,
            Err(refused) => ask.refused(refused.no_answer()),
        }
    }

    /// Asks the actor to stop after its current batch; what is still queued becomes dead letters. Its
    /// children stop first. An asynchronous handler that awaits is dropped there; [`ActorRef::drain`]
    /// lets it finish.
    pub fn stop(&self) {
        self.cell.ptr().order(control::STOP);
    }

    /// Takes no further messages, handles what is queued and the answers of `ctx.pipe` and `ctx.blocking` that are under
    /// way, lets the children do the same, then ends. Timers that are not due yet are dropped.
    pub fn drain(&self) {
        self.cell.ptr().drain();
    }

    /// [`ActorRef::stop`], and [`ActorRef::kill`] for what has not ended after `patience`.
    pub fn stop_within(&self, patience: Duration) {
        self.stop();
        self.kill_after(patience);
    }

    /// [`ActorRef::drain`], and [`ActorRef::kill`] for what has not ended after `patience`.
    pub fn drain_within(&self, patience: Duration) {
        self.drain();
        self.kill_after(patience);
    }

    fn kill_after(&self, patience: Duration) {
        let runtime = &self.cell.runtime;
        runtime.after(patience, LateKill(self.cell.clone()));
        // Most have ended by then.
        runtime.note_unwanted(1);
    }

    /// Stops the actor and its children before their next message, without waiting for the end of a
    /// batch. A handler that runs is not interrupted; an asynchronous one is dropped where it awaits.
    pub fn kill(&self) {
        self.cell.ptr().order(control::KILL);
    }

    /// Waits until the actor and all its children have ended, and says why.
    pub fn closed(&self) -> Closed<'_> {
        Closed::new(&self.cell)
    }

    /// [`ActorRef::closed`] for threads that may block; not for handlers on workers.
    ///
    /// # Panics
    /// On a worker, which would wait for itself.
    pub fn join(&self) -> ExitReason {
        assert!(
            !is_worker(),
            "a worker cannot wait for an actor to end; await `closed` instead"
        );
        match block_on(self.closed(), None) {
            Some(reason) => reason,
            None => unreachable!("there is no deadline"),
        }
    }

    /// Whether the actor takes no more messages.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cell.front().is_closed()
    }

    /// Messages that take room in the mailbox (see `ActorBuilder::mailbox`); exact only when nothing moves.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.mailbox().depth() as usize
    }

    /// Messages handled so far, by all incarnations.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.cell.handled.load(Ordering::Relaxed)
    }

    /// The name that the actor was given.
    #[must_use]
    pub fn name(&self) -> Option<Arc<str>> {
        self.cell.name()
    }
}

/// The future of [`ActorRef::send`].
#[must_use = "nothing is sent until this is awaited"]
pub struct Sending<'a, M: Send + 'static> {
    actor: &'a ActorRef<M>,
    message: Option<M>,
    ticket: Ticket,
}

impl<M: Send + 'static> Unpin for Sending<'_, M> {}

impl<M: Send + 'static> fmt::Debug for Sending<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sending(to {:?})", self.actor)
    }
}

impl<M: Send + 'static> Future for Sending<'_, M> {
    type Output = Result<(), TellError<M>>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let actor = this.actor;
        let Some(message) = this.message.take() else {
            unreachable!("a send is not polled again after it completed")
        };
        let refused = match actor.tell(message) {
            Err(TellError::Full(message)) if actor.waits() => message,
            done => {
                actor.cell.front().stop_waiting(&mut this.ticket);
                return Poll::Ready(done);
            }
        };
        actor.cell.front().wait(&mut this.ticket, task.waker());
        // Space may have come before we were registered (mailbox rule 10).
        match actor.tell(refused) {
            Err(TellError::Full(message)) => {
                this.message = Some(message);
                Poll::Pending
            }
            done => {
                actor.cell.front().stop_waiting(&mut this.ticket);
                Poll::Ready(done)
            }
        }
    }
}

impl<M: Send + 'static> Drop for Sending<'_, M> {
    fn drop(&mut self) {
        self.actor.cell.front().stop_waiting(&mut self.ticket);
    }
}

/// The future of [`ActorRef::closed`].
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct Closed<'a> {
    cell: &'a CellRef,
    ticket: EndTicket,
}

impl<'a> Closed<'a> {
    pub(crate) fn new(cell: &'a CellRef) -> Self {
        let ticket = EndTicket::default();
        Self { cell, ticket }
    }
}

impl Future for Closed<'_> {
    type Output = ExitReason;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<ExitReason> {
        let cell = self.cell;
        match cell.poll_end(&mut self.ticket, task.waker()) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.cell.stop_waiting_for_end(&self.ticket);
    }
}
