//! The scripts of packages, beside what build files describe.
//!
//! Owns what the loader asks of them, and what it says of those that cannot be read. Does not know what scripts become
//! (`lang/scripts`), nor how a `package.json` is read (`members`).

use std::sync::Arc;

use super::{LoadError, Loader, linked};
use crate::engine::flaws::Broken;
use crate::engine::locks::Locks;
use crate::engine::members::{self, Found};
use crate::lang::label::Label;
use crate::lang::package_json::PACKAGE_JSON;
use crate::lang::rule_use::RuleUse;
use crate::lang::scripts::{self, Scripts};
use crate::lang::target::Target;

impl Loader<'_> {
    /// The scripts of packages that no target of a build file stands for, and what cannot be read of packages.
    pub(super) fn scripts(
        &mut self,
        targets: &[Arc<Target>],
        uses: &[Arc<RuleUse>],
        broken: &[Broken],
    ) -> Result<(Scripts, Vec<Broken>), LoadError> {
        let workspace = self.env.workspace;
        let found = members::read(workspace, self.env.dirs)?;
        let is_whole = found.broken.is_empty();
        let Some(members) = found.members else {
            if is_whole {
                let misnamed = members::misnamed_tasks(workspace, None, &|_, _| false);
                self.env.evaluator.tell(misnamed);
            }
            return Ok((Scripts::default(), found.broken));
        };
        let described = linked::described(targets, uses, broken);
        let is_described = |dir: &str, name: &str| {
            let label = || Label::new(dir, &scripts::target_name(name)).ok();
            let any = !described.targets.is_empty();
            any && label().is_some_and(|label| described.targets.contains_key(&label))
        };
        let mut told = match is_whole {
            true => members::misnamed_tasks(workspace, Some(&members), &is_described),
            false => Vec::new(),
        };
        let mut scripts = match scripts::targets(&members, &described) {
            Ok(scripts) => scripts,
            Err(mistake) => {
                let mut broken = Found::none(PACKAGE_JSON, mistake)?.broken;
                broken.extend(found.broken);
                return Ok((Scripts::default(), broken));
            }
        };
        told.append(&mut scripts.warnings);
        let locks = Locks {
            files: self.env.files,
            members: &members,
            known: self.env.locks,
        };
        told.extend(locks.add(&mut self.env.memory.locks, &mut scripts.targets));
        self.env.evaluator.tell(told);
        Ok((scripts, found.broken))
    }
}
