//! A generated monorepo, described for zako and for ninja alike.
//!
//! Owns its packages, what their steps read and write, and random edits of their sources. Does not
//! know how either of the two decides what to run.
//! Invariants: equal seeds make equal repositories and equal edits; a package never runs out of
//! sources; what a step writes is a function of what it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// Packages that depend on earlier ones, with text files for sources.
#[derive(Debug)]
pub struct Monorepo {
    /// The packages that each one depends on.
    deps: Vec<Vec<usize>>,
    rng: Rng,
    /// Every content that a source has had, to go back to.
    history: BTreeMap<String, Vec<String>>,
}

/// One step of a package.
#[derive(Debug, Clone)]
pub struct Step {
    /// As zako writes it.
    pub label: String,
    /// What it writes, relative to the root.
    pub output: String,
    /// Outputs of other steps that it reads.
    pub reads: Vec<String>,
    /// The directory whose files it reads.
    pub sources: Option<String>,
    /// A shell script to run in the package's directory.
    script: String,
}

/// Paths that an edit concerned, relative to the root.
pub type Edited = BTreeSet<String>;

fn dir(package: usize) -> String {
    format!("packages/p{package:02}")
}

impl Monorepo {
    /// So many packages with cross dependencies.
    pub fn new(packages: usize, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let deps = (0..packages)
            .map(|package| {
                let some = rng.usize(0..=3).min(package);
                let deps: BTreeSet<usize> = (0..some).map(|_| rng.usize(0..package)).collect();
                deps.into_iter().collect()
            })
            .collect();
        Self {
            deps,
            rng,
            history: BTreeMap::new(),
        }
    }

