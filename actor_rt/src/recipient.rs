//! References narrowed to one type of message.
//!
//! Owns: [`Recipient`], [`Handle`] and [`AsyncHandle`], and the name of the derive that calls them.
//! Does not know: what else the actor understands.

use crate::actor::{Actor, AsyncActor};
use crate::actor_ref::ActorRef;
use crate::ask::{Ask, Reply};
use crate::context::{AsyncContext, Context};
use crate::tell_error::TellError;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

/// A reference to anything that takes messages of type `M`, whatever else it takes.
///
/// ```
/// # #[cfg(feature = "derive")] {
/// use actor_rt::{Actor, Context, Messages, Recipient, System};
/// struct Tick;
/// #[derive(Messages)]
/// enum Msg { Tick(Tick), Text(String) }
/// struct Log;
/// impl Actor for Log {
///     type Msg = Msg;
///     fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
///         match msg {
///             Msg::Tick(Tick) => {}
///             Msg::Text(text) => println!("{text}"),
///         }
///     }
/// }
/// let system = System::new()?;
/// let log = system.spawn(|| Log);
/// let ticks: Recipient<Tick> = log.recipient();
/// let texts: Recipient<String> = log.recipient();
/// ticks.tell(Tick).expect("room");
/// texts.tell("hello".into()).expect("room");
/// # }
/// # Ok::<(), actor_rt::StartError>(())
/// ```
pub struct Recipient<M> {
    target: Arc<dyn Target<M>>,
}

trait Target<M>: Send + Sync {
    fn tell(&self, message: M) -> Result<(), TellError<M>>;
    fn is_closed(&self) -> bool;
    fn queued(&self) -> usize;
    /// Where the actor is: its identity.
    fn place(&self) -> usize;
}

struct Narrowed<N, M> {
    actor: ActorRef<N>,
    message: PhantomData<fn(M)>,
}

impl<N: From<M> + Send + 'static, M> Target<M> for Narrowed<N, M> {
    fn tell(&self, message: M) -> Result<(), TellError<M>> {
        self.actor.tell_from(message)
    }

    fn is_closed(&self) -> bool {
        self.actor.is_closed()
    }

    fn queued(&self) -> usize {
        self.actor.queued()
    }

    fn place(&self) -> usize {
        self.actor.cell().ptr().as_ptr().addr()
    }
}

impl<M> Clone for Recipient<M> {
    fn clone(&self) -> Self {
        Self {
            target: Arc::clone(&self.target),
        }
    }
}

impl<M> PartialEq for Recipient<M> {
    /// The same actor, not an equal one.
    fn eq(&self, other: &Self) -> bool {
        self.target.place() == other.target.place()
    }
}
impl<M> Eq for Recipient<M> {}

impl<M> fmt::Debug for Recipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient<{}>", std::any::type_name::<M>())
    }
}

impl<M: Send + 'static> Recipient<M> {
    pub(crate) fn narrow<N: From<M> + Send + 'static>(actor: ActorRef<N>) -> Self {
        Self {
            target: Arc::new(Narrowed {
                actor,
                message: PhantomData,
            }),
        }
    }

    /// As [`ActorRef::tell`]; a message that is not accepted comes back unconverted.
    ///
    /// # Errors
    /// As [`ActorRef::tell`].
    pub fn tell(&self, message: M) -> Result<(), TellError<M>> {
        self.target.tell(message)
    }

    /// As [`ActorRef::ask`].
    pub fn ask<R: Send + 'static>(&self, make: impl FnOnce(Reply<R>) -> M) -> Ask<R> {
        let (reply, ask) = Reply::pair();
        match self.tell(make(reply)) {
            Ok(()) => ask,
            Err(refused) => ask.refused(refused.no_answer()),
        }
    }

    /// Whether the actor takes no more messages.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.target.is_closed()
    }

    /// Messages that wait in the mailbox.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.target.queued()
    }
}

impl<M: Send + 'static> From<ActorRef<M>> for Recipient<M> {
    fn from(actor: ActorRef<M>) -> Self {
        Self::narrow(actor)
    }
}

