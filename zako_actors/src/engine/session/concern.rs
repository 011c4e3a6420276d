//! Which files a build reads, or would read if they were there.
//!
//! Owns that question, between two sessions of one process. Does not know what changed.
//! Invariant: no is said only of a file that has no part in what the last session did, and would have none in what the next one does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Kept;
use crate::engine::edits::UNWATCHED;
use crate::engine::graph::Graph;
use crate::engine::locks::{LOCK_FILES, OPAQUE};
use crate::engine::state::{EvaluatedResult, Memory};
use crate::engine::workspace::Workspace;
use crate::lang::label::is_within;
use crate::lang::lockfile::LOCK;
use crate::lang::manifest::MANIFEST;
use crate::lang::package_json::{PACKAGE_JSON, PNPM_WORKSPACE};
use crate::lang::pattern::Pattern;
use crate::lang::target::{Source, join};
use crate::lang::text::Text;
use crate::lang::turbo::TURBO_FILES;
use crate::lang::workspace_file::{PACKAGE_FILE, WorkspaceFile};

/// Files that say which targets there are, in whichever directory they lie.
const DESCRIBING: [&str; 9] = [
    MANIFEST,
    LOCK,
    PACKAGE_FILE,
    PACKAGE_JSON,
    PNPM_WORKSPACE,
    TURBO_FILES[0],
    TURBO_FILES[1],
    ".gitignore",
    ".npmrc",
];

/// What a build reads.
#[derive(Debug)]
pub struct Concern {
    root: PathBuf,
    graph: Arc<Graph>,
    /// Files that were looked at, or looked for.
    known: BTreeSet<Text>,
    /// Where those lie that are named through a link.
    linked: FxHashSet<String>,
    /// Globs of sources, by their directories.
    globs: FxHashMap<String, FxHashSet<Source>>,
    builds: Vec<Pattern>,
    /// Archives that packages come from.
    archives: Vec<String>,
}

impl Kept {
    /// What the next build reads; nothing where the last one did not get as far as to say so.
    pub fn concern(&self) -> Option<Concern> {
        let (_, graph) = self.linked.as_ref()?;
        let mut concern = Concern {
            root: self.files.root().to_owned(),
            graph: Arc::clone(graph),
            known: BTreeSet::new(),
            linked: FxHashSet::default(),
            globs: FxHashMap::default(),
            builds: self.builds.clone(),
            archives: self.archives.clone(),
        };
        let files = self.files.save();
        let files = files.0.iter().map(|known| known.path.clone());
        concern.add_known(files.filter(|path| !path.starts_with('/')));
        let sources = graph.targets().iter().flat_map(|target| &target.srcs);
        let uses = self.uses.iter().flat_map(|used| used.sources());
        sources.chain(uses).for_each(|it| concern.add_source(it));
        let memory = &self.memory;
        let files = memory.files.values().map(|known| &known.sources);
        let system = memory.system.values().map(|known| &known.sources);
        let read = files.chain(system).chain(memory.rules.values());
        let absent = read.flat_map(|sources| &sources.absent);
        concern.known.extend(absent.map(|path| Text::from(&**path)));
        Some(concern)
    }
}

impl Concern {
    fn add_known(&mut self, paths: impl Iterator<Item = Text>) {
        let mut dirs: FxHashSet<String> = FxHashSet::default();
        for path in paths {
            let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
            if !dirs.contains(dir) {
                self.add_link(dir);
                dirs.insert(dir.to_owned());
            }
            let full = self.root.join(&path);
            if fs::symlink_metadata(full).is_ok_and(|it| it.is_symlink()) {
                self.add_link(&path);
            }
            self.known.insert(path);
        }
    }

    /// Takes note of where `path` lies, if that is somewhere else in the workspace.
    fn add_link(&mut self, path: &str) {
        let place = fs::canonicalize(self.root.join(path)).ok();
        let place = place.as_deref().and_then(|it| self.relative(it));
        if let Some(place) = place.filter(|place| place != path) {
            self.linked.insert(place);
        }
    }

    fn relative(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(&self.root).ok()?.to_str()?.to_owned())
    }

    fn add_source(&mut self, source: &Source) {
        match source {
            Source::File(path) => drop(self.known.insert(path.clone())),
            Source::Glob { dir, .. } => {
                let globs = self.globs.entry(dir.to_string()).or_default();
                globs.insert(source.clone());
            }
        }
    }

    /// Whether what lies at `path` in the workspace, or did, matters: of a directory whether anything in it does.
    pub fn has(&self, path: &str) -> bool {
        if self.has_known_below(path) {
            return true;
        }
        let full = self.root.join(path);
        if !fs::symlink_metadata(&full).is_ok_and(|it| it.is_dir()) {
            return self.has_file(path);
        }
        let mut entries = fs::read_dir(full).into_iter().flatten().flatten();
        entries.any(|entry| {
            let name = entry.file_name();
            let name = name.to_str().filter(|name| !UNWATCHED.contains(name));
            name.is_some_and(|name| self.has(&join(path, name)))
        })
    }

    fn has_file(&self, path: &str) -> bool {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        self.known.contains(path)
            || DESCRIBING.contains(&name)
            || self.archives.iter().any(|archive| archive == path)
            || LOCK_FILES.contains(&path)
            || path == OPAQUE
            || self.builds.iter().any(|pattern| pattern.matches(path))
            || self.graph.outputs().may_cover(path)
            || self.linked.iter().any(|place| is_within(path, place))
            || self.is_taken(path)
    }

    fn has_known_below(&self, dir: &str) -> bool {
        let first = Text::from(format!("{dir}/"));
        let found = self.known.range(first..).next();
        found.is_some_and(|path| is_within(path, dir))
    }

    fn is_taken(&self, path: &str) -> bool {
        let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let mut above = std::iter::once("").chain(&mut above);
        above.any(|dir| {
            let mut globs = self.globs.get(dir).into_iter().flatten();
            globs.any(|glob| glob.takes(path))
        })
    }
}

/// Which files are build files, by what `memory` says of `zako.ts`.
pub(super) fn build_files(workspace: &Workspace, memory: &Memory) -> Vec<Pattern> {
    let package = memory.files.get(PACKAGE_FILE).map(|known| &known.result);
    let said = match package {
        Some(EvaluatedResult::Workspace(file)) => file.builds.clone(),
        _ => WorkspaceFile::default().builds,
    };
    workspace.manifest.builds.clone().unwrap_or(said)
}
