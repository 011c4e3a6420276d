//! The build engine: TypeScript, isolates, and builds with everything, one thing or nothing to do.
#![forbid(unsafe_code)]

pub mod cold;
pub mod edit;
pub mod isolate;
pub mod memory;
pub mod noop;
pub mod packages;
pub mod transpile;
pub(super) mod tree;
pub mod worker;

/// The name of ours in build scenarios.
const ZAKO: &str = "zako_actors";
