//! Scripts of a package under random edits, removals and kills: what a cache has of them is what a clean build leaves, and so is what lies
//! there, as far as nobody but zako wrote it.
//!
//! `ZAKO_EDITS_SEED` and `ZAKO_EDITS_ROUNDS` choose another run; without a seed each run has one of its own, and a failure prints
//! the line to type.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use fastrand::Rng;
use zako_tests::{Project, Web, succeed};

/// How a script comes by its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Copies all of its sources.
    Copy,
    /// Copies what is not there, or older.
    Make,
    /// Copies what it has not copied yet, as it remembers elsewhere.
    Remember,
}

impl Way {
    fn script(self) -> &'static str {
        match self {
            Self::Copy => "cp -r src/. dist/",
            Self::Make => {
                "for f in $(cd src && find . -type f); do t=dist/$f; [ $t -nt src/$f ] || { mkdir -p ${t%/*}; cp src/$f $t; }; done"
            }
            Self::Remember => {
                "for f in $(cd src && find . -type f); do cmp -s src/$f .done/$f || for to in dist .done; do \
                 mkdir -p $to/${f%/*}; cp src/$f $to/$f; done; done"
            }
        }
    }
}

const NAMES: [&str; 5] = ["a", "b", "c", "deep/d", "deep/er/e"];

type Files = BTreeMap<String, String>;

struct World {
    project: Project,
    sources: Files,
    way: Way,
    rng: Rng,
    acts: Vec<String>,
    line: String,
}

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// A workspace with these sources; its script ends zako after some of its work where there is a file `stop`.
fn project(way: Way, sources: &Files) -> Project {
    let project = Project::new();
    project.write(".gitignore", "dist\n.done\n");
    project.write("package.json", r#"{"name": "acme", "workspaces": ["a"]}"#);
    let stop = "if [ -e ../stop ]; then cp src/keep dist/; kill -9 $PPID; sleep 600; fi";
    let script = format!("mkdir -p dist; {stop}; {}", way.script());
    let package = serde_json::json!({"name": "a", "scripts": {"build": script}});
    project.write("a/package.json", &package.to_string());
    project.write("a/src/keep", "keep\n");
    for (name, content) in sources {
        project.write(&format!("a/src/{name}"), content);
    }
    project
}

impl World {
    fn new(test: &str, way: Way) -> (Self, u64) {
        let seed = variable("ZAKO_EDITS_SEED", u64::from(fastrand::u32(..)));
        let rounds = variable("ZAKO_EDITS_ROUNDS", 12);
        let line = format!(
            "ZAKO_EDITS_SEED={seed} ZAKO_EDITS_ROUNDS={rounds} cargo test -p zako_tests --test earlier_runs_random {test}"
        );
        println!("{line}");
        let sources: Files = [("a".to_owned(), "1\n".to_owned())].into();
        let world = Self {
            project: project(way, &sources),
            sources,
            way,
            rng: Rng::with_seed(seed),
            acts: Vec::new(),
            line,
        };
        (world, rounds)
    }

    /// Somebody does something.
    fn act(&mut self) {
        let name = NAMES[self.rng.usize(0..NAMES.len())];
        let source = format!("a/src/{name}");
        let act = match self.rng.u8(0..9) {
            0..4 => {
                let content = format!("{}\n", self.rng.u8(0..3));
                self.project.write(&source, &content);
                self.sources.insert(name.to_owned(), content);
                format!("edit {name}")
            }
            4..6 => {
                if self.sources.remove(name).is_some() {
                    let source = self.project.root().join(source);
                    fs::remove_file(&source).unwrap();
                    // As in a clone: git has no directories. This fails where something is left.
                    let above = source.ancestors().skip(1);
                    let _ = above.map_while(|dir| fs::remove_dir(dir).ok()).count();
                }
                format!("remove {name}")
            }
            6 => {
                // It may not be there.
                drop(fs::remove_file(
                    self.project.root().join("a/dist").join(name),
                ));
                format!("remove the output {name}")
            }
            7 => {
                drop(fs::remove_dir_all(self.project.root().join("a/dist")));
                "remove dist".to_owned()
            }
            _ if self.way == Way::Remember => "nothing".to_owned(),
            _ => {
                self.project.zako(&["clean"]).succeeds();
                "clean".to_owned()
            }
        };
        self.acts.push(act);
    }

    fn build(&mut self, remote: &str) -> String {
        let mut arguments = vec!["build", "--remote", remote];
        if self.rng.u8(0..6) == 0 {
            arguments.push("--force");
            self.acts.push("build all".to_owned());
        } else {
            self.acts.push("build".to_owned());
        }
        self.project.zako(&arguments).succeeds().text()
    }

    /// What lies where `project` is built is what the sources say.
    #[track_caller]
    fn is_built(&self, project: &Project) {
        let mut found = Files::new();
        read(&project.root().join("a/dist"), "", &mut found);
        let mut expected = self.sources.clone();
        expected.insert("keep".to_owned(), "keep\n".to_owned());
        assert_eq!(found, expected, "{:?}\n{}", self.acts, self.line);
    }

    /// So does another machine find it, whether by a cache or not.
    #[track_caller]
    fn is_shared(&self, remote: &str) {
        let clone = project(self.way, &self.sources);
        clone.zako(&["build", "--remote", remote]).succeeds();
        self.is_built(&clone);
    }
}

/// All files below `dir`; a directory without any is one, too.
fn read(dir: &std::path::Path, prefix: &str, found: &mut Files) {
    let entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
    if entries.is_empty() {
        found.insert(prefix.to_owned(), String::new());
    }
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            read(&entry.path(), &format!("{prefix}{name}/"), found);
        } else {
            let content = fs::read_to_string(entry.path()).unwrap();
            found.insert(format!("{prefix}{name}"), content);
        }
    }
}

