//! The sending side: a local actor that stands for a remote one.
//!
//! Owns: the connection, and the buffer between encoding and writing.
//! Does not know: what messages mean.
//! Two actors share the buffer: the outbox encodes into it, its child writes it out. While one batch is being
//! written the next one gathers; a buffer that is full lets the outbox wait. Any error is the child's failure,
//! so the outbox's as well, and its restart connects again.

use super::wire::{self, WireError};
use crate::actor::AsyncActor;
use crate::actor_ref::ActorRef;
use crate::context::AsyncContext;
use crate::exit::Failure;
use crate::restart::Restart;
use bytes::BytesMut;
use serde::Serialize;
use std::any::type_name;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Bytes that may wait to be written.
const GATHERED: usize = 256 * 1024;

/// Whom an outbox stands for.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Arc<str>,
    pub(super) name: Arc<str>,
}

#[derive(Default)]
struct Gathered {
    heap: Mutex<Heap>,
    /// Rung when the writer has taken what was gathered.
    taken: Notify,
}

#[derive(Default)]
struct Heap {
    bytes: Vec<u8>,
    /// The writer has been told and has not looked yet.
    told: bool,
}

impl Gathered {
    fn heap(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; the bytes that wait now, and whether the writer is to be told.
    fn add<M: Serialize>(&self, message: &M) -> Result<(usize, bool), WireError> {
        let mut heap = self.heap();
        wire::put(message, &mut heap.bytes)?;
        let told = std::mem::replace(&mut heap.told, true);
        Ok((heap.bytes.len(), !told))
    }
}

/// Encodes messages.
pub(super) struct Outbox<M> {
    target: Target,
    gathered: Arc<Gathered>,
    writer: Option<ActorRef<()>>,
    message: PhantomData<fn(M)>,
}

impl<M> Outbox<M> {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            gathered: Arc::default(),
            writer: None,
            message: PhantomData,
        }
    }

    /// Connects and introduces itself.
    async fn call(&self) -> Result<TcpStream, Failure> {
        let Target { address, name } = &self.target;
        let message = type_name::<M>();
        let mut stream = TcpStream::connect(&**address)
            .await
            .map_err(|error| Failure::new(format_args!("cannot connect to {address}: {error}")))?;
        stream.set_nodelay(true)?;
        let mut greeting = BytesMut::new();
        wire::greet(name, message, &mut greeting)?;
        stream.write_all(&greeting).await?;
        match stream.read_u8().await? {
            wire::WELCOME => Ok(stream),
            wire::UNKNOWN => Err(Failure::new(format_args!(
                "no actor is published as {name} at {address}"
            ))),
            wire::OTHER_TYPE => Err(Failure::new(format_args!(
                "the actor {name} at {address} takes other messages than {message}"
            ))),
            _ => Err(WireError::Stranger.into()),
        }
    }
}

impl<M: Serialize + Send + 'static> AsyncActor for Outbox<M> {
    type Msg = M;

    async fn started(&mut self, ctx: &mut AsyncContext<Self>) -> Result<(), Failure> {
        let mut stream = Some(self.call().await?);
        let Target { address, name } = &self.target;
        let gathered = Arc::clone(&self.gathered);
        let writer = ctx
            .actor(move || Writer {
                stream: stream.take(),
                gathered: Arc::clone(&gathered),
                batch: Vec::new(),
            })
            .name(format!("{name} at {address}: writer"))
            .restart(Restart::never().or_escalate())
            .spawn_async();
        self.writer = Some(writer);
        Ok(())
    }

    async fn handle(&mut self, message: M, ctx: &mut AsyncContext<Self>) {
        let (mut waiting, tell) = match self.gathered.add(&message) {
            Ok(added) => added,
            Err(error) => {
                // The message's own fault: the connection is as good as before.
                let actor = &*self.target.name;
                tracing::error!(actor, %error, "a message to a remote actor is lost");
                return;
            }
        };
        if tell
            && let Some(writer) = &self.writer
            && writer.tell(()).is_err()
        {
            // It has ended. Its failure may be on its way here still; to stop now would be to end for good.
            ctx.fail(Failure::new("the connection's writer has ended"));
            return;
        }
        while waiting > GATHERED {
            self.gathered.taken.notified().await;
            waiting = self.gathered.heap().bytes.len();
        }
    }
}

/// Writes what was gathered.
struct Writer {
    stream: Option<TcpStream>,
    gathered: Arc<Gathered>,
    batch: Vec<u8>,
}

impl AsyncActor for Writer {
    type Msg = ();

    async fn handle(&mut self, (): (), ctx: &mut AsyncContext<Self>) {
        {
            let mut heap = self.gathered.heap();
            // What is added from here on tells us again.
            heap.told = false;
            std::mem::swap(&mut self.batch, &mut heap.bytes);
        }
        self.gathered.taken.notify_one();
        let Some(stream) = &mut self.stream else {
            return;
        };
        let written = stream.write_all(&self.batch).await;
        self.batch.clear();
        if let Err(error) = written {
            ctx.fail(Failure::new(format_args!("the connection broke: {error}")));
        }
    }
}
