//! The actor runtime: mailboxes, scheduler, supervision, and the rings on their own.
//!
//! Owns: everything below. Does not know: JSON, V8, gRPC, builds.
// Its examples need both.
#![cfg_attr(all(feature = "derive", feature = "remote"), doc = include_str!("../README.md"))]
// Unsafe code is allowed, with reasons, in: prefetch, slab, payload/pooled, mailbox, cell, sched, ask, awaiting, dedicated, ring.
#![deny(missing_docs, unsafe_code)]

// What the model checker explores, and what that stands on; who uses the rest of it is not modelled.
#[cfg_attr(loom, allow(dead_code, unused_imports))]
mod mailbox;
#[cfg_attr(loom, allow(dead_code))]
mod parking;
mod prefetch;
pub mod ring;
#[cfg_attr(loom, allow(dead_code, unused_variables))]
mod slab;
mod sync;

cfg_if::cfg_if! {
    if #[cfg(loom)] {
        // Single files of modules that are not modelled as a whole.
        #[allow(dead_code)]
        #[path = "ask/slot.rs"]
        mod ask_slot;
        #[cfg(test)]
        #[path = "sched/models.rs"]
        mod sched_models;
    } else {
        mod actor;
        mod actor_ref;
        mod arena;
        mod ask;
        mod awaiting;
        mod block;
        mod builder;
        mod cancel;
        mod cell;
        mod clock;
        mod context;
        mod dead_letter;
        mod dedicated;
        mod depths;
        mod exit;
        mod family;
        mod group;
        mod group_restart;
        mod io;
        mod machine;
        mod memory;
        mod meter;
        mod observed;
        mod overflow;
        mod payload;
        mod pipe;
        mod pipeline;
        mod plain;
        mod pool;
        mod recipient;
        #[cfg(feature = "remote")]
        pub mod remote;
        mod restart;
        mod router;
        mod sched;
        mod shell;
        mod stash;
        mod system;
        mod tell_error;
        pub mod testkit;
        mod timer;
        mod traced;

        pub use {
            actor::{Actor, AsyncActor},
            actor_ref::{ActorRef, Closed, Sending},
            ask::{Ask, AskError, Reply},
            builder::{ActorBuilder, DEFAULT_MAILBOX, Placement},
            cancel::{CancelGuard, CancelToken},
            cell::Monitor,
            context::{AsyncContext, Context},
            dead_letter::{DeadLetter, DeadReason},
            depths::MailboxDepths,
            exit::{ExitReason, Failure},
            group::Group,
            machine::{Handler, Machine, Next},
            memory::MemoryStats,
            meter::{Latencies, Percentiles},
            overflow::{Fallback, Overflow},
            payload::{BytePool, MessageClass, Pooled},
            pipeline::{Pipeline, Stages},
            pool::{Output as PoolOutput, Pool, PoolConfig, PoolError, PoolStats, Work},
            recipient::{AsyncHandle, Handle, Recipient},
            restart::{Restart, Strategy},
            router::{Published, Route, Router, Topic},
            sched::watch::StuckHandler,
            stash::Stash,
            system::{
                MessageStats, ShutdownError, StartError, System, SystemBuilder, SystemStats,
            },
            tell_error::TellError,
            timer::Timer,
            traced::Traced,
        };
        #[cfg(feature = "derive")]
        pub use recipient::Messages;
    }
}
