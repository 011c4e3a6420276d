//! The two kinds of actors.
//!
//! Owns: the traits that users implement.
//! Does not know: mailboxes, threads, supervision.

use crate::context::{AsyncContext, Context};
use crate::exit::{ExitReason, Failure};
use std::future::Future;

/// An actor whose handler is a plain function: the fast path.
///
/// The handler has the state to itself: messages are handled one at a time, those of one sender in
/// the order sent. It should not block; an actor that must (or whose state is not `Send`) belongs on
/// its own thread, see [`System::spawn_dedicated`](crate::System::spawn_dedicated).
///
/// ```
/// use actor_rt::{Actor, Context, Reply, System};
///
/// struct Counter { total: u64 }
/// enum Msg { Add(u64), Total(Reply<u64>) }
///
/// impl Actor for Counter {
///     type Msg = Msg;
///     fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
///         match msg {
///             Msg::Add(n) => self.total += n,
///             Msg::Total(reply) => reply.send(self.total),
///         }
///     }
/// }
///
/// let system = System::new()?;
/// let counter = system.spawn(|| Counter { total: 0 });
/// counter.tell(Msg::Add(2)).expect("the mailbox is open and has room");
/// assert_eq!(counter.ask(Msg::Total).wait()?, 2);
/// system.shutdown(std::time::Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Actor: Sized + 'static {
    /// What this actor understands.
    type Msg: Send + 'static;

    /// Runs before the first message of each incarnation.
    ///
    /// # Errors
    /// A failure counts like a panic of a handler: the restart policy decides.
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        let _ = ctx;
        Ok(())
    }

    /// Handles one message.
    fn handle(&mut self, msg: Self::Msg, ctx: &mut Context<'_, Self>);

    /// Runs when an incarnation that was made ends, for whatever reason, also after a panic.
    fn stopped(&mut self, reason: &ExitReason) {
        let _ = reason;
    }
}

/// An actor whose handler may await.
///
/// It is polled by the same workers as every other actor, with a tokio runtime entered, so tokio's
/// I/O, timers and processes work. While a handler waits, the actor handles no other message, and its
/// worker does other things.
///
/// ```
/// use actor_rt::{AsyncActor, AsyncContext, Reply, System};
/// use std::time::Duration;
///
/// struct Sleeper;
///
/// impl AsyncActor for Sleeper {
///     type Msg = Reply<&'static str>;
///     async fn handle(&mut self, reply: Self::Msg, _ctx: &mut AsyncContext<Self>) {
///         tokio::time::sleep(Duration::from_millis(1)).await;
///         reply.send("slept");
///     }
/// }
///
/// let system = System::new()?;
/// let sleeper = system.spawn_async(|| Sleeper);
/// assert_eq!(sleeper.ask(|reply| reply).wait()?, "slept");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait AsyncActor: Sized + Send + 'static {
    /// What this actor understands.
    type Msg: Send + 'static;

    /// Runs before the first message of each incarnation.
    ///
    /// # Errors
    /// A failure counts like a panic of a handler: the restart policy decides.
    fn started(
        &mut self,
        ctx: &mut AsyncContext<Self>,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Handles one message.
    fn handle(
        &mut self,
        msg: Self::Msg,
        ctx: &mut AsyncContext<Self>,
    ) -> impl Future<Output = ()> + Send;

    /// Runs when an incarnation that was made ends, for whatever reason, also after a panic. A
    /// handler that was awaiting when the actor was killed is dropped first.
    fn stopped(&mut self, reason: &ExitReason) {
        let _ = reason;
    }
}
