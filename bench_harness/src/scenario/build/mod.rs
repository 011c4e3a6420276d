//! The build engine: TypeScript, isolates, and a build with nothing to do.
#![forbid(unsafe_code)]

pub mod isolate;
pub mod noop;
pub mod transpile;
pub mod worker;

/// The name of ours in build scenarios.
const ZAKO: &str = "zako_actors";
