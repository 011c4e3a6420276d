//! `zako types`: type definitions for editors.
//!
//! Owns where they are written, and a TypeScript project for each kind of script file, with which an editor offers to a
//! file what the loader lets it import and flags the rest. Does not know these rules (`isolate`), nor the language server.
//! Invariants: a file that a person wrote is never changed; no mistake keeps the definitions of what could be read from being written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::Global;
use super::opened::{Opened, Targets};
use super::{Exit, Failure, print_line, say};
use crate::diagnostic::Diagnostic;
use crate::engine::workspace::PRIVATE_DIR;
use crate::isolate::FileKind;
use crate::lang::label::{Label, package_of};
use crate::lang::packages::Packages;

/// What all definitions speak of, with a place for the labels.
const DEFINITIONS: &str = include_str!("types/zako.d.ts");

/// The place.
const PLACE: &str = "\"$LABELS\"";

/// What rules, toolchains and options are made of.
const RULES: &str = include_str!("types/rules.d.ts");

/// What the language has and scripts do not, as far as definitions can take it back.
const ABSENT: &str = include_str!("types/absent.d.ts");

/// The parts of `es2022` without those of which scripts have nothing: weak references, shared memory, locales.
const LIBRARIES: &str = "es5 es2015.core es2015.collection es2015.generator es2015.iterable es2015.promise es2015.proxy \
    es2015.reflect es2015.symbol es2015.symbol.wellknown es2016.array.include es2017.object es2017.string \
    es2018.asyncgenerator es2018.asynciterable es2018.promise es2018.regexp es2019.array es2019.object es2019.string \
    es2019.symbol es2020.bigint es2020.promise es2020.string es2020.symbol.wellknown es2021.promise es2021.string \
    es2022.array es2022.error es2022.object es2022.regexp es2022.string";

macro_rules! modules {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("types/modules/", $name, ".d.ts")))),*]
    };
}

/// The `zako:` modules.
const MODULES: [(&str, &str); 18] = modules![
    "build" "config" "console" "core" "global" "package" "rt" "rule" "rules/cc" "rules/cc.config" "rules/cc.toolchain"
    "rules/files" "rules/index" "rules/npm" "rules/shell" "rules/typescript" "semver" "toolchain"
];

/// What an editor finds in the workspace root, if nobody wants anything else there.
const ROOT: &str = "{\n  \"files\": [],\n  \"references\": [{ \"path\": \"./.zako/types\" }]\n}\n";

/// Writes them.
pub fn run(global: &Global) -> Result<Exit, Failure> {
    Opened::look(global, write)
}

/// What could be read is written, whatever is wrong beside it: it is while somebody edits that an editor asks.
fn write(opened: &mut Opened) -> Result<Exit, Failure> {
    let found = opened.load();
    let root = opened.session.workspace.root.clone();
    let dir = root.join(PRIVATE_DIR).join("types");
    let last = Labels::read(&dir.join("zako.d.ts"));
    let (labels, told, mistaken) = match found {
        Ok(targets) => {
            let graph = &targets.graph;
            let mistakes: Vec<Diagnostic> = graph.mistakes().map(|(_, it)| it.clone()).collect();
            let mistaken = (!mistakes.is_empty()).then(|| Failure::mistakes(&mistakes));
            let broken = graph.broken().count();
            let kept = match broken {
                0 => "",
                _ => "; those of build files that cannot be read are as they were before",
            };
            let told = format!("{} labels{kept}", graph.len() - broken);
            (
                Labels::of(&targets, &opened.packages(), &last),
                told,
                mistaken,
            )
        }
        Err(failure) => (last, "labels are as they were before".into(), Some(failure)),
    };
    let text = DEFINITIONS.replace(PLACE, &labels.union());
    put(&dir.join("zako.d.ts"), &text)?;
    put(&dir.join("rules.d.ts"), RULES)?;
    put(&dir.join("absent.d.ts"), ABSENT)?;
    for (name, text) in MODULES {
        let text = format!("// Written by `zako types`.\n{text}");
        put(&dir.join(format!("modules/{name}.d.ts")), &text)?;
    }
    let scripts = opened.session.scripts();
    for kind in FileKind::ALL {
        let listed: Vec<&str> = scripts
            .iter()
            .filter(|(path, of)| **of == kind && must_be_listed(path, kind))
            .filter(|(path, _)| root.join(path).is_file())
            .map(|(path, _)| *path)
            .collect();
        put_json(&dir.join(file_name(kind)), &project(kind, &listed))?;
    }
    put_json(&dir.join("tsconfig.json"), &solution())?;
    print_line(&format!("wrote {PRIVATE_DIR}/types: {told}"))?;
    put_own(&root.join("tsconfig.json"))?;
    mistaken.map_or(Ok(Exit::Done), Err)
}

