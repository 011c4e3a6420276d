//! What the last plan of this process says about the next one.
//!
//! Owns the question "is this target as fresh as it was then?", answered without describing its action again. Does not
//! know what makes a key.
//! Invariant: "fresh" is said only of a target that was fresh in the last plan of the same graph, described by the same
//! words, and has the same record, while its program, its sources and its outputs hold what is recorded and its
//! dependencies are fresh with the same outputs as then. Whoever is told nothing describes it anew.

use std::cell::RefCell;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::action::{Describer, Tool};
use super::files::FileTable;
use super::graph::{Graph, NodeId};
use super::outputs::is_intact;
use super::plan::{Freshness, Plan, Planned};
use super::record::{Input, InputContent, OutputItem, Record};
use crate::lang::target::{Command, Source, Target};
use crate::lang::text::Text;

/// The last plan, and who described its actions.
#[derive(Debug)]
pub struct Earlier {
    plan: Arc<Plan>,
    describer: Arc<Describer>,
}

impl Earlier {
    /// For a plan that was just made.
    pub fn new(plan: Arc<Plan>, describer: Arc<Describer>) -> Self {
        Self { plan, describer }
    }

    /// The same for the next plan, when that is one of the same graph and described by the same words.
    pub fn asked<'a>(&'a self, graph: &Arc<Graph>, describer: &'a Describer) -> Option<Asked<'a>> {
        let is_same =
            Arc::ptr_eq(&self.plan.graph, graph) && self.describer.describes_like(describer);
        is_same.then(|| {
            let mut place = vec![None; graph.len()];
            for (index, node) in self.plan.nodes.iter().enumerate() {
                place[node.id.index()] = Some(index);
            }
            Asked {
                graph: &self.plan.graph,
                last: &self.plan.nodes,
                place,
                describer,
                programs: RefCell::default(),
            }
        })
    }
}

/// The outputs of a target that is still fresh, and its program.
type Again = (Arc<[OutputItem]>, Option<Arc<Tool>>);

/// The last plan while the next one is made.
#[derive(Debug)]
pub struct Asked<'a> {
    graph: &'a Graph,
    last: &'a [Planned],
    /// Of each node of the graph in the last plan.
    place: Vec<Option<usize>>,
    describer: &'a Describer,
    /// What programs are now, by name.
    programs: RefCell<FxHashMap<&'a str, Option<Tool>>>,
}

impl<'a> Asked<'a> {
    fn last(&self, id: NodeId) -> Option<&'a Planned> {
        Some(&self.last[self.place[id.index()]?])
    }

    /// The sources of `target`, where they are what they were: no directory has a say in them.
    pub fn sources(&self, id: NodeId, target: &Target) -> Option<Arc<[Text]>> {
        let is_named = |source: &Source| matches!(source, Source::File(_));
        let last = self.last(id)?;
        let named = target.srcs.iter().all(is_named);
        named.then(|| Arc::clone(&last.sources))
    }

    /// The outputs and the program of a target that is as fresh as it was. `deps` are nodes of the new plan.
    pub fn still_fresh(
        &self,
        id: NodeId,
        sources: &[Text],
        (deps, nodes): (&[u32], &[Planned]),
        record: &Record,
        files: &FileTable,
    ) -> Option<Again> {
        let last = self.last(id)?;
        let Freshness::Fresh(outputs) = &last.state else {
            return None;
        };
        let target = self.graph.target(id);
        let command = target.command().filter(|command| is_plain(command))?;
        let is_same = Arc::ptr_eq(outputs, &record.outputs)
            && *last.sources == *sources
            && deps
                .iter()
                .all(|dep| self.is_as_it_was(&nodes[*dep as usize]))
            && self.is_program(command, last.tool.as_deref()?, files)
            && sources
                .iter()
                .all(|path| is_recorded(path, &record.inputs, files))
            && outputs.iter().all(|item| is_intact(files, item));
        is_same.then(|| (Arc::clone(outputs), last.tool.clone()))
    }

    /// Whether `node` of the new plan is fresh with the outputs that it had.
    fn is_as_it_was(&self, node: &Planned) -> bool {
        let last = self.last(node.id).map(|last| &last.state);
        match (&node.state, last) {
            (Freshness::Fresh(now), Some(Freshness::Fresh(then))) => Arc::ptr_eq(now, then),
            _ => false,
        }
    }

    /// Whether the program of `command` is this one, with this content.
    fn is_program(&self, command: &'a Command, tool: &Tool, files: &FileTable) -> bool {
        let mut programs = self.programs.borrow_mut();
        let program = programs.entry(&command.argv[0]).or_insert_with(|| {
            let env = self.describer.environment(command);
            self.describer.tool(command, &env, &[], files).ok()
        });
        program.as_ref() == Some(tool)
    }
}

