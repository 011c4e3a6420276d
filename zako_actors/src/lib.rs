//! The build engine and the node: TypeScript build files, typed targets, incremental builds.
//!
//! Owns everything that a person calls `zako`. The store is `cas_actor`, the runtime is
//! `actor_rt`; `isolate` is the only folder that knows deno_core and `transpile` the only one that
//! knows oxc.

#![deny(unsafe_code)]

pub mod backtrace;
pub mod cli;
#[cfg(test)]
mod damaged;
pub mod diagnostic;
pub mod engine;
mod heap;
pub mod isolate;
pub mod lang;
pub mod machine;
pub mod node;
#[cfg(feature = "otel")]
mod spans;
pub mod texts;
pub mod transpile;