    /// The steps of all packages. `text` drops comments; `api` keeps what begins with `export`, with
    /// the api of the first dependency; `lib` is the text with the apis of dependencies; `app` sums
    /// up the libraries. So many an edit reaches some steps and stops there.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (package, deps) in self.deps.iter().enumerate() {
            let of = |package: usize, name: &str| format!("{}/{name}.out", dir(package));
            let beside = |names: &[String]| {
                let names: Vec<String> = names.iter().map(|path| format!("../../{path}")).collect();
                names.join(" ")
            };
            let mut step = |name: &str, reads: Vec<String>, script: String| {
                steps.push(Step {
                    label: format!("//{}:{name}", dir(package)),
                    output: of(package, name),
                    reads,
                    sources: (name == "text").then(|| format!("{}/src", dir(package))),
                    script,
                });
            };
            step("text", vec![], "sed '/^#/d' src/*.txt".to_owned());
            let mut reads = vec![of(package, "text")];
            reads.extend(deps.first().map(|dep| of(*dep, "api")));
            let script = format!(
                "cat {} | grep '^export' | head -n 4 || true",
                beside(&reads)
            );
            step("api", reads, script);
            let mut reads = vec![of(package, "text")];
            reads.extend(deps.iter().map(|dep| of(*dep, "api")));
            let script = format!("cat {}", beside(&reads));
            step("lib", reads, script);
            let mut reads = vec![of(package, "lib")];
            reads.extend(deps.iter().map(|dep| of(*dep, "lib")));
            let script = format!("cat {} | cksum", beside(&reads));
            step("app", reads, script);
        }
        steps
    }

    /// Writes the first sources and zako's build files below `root`.
    ///
    /// # Panics
    /// When the disk refuses, as every function here.
    pub fn write(&mut self, root: &Path) {
        for package in 0..self.deps.len() {
            for number in 0..self.rng.usize(1..=3) {
                let path = format!("{}/src/f{number}.txt", dir(package));
                let text = self.text();
                self.put(root, &path, text);
            }
        }
        self.write_zako(root);
    }

    fn write_zako(&self, root: &Path) {
        let write = |path: String, text: &str| fs::write(root.join(path), text).expect("room");
        write(
            "zako.toml".into(),
            "group = \"test\"\nartifact = \"monorepo\"\nversion = \"1.0.0\"\n",
        );
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for step in self.steps() {
            let (package, name) = step
                .label
                .trim_start_matches('/')
                .split_once(':')
                .expect("a label");
            let text = files.entry(package.to_owned()).or_insert_with(|| {
                "import { glob, target } from \"zako:build\";\nexport default {\n".to_owned()
            });
            let deps: Vec<String> = step
                .reads
                .iter()
                .map(|path| {
                    let (package, name) = path.rsplit_once('/').expect("a path");
                    format!("//{package}:{}", name.trim_end_matches(".out"))
                })
                .collect();
            let srcs = step
                .sources
                .as_ref()
                .map_or("[]", |_| "glob(\"src/*.txt\")");
            let script = format!("{{ {}; }} > {name}.out", step.script);
            let _ = writeln!(
                text,
                "  {name}: target({{ cmd: [\"sh\", \"-c\", {script:?}], srcs: {srcs}, deps: {deps:?}, outs: [\"{name}.out\"] }}),"
            );
        }
        for (package, text) in files {
            write(format!("{package}/BUILD.ts"), &(text + "};\n"));
        }
    }

    /// Writes `build.ninja` for the sources that are below `root` now. A step leaves an output alone
    /// that would not change, and ninja looks (`restat`): its way of stopping early.
    pub fn write_ninja(&self, root: &Path) {
        let mut text = String::from(
            "rule step\n  command = : $in; cd $dir && { $script; } > $name.new && \
             if cmp -s $name.new $name.out; then rm $name.new; else mv $name.new $name.out; fi\n  \
             description = RAN $label\n  restat = 1\n",
        );
        for step in self.steps() {
            let (package, name) = step
                .label
                .trim_start_matches('/')
                .split_once(':')
                .expect("a label");
            let mut inputs = step.reads.clone();
            inputs.extend(step.sources.iter().flat_map(|dir| files(root, dir)));
            let _ = writeln!(
                text,
                "build {}: step {}\n  dir = {package}\n  name = {name}\n  label = {}\n  script = {}",
                step.output,
                inputs.join(" "),
                step.label.replace(':', "$:"),
                step.script,
            );
        }
        fs::write(root.join("build.ninja"), text).expect("room");
    }

    /// What every step reads: path to content.
    pub fn inputs(&self, root: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
        let steps = self.steps();
        let read = |path: &String| {
            (
                path.clone(),
                fs::read_to_string(root.join(path)).unwrap_or_default(),
            )
        };
        steps
            .iter()
            .map(|step| {
                let sources = step.sources.iter().flat_map(|dir| files(root, dir));
                let paths: Vec<String> = step.reads.iter().cloned().chain(sources).collect();
                (step.label.clone(), paths.iter().map(read).collect())
            })
            .collect()
    }

    /// What every step wrote: path to content.
    pub fn outputs(&self, root: &Path) -> BTreeMap<String, String> {
        let read = |path: String| {
            let text = fs::read_to_string(root.join(&path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            (path, text)
        };
        self.steps()
            .into_iter()
            .map(|step| read(step.output))
            .collect()
    }

    /// Edits one to four sources in the same way below all `roots`. Tells which were written, be it
    /// with the content that they had.
    pub fn edit(&mut self, roots: &[&Path]) -> Edited {
        (0..self.rng.usize(1..=4))
            .map(|_| self.edit_one(roots))
            .collect()
    }

    fn edit_one(&mut self, roots: &[&Path]) -> String {
        let package = self.rng.usize(0..self.deps.len());
        let src = format!("{}/src", dir(package));
        let present = files(roots[0], &src);
        let path = present[self.rng.usize(0..present.len())].clone();
        let old = fs::read_to_string(roots[0].join(&path)).expect("it is there");
        let new = match self.rng.u8(0..8) {
            0 => old.replacen("# comment ", "# another comment ", 1),
            1 => old.replacen("body ", "new body ", 1),
            2 => old.replacen("export ", "export new ", 1),
            3 => {
                let known = &self.history[&path];
                known[self.rng.usize(0..known.len())].clone()
            }
            // Touched.
            4 => old,
            5 if present.len() > 1 => {
                for root in roots {
                    fs::remove_file(root.join(&path)).expect("it was there");
                }
                return path;
            }
            6 => {
                let path = format!("{src}/f{}.txt", self.rng.u8(3..8));
                let text = self.text();
                roots
                    .iter()
                    .for_each(|root| self.put(root, &path, text.clone()));
                return path;
            }
            // Gone and back again.
            _ => {
                for root in roots {
                    fs::remove_file(root.join(&path)).expect("it was there");
                }
                old
            }
        };
        roots
            .iter()
            .for_each(|root| self.put(root, &path, new.clone()));
        path
    }

    fn text(&mut self) -> String {
        let number = self.rng.u32(..);
        format!("export name{number}\n# comment {number}\nbody {number}\n")
    }

    fn put(&mut self, root: &Path, path: &str, text: String) {
        let full = root.join(path);
        fs::create_dir_all(full.parent().expect("a directory")).expect("room");
        fs::write(full, &text).expect("room");
        self.history.entry(path.to_owned()).or_default().push(text);
    }
}

/// The files in a directory, relative to the root, sorted.
fn files(root: &Path, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(dir)).expect("a package has sources");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut paths: Vec<String> = names
        .map(|name| format!("{dir}/{}", name.to_string_lossy()))
        .collect();
    paths.sort();
    paths
}

/// The newest time of change below `root`: a file that is written after that has a later one, once
/// the clock of the file system has ticked.
pub fn newest(root: &Path) -> std::time::SystemTime {
    let mut newest = std::time::UNIX_EPOCH;
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("it stands still");
            if metadata.is_dir() {
                pending.push(entry.path());
            }
            newest = newest.max(metadata.modified().expect("a time"));
        }
    }
    newest
}
