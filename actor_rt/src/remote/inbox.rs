//! The receiving side: actors that others may reach by name.
//!
//! Owns: the listener, the names, one actor per connection that reads and delivers.
//! Does not know: who connects.

use super::wire::{self, WireError};
use crate::actor::AsyncActor;
use crate::actor_ref::ActorRef;
use crate::context::AsyncContext;
use crate::exit::Failure;
use crate::restart::Restart;
use crate::system::System;
use crate::tell_error::TellError;
use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a connection may take to say whom it wants.
const GREETING: Duration = Duration::from_secs(10);
/// Before the next connection is accepted, after one could not be.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes asked for at once.
const READ: usize = 64 * 1024;
/// Messages decoded before they are delivered.
const BATCH: usize = 256;

/// Reads a connection and delivers to one published actor.
type Deliver = dyn Fn(TcpStream, BytesMut) -> Delivering + Send + Sync;
type Delivering = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// A published actor: what it takes, and how to deliver it.
#[derive(Clone)]
struct Entry {
    message: &'static str,
    deliver: Arc<Deliver>,
}

#[derive(Default)]
struct Entries(Mutex<HashMap<Arc<str>, Entry>>);

impl Entries {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open address at which actors of this system can be reached, see [`connect`](super::connect).
///
/// It stays open until [`Inbox::close`] or the end of the system.
pub struct Inbox {
    entries: Arc<Entries>,
    address: SocketAddr,
    door: ActorRef<()>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.entries.lock().keys().cloned().collect();
        f.debug_struct("Inbox")
            .field("address", &self.address)
            .field("published", &names)
            .finish()
    }
}

impl Inbox {
    /// Listens at `address` (`host:port`; port 0 takes a free one).
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub fn open(system: &System, address: &str) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let entries = Arc::<Entries>::default();
        let shared = Arc::clone(&entries);
        let listener = Arc::new(listener);
        let door = system
            .actor(move || Door {
                listener: Arc::clone(&listener),
                entries: Arc::clone(&shared),
            })
            .name(format!("inbox at {address}"))
            .spawn_async();
        Ok(Self {
            entries,
            address,
            door,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets others reach an actor by this name, from now on instead of whoever had it.
    pub fn publish<M>(&self, name: &str, actor: &ActorRef<M>)
    where
        M: DeserializeOwned + Send + 'static,
    {
        let actor = actor.clone();
        let entry = Entry {
            message: type_name::<M>(),
            deliver: Arc::new(move |stream, read| Box::pin(deliver(stream, read, actor.clone()))),
        };
        self.entries.lock().insert(name.into(), entry);
    }

    /// Lets nobody new reach an actor by this name; connections that stand remain.
    pub fn withdraw(&self, name: &str) {
        self.entries.lock().remove(name);
    }

    /// Ends the listening and all connections.
    pub fn close(&self) {
        self.door.stop();
    }
}

/// Accepts connections.
struct Door {
    listener: Arc<std::net::TcpListener>,
    entries: Arc<Entries>,
}

impl AsyncActor for Door {
    type Msg = ();

    async fn started(&mut self, ctx: &mut AsyncContext<Self>) -> Result<(), Failure> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                // Somebody hung up too early, or there are too many files open for now: those that stand are kept.
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let entries = Arc::clone(&self.entries);
            let mut stream = Some(stream);
            ctx.actor(move || Connection {
                stream: stream.take(),
                entries: Arc::clone(&entries),
            })
            .restart(Restart::never())
            .spawn_async();
        }
    }

    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {}
}

/// Reads one connection.
struct Connection {
    stream: Option<TcpStream>,
    entries: Arc<Entries>,
}

impl Connection {
    /// Finds out whom the connection is for, and tells the other side whether it may go on.
    async fn admit(&self, stream: &mut TcpStream, read: &mut BytesMut) -> Result<Entry, Failure> {
        let (name, message) = loop {
            if stream.read_buf(read).await? == 0 {
                return Err(WireError::Stranger.into());
            }
            if let Some(names) = wire::greeting(read)? {
                break names;
            }
        };
        let entry = self.entries.lock().get(&*name).cloned();
        let (answer, entry) = match entry {
            Some(entry) if entry.message == message => (wire::WELCOME, Ok(entry)),
            Some(entry) => {
                let expected = entry.message;
                let text = format!("{name} takes {expected}, not {message}");
                (wire::OTHER_TYPE, Err(Failure::new(text)))
            }
            None => {
                let text = format!("no actor is published as {name}");
                (wire::UNKNOWN, Err(Failure::new(text)))
            }
        };
        stream.write_u8(answer).await?;
        entry
    }
}

impl AsyncActor for Connection {
    type Msg = ();

    async fn started(&mut self, ctx: &mut AsyncContext<Self>) -> Result<(), Failure> {
        if let Some(mut stream) = self.stream.take() {
            let mut read = BytesMut::new();
            let admitted = self.admit(&mut stream, &mut read);
            let entry = tokio::time::timeout(GREETING, admitted).await??;
            (entry.deliver)(stream, read).await?;
        }
        ctx.stop();
        Ok(())
    }

    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {}
}

/// Reads messages and gives them to the actor until one of the two has ended.
async fn deliver<M: DeserializeOwned + Send + 'static>(
    mut stream: TcpStream,
    mut read: BytesMut,
    actor: ActorRef<M>,
) -> Result<(), Failure> {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let mut rest = &read[..];
        while let Some(message) = wire::take(&mut rest)? {
            batch.push(message);
            if batch.len() == BATCH && !hand_over(&actor, &mut batch).await {
                return Ok(());
            }
        }
        let used = read.len() - rest.len();
        read.advance(used);
        if !hand_over(&actor, &mut batch).await {
            return Ok(());
        }
        read.reserve(READ);
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
}

/// Gives the whole batch to the actor, waiting for room; `false` if the actor has ended.
async fn hand_over<M: Send + 'static>(actor: &ActorRef<M>, batch: &mut Vec<M>) -> bool {
    loop {
        match actor.tell_batch(batch) {
            Err(_) => return false,
            Ok(_) if batch.is_empty() => return true,
            // Full: wait for room with the first one.
            Ok(_) => match actor.send(batch.remove(0)).await {
                Ok(()) => {}
                Err(TellError::Closed(_)) => return false,
                // A policy that does not wait: the message is lost, as it is from a local sender who
                // does not care.
                Err(TellError::Full(_)) => {}
            },
        }
    }
}
