//! A runtime in which user code runs, and what may be asked of it again.
//!
//! Owns: which evaluations a runtime can serve after its first, and that a thread keeps one at most.
//! Does not know: what an evaluation is asked for.
//! Invariants: a kept runtime served evaluations only that differ in nothing but the entry and the call, whose modules
//! keep nothing from one call to the next (`transpile::lasting`) and were frozen before the first; no evaluation of it
//! failed or was stopped. The engine wants the isolates of a thread to go in the reverse order in which they came:
//! one that is kept is the only one of its thread at that moment, and so stays below all others.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use deno_core::JsRuntime;
use serde_json::Value;

use super::limits::Brake;
use super::loader::WorkspaceLoader;
use super::modules::ModuleGraph;
use super::runtime::{self, Host, Startup};
use super::{ContextKind, EvaluateRequest};

/// A runtime after its lock-down.
pub(super) struct Live {
    pub runtime: JsRuntime,
    pub host: Host,
    pub loader: Rc<WorkspaceLoader>,
    pub brake: Brake,
    root: PathBuf,
    context: ContextKind,
    execution_context: Value,
    heap_bytes: usize,
    entries: BTreeSet<String>,
    modules: BTreeMap<String, String>,
    absent: BTreeSet<String>,
}

impl Live {
    /// A new one, for `request` and those like it.
    ///
    /// # Errors
    /// The engine's message.
    pub fn new(
        request: &EvaluateRequest,
        graph: &Rc<RefCell<ModuleGraph>>,
        startup: Startup,
    ) -> Result<Self, String> {
        let heap_bytes = request.limits.heap_bytes;
        let loader = Rc::new(WorkspaceLoader::new(Rc::clone(graph)));
        let mut runtime = runtime::create(loader.clone(), heap_bytes, startup)?;
        let brake = Brake::new(&mut runtime);
        loader.obey(&brake);
        let host = runtime::lock_down(&mut runtime, request.context, &request.execution_context)?;
        Ok(Self {
            runtime,
            host,
            loader,
            brake,
            root: request.root.clone(),
            context: request.context,
            execution_context: request.execution_context.clone(),
            heap_bytes,
            entries: BTreeSet::new(),
            modules: BTreeMap::new(),
            absent: BTreeSet::new(),
        })
    }

    /// Whether it can serve this evaluation as a new one would: the modules that are in it are those that would be
    /// loaded now, and nothing has stopped it. (A path that was tried in vain and now leads somewhere changes what an import
    /// means. A heap may reach its limit when the answer is there already.)
    pub fn fits(&self, request: &EvaluateRequest, graph: &ModuleGraph) -> bool {
        let known = |path: &String| self.modules.get(path);
        self.brake.cause().is_none()
            && self.root == request.root
            && self.context == request.context
            && self.heap_bytes == request.limits.heap_bytes
            && self.execution_context == request.execution_context
            && graph.digests().iter().all(|(path, digest)| {
                known(path).is_none_or(|one| one == digest) && !self.absent.contains(path)
            })
            && graph
                .absent_paths()
                .iter()
                .all(|path| known(path).is_none())
    }

    /// Whether the entry was evaluated in it.
    pub fn has(&self, entry: &str) -> bool {
        self.entries.contains(entry)
    }

    /// Notes that the entry of `graph` was evaluated in it.
    pub fn loaded(&mut self, entry: &str, graph: &ModuleGraph) {
        self.entries.insert(entry.to_owned());
        let digests = graph.digests().iter();
        self.modules
            .extend(digests.map(|(path, digest)| (path.clone(), digest.clone())));
        self.absent.extend(graph.absent_paths().iter().cloned());
    }
}

thread_local! {
    static IS_TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// Where an evaluator keeps a runtime: the thread has one place, whoever comes first.
#[derive(Default)]
pub(super) struct Kept(Option<Live>);

impl Kept {
    /// The runtime that is kept, if it fits; another one is gone after this.
    pub fn take(&mut self, request: &EvaluateRequest, graph: &ModuleGraph) -> Option<Live> {
        let live = self.0.take()?;
        IS_TAKEN.set(false);
        Some(live).filter(|live| live.fits(request, graph))
    }

    /// Keeps a runtime, the only one of this thread, or gives it back.
    pub fn keep(&mut self, live: Live) -> Option<Live> {
        if self.0.is_some() || IS_TAKEN.replace(true) {
            return Some(live);
        }
        self.0 = Some(live);
        None
    }

    /// Lets go of what is kept.
    pub fn clear(&mut self) {
        if self.0.take().is_some() {
            IS_TAKEN.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use actor_rt::CancelToken;

    use super::*;

    /// A runtime for `request`, in a workspace with one file, entered as evaluators do.
    fn with_live(test: impl FnOnce(Live, &EvaluateRequest, &ModuleGraph)) {
        let workspace = tempfile::tempdir().unwrap();
        std::fs::write(workspace.path().join("BUILD.ts"), "export default {};").unwrap();
        let request = EvaluateRequest::new(workspace.path(), "BUILD.ts", ContextKind::Build);
        let compiler = Rc::default();
        let (graph, loaded) =
            ModuleGraph::load(&request.root, &request.entry, request.context, &compiler);
        loaded.unwrap();
        let graph = Rc::new(RefCell::new(graph));
        let reactor = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _entered = reactor.enter();
        let live = Live::new(&request, &graph, Startup::default()).unwrap();
        test(live, &request, &graph.borrow());
    }

    #[test]
    fn a_token_that_is_late_does_not_stop_a_runtime_that_is_kept() {
        with_live(|live, request, graph| {
            let mut request = request.clone();
            request.cancel = CancelToken::new();
            // The evaluation ends when the token runs its actions already.
            let guards = Arc::new(Mutex::new(None));
            let ending = Arc::clone(&guards);
            let _first = request
                .cancel
                .on_cancel(move || drop(ending.lock().unwrap().take()));
            *guards.lock().unwrap() = Some(live.brake.arm(&request));
            request.cancel.cancel();
            assert!(guards.lock().unwrap().is_none());
            assert_eq!(live.brake.cause(), None);
            let mut kept = Kept::default();
            assert!(kept.keep(live).is_none());
            assert!(kept.take(&request, graph).is_some());
        });
    }

    #[test]
    fn a_runtime_that_was_stopped_is_not_used_again() {
        with_live(|live, request, graph| {
            let mut request = request.clone();
            request.cancel = CancelToken::new();
            request.cancel.cancel();
            drop(live.brake.arm(&request));
            let mut kept = Kept::default();
            assert!(kept.keep(live).is_none());
            assert!(kept.take(&request, graph).is_none());
        });
    }
}
