//! The memory behind `zako why`: when each target last ran, and because of what.
//!
//! Owns the file and its merging. Does not know how causes are found.
//! Invariants: a target that was merely found up to date keeps its last real run; of targets that are not described any
//! more the latest few are known; a file that cannot be read costs answers, never a build.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::cause::{Cause, RecipeParts};
use super::event::Outcome;
use super::sealed::Seal;
use crate::lang::label::Label;
use crate::lang::text::{Text, sharing};

const SEAL: Seal = Seal {
    magic: b"ZAKOWHY\n",
    format: 5,
};

/// So many targets are known that are not described any more.
const MOST_GONE: usize = 1000;

/// The last time that a target ran, was restored, or failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// Seconds since 1970.
    pub at_s: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Wall time, µs.
    pub duration_us: u64,
    /// Why it was not up to date.
    pub causes: Vec<Cause>,
    /// What its recipe was made of.
    pub parts: RecipeParts,
}

/// A last run as it is on disk, a tenth of its size in memory: few are ever asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    #[serde(with = "serde_bytes")]
    own: Box<[u8]>,
    /// Those parts of the recipe that most targets have alike, as JSON; in memory once.
    common: Text,
}

/// Packs last runs.
#[derive(Debug, Default)]
pub struct Packing {
    common: FxHashSet<Text>,
}

impl Packing {
    /// `run`, packed; nothing where it cannot be.
    pub fn pack(&mut self, mut run: LastRun) -> Option<Packed> {
        let mut common = run.parts;
        // The rest is the environment, the program and the version of zako.
        run.parts = common
            .extract_if(.., |name, _| {
                name.ends_with(']') || name.starts_with("output ") || name.starts_with("what ")
            })
            .collect();
        let common = serde_json::to_string(&common).ok()?;
        let common = match self.common.get(common.as_str()) {
            Some(common) => common.clone(),
            None => {
                let common = Text::from(common);
                self.common.insert(common.clone());
                common
            }
        };
        let own = postcard::to_stdvec(&run).ok()?.into();
        Some(Packed { own, common })
    }
}

impl Packed {
    fn unpack(&self) -> Option<LastRun> {
        let mut run: LastRun = postcard::from_bytes(&self.own).ok()?;
        let common: RecipeParts = serde_json::from_str(&self.common).ok()?;
        run.parts.extend(common);
        Some(run)
    }
}

/// Last runs by label.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reasons {
    runs: BTreeMap<Label, Packed>,
    /// Of targets that were not described any more when something ran, the latest to go last.
    gone: Vec<(Label, Packed)>,
}

impl Reasons {
    /// What `path` holds; nothing when it cannot be used.
    pub fn load(path: &Path) -> Self {
        sharing(|| SEAL.load(path)).unwrap_or_else(|error| {
            tracing::warn!("{} is not used: {error}", path.display());
            Self::default()
        })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        SEAL.save(self, path)
    }

    /// The last run of a target.
    pub fn get(&self, label: &Label) -> Option<LastRun> {
        let gone = || self.gone.iter().rev().find(|(of, _)| of == label);
        let run = self.runs.get(label);
        run.or_else(|| gone().map(|(_, run)| run))?.unpack()
    }

    /// The targets that have run.
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        self.runs
            .keys()
            .chain(self.gone.iter().map(|(label, _)| label))
    }

    /// Takes note of runs; targets that are not `known` any more are gone, and may come back.
    pub fn merge(
        &mut self,
        runs: impl IntoIterator<Item = (Label, Packed)>,
        known: impl Fn(&Label) -> bool,
    ) {
        let back = self.gone.extract_if(.., |(label, _)| known(label));
        self.runs.extend(back);
        self.gone
            .extend(self.runs.extract_if(.., |label, _| !known(label)));
        let too_many = self.gone.len().saturating_sub(MOST_GONE);
        self.gone.drain(..too_many);
        self.runs.extend(runs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_merged_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("why");
        let label = |name: &str| Label::new("a", name).unwrap();
        let run = LastRun {
            at_s: 7,
            outcome: Outcome::Executed,
            duration_us: 9,
            causes: vec![Cause::New],
            parts: [
                ("cmd[0]", "cc"),
                ("env.PATH", "f00"),
                ("output o", "declared"),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        };
        let mut packing = Packing::default();
        let mut packed = || packing.pack(run.clone()).unwrap();
        assert!(packed().common.contains("env.PATH") && !packed().common.contains("cmd"));
        let mut reasons = Reasons::load(&path);
        reasons.merge(["x", "y"].map(|name| (label(name), packed())), |_| true);
        reasons.merge([], |known| *known == label("x"));
        reasons.save(&path).unwrap();
        let again = Reasons::load(&path);
        assert_eq!(again.get(&label("x")), Some(run.clone()));
        assert_eq!(again.get(&label("y")), Some(run.clone()), "it is gone");
        assert_eq!(again.labels().count(), 2);
        assert_eq!(again.get(&label("z")), None);

        reasons.merge([], |_| true);
        assert!(reasons.gone.is_empty(), "it is back");
        let many = (0..2 * MOST_GONE).map(|n| (label(&n.to_string()), packed()));
        reasons.merge(many, |_| true);
        reasons.merge([], |_| false);
        assert_eq!(reasons.labels().count(), MOST_GONE);
        std::fs::write(&path, "no such thing").unwrap();
        assert_eq!(Reasons::load(&path).get(&label("x")), None);
    }
}
