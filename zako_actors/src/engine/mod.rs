//! The build engine: from typed targets to files on disk.
//!
//! Owns the graph, keys, caches, and the running of steps. Does not know the command line, nor how
//! a result is shown: it emits events.
//! Invariants: a node always leaves "running" and every waiter is answered exactly once; a step
//! that is over has no process left.

pub mod action;
pub mod affected;
pub mod analyse;
pub mod build;
pub mod cancel;
pub mod cause;
pub mod dirs;
pub mod earlier;
mod edges;
pub mod edits;
pub mod evaluate;
mod evaluation;
pub mod event;
pub mod files;
pub mod flaws;
pub mod forecast;
pub mod gates;
pub mod graph;
pub mod group;
pub mod guard;
pub mod hash;
pub mod known_labels;
pub mod ledger;
pub mod load;
pub mod locks;
pub mod looks;
pub mod members;
pub mod open_files;
pub mod order;
pub mod outputs;
pub mod outputs_index;
pub mod packages;
pub mod picture;
pub mod plan;
pub mod process;
pub mod progress;
pub mod query;
pub mod reasons;
pub mod record;
mod remembered;
pub mod remote;
mod removal;
pub mod rounds;
pub mod sandbox;
pub mod schedule;
pub mod scratch;
pub mod sealed;
pub mod seats;
mod secrets;
mod select;
pub mod services;
pub mod session;
pub mod since;
pub mod stamp;
pub mod state;
pub mod step;
pub mod umask;
mod unlinked;
pub mod worker;
pub mod workspace;
