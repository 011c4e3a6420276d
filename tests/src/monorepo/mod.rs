//! A generated monorepo, described for zako and for ninja alike.
//!
//! Owns its packages, what their steps read and write, and what both are told about that. Does not
//! know how either of the two decides what to run, nor how the repository changes (`edit`).
//! Invariants: equal seeds make equal repositories and equal edits; what a step writes is a function
//! of its script, its variables and what it reads.

mod edit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fastrand::Rng;

/// Packages that depend on earlier ones, with text files for sources.
#[derive(Debug)]
pub struct Monorepo {
    packages: BTreeMap<usize, Package>,
    /// What was removed last, to come back.
    gone: Vec<(usize, Package)>,
    /// How many packages there ever were.
    made: usize,
    rng: Rng,
    /// Every content that a source has had, to go back to.
    history: BTreeMap<String, Vec<String>>,
}

/// What the build file of a package says.
#[derive(Clone, Debug, Default)]
struct Package {
    deps: BTreeSet<usize>,
    /// A variable that `text` prints, when it is not 0.
    mark: u8,
    /// A variable that nothing prints.
    quiet: u8,
    /// A word in the command of `lib` that changes nothing.
    words: u8,
    /// A line that the command of `api` prints, when it is not 0.
    line: u8,
    /// Whether `app` writes another file than usual.
    elsewhere: bool,
    /// Whether there is a step `more`.
    more: bool,
    /// A comment in the build file.
    comment: u8,
    /// Its sources, when it is gone.
    sources: BTreeMap<String, String>,
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
    sources: Option<String>,
    /// A shell script to run in the package's directory.
    script: String,
    /// Variables of its environment.
    env: BTreeMap<&'static str, String>,
}

/// What a step is made of: when this is another one, the step has to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Script, variables and output.
    recipe: String,
    /// By path: content, and whether it may be executed.
    reads: BTreeMap<String, (String, bool)>,
}

impl Made {
    /// The same for one who does not look at permissions.
    pub fn without_permissions(&self) -> Self {
        let reads = self.reads.iter();
        Self {
            recipe: self.recipe.clone(),
            reads: reads
                .map(|(path, (text, _))| (path.clone(), (text.clone(), false)))
                .collect(),
        }
    }

    /// Whether it reads one of `paths`.
    pub fn reads_any(&self, paths: &BTreeSet<String>) -> bool {
        self.reads.keys().any(|path| paths.contains(path))
    }
}

fn dir(package: usize) -> String {
    format!("packages/p{package:02}")
}

impl Monorepo {
    /// So many packages with cross dependencies, written below `roots` with zako's build files.
    ///
    /// # Panics
    /// When the disk refuses, as every function here.
    pub fn new(packages: usize, seed: u64, roots: &[&Path]) -> Self {
        let mut repo = Self {
            packages: BTreeMap::new(),
            gone: Vec::new(),
            made: 0,
            rng: Rng::with_seed(seed),
            history: BTreeMap::new(),
        };
        for _ in 0..packages {
            repo.add_package(roots);
        }
        for root in roots {
            let manifest = "group = \"test\"\nartifact = \"monorepo\"\nversion = \"1.0.0\"\n";
            fs::write(root.join("zako.toml"), manifest).expect("room");
        }
        repo.write_zako(roots);
        repo
    }

    /// The steps of all packages. `text` drops comments; `api` keeps what begins with `export`, with
    /// the api of the first dependency; `lib` is the text with the apis of dependencies; `app` sums
    /// up the libraries, and `more` the package's own. So many an edit reaches some steps and stops there.
    pub fn steps(&self) -> Vec<Step> {
        let packages = self.packages.iter();
        packages
            .flat_map(|(number, package)| package.steps(*number))
            .collect()
    }

