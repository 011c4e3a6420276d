//! The build language as data: manifest, labels, patterns and typed targets.
//!
//! Owns: what a user may write and how a mistake is answered (file, line, nearest name).
//! Does not know: how a build file is evaluated, how a step runs, what is on disk.
//! Invariant: a value of a type of this folder has been validated; nobody checks it again.

pub mod access;
pub mod amount;
mod command;
pub mod dependency;
pub mod described;
pub mod descriptor;
pub mod file_ref;
pub mod gitignore;
mod identity;
pub mod integrity;
pub mod label;
pub mod locate;
pub mod lockfile;
pub mod manifest;
pub mod npmrc;
pub mod package_json;
pub mod package_limits;
pub mod packages;
pub mod pattern;
pub mod place;
pub mod rare;
pub mod rule_use;
pub mod scripts;
pub mod search_path;
pub mod settings;
mod shards;
pub mod suggest;
pub mod target;
pub mod task;
pub mod text;
pub mod turbo;
pub mod workspace_file;
