//! Targets that get other names, places, kinds and contents at random, between builds of all, of some, and killed ones: what is there
//! is what a clean build leaves, and then there is nothing to do.
//!
//! `ZAKO_EDITS_SEED` and `ZAKO_EDITS_ROUNDS` choose another run; without a seed each run has one of its own, and a failure prints
//! the line to type.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::Command;

use fastrand::Rng;
use zako_tests::kinds::{Found, KINDS, Kind, SIDE, found};
use zako_tests::{Project, git, succeed};

/// Each of which one target has, or none.
const PLACES: [&str; 4] = ["all/x", "all/y", "all/z/deep/x", "all/z/deep/y"];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const WORDS: [&str; 4] = ["1", "2", "3", "4"];

#[derive(Clone, Copy, Debug)]
struct Target {
    name: &'static str,
    kind: Kind,
    words: [&'static str; 2],
}

struct World {
    project: Project,
    rng: Rng,
    targets: [Option<Target>; PLACES.len()],
    /// What was done, for whoever reads of a failure.
    acts: Vec<String>,
    /// To be typed to have the same run again.
    line: String,
}

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

impl World {
    fn new(test: &str) -> (Self, u64) {
        let seed = variable("ZAKO_EDITS_SEED", u64::from(fastrand::u32(..)));
        let rounds = variable("ZAKO_EDITS_ROUNDS", 12);
        let line = format!(
            "ZAKO_EDITS_SEED={seed} ZAKO_EDITS_ROUNDS={rounds} cargo test -p zako_tests --test changed_kinds_random {test}"
        );
        println!("{line}");
        let mut rng = Rng::with_seed(seed);
        let project = Project::new();
        // A link leads there from each place.
        for side in ["", "all/z/"] {
            project.write(&format!("{side}{SIDE}/theirs"), "theirs\n");
        }
        if rng.bool() {
            git(&project.root(), &["init", "-q"]);
            git(&project.root(), &["add", "."]);
        }
        let mut world = Self {
            project,
            rng,
            targets: [None; PLACES.len()],
            acts: Vec::new(),
            line,
        };
        (0..4).for_each(|_| world.edit());
        (world, rounds)
    }

    fn describe(&self) {
        let lines = PLACES.iter().zip(self.targets);
        let lines = lines.filter_map(|(place, target)| {
            let Target { name, kind, words } = target?;
            Some(format!("  {name}: {},\n", kind.target(place, &words)))
        });
        let lines: String = lines.collect();
        self.project.write(
            "BUILD.ts",
            &format!("import {{ target }} from \"zako:build\";\nexport default {{\n{lines}}};\n"),
        );
    }

    fn free_name(&mut self) -> &'static str {
        let free = |name: &&&str| !self.targets.iter().flatten().any(|it| it.name == **name);
        let free: Vec<&str> = NAMES.iter().filter(free).copied().collect();
        free[self.rng.usize(0..free.len())]
    }

    fn words(&mut self) -> [&'static str; 2] {
        let first = self.rng.usize(0..WORDS.len() - 1);
        [WORDS[first], WORDS[first + 1]]
    }

    /// Changes a target in one way.
    fn edit(&mut self) {
        let [place, other] = [(); 2].map(|()| self.rng.usize(0..PLACES.len()));
        let (name, words) = (self.free_name(), self.words());
        let kind = KINDS[self.rng.usize(0..KINDS.len())];
        let new = Target { name, kind, words };
        let way = self.rng.u8(0..7);
        match (&mut self.targets[place], way) {
            (Some(it), 0..2) => it.name = name,
            (Some(it), 2..4) => it.kind = kind,
            (Some(it), 4) => it.words = words,
            (_, 5) => self.targets.swap(place, other),
            (it @ Some(_), _) => *it = None,
            (it @ None, _) => *it = Some(new),
        }
        self.describe();
        self.acts.push(format!("{:?}", self.targets));
    }

    /// Somebody does something.
    fn act(&mut self) {
        for _ in 0..self.rng.usize(1..5) {
            self.edit();
        }
        match self.rng.u8(0..6) {
            0 => {
                let place = PLACES[self.rng.usize(0..PLACES.len())];
                let full = self.project.root().join(place);
                match fs::symlink_metadata(&full).map(|it| it.is_dir()) {
                    Ok(true) => fs::remove_dir_all(full).unwrap(),
                    Ok(false) => fs::remove_file(full).unwrap(),
                    Err(_) => {}
                }
                self.acts.push(format!("delete {place}"));
            }
            1 => {
                let targets = self.targets.iter().flatten();
                let some: Vec<String> = targets.map(|it| format!("//:{}", it.name)).collect();
                let mut some: Vec<&str> = some.iter().map(String::as_str).collect();
                some.truncate(1);
                if !some.is_empty() {
                    self.project.zako(&[&["build"], &*some].concat()).succeeds();
                }
                self.acts.push(format!("build {some:?}"));
            }
            _ => {}
        }
    }

    fn arguments(&mut self) -> [&'static str; 3] {
        ["build", "-j", if self.rng.bool() { "1" } else { "8" }]
    }

    /// Builds all of it, and sees whether that is what the targets say, and all that there is to do.
    fn is_built(&mut self) {
        let arguments = self.arguments();
        let told = || format!("{}\n{}", self.acts.join("\n"), self.line);
        let said = self.project.zako(&arguments);
        assert!(said.status.success(), "{}\n{}", said.text(), told());
        let mut expected = Found::new();
        for (place, target) in PLACES.iter().zip(self.targets) {
            expected.extend(target.map_or_else(Found::new, |it| it.kind.left(place, &it.words)));
        }
        expected.insert(format!("all/z/{SIDE}/theirs"), "theirs\n".into());
        assert_eq!(found(&self.project.root(), "all"), expected, "{}", told());
        assert_eq!(self.project.read("side/theirs"), "theirs\n");
        let count = self.targets.iter().flatten().count();
        let again = self.project.zako(&["build"]).succeeds().text();
        let is_fresh = count == 0 || again.contains(&format!("{count} up to date"));
        assert!(is_fresh, "{again}\n{}", told());
    }
}

#[test]
fn what_is_left_is_what_a_clean_build_leaves_whatever_is_edited() {
    let (mut world, rounds) = World::new("what_is_left");
    for _ in 0..rounds {
        world.is_built();
        world.act();
    }
    world.is_built();
    world.project.store_is_intact();
}

#[test]
fn a_build_that_was_ended_goes_on_to_what_a_clean_one_leaves() {
    let (mut world, rounds) = World::new("a_build_that_was_ended");
    let pipe = world.project.outside().join("pipe");
    succeed(Command::new("mkfifo").arg(&pipe));
    for _ in 0..rounds {
        let mut all = world.arguments().to_vec();
        all.extend(["--events", pipe.to_str().unwrap()]);
        let running = world.project.start(&all);
        let lines = world.rng.usize(0..10);
        let signal = if world.rng.bool() { "KILL" } else { "INT" };
        world.acts.push(format!("{signal} after {lines} lines"));
        let mut events = BufReader::new(File::open(&pipe).unwrap());
        events.by_ref().lines().take(lines).count();
        running.signal(signal);
        // Whoever is interrupted tells of it.
        events.lines().count();
        running.wait();
        if world.rng.bool() {
            world.is_built();
        }
        world.act();
    }
    world.is_built();
    world.project.store_is_intact();
}
