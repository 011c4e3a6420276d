//! Who writes which path in this build.
//!
//! Owns the check that two targets do not write one file when only running them shows it (globs,
//! directory trees, transpiled files). Does not know outputs that are declared by name: the graph
//! refuses these before.
//! Invariant: a path is claimed by one label per build.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustc_hash::FxHashMap;

use crate::engine::plan::{Freshness, Plan, Planned};
use crate::lang::label::Label;
use crate::lang::target::Work;
use crate::lang::text::Text;

/// Two targets that write one path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{first} and {second} both write {path}; give one of them another output")]
pub struct Clash {
    /// The path, workspace-relative.
    pub path: String,
    /// Who had it.
    pub first: Label,
    /// Who wants it.
    pub second: Label,
}

/// Claims on output paths.
#[derive(Debug, Default)]
pub struct Claims {
    /// Whose fresh targets have theirs already.
    plan: Option<Arc<Plan>>,
    /// Made when the first step has outputs: no step has to wait for it to begin.
    owners: OnceLock<Mutex<Owners>>,
}

type Owners = FxHashMap<Text, Label>;

impl Claims {
    /// The outputs of what is fresh in `plan` belong to it.
    pub fn of(plan: Arc<Plan>) -> Self {
        Self {
            plan: Some(plan),
            owners: OnceLock::new(),
        }
    }

    fn owners(&self) -> MutexGuard<'_, Owners> {
        let owners = self.owners.get_or_init(|| {
            let plans = self.plan.iter();
            Mutex::new(plans.flat_map(|plan| fresh(&plan.nodes)).collect())
        });
        owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outputs of what is fresh among `nodes`, which were planned since, belong to it.
    pub fn add(&self, nodes: &[Planned]) {
        self.owners().extend(fresh(nodes));
    }

    /// Calls `remove` for those of `paths` that nobody has; nobody gets one before that is done.
    pub fn unclaimed<'a>(
        &self,
        paths: impl Iterator<Item = &'a str>,
        remove: impl FnOnce(&mut dyn Iterator<Item = &'a str>),
    ) {
        let claims = self.owners();
        remove(&mut paths.filter(|path| !claims.contains_key(*path)));
    }

    /// Claims `paths` for `label`, all or up to the first clash.
    ///
    /// # Errors
    /// When another label has one of them.
    pub fn claim<'a>(
        &self,
        label: &Label,
        paths: impl Iterator<Item = &'a str>,
    ) -> Result<(), Clash> {
        let mut claims = self.owners();
        for path in paths {
            match claims.get(path) {
                Some(other) if other != label => {
                    let (first, second) = if other < label {
                        (other, label)
                    } else {
                        (label, other)
                    };
                    return Err(Clash {
                        path: path.to_owned(),
                        first: first.clone(),
                        second: second.clone(),
                    });
                }
                Some(_) => {}
                None => drop(claims.insert(path.into(), label.clone())),
            }
        }
        Ok(())
    }

    /// Whether `label` may remove its old output at `path`: nobody else writes it now.
    pub fn may_remove(&self, path: &str, label: &Label) -> bool {
        let claims = self.owners();
        claims.get(path).is_none_or(|owner| owner == label)
    }
}

/// Fresh targets have built side by side before, so they do not clash.
fn fresh(nodes: &[Planned]) -> impl Iterator<Item = (Text, Label)> {
    nodes.iter().flat_map(|node| {
        let outputs = match &node.state {
            Freshness::Fresh(outputs) if node.target.work != Work::Group => &**outputs,
            _ => &[],
        };
        let paths = outputs.iter().map(|item| item.path.clone());
        paths.map(|path| (path, node.target.label.clone()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_owner() {
        let label = |text: &str| Label::parse(text, "").unwrap();
        let claims = Claims::default();
        claims
            .claim(&label("//b:y"), ["o", "p"].into_iter())
            .unwrap();
        claims.claim(&label("//b:y"), ["o"].into_iter()).unwrap();
        let clash = claims
            .claim(&label("//a:x"), ["p"].into_iter())
            .unwrap_err();
        assert_eq!(
            clash.to_string(),
            "//a:x and //b:y both write p; give one of them another output"
        );
        assert!(
            !claims.may_remove("o", &label("//a:x")) && claims.may_remove("q", &label("//a:x"))
        );
    }
}