/// What an editor looks for first, unless a person wrote it.
fn put_own(path: &Path) -> Result<(), Failure> {
    match fs::read_to_string(path) {
        Ok(text) if text == ROOT => {}
        Ok(_) => say(
            "tsconfig.json is yours and was left alone; for labels in editors, add { \"path\": \"./.zako/types\" } to its \
             `references` (`tsc -b .zako/types` checks build files without it)",
        ),
        Err(_) => {
            put(path, ROOT)?;
            print_line("wrote tsconfig.json")?;
        }
    }
    Ok(())
}

/// Every way to write a label of the workspace.
struct Labels(BTreeSet<String>);

impl Labels {
    /// Those of all targets; of build files that cannot be read those among the `last` ones.
    fn of(targets: &Targets, packages: &Packages, last: &Self) -> Self {
        let graph = &targets.graph;
        let mut all = Self(BTreeSet::new());
        for text in &last.0 {
            let label = Label::parse(text, "").ok();
            let label = label.filter(|it| text.starts_with("//") && graph.is_unreadable(it));
            label.iter().for_each(|label| all.add(label));
        }
        let broken: BTreeSet<&Label> = graph.broken().map(|id| &graph.target(id).label).collect();
        // Actions of rules are nobody's dependencies but the rules'.
        let named = graph.targets().iter();
        let named = named.filter(|target| target.rule.is_none() || !target.manual);
        for label in named.map(|target| &target.label) {
            if broken.contains(label) {
                continue;
            }
            if package_of(label.dir()).is_some() {
                all.0.insert(label.to_string());
                continue;
            }
            all.0.extend(packages.other_name(label));
            all.add(label);
        }
        all
    }

    fn add(&mut self, label: &Label) {
        self.0.insert(label.to_string());
        self.0.insert(format!(":{}", label.name()));
        if label.dir().rsplit('/').next() == Some(label.name()) {
            self.0.insert(format!("//{}", label.dir()));
        }
    }

    /// Those that the definitions at `path` have.
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let ends = DEFINITIONS.split_once(PLACE);
        let union = ends.and_then(|(head, tail)| text.strip_prefix(head)?.strip_suffix(tail));
        let quoted = union.unwrap_or_default().split(" | ");
        Self(quoted.flat_map(serde_json::from_str).collect())
    }

    /// As a type.
    fn union(&self) -> String {
        if self.0.is_empty() {
            return "string".into();
        }
        let quoted = self.0.iter().map(|label| json!(label).to_string());
        quoted.collect::<Vec<String>>().join(" | ")
    }
}

/// All projects as one: an editor looks among them for the one that a file belongs to.
fn solution() -> Value {
    json!({ "files": [], "references": references(FileKind::ALL.into_iter()) })
}

/// The project of one kind of file.
///
/// A module is known to a project by `paths`, which hold for its own files only: a build file may use a rule
/// whose file imports `zako:rule`, and not import it itself. For that the rule belongs to a project that the build file's
/// refers to. Such a project has to be `composite`: all its files are named, by pattern or one by one.
fn project(kind: FileKind, listed: &[&str]) -> Value {
    let is_program = kind == FileKind::Script;
    let mut options = json!({
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "strict": true,
        "allowImportingTsExtensions": true,
        "skipLibCheck": true,
        "paths": paths(kind),
    });
    let mut files: Vec<String> = listed.iter().map(|path| format!("../../{path}")).collect();
    if is_program {
        // It runs by itself; whatever types the workspace has installed are its own.
        options["lib"] = json!(["es2022", "dom"]);
    } else {
        options["lib"] = LIBRARIES.split(' ').collect();
        options["types"] = json!([]);
        let own = ["./zako.d.ts", "./rules.d.ts", "./absent.d.ts"];
        files.extend(own.map(str::to_owned));
    }
    let name = kind.name();
    if FileKind::ALL
        .iter()
        .any(|other| *other != kind && other.may_import(kind))
    {
        options["composite"] = json!(true);
        options["emitDeclarationOnly"] = json!(true);
        options["rootDir"] = json!("../..");
        options["outDir"] = json!(format!("./out/{name}"));
        options["tsBuildInfoFile"] = json!(format!("./out/{name}.tsbuildinfo"));
    } else {
        options["noEmit"] = json!(true);
    }
    let mut exclude = vec!["../../**/node_modules", "../scratch"];
    if !is_program {
        exclude.push("../../**/scripts/**");
    }
    let made_of = FileKind::ALL
        .into_iter()
        .filter(|other| *other != kind && kind.may_import(*other));
    json!({
        "compilerOptions": options,
        "files": files,
        "include": patterns(kind),
        "exclude": exclude,
        "references": references(made_of),
    })
}