    fn write_zako(&self, roots: &[&Path]) {
        for (number, package) in &self.packages {
            for root in roots {
                let path = root.join(dir(*number)).join("BUILD.ts");
                let text = package.build_file(*number);
                // A build file that is not edited is not touched.
                if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                    fs::write(path, text).expect("room");
                }
            }
        }
    }

    /// Writes `build.ninja` for the sources that are below `root` now. A step leaves an output alone
    /// that would not change, and ninja looks (`restat`): its way of stopping early.
    pub fn write_ninja(&self, root: &Path) {
        let mut text = String::from(
            "rule step\n  command = : $in; cd $dir && { $script; } > $out_name.new && \
             if cmp -s $out_name.new $out_name; then rm $out_name.new; else mv $out_name.new $out_name; fi\n  \
             description = RAN $label\n  restat = 1\n",
        );
        for step in self.steps() {
            let (dir, name) = step.output.rsplit_once('/').expect("a path");
            let mut inputs = step.reads.clone();
            inputs.extend(step.sources.iter().flat_map(|dir| files(root, dir)));
            let env = step.env.iter();
            let env: String = env
                .map(|(name, value)| format!("export {name}={value}; "))
                .collect();
            let _ = writeln!(
                text,
                "build {}: step {}\n  dir = {dir}\n  out_name = {name}\n  label = {}\n  script = {}",
                step.output,
                inputs.join(" "),
                step.label.replace(':', "$:"),
                format!("{env}{}", step.script).replace('$', "$$"),
            );
        }
        fs::write(root.join("build.ninja"), text).expect("room");
    }

    /// What every step is made of, by label.
    pub fn made(&self, root: &Path) -> BTreeMap<String, Made> {
        let read = |path: String| {
            let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
            let mode = fs::metadata(root.join(&path)).map_or(0, |metadata| metadata.mode());
            (path, (text, mode & 0o100 != 0))
        };
        let made = |step: Step| {
            let sources = step.sources.iter().flat_map(|dir| files(root, dir));
            let reads = step.reads.iter().cloned().chain(sources).map(read);
            let recipe = format!("{:?} {} > {}", step.env, step.script, step.output);
            let made = Made {
                recipe,
                reads: reads.collect(),
            };
            (step.label, made)
        };
        self.steps().into_iter().map(made).collect()
    }

    /// What every step wrote, by path: content and permissions; nothing where there is no regular file.
    pub fn outputs(&self, root: &Path) -> BTreeMap<String, Option<(String, u32)>> {
        let look = |path: String| {
            let full = root.join(&path);
            let metadata = fs::symlink_metadata(&full).ok();
            let file = metadata.filter(fs::Metadata::is_file).map(|metadata| {
                let text = fs::read(full).expect("it is readable");
                let text = String::from_utf8_lossy(&text).into_owned();
                (text, metadata.mode() & 0o777)
            });
            (path, file)
        };
        let steps = self.steps().into_iter();
        steps.map(|step| look(step.output)).collect()
    }

    /// Files below `root` that look like outputs of steps and are none.
    pub fn leftovers(&self, root: &Path) -> Vec<String> {
        let known: BTreeSet<String> = self.steps().into_iter().map(|step| step.output).collect();
        let mut left = Vec::new();
        for package in fs::read_dir(root.join("packages")).expect("packages") {
            let package = package.expect("an entry").file_name();
            let dir = format!("packages/{}", package.to_string_lossy());
            let outs = files(root, &dir).into_iter();
            left.extend(outs.filter(|path| path.ends_with(".out") && !known.contains(path)));
        }
        left
    }

    /// When everything that steps read or write below `root` was last written, by path.
    pub fn times(&self, root: &Path) -> BTreeMap<String, std::time::SystemTime> {
        let mut paths: BTreeSet<String> = BTreeSet::new();
        for step in self.steps() {
            paths.extend(step.sources.iter().flat_map(|dir| files(root, dir)));
            paths.insert(step.output);
        }
        let time = |path: &String| fs::symlink_metadata(root.join(path)).ok()?.modified().ok();
        let times = paths.into_iter();
        times
            .filter_map(|path| time(&path).map(|at| (path, at)))
            .collect()
    }
}

impl Package {
    fn steps(&self, number: usize) -> Vec<Step> {
        let name_of = |name: &'static str| match (name, self.elsewhere) {
            ("app", true) => "other",
            _ => name,
        };
        let of = |package: usize, name: &str| format!("{}/{name}.out", dir(package));
        let beside = |names: &[String]| {
            let names: Vec<String> = names.iter().map(|path| format!("../../{path}")).collect();
            names.join(" ")
        };
        let mut steps = Vec::new();
        let mut step = |name: &'static str, reads: Vec<String>, script: String| {
            let mut env = BTreeMap::new();
            match name {
                "text" if self.mark > 0 => drop(env.insert("MARK", self.mark.to_string())),
                "api" if self.quiet > 0 => drop(env.insert("QUIET", self.quiet.to_string())),
                _ => {}
            }
            steps.push(Step {
                label: format!("//{}:{name}", dir(number)),
                output: of(number, name_of(name)),
                reads,
                sources: (name == "text").then(|| format!("{}/src", dir(number))),
                script,
                env,
            });
        };
        step(
            "text",
            vec![],
            "echo mark $MARK; sed '/^#/d' src/*.txt".to_owned(),
        );
        let mut reads = vec![of(number, "text")];
        reads.extend(self.deps.first().map(|dep| of(*dep, "api")));
        let line = match self.line {
            0 => String::new(),
            line => format!("echo export line {line}; "),
        };
        let script = format!(
            "{line}cat {} | grep '^export' | head -n 4 || true",
            beside(&reads)
        );
        step("api", reads, script);
        let mut reads = vec![of(number, "text")];
        reads.extend(self.deps.iter().map(|dep| of(*dep, "api")));
        let script = format!(": {}; cat {}", self.words, beside(&reads));
        step("lib", reads, script);
        let mut reads = vec![of(number, "lib")];
        reads.extend(self.deps.iter().map(|dep| of(*dep, "lib")));
        let script = format!("cat {} | cksum", beside(&reads));
        step("app", reads, script);
        if self.more {
            let reads = vec![of(number, "lib")];
            step("more", reads.clone(), format!("wc {}", beside(&reads)));
        }
        steps
    }

    fn build_file(&self, number: usize) -> String {
        let mut text = format!(
            "// {}\nimport {{ glob, target }} from \"zako:build\";\nexport default {{\n",
            self.comment
        );
        for step in self.steps(number) {
            let (_, name) = step.label.rsplit_once(':').expect("a label");
            let (_, out) = step.output.rsplit_once('/').expect("a path");
            let deps = step.reads.iter().map(|path| {
                let (package, name) = path.rsplit_once('/').expect("a path");
                format!("//{package}:{}", name.trim_end_matches(".out"))
            });
            let deps: Vec<String> = deps.collect();
            let srcs = match step.sources {
                Some(_) => "glob(\"src/*.txt\")",
                None => "[]",
            };
            let script = format!("{{ {}; }} > {out}", step.script);
            let _ = writeln!(
                text,
                "  {name}: target({{ cmd: [\"sh\", \"-c\", {script:?}], srcs: {srcs}, deps: {deps:?}, outs: [{out:?}], env: {} }}),",
                serde_json::to_string(&step.env).expect("plain text"),
            );
        }
        text + "};\n"
    }
}

/// The files in a directory, relative to the root, sorted; none when it is not there.
fn files(root: &Path, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(dir)).into_iter().flatten();
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut paths: Vec<String> = names
        .map(|name| format!("{dir}/{}", name.to_string_lossy()))
        .collect();
    paths.sort();
    paths
}