/// One of the message types of an actor that takes several; see [`Messages`](crate::Messages).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handler for messages of type `{M}`",
    label = "no `Handle<{M}>`",
    note = "write `impl Handle<{M}> for {Self}`, with a method `handle_one`"
)]
pub trait Handle<M>: Actor {
    /// Handles one message of this type.
    fn handle_one(&mut self, message: M, ctx: &mut Context<'_, Self>);
}

/// [`Handle`] of an asynchronous actor: its `dispatch` is `dispatch_async`.
///
/// ```
/// # #[cfg(feature = "derive")] {
/// use actor_rt::{AsyncActor, AsyncContext, AsyncHandle, Messages, Reply, System};
///
/// struct Sleep(std::time::Duration);
/// struct Naps(Reply<u32>);
/// #[derive(Messages)]
/// enum Msg {
///     Sleep(Sleep),
///     Naps(Naps),
/// }
///
/// struct Sleeper { naps: u32 }
/// impl AsyncActor for Sleeper {
///     type Msg = Msg;
///     async fn handle(&mut self, msg: Msg, ctx: &mut AsyncContext<Self>) {
///         msg.dispatch_async(self, ctx).await;
///     }
/// }
/// impl AsyncHandle<Sleep> for Sleeper {
///     async fn handle_one(&mut self, Sleep(time): Sleep, _ctx: &mut AsyncContext<Self>) {
///         tokio::time::sleep(time).await;
///         self.naps += 1;
///     }
/// }
/// impl AsyncHandle<Naps> for Sleeper {
///     async fn handle_one(&mut self, Naps(reply): Naps, _ctx: &mut AsyncContext<Self>) {
///         reply.send(self.naps);
///     }
/// }
///
/// let system = System::new()?;
/// let sleeper = system.spawn_async(|| Sleeper { naps: 0 });
/// sleeper.tell_from(Sleep(std::time::Duration::from_millis(1))).expect("room");
/// assert_eq!(sleeper.ask(Naps).wait()?, 1);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no asynchronous handler for messages of type `{M}`",
    label = "no `AsyncHandle<{M}>`",
    note = "write `impl AsyncHandle<{M}> for {Self}`, with an `async fn handle_one`"
)]
pub trait AsyncHandle<M>: AsyncActor {
    /// Handles one message of this type.
    fn handle_one(
        &mut self,
        message: M,
        ctx: &mut AsyncContext<Self>,
    ) -> impl Future<Output = ()> + Send;
}

/// Makes an enum the message of an actor that takes several types, with a handler for each.
///
/// Each variant holds one value, of a type that no other variant holds. What is made:
///
/// - a `From` for each type, so that [`ActorRef::tell_from`], [`ActorRef::ask`] and [`ActorRef::recipient`] take it as it
///   is, without the enum's name;
/// - a method `dispatch`, which hands the message to the actor's [`Handle`] of its type, and `dispatch_async`, which
///   does it for an [`AsyncActor`] with its [`AsyncHandle`]. A type without a handler is an error of the compiler that
///   names it.
///
/// ```
/// use actor_rt::{Actor, Context, Handle, Messages, Reply, System};
///
/// pub struct Deposit(pub u64);
/// pub struct Balance(pub Reply<u64>);
///
/// /// What an account understands.
/// #[derive(Messages)]
/// pub enum AccountMsg {
///     Deposit(Deposit),
///     Balance(Balance),
/// }
///
/// #[derive(Default)]
/// struct Account { balance: u64 }
/// impl Actor for Account {
///     type Msg = AccountMsg;
///     fn handle(&mut self, msg: AccountMsg, ctx: &mut Context<'_, Self>) {
///         msg.dispatch(self, ctx);
///     }
/// }
/// impl Handle<Deposit> for Account {
///     fn handle_one(&mut self, Deposit(sum): Deposit, _ctx: &mut Context<'_, Self>) {
///         self.balance += sum;
///     }
/// }
/// impl Handle<Balance> for Account {
///     fn handle_one(&mut self, Balance(reply): Balance, _ctx: &mut Context<'_, Self>) {
///         reply.send(self.balance);
///     }
/// }
///
/// let system = System::new()?;
/// let account = system.spawn(Account::default);
/// account.tell_from(Deposit(5)).expect("room");
/// assert_eq!(account.ask(Balance).wait()?, 5);
/// let deposits = account.recipient::<Deposit>();      // takes these only
/// deposits.tell(Deposit(3)).expect("room");
/// assert_eq!(account.ask(Balance).wait()?, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A variant that does not hold exactly one value is refused:
///
/// ```compile_fail
/// #[derive(actor_rt::Messages)]
/// enum Msg { Tick, Add(u64) }
/// ```
///
/// So are two variants that hold the same, of which `From` could mean either:
///
/// ```compile_fail
/// use actor_rt::Reply;
/// #[derive(actor_rt::Messages)]
/// enum Msg { Sum(Reply<u64>), Count(Reply<u64>) }
/// ```
///
/// And a type that the actor has no handler for:
///
/// ```compile_fail,E0277
/// use actor_rt::{Actor, Context, Messages};
/// struct Add(u64);
/// #[derive(Messages)]
/// enum Msg { Add(Add) }
/// struct Counter;
/// impl Actor for Counter {
///     type Msg = Msg;
///     fn handle(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) {
///         msg.dispatch(self, ctx);
///     }
/// }
/// ```
#[cfg(feature = "derive")]
pub use actor_rt_derive::Messages;
