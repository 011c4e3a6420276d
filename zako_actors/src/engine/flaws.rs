//! What is wrong with targets and with build files.
//!
//! Owns the stand-in of a build file that cannot be read: a target that is not described, which is asked for with the directory and
//! needed by whatever needs something of it. Does not know who has to be told.
//! Invariant: every mistake says by its `target` whose it is.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::lang::label::Label;
use crate::lang::locate::At;
use crate::lang::pattern::Pattern;
use crate::lang::target::{Source, Target, Work};

/// A build file that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// Stands for everything that the file may describe.
    pub target: Arc<Target>,
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
            mistakes,
            was_stopped,
        })
    }
}

/// What is wrong, as far as it shows before targets are linked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flaws {
    /// Build files that cannot be read.
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
