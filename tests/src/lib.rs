//! Drives the real `zako` binary from outside, as a person or a script does.
//!
//! Owns finding the binary, throw-away workspaces, and waiting for processes. Knows nothing of how
//! zako works inside: no crate of the workspace is linked.
//! Invariants: nothing outside a temporary directory is written; nothing waits for a length of
//! time, only for an event; no process outlives its test.
#![forbid(unsafe_code)]

pub mod archive;
mod binary;
mod c_project;
pub mod each;
pub mod kinds;
mod monorepo;
mod needs;
mod node;
mod process;
mod project;
mod servers;
mod until;
mod web;
pub mod wire;

pub use binary::zako;
pub use c_project::c_project;
pub use monorepo::{Made, Monorepo, Step};
pub use needs::{
    is_installed, may_run, moto, npm_client, perfetto, python_client, sccache, typescript,
};
pub use node::{Node, succeed};
pub use process::{Outcome, Running, git, is_alive};
pub use project::Project;
pub use servers::Server;
pub use until::{until, until_so};
pub use web::{Answer, Asked, Web};