/// Whether words, inputs and a program that is found on PATH are all that a command consists of.
fn is_plain(command: &Command) -> bool {
    let name = &command.argv[0];
    let is_found = name.starts_with('/') || !name.contains('/');
    is_found
        && command.env.is_empty()
        && command.special.tools.is_empty()
        && command.special.depfile.is_none()
        && command.in_place.is_none()
}

/// Whether the source at `path` holds what `inputs` say.
fn is_recorded(path: &str, inputs: &[Input], files: &FileTable) -> bool {
    let recorded = inputs.binary_search_by(|input| (*input.path).cmp(path));
    let Ok(at) = recorded else {
        return false;
    };
    files.fact(path).is_ok_and(|fact| {
        inputs[at].content
            == InputContent::File {
                hash: fact.hash,
                executable: fact.stamp.is_executable(),
            }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use serde_json::json;

    use super::super::action::Before;
    use super::super::dirs::{DirTable, SavedDirs};
    use super::super::files::SavedFiles;
    use super::super::gates::{Gates, Item};
    use super::super::plan::Planner;
    use super::super::record::OutputKind;
    use super::*;
    use crate::engine::flaws::Flaws;
    use crate::lang::descriptor::{BuildFile, read_exports};
    use crate::lang::label::Label;
    use crate::lang::packages::Packages;

    struct World {
        dir: tempfile::TempDir,
        graph: Arc<Graph>,
        records: FxHashMap<Label, Arc<Record>>,
    }

    impl World {
        /// Target `a`, and `b`, which needs it; both are up to date.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            for path in ["bin", "first"] {
                fs::create_dir(dir.path().join(path)).unwrap();
            }
            for path in ["a.txt", "b.txt", "a.out", "b.out", "bin/tool"] {
                fs::write(dir.path().join(path), path).unwrap();
            }
            allow(&dir.path().join("bin/tool"), 0o755);
            let target = |name: &str, deps: &[&str]| {
                json!({ "$zako": "command", "cmd": ["tool", format!("{name}.txt")], "srcs": [format!("{name}.txt")],
                    "outs": [format!("{name}.out")], "deps": deps })
            };
            let file = BuildFile {
                path: "BUILD.ts",
                dir: "",
                text: "",
                packages: &Packages::NONE,
            };
            let value = json!({ "a": target("a", &[]), "b": target("b", &[":a"]) });
            let targets = read_exports(&value, file).unwrap().targets;
            let graph = Arc::new(Graph::new(targets, &Flaws::default(), &|_| String::new()));
            let mut world = Self {
                dir,
                graph,
                records: FxHashMap::default(),
            };
            world.record();
            world
        }

        fn files(&self) -> FileTable {
            FileTable::new(self.dir.path().to_owned(), SavedFiles::default())
        }

        fn describer(&self) -> Arc<Describer> {
            let place = self.dir.path().display();
            let path = format!("{place}/first:{place}/bin");
            Arc::new(Describer::new(path, BTreeMap::new(), "t".into()))
        }

        /// As if both had just run.
        fn record(&mut self) {
            let (files, describer) = (self.files(), self.describer());
            let mut before: Vec<Arc<[OutputItem]>> = Vec::new();
            for name in ["a", "b"] {
                let id = self.graph.find(&Label::new("", name).unwrap()).unwrap();
                let target = self.graph.target(id);
                let sources = [Text::from(format!("{name}.txt"))];
                let deps = before.iter().map(|outputs| &**outputs);
                let action = describer.describe(target, &sources, deps, Before::default(), &files);
                let action = action.unwrap();
                let path = format!("{name}.out");
                let fact = files.fact(&path).unwrap();
                let kind = OutputKind::File {
                    hash: fact.hash,
                    size_bytes: fact.stamp.size_bytes,
                    mode: fact.stamp.kept_mode(),
                };
                let path = path.into();
                let outputs: Arc<[OutputItem]> = Arc::new([OutputItem { path, kind }]);
                before.push(Arc::clone(&outputs));
                let record = Record {
                    key: action.key,
                    recipe: action.recipe,
                    inputs: action.inputs,
                    outputs,
                    duration_us: 1,
                    shares: false,
                };
                self.records.insert(target.label.clone(), Arc::new(record));
            }
        }

        fn plan(
            &self,
            files: &FileTable,
            earlier: Option<&Earlier>,
        ) -> (Arc<Plan>, Arc<Describer>) {
            let describer = self.describer();
            let asked = earlier.and_then(|earlier| earlier.asked(&self.graph, &describer));
            assert_eq!(asked.is_some(), earlier.is_some());
            let ids = ["a", "b"].map(|name| Label::new("", name).unwrap());
            let planner = Planner {
                graph: Arc::clone(&self.graph),
                files,
                dirs: &mut DirTable::new(self.dir.path().to_owned(), SavedDirs::default()),
                describer: &describer,
                records: &self.records,
                text_of: &|_| String::new(),
                force: false,
                earlier: asked.as_ref(),
                begun: &[],
                may_read: &|_, _| false,
                written: &[],
                undescribed: &|_| false,
                mistaken: &rustc_hash::FxHashSet::default(),
            };
            let items = ids.map(|label| Item::Target(self.graph.find(&label).unwrap()));
            let plan = planner.plan(&items, &Gates::default());
            (Arc::new(plan.unwrap()), Arc::clone(&describer))
        }
    }

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn states(plan: &Plan) -> Vec<String> {
        let nodes = plan.nodes.iter();
        nodes.map(|node| format!("{:?}", node.state)).collect()
    }

    #[test]
    fn a_plan_that_knows_the_last_one_says_what_it_would_say_without() {
        type Change = fn(&mut World, &Path);
        let changes: [(usize, Change); 10] = [
            (2, |_, _| {}),
            (2, |world, _| world.record()),
            (0, |_, root| fs::write(root.join("a.txt"), "new").unwrap()),
            (1, |_, root| fs::write(root.join("b.txt"), "new").unwrap()),
            (0, |_, root| allow(&root.join("a.txt"), 0o755)),
            (0, |_, root| fs::write(root.join("a.out"), "new").unwrap()),
            (1, |_, root| fs::remove_file(root.join("b.out")).unwrap()),
            (0, |_, root| {
                fs::write(root.join("bin/tool"), "new").unwrap()
            }),
            (0, |_, root| {
                fs::write(root.join("first/tool"), "other").unwrap();
                allow(&root.join("first/tool"), 0o755);
            }),
            // `a` ran again: only `b` has to.
            (1, |world, root| {
                fs::write(root.join("a.out"), "new").unwrap();
                let before = world.records.clone();
                world.record();
                let b = Label::new("", "b").unwrap();
                world.records.insert(b.clone(), before[&b].clone());
            }),
        ];
        for (number, (fresh, change)) in changes.into_iter().enumerate() {
            let mut world = World::new();
            let files = world.files();
            let (plan, describer) = world.plan(&files, None);
            assert!(plan.is_fresh());
            let earlier = Earlier::new(plan, describer);
            let root = world.dir.path().to_owned();
            change(&mut world, &root);
            let (anew, _) = world.plan(&files, None);
            let (known, _) = world.plan(&files, Some(&earlier));
            assert_eq!(states(&known), states(&anew), "change {number}");
            let is_fresh = |state: &&String| state.starts_with("Fresh");
            let count = states(&known).iter().filter(is_fresh).count();
            assert_eq!(count, fresh, "change {number}: {:?}", states(&known));
        }
    }

    #[test]
    fn other_words_and_other_graphs_are_not_asked() {
        let world = World::new();
        let (plan, describer) = world.plan(&world.files(), None);
        let earlier = Earlier::new(plan, describer);
        let env = BTreeMap::new();
        let other = Describer::new("/bin".into(), env, "t".into());
        assert!(earlier.asked(&world.graph, &other).is_none());
        assert!(
            earlier
                .asked(&World::new().graph, &world.describer())
                .is_none()
        );
    }
}
