//! Messages to actors of another system, over TCP, in batches.
//!
//! Owns: how an actor is published under a name and reached by it from elsewhere.
//! Does not know: clusters, discovery, what happens to a program that is not there. There is no encryption and
//! nobody is asked who they are: for networks that are trusted.
//!
//! # Rules
//! 1. A reference to a remote actor is a reference to a local one, its *outbox*; so mailbox bounds, overflow
//!    policies, routers and groups work as ever. One connection per outbox.
//! 2. Messages of one sender arrive in the order sent, each at most once. What was on its way when a
//!    connection broke may be lost; what waits in the outbox's mailbox is not.
//! 3. An actor that is full slows its senders down: its inbox stops reading, the connection fills, the outbox
//!    waits, its mailbox fills.
//! 4. A batch is whatever came while the last one was being written; nothing waits for company.
//! 5. Bytes from outside are limited in length and decoded or refused, never trusted.

mod inbox;
mod outbox;
mod wire;

pub use inbox::Inbox;

use crate::actor_ref::ActorRef;
use crate::restart::Restart;
use crate::system::System;
use outbox::Outbox;
use serde::Serialize;
use std::time::Duration;

/// Most bytes of one message on the wire: 16 MiB.
pub const LARGEST_MESSAGE: usize = wire::LARGEST;

/// A reference to the actor that another system has [published](Inbox::publish) under `name` at `address`
/// (`host:port`).
///
/// The connection is made at once and made again when it breaks, with growing pauses; after ten failures in
/// a minute the reference is closed, and the reason told through `tracing`. Messages are encoded with
/// `postcard`; both sides must use the same type, by its full name.
///
/// ```
/// use actor_rt::{System, remote, remote::Inbox, testkit::Probe};
/// # use std::time::Duration;
/// let (here, there) = (System::new()?, System::new()?);
/// let probe = Probe::<String>::new(&there);
/// let inbox = Inbox::open(&there, "127.0.0.1:0")?;
/// inbox.publish("probe", probe.actor());
///
/// let far = remote::connect::<String>(&here, &inbox.address().to_string(), "probe");
/// far.tell("hello from here".into()).expect("room");
/// assert_eq!(probe.expect(), "hello from here");
/// # far.drain();
/// # here.shutdown(Duration::from_secs(5))?;
/// # there.shutdown(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect<M>(system: &System, address: &str, name: &str) -> ActorRef<M>
where
    M: Serialize + Send + 'static,
{
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    let target = outbox::Target {
        address: address.into(),
        name: name.into(),
    };
    let policy = Restart::on_failure()
        .at_most(10, Duration::from_secs(60))
        .backoff(FIRST_PAUSE, LONGEST_PAUSE);
    system
        .actor(move || Outbox::new(target.clone()))
        .name(format!("{name} at {address}"))
        .restart(policy)
        .spawn_async()
}
