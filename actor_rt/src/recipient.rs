//! References narrowed to one type of message.
//!
//! Owns: [`Recipient`], [`messages!`](crate::messages) and [`Handle`].
//! Does not know: what else the actor understands.

use crate::actor::Actor;
use crate::actor_ref::{ActorRef, TellError};
use crate::context::Context;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A reference to anything that takes messages of type `M`, whatever else it takes.
///
/// ```
/// use actor_rt::{Actor, Context, Recipient, System};
/// struct Tick;
/// enum Msg { Tick, Text(String) }
/// impl From<Tick> for Msg { fn from(_: Tick) -> Self { Msg::Tick } }
/// impl From<String> for Msg { fn from(text: String) -> Self { Msg::Text(text) } }
/// struct Log;
/// impl Actor for Log {
///     type Msg = Msg;
///     fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
///         match msg {
///             Msg::Tick => {}
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

/// One of the message types of an actor that takes several; see [`messages!`](crate::messages).
pub trait Handle<M>: Actor {
    /// Handles one message of this type.
    fn handle_one(&mut self, message: M, ctx: &mut Context<'_, Self>);
}

/// Declares an actor's message enum from several message types, with a `From` for each, so that
/// [`ActorRef::recipient`](crate::ActorRef::recipient) and [`ActorRef::tell_from`](crate::ActorRef::tell_from)
/// take them one by one, and a method `dispatch` that hands each to the actor's [`Handle`] of its type.
///
/// ```
/// use actor_rt::{Actor, Context, Handle, Reply, System};
///
/// pub struct Deposit(pub u64);
/// pub struct Balance(pub Reply<u64>);
/// actor_rt::messages! {
///     /// What an account understands.
///     pub enum AccountMsg { Deposit(Deposit), Balance(Balance) }
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
/// assert_eq!(account.ask(|reply| Balance(reply).into()).wait()?, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! messages {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($variant:ident($message:ty)),+ $(,)? }) => {
        $(#[$meta])*
        $vis enum $name {
            $(
                #[doc = concat!("See [`", stringify!($message), "`].")]
                $variant($message),
            )+
        }
        impl $name {
            /// Hands the message to the actor's handler of its type.
            #[allow(dead_code)]
            $vis fn dispatch<A>(self, actor: &mut A, ctx: &mut $crate::Context<'_, A>)
            where
                A: $crate::Actor<Msg = $name> $(+ $crate::Handle<$message>)+
            {
                match self {
                    $(Self::$variant(message) => {
                        <A as $crate::Handle<$message>>::handle_one(actor, message, ctx)
                    })+
                }
            }
        }
        $(
            impl ::core::convert::From<$message> for $name {
                fn from(message: $message) -> Self {
                    Self::$variant(message)
                }
            }
        )+
    };
}
