//! What lock files have said, so that a changed key can be told by the packages that changed.
//!
//! Owns the file of the latest few, and the words' way from digests to packages. Does not know when a target ran.
//! Invariant: without the file nothing is wrong but the words: a change is told by the name of the lock file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::graph::LockGraph;
use crate::engine::cause::{Cause, short};
use crate::engine::hash::Hash;
use crate::engine::sealed::Seal;

const SEAL: Seal = Seal {
    magic: b"ZAKOLOCK",
    format: 1,
};

/// So many are kept. A script that has not run since then is told the name of the lock file.
const MOST: usize = 8;

/// What a digest is called among the parts of a recipe, before the name of its lock file.
const PART: &str = "what is needed by ";

/// The name of that part of a recipe which the lock file `lock` decides.
pub fn part(lock: &str) -> String {
    format!("{PART}{lock}")
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    lock: Box<str>,
    /// By directory.
    digests: BTreeMap<Box<str>, Hash>,
    graph: LockGraph,
}

/// What the latest lock files said.
#[derive(Debug)]
pub struct LockMemory {
    path: PathBuf,
    /// Read when somebody asks.
    known: Mutex<Option<Vec<Known>>>,
    has_news: AtomicBool,
}

impl LockMemory {
    /// The memory in the file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::default(),
            has_news: AtomicBool::default(),
        }
    }

    /// Takes note of what the lock file `lock` says now.
    pub fn learn(&self, lock: &str, digests: &BTreeMap<Box<str>, Hash>, graph: LockGraph) {
        self.has_news.store(true, Ordering::Relaxed);
        // Another process may have learnt something meanwhile.
        let mut known = self.load();
        known.retain(|it| *it.lock != *lock || it.digests != *digests);
        known.push(Known {
            lock: lock.into(),
            digests: digests.clone(),
            graph,
        });
        known.drain(..known.len().saturating_sub(MOST));
        if let Err(error) = SEAL.save(&known, &self.path) {
            tracing::warn!("`zako why` will not know which packages changed: {error}");
        }
        let mut kept = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(known);
    }

    /// Whether something was learnt since this was asked.
    pub fn had_news(&self) -> bool {
        self.has_news.swap(false, Ordering::Relaxed)
    }

    fn load(&self) -> Vec<Known> {
        SEAL.load(&self.path).unwrap_or_else(|error| {
            tracing::warn!("{} is not used: {error}", self.path.display());
            Vec::new()
        })
    }

    /// `causes` of a script in `dir`, where a lock file's is replaced by the packages that changed, as far as they are known.
    pub fn explain(&self, dir: &str, causes: Vec<Cause>) -> Vec<Cause> {
        let is_lock =
            |cause: &Cause| matches!(cause, Cause::Part { name, .. } if name.starts_with(PART));
        if !causes.iter().any(is_lock) {
            return causes;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| self.load());
        let causes = causes.into_iter();
        let told = causes.flat_map(|cause| match packages(known, dir, &cause) {
            Some(packages) if !packages.is_empty() => packages,
            _ => vec![cause],
        });
        told.collect()
    }
}

/// The packages that `cause` stands for.
fn packages(known: &[Known], dir: &str, cause: &Cause) -> Option<Vec<Cause>> {
    let Cause::Part {
        name,
        was: Some(was),
        now: Some(now),
    } = cause
    else {
        return None;
    };
    let lock = name.strip_prefix(PART)?;
    let graph = |digest: &str| {
        let mut latest = known.iter().rev();
        let has = |it: &&Known| {
            *it.lock == *lock && it.digests.get(dir).is_some_and(|it| *short(it) == *digest)
        };
        latest.find(has).map(|it| &it.graph)
    };
    Some(graph(now)?.differences(graph(was)?, dir, lock))
}
