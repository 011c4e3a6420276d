//! Scripts that write to one directory, under random edits, removals and kills: what is there is what a clean build leaves, and then
//! there is nothing to do.
//!
//! `ZAKO_EDITS_SEED` and `ZAKO_EDITS_ROUNDS` choose another run; without a seed each run has one of its own, and a failure prints
//! the line to type.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use fastrand::Rng;
use zako_tests::{Project, until_so};

const NAMES: [&str; 4] = ["build", "build:cjs", "types", "styles"];

/// How a script writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All of its files, each time.
    Anew,
    /// After it took away what lies there, of others, too.
    Alone,
    /// What is not there as it would be, after it was built once.
    Changed,
}

/// The scripts of one package.
struct World {
    project: Project,
    rng: Rng,
    ways: [Way; NAMES.len()],
    /// To be typed to have the same run again.
    line: String,
}

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

impl World {
    fn new(test: &str, ways: &[Way]) -> (Self, u64) {
        let seed = variable("ZAKO_EDITS_SEED", u64::from(fastrand::u32(..)));
        let rounds = variable("ZAKO_EDITS_ROUNDS", 12);
        let line = format!(
            "ZAKO_EDITS_SEED={seed} ZAKO_EDITS_ROUNDS={rounds} cargo test -p zako_tests --test shared_places_random {test}"
        );
        println!("{line}");
        let mut rng = Rng::with_seed(seed);
        let project = Project::new();
        project.write(".gitignore", "dist\n");
        project.write("package.json", r#"{"name": "acme", "workspaces": ["a"]}"#);
        let ways = NAMES.map(|_| ways[rng.usize(0..ways.len())]);
        let mut world = Self {
            project,
            rng,
            ways,
            line,
        };
        world.describe();
        for name in NAMES {
            world.edit(name);
        }
        (world, rounds)
    }

    /// Writes `package.json` and `turbo.json`.
    fn describe(&mut self) {
        let scripts = NAMES.iter().zip(self.ways).map(|(name, way)| {
            let source = format!("src/{}.txt", name.replace(':', "."));
            let begin = if way == Way::Alone {
                "rm -rf dist; "
            } else {
                ""
            };
            let copy = |to: &str| match way {
                Way::Changed => format!("(cmp -s {source} {to} || cp {source} {to})"),
                _ => format!("cp {source} {to}"),
            };
            let [one, two] = files(name).map(|file| copy(&file));
            let line = format!("echo ran >> $RAN; {begin}mkdir -p dist/deep && {one} && {two}");
            ((*name).to_owned(), line.into())
        });
        let scripts: serde_json::Map<_, _> = scripts.collect();
        let package = serde_json::json!({"name": "a", "scripts": scripts});
        self.project.write("a/package.json", &package.to_string());
        let tasks = NAMES.iter().map(|name| {
            let inputs = [format!("src/{}.txt", name.replace(':', "."))];
            let needs: &[&str] = if *name == "styles" { &["build"] } else { &[] };
            let task =
                serde_json::json!({"dependsOn": needs, "inputs": inputs, "outputs": ["dist/**"]});
            ((*name).to_owned(), task)
        });
        let tasks: serde_json::Map<_, _> = tasks.collect();
        let turbo = serde_json::json!({ "tasks": tasks });
        self.project.write("turbo.json", &turbo.to_string());
    }

    /// Some content for the source of `name`; often one that it had.
    fn edit(&mut self, name: &str) {
        let content = format!("{name} {}\n", self.rng.u8(0..4));
        let source = format!("a/src/{}.txt", name.replace(':', "."));
        self.project.write(&source, &content);
    }

    fn labels(&mut self, wanted: impl Fn(&mut Rng) -> bool) -> Vec<String> {
        let names = NAMES.iter().filter(|_| wanted(&mut self.rng));
        names
            .map(|name| format!("//a:{}", name.replace(':', ".")))
            .collect()
    }

    fn arguments(&mut self, wanted: impl Fn(&mut Rng) -> bool) -> Vec<String> {
        let jobs = if self.rng.bool() { "1" } else { "8" };
        let mut all = vec!["build".to_owned(), "-j".into(), jobs.into()];
        all.extend(self.labels(wanted));
        if self.rng.u8(0..6) == 0 {
            all.push("--force".into());
        }
        all
    }

    /// Somebody does something.
    fn act(&mut self) -> String {
        let name = NAMES[self.rng.usize(0..NAMES.len())];
        let dist = self.project.root().join("a/dist");
        match self.rng.u8(0..8) {
            0..4 => {
                self.edit(name);
                format!("edit {name}")
            }
            4 => {
                // It may be gone already.
                drop(fs::remove_dir_all(dist));
                "remove dist".into()
            }
            5 => {
                let file = files(name)[self.rng.usize(0..2)].clone();
                drop(fs::remove_file(self.project.root().join("a").join(&file)));
                format!("remove {file}")
            }
            6 => {
                let some = self.arguments(Rng::bool);
                let some: Vec<&str> = some.iter().map(String::as_str).collect();
                if some.iter().any(|it| it.starts_with("//")) {
                    self.project.zako(&some).succeeds();
                }
                format!("{some:?}")
            }
            _ => {
                self.project.zako(&["clean"]).succeeds();
                "clean".into()
            }
        }
    }

    /// Builds all of it, and sees whether that is what the sources say, and all that there is to do.
    fn is_built(&mut self, after: &[String]) {
        let all = self.arguments(|_| true);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let said = self.project.zako(&all).succeeds().text();
        assert!(
            !said.contains("warning"),
            "{said}\n{after:?}\n{:?}",
            self.ways
        );
        let mut expected = BTreeMap::new();
        for name in NAMES {
            let source = self
                .project
                .read(&format!("a/src/{}.txt", name.replace(':', ".")));
            expected.extend(files(name).map(|file| (file, source.clone())));
        }
        let mut found = BTreeMap::new();
        read(&self.project.root().join("a"), "dist", &mut found);
        assert_eq!(found, expected, "{after:?}\n{:?}\n{}", self.ways, self.line);
        self.project.ran();
        let again = [
            "build",
            "//a:build",
            "//a:build.cjs",
            "//a:types",
            "//a:styles",
        ];
        let again = self.project.zako(&again).succeeds().text();
        assert!(
            again.contains("4 up to date"),
            "{again}\n{after:?}\n{:?}\n{}",
            self.ways,
            self.line
        );
        assert!(self.project.ran().is_empty());
    }
}

/// What a script leaves.
fn files(name: &str) -> [String; 2] {
    let name = name.replace(':', ".");
    [format!("dist/{name}.js"), format!("dist/deep/{name}.d.ts")]
}

/// Whether a process works below `dir`.
fn has_process_in(dir: &Path) -> bool {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let mut places = all.map(|entry| fs::read_link(entry.path().join("cwd")));
    places.any(|place| place.is_ok_and(|place| place.starts_with(dir)))
}

/// All files below `dir` of `root`.
fn read(root: &Path, dir: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(root.join(dir)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{dir}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read(root, &path, found);
        } else {
            found.insert(path, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

#[test]
fn what_is_left_is_what_a_clean_build_leaves_whatever_is_edited() {
    let (mut world, rounds) = World::new("what_is_left", &[Way::Anew, Way::Alone, Way::Changed]);
    let mut acts = Vec::new();
    for _ in 0..rounds {
        world.is_built(&acts);
        for _ in 0..world.rng.usize(1..4) {
            let act = world.act();
            acts.push(act);
        }
    }
    world.project.store_is_intact();
}

#[test]
fn a_killed_build_goes_on_to_what_a_clean_one_leaves() {
    let (mut world, rounds) = World::new("a_killed_build", &[Way::Anew, Way::Alone]);
    let events = world.project.outside().join("events");
    let mut acts = Vec::new();
    for _ in 0..rounds {
        let mut all = world.arguments(|_| true);
        all.extend(["--events".into(), events.to_str().unwrap().into()]);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let lines = world.rng.usize(0..12);
        acts.push(format!("kill after {lines} lines"));
        // Those of the build before.
        drop(fs::remove_file(&events));
        let running = world.project.start(&all);
        until_so("events", || {
            let text = fs::read_to_string(&events).unwrap_or_default();
            text.lines().count() >= lines || !running.is_alive()
        });
        // It may have ended by itself, with nobody to have waited for it: then this does nothing.
        running.signal("KILL");
        running.wait();
        let root = world.project.root();
        until_so("the end of its scripts", || !has_process_in(&root));
        if world.rng.bool() {
            world.is_built(&acts);
        }
        let act = world.act();
        acts.push(act);
    }
    world.is_built(&acts);
    world.project.store_is_intact();
}