fn file_name(kind: FileKind) -> String {
    format!("tsconfig.{}.json", kind.name())
}

fn references(kinds: impl Iterator<Item = FileKind>) -> Value {
    kinds
        .map(|kind| json!({ "path": format!("./{}", file_name(kind)) }))
        .collect()
}

/// Where the modules are that such a file may import.
fn paths(kind: FileKind) -> Map<String, Value> {
    let mut paths = Map::new();
    for module in kind.modules() {
        let name = module.trim_start_matches("zako:");
        if name == "rules" {
            paths.insert(module.into(), json!(["./modules/rules/index.d.ts"]));
        } else {
            paths.insert(module.into(), json!([format!("./modules/{name}.d.ts")]));
        }
    }
    for topic in kind.topics() {
        let name = topic.trim_start_matches("zako:");
        paths.insert(topic.into(), json!([format!("./modules/{name}.d.ts")]));
    }
    paths
}

/// Files of a kind by their names, from the directory of the projects.
fn patterns(kind: FileKind) -> &'static [&'static str] {
    match kind {
        FileKind::Library => &[],
        FileKind::Script => &["../../**/*.script.ts", "../../**/scripts/**/*.ts"],
        FileKind::Package => &["../../**/zako.ts"],
        FileKind::Build => &["../../**/BUILD.ts"],
        FileKind::Rule => &["../../**/*.rule.ts"],
        FileKind::Toolchain => &["../../**/*.toolchain.ts"],
        FileKind::Config => &["../../**/*.config.ts"],
    }
}

/// Whether no pattern finds this file, which the type checker can read.
fn must_be_listed(path: &str, kind: FileKind) -> bool {
    let is_found = path.ends_with(".ts") && kind != FileKind::Library && FileKind::of(path) == kind;
    let is_own = !path.starts_with(PRIVATE_DIR);
    is_own
        && !is_found
        && [".ts", ".mts", ".json"]
            .iter()
            .any(|end| path.ends_with(end))
}

fn put_json(path: &Path, value: &Value) -> Result<(), Failure> {
    put(path, &format!("{value:#}\n"))
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).map_err(|error| cannot_write(dir, &error))?;
    fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::work(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_can_be_imported_is_defined() {
        for kind in FileKind::ALL {
            for paths in paths(kind).values() {
                let path = paths[0].as_str().unwrap();
                let name = path
                    .strip_prefix("./modules/")
                    .unwrap()
                    .strip_suffix(".d.ts")
                    .unwrap();
                assert!(MODULES.iter().any(|(known, _)| *known == name), "{name}");
            }
        }
    }

    #[test]
    fn what_others_are_made_of_can_be_referred_to() {
        let composite = |kind| project(kind, &[])["compilerOptions"]["composite"] == json!(true);
        let all = FileKind::ALL.into_iter().filter(|kind| composite(*kind));
        let names: Vec<_> = all.map(FileKind::name).collect();
        assert_eq!(names, ["library", "config", "toolchain", "rule"]);
        let build = project(FileKind::Build, &["a/targets.ts"]);
        assert_eq!(build["files"][0], "../../a/targets.ts");
        assert_eq!(build["references"][1]["path"], "./tsconfig.rule.json");
    }

    #[test]
    fn files_without_a_telling_name_are_listed() {
        assert!(must_be_listed("a/lib.ts", FileKind::Library));
        assert!(must_be_listed("a/data.json", FileKind::Library));
        assert!(must_be_listed("a/targets.ts", FileKind::Build));
        assert!(must_be_listed("scripts/BUILD.ts", FileKind::Build));
        assert!(must_be_listed("a/x.rule.mts", FileKind::Rule));
        assert!(!must_be_listed("a/BUILD.ts", FileKind::Build));
        assert!(!must_be_listed("a/lib.js", FileKind::Library));
        assert!(!must_be_listed("zako:rules/cc.rule.ts", FileKind::Rule));
    }
}