fn runs(test: &str, way: Way, is_killed: bool) {
    let (mut world, rounds) = World::new(test, way);
    let cache = Web::cache();
    let remote = cache.url("");
    for _ in 0..rounds {
        let is_killed = is_killed && world.rng.bool();
        if is_killed {
            world.project.write("stop", "");
            // Where nothing has to run nobody is killed.
            world.project.zako(&["build", "--remote", &remote]);
            fs::remove_file(world.project.root().join("stop")).unwrap();
            world.acts.push("kill".to_owned());
        }
        let said = world.build(&remote);
        if way != Way::Remember && !said.contains("not cached") {
            // Where somebody took outputs away their directories may be left.
            let dist = world.project.root().join("a/dist");
            succeed(Command::new("find").arg(dist).args([
                "-mindepth",
                "1",
                "-empty",
                "-type",
                "d",
                "-delete",
            ]));
            world.is_built(&world.project);
            let again = world.project.zako(&["build", "--remote", &remote]);
            let again = again.succeeds().text();
            assert!(
                again.contains("1 up to date"),
                "{again}\n{:?}\n{}",
                world.acts,
                world.line
            );
        }
        // What a killed script has left is nobody's; all else has to do without a warning.
        let is_doubtful = world.acts.contains(&"kill".to_owned()) || way == Way::Remember;
        assert!(
            is_doubtful || !said.contains("not cached"),
            "{said}\n{:?}\n{}",
            world.acts,
            world.line
        );
        world.is_shared(&remote);
        for _ in 0..world.rng.usize(1..4) {
            world.act();
        }
    }
    world.project.store_is_intact();
}

#[test]
fn a_script_that_copies_leaves_what_a_clean_build_leaves() {
    runs("a_script_that_copies", Way::Copy, false);
}

#[test]
fn a_script_that_makes_what_is_missing_or_older_leaves_what_a_clean_build_leaves() {
    runs("a_script_that_makes", Way::Make, false);
}

#[test]
fn of_a_script_that_remembers_what_it_did_a_cache_has_what_a_clean_build_leaves() {
    runs("of_a_script_that_remembers", Way::Remember, false);
}

#[test]
fn a_killed_script_leaves_nothing_to_others() {
    runs("a_killed_script", Way::Make, true);
}
