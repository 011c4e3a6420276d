//! What is wrong with targets and with build files.
//!
//! Owns the stand-in of what cannot be read, a build file, a `package.json` or a package from elsewhere: a target that is not
//! described, which is asked for with the directory and needed by whatever needs something of it; and which directories those
//! stand for. Does not know who has to be told.
//! Invariant: every mistake says by its `target` whose it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::diagnostic::Diagnostic;
use crate::lang::label::{Label, LabelPattern, is_within};
use crate::lang::locate::At;
use crate::lang::pattern::Pattern;
use crate::lang::target::{Source, Target, Work};

/// Something that describes targets and cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// Stands for everything that it may describe.
    pub target: Arc<Target>,
    /// Whether that is also what lies in directories below, as far as nothing else describes these.
    pub reaches_below: bool,
    /// What is wrong with it; at least one.
    pub mistakes: Vec<Diagnostic>,
    /// Whether it was stopped at a limit, and not just now: it may well be read the next time.
    pub was_stopped: bool,
}

impl Broken {
    /// The build file at `path`, which describes `dir`.
    ///
    /// # Errors
    /// The mistakes, when nothing in `dir` can have a label.
    pub fn new(
        path: &str,
        dir: &str,
        mistakes: Vec<Diagnostic>,
        was_stopped: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        let name = path.rsplit('/').next().unwrap_or(path);
        Self::named(name, path, dir, mistakes, was_stopped)
    }

    /// What stands in the file at `path`, reaches to all directories below `dir`, and is called `name`.
    ///
    /// # Errors
    /// As above.
    pub fn below(
        name: &str,
        path: &str,
        dir: &str,
        mistakes: Vec<Diagnostic>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let broken = Self::named(name, path, dir, mistakes, false)?;
        Ok(Self {
            reaches_below: true,
            ..broken
        })
    }

    fn named(
        name: &str,
        path: &str,
        dir: &str,
        mistakes: Vec<Diagnostic>,
        was_stopped: bool,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (Ok(label), Ok(everything)) = (Label::new(dir, name), Pattern::parse("**")) else {
            return Err(mistakes);
        };
        let mistakes = mistakes.into_iter().map(|it| it.about(&label)).collect();
        let target = Target {
            label,
            at: At::file(path),
            // What is there may be a source of something.
            srcs: vec![Source::Glob {
                dir: dir.into(),
                include: vec![everything],
                exclude: Vec::new(),
                ignored: None,
            }],
            deps: Vec::new(),
            work: Work::Unfinished { test: false },
            manual: false,
            rule: None,
        };
        Ok(Self {
            target: Arc::new(target),
            reaches_below: false,
            mistakes,
            was_stopped,
        })
    }
}

/// Directories of which nobody knows what is described there, each with what stands for that.
#[derive(Clone, Debug)]
pub struct Gaps<T> {
    own: BTreeMap<String, Vec<T>>,
    below: Vec<(String, T)>,
    /// Directories that something is known of; only where something reaches below.
    described: FxHashSet<String>,
}

impl<T> Default for Gaps<T> {
    fn default() -> Self {
        Self {
            own: BTreeMap::new(),
            below: Vec::new(),
            described: FxHashSet::default(),
        }
    }
}

impl<T: Copy + PartialEq> Gaps<T> {
    /// Those of `broken`, for each of which something stands; `targets` are known.
    pub fn new<'a>(
        broken: impl Iterator<Item = (&'a Broken, T)>,
        targets: impl Iterator<Item = &'a Label>,
    ) -> Self {
        let mut gaps = Self::default();
        let mut stand_ins = FxHashSet::default();
        for (it, stand_in) in broken {
            let label = &it.target.label;
            let dir = label.dir().to_owned();
            match it.reaches_below {
                true => gaps.below.push((dir, stand_in)),
                false => gaps.own.entry(dir).or_default().push(stand_in),
            }
            stand_ins.insert(label);
        }
        if !gaps.below.is_empty() {
            let others = targets.filter(|label| !stand_ins.contains(label));
            gaps.described = others.map(|label| label.dir().to_owned()).collect();
        }
        gaps
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.below.is_empty()
    }

    /// What stands for whatever is not known in `dir`.
    pub fn of(&self, dir: &str) -> impl Iterator<Item = T> {
        let own = self.own.get(dir).into_iter().flatten();
        let is_open = !self.below.is_empty() && !self.described.contains(dir);
        let below = self.below.iter().filter(move |_| is_open);
        let below = below.filter(move |(above, _)| is_within(dir, above));
        own.copied().chain(below.map(|(_, it)| *it))
    }

    /// Everything that stands for something.
    pub fn all(&self) -> impl Iterator<Item = T> {
        let below = self.below.iter().map(|(_, it)| *it);
        self.own.values().flatten().copied().chain(below)
    }

    /// Whether `pattern`, which names no single target, may mean something that `stand_in` stands for.
    pub fn may_mean(&self, pattern: &LabelPattern, stand_in: T) -> bool {
        let mut own = self.own.iter();
        if own.any(|(dir, all)| all.contains(&stand_in) && pattern.covers(dir)) {
            return true;
        }
        let mut below = self.below.iter().filter(|(_, it)| *it == stand_in);
        below.any(|(above, _)| match pattern {
            LabelPattern::One(_) => false,
            LabelPattern::Package(dir) => is_within(dir, above) && !self.described.contains(dir),
            LabelPattern::Tree(dir) | LabelPattern::Named(dir, _) => {
                is_within(dir, above) || is_within(above, dir)
            }
        })
    }
}

/// What is wrong, as far as it shows before targets are linked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flaws {
    /// What cannot be read.
    pub broken: Vec<Broken>,
    /// Mistakes of targets.
    pub mistakes: Vec<Diagnostic>,
}

impl Flaws {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.broken.is_empty() && self.mistakes.is_empty()
    }
}
