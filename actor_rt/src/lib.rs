//! The actor runtime: mailboxes, scheduler, supervision, and the rings on their own.
//!
//! Owns: everything below. Does not know: JSON, V8, gRPC, builds.
#![doc = include_str!("../README.md")]
// Unsafe code is allowed, with reasons, in: prefetch, slab, payload/pooled, mailbox, cell, sched, ask, awaiting, dedicated, ring.
#![deny(missing_docs, unsafe_code)]

#[cfg(not(loom))]
mod actor;
#[cfg(not(loom))]
mod actor_ref;
#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
mod ask;
#[cfg(loom)]
#[allow(dead_code)]
#[path = "ask/slot.rs"]
mod ask_slot;
#[cfg(not(loom))]
mod awaiting;
#[cfg(not(loom))]
mod block;
#[cfg(not(loom))]
mod builder;
#[cfg(not(loom))]
mod cancel;
#[cfg(not(loom))]
mod cell;
#[cfg(not(loom))]
mod clock;
#[cfg(not(loom))]
mod context;
#[cfg(not(loom))]
mod dead_letter;
#[cfg(not(loom))]
mod dedicated;
#[cfg(not(loom))]
mod exit;
#[cfg(not(loom))]
mod family;
#[cfg(not(loom))]
mod group;
#[cfg(not(loom))]
mod io;
#[cfg(not(loom))]
mod machine;
#[cfg_attr(loom, allow(dead_code))]
mod mailbox;
#[cfg(not(loom))]
mod meter;
#[cfg(not(loom))]
mod observed;
#[cfg(not(loom))]
mod overflow;
#[cfg_attr(loom, allow(dead_code))]
mod parking;
#[cfg(not(loom))]
mod payload;
#[cfg(not(loom))]
mod pipe;
#[cfg(not(loom))]
mod pipeline;
#[cfg(not(loom))]
mod plain;
#[cfg(not(loom))]
mod pool;
mod prefetch;
#[cfg(not(loom))]
mod recipient;
#[cfg(all(not(loom), feature = "remote"))]
pub mod remote;
#[cfg(not(loom))]
mod restart;
pub mod ring;
#[cfg(not(loom))]
mod router;
#[cfg(not(loom))]
mod sched;
#[cfg(all(test, loom))]
#[path = "sched/models.rs"]
mod sched_models;
#[cfg(not(loom))]
mod shell;
#[cfg_attr(loom, allow(dead_code))]
mod slab;
#[cfg(not(loom))]
mod stash;
mod sync;
#[cfg(not(loom))]
mod system;
#[cfg(not(loom))]
pub mod testkit;
#[cfg(not(loom))]
mod timer;
#[cfg(not(loom))]
mod traced;

#[cfg(not(loom))]
pub use {
    actor::{Actor, AsyncActor},
    actor_ref::{ActorRef, Closed, Sending, TellError},
    ask::{Ask, AskError, Reply},
    builder::{ActorBuilder, DEFAULT_MAILBOX, Placement},
    cancel::{CancelGuard, CancelToken},
    context::{AsyncContext, Context},
    dead_letter::{DeadLetter, DeadReason},
    exit::{ExitReason, Failure},
    group::Group,
    machine::{Handler, Machine, Next},
    meter::{Latencies, Percentiles},
    overflow::{Fallback, Overflow},
    payload::{BytePool, MessageClass, Pooled},
    pipeline::{Pipeline, Stages},
    pool::{Output as PoolOutput, Pool, PoolConfig, PoolError, PoolStats, Work},
    recipient::{Handle, Recipient},
    restart::{Restart, Strategy},
    router::{Published, Route, Router, Topic},
    sched::watch::StuckHandler,
    stash::Stash,
    system::{MessageStats, ShutdownError, StartError, System, SystemBuilder, SystemStats},
    timer::Timer,
    traced::Traced,
};
