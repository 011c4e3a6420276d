//! Work in a process of its own: this program, started again with a hidden command, or one that was built beside it.
//!
//! Owns: where programs of this build are, what such a process can be asked for, how it is started, and how its answer comes back. What it is asked for is
//! an argument: the environment would go on to whatever it starts itself.
//! Does not know: how anything is measured.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::scenario::idle_memory;
use crate::{profile, stress};

/// The hidden command; its argument is a [`Probe`] as JSON.
pub const COMMAND: &str = "probe";

/// What a process of its own is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Probe {
    /// What is profiled of a scenario, once: for tools that look at a process from outside.
    Scenario {
        /// The scenario's name.
        name: String,
        /// What to measure.
        options: Options,
    },
    /// Memory of idle actors.
    IdleMemory {
        /// The library's name.
        library: String,
        /// How many actors.
        actors: u64,
    },
    /// A shape of `stress`.
    Stress {
        /// Which.
        shape: usize,
        /// Part of the full size.
        scale: f64,
    },
    /// Opening a store.
    #[cfg(feature = "store")]
    Store {
        /// How many are in it.
        blobs: u64,
        /// Where it is.
        directory: PathBuf,
    },
    /// Bare hyper, which answers until the standard input ends.
    #[cfg(feature = "store")]
    Http {
        /// Its threads.
        workers: usize,
    },
    /// Memory of a graph.
    #[cfg(feature = "build")]
    Graph {
        /// The workspace, with its cache in it.
        root: PathBuf,
        /// Whether it is that of `zako`, not of this program.
        by_zako: bool,
    },
}

impl Probe {
    /// This program and its arguments.
    ///
    /// # Errors
    /// When nobody knows where this program is, or a path is not Unicode.
    pub fn words(&self) -> anyhow::Result<[OsString; 3]> {
        let program = std::env::current_exe().context("this program has no path")?;
        let probe = serde_json::to_string(self).with_context(|| format!("{self:?}"))?;
        Ok([program.into(), COMMAND.into(), probe.into()])
    }

    /// Asks a process of its own and waits for the answer. What it complains of is seen.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub fn ask<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        let [program, arguments @ ..] = self.words()?;
        let output = Command::new(program)
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("{self:?} cannot be started"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text)
            .with_context(|| format!("{self:?}: {}, printed `{text}`", output.status))
    }

    /// The child's part: does it, and prints the answer.
    ///
    /// # Errors
    /// When it cannot be done.
    pub fn answer(&self) -> anyhow::Result<()> {
        let answer = match self {
            Self::Scenario { name, options } => {
                serde_json::to_string(&profile::once(name, options)?)
            }
            Self::IdleMemory { library, actors } => {
                serde_json::to_string(&idle_memory::look(library, *actors)?)
            }
            Self::Stress { shape, scale } => serde_json::to_string(&stress::one(*shape, *scale)?),
            #[cfg(feature = "store")]
            Self::Store { blobs, directory } => {
                serde_json::to_string(&crate::scenario::store_open::look(*blobs, directory))
            }
            #[cfg(feature = "store")]
            Self::Http { workers } => {
                return Ok(crate::scenario::http_small::serve_bare(*workers)?);
            }
            #[cfg(feature = "build")]
            Self::Graph { root, by_zako } => {
                serde_json::to_string(&crate::scenario::build::memory::look(root, *by_zako))
            }
        };
        println!("{}", answer?);
        Ok(())
    }
}

/// A program in the directory of this one; beside the directory of test programs for those.
pub fn beside(name: &str) -> Option<PathBuf> {
    let directory = std::env::current_exe().ok()?.parent()?.to_owned();
    let directory = match directory.file_name() {
        Some(last) if last == "deps" => directory.parent()?.to_owned(),
        _ => directory,
    };
    let path = directory.join(name);
    path.is_file().then_some(path)
}
