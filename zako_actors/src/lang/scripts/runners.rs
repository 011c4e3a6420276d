//! Shell lines that have scripts of other packages run: what they run is targets already.
//!
//! Owns which those are, also by way of other scripts of the same package. Does not know what a line does otherwise.
//! Invariant: a line of whose programs nothing is known is a step.

use std::collections::{BTreeMap, BTreeSet};

/// Programs that run scripts of packages, whatever their arguments are.
const RUNNERS: [&str; 10] = [
    "turbo", "nx", "lerna", "zako", "wireit", "moon", "rush", "wsrun", "ultra", "lage",
];
/// Programs that run scripts where they are told so.
const MANAGERS: [&str; 4] = ["npm", "pnpm", "yarn", "bun"];
/// Programs that run scripts of the same package.
const SEQUENCES: [&str; 6] = [
    "npm-run-all",
    "npm-run-all2",
    "run-s",
    "run-p",
    "concurrently",
    "conc",
];
/// Programs that start what their arguments say.
const STARTERS: [&str; 8] = [
    "npx",
    "pnpx",
    "bunx",
    "cross-env",
    "cross-env-shell",
    "env",
    "time",
    "exec",
];
/// Words that do nothing that anybody would miss.
const NOTHING: [&str; 6] = ["cd", "echo", "true", ":", "set", "export"];
/// Options of package managers that mean other packages than the one that the line is in.
const ELSEWHERE: [&str; 14] = [
    "-r",
    "--recursive",
    "--parallel",
    "--filter",
    "--filter-prod",
    "-F",
    "-ws",
    "--workspaces",
    "--workspace",
    "-w",
    "--prefix",
    "-C",
    "--dir",
    "--cwd",
];
/// Options of package managers that have a value of their own.
const VALUED: [&str; 12] = [
    "--filter",
    "--filter-prod",
    "-F",
    "--workspace",
    "-w",
    "--prefix",
    "-C",
    "--dir",
    "--cwd",
    "--workspace-concurrency",
    "--loglevel",
    "--reporter",
];
/// Such of `npm-run-all` and its like.
const VALUED_IN_SEQUENCES: [&str; 2] = ["--max-parallel", "--npm-path"];
/// Such of `concurrently`.
const VALUED_THERE: [&str; 10] = [
    "-n",
    "--names",
    "-c",
    "--prefix-colors",
    "-p",
    "--prefix",
    "-m",
    "--max-processes",
    "-s",
    "--success",
];
/// What package managers do besides running scripts.
const OTHER_COMMANDS: [&str; 33] = [
    "add", "audit", "cache", "ci", "config", "create", "dedupe", "deploy", "dlx", "exec", "fetch",
    "focus", "i", "info", "init", "install", "link", "list", "ls", "npm", "outdated", "pack",
    "patch", "prune", "publish", "rebuild", "remove", "store", "up", "update", "upgrade",
    "version", "why",
];

/// Whose work a script is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Its own.
    Itself,
    /// That of scripts of other packages.
    Others,
    /// Both; the first command of each kind.
    Both {
        /// The one that runs others.
        others: String,
        /// The one that does not.
        own: String,
    },
}

impl Runs {
    /// What `script`, one of `scripts` of a package, runs. A script without a line runs nothing.
    pub(super) fn of(scripts: &BTreeMap<String, String>, script: &str) -> Self {
        let line = scripts.get(script).map_or("", String::as_str);
        let may = |names: &[&str]| names.iter().any(|name| line.contains(name));
        if !may(&RUNNERS) && !may(&MANAGERS) && !may(&SEQUENCES) {
            return match line.trim() {
                "" => Self::Others,
                _ => Self::Itself,
            };
        }
        let mut found = Found {
            scripts,
            seen: BTreeSet::from([script]),
            others: None,
            own: None,
        };
        found.line(line);
        match (found.others, found.own) {
            (None, _) => Self::Itself,
            (Some(_), None) => Self::Others,
            (Some(others), Some(own)) => Self::Both { others, own },
        }
    }
}

struct Found<'a> {
    scripts: &'a BTreeMap<String, String>,
    seen: BTreeSet<&'a str>,
    others: Option<String>,
    own: Option<String>,
}

impl Found<'_> {
    fn line(&mut self, line: &str) {
        for words in commands(line) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            self.command(&words);
        }
    }

    fn runs_others(&mut self, words: &[&str]) {
        self.others.get_or_insert_with(|| words.join(" "));
    }

    fn does(&mut self, words: &[&str]) {
        self.own.get_or_insert_with(|| words.join(" "));
    }

    fn command(&mut self, words: &[&str]) {
        let is_variable = |word: &&&str| {
            let name = word.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| {
                !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            })
        };
        let variables = words.iter().take_while(is_variable).count();
        let Some((first, rest)) = words[variables..].split_first() else {
            return;
        };
        let program = first.rsplit('/').next().unwrap_or(first);
        match program {
            it if NOTHING.contains(&it) => {}
            it if RUNNERS.contains(&it) => self.runs_others(words),
            it if STARTERS.contains(&it) => {
                let flags = rest.iter().take_while(|word| word.starts_with('-'));
                self.command(&rest[flags.count()..]);
            }
            it if MANAGERS.contains(&it) => self.manager(it, rest, words),
            "concurrently" | "conc" => self.concurrently(rest),
            it if SEQUENCES.contains(&it) => {
                let names = several(rest, &VALUED_IN_SEQUENCES);
                for name in names.filter_map(|word| word.split_whitespace().next()) {
                    self.scripts_like(name);
                }
            }
            _ => self.does(words),
        }
    }

    /// A package manager with these arguments.
    fn manager(&mut self, program: &str, arguments: &[&str], words: &[&str]) {
        let is_run = |word: &str| matches!(word, "run" | "run-script");
        let (mut is_elsewhere, mut is_by_dir, mut rest) = (false, false, Vec::new());
        let mut arguments = arguments.iter();
        while let Some(word) = arguments.next() {
            if !word.starts_with('-') || *word == "--" {
                rest.push(*word);
                // What comes behind a program is its own; npm alone takes what comes behind a script.
                let is_its_own = match (program, &*rest) {
                    (_, ["exec" | "x" | "dlx", ..]) => true,
                    ("npm", _) => *word == "--",
                    (_, [run]) => !is_run(run),
                    _ => true,
                };
                if is_its_own {
                    rest.extend(arguments.by_ref());
                }
                continue;
            }
            let (name, value) = word
                .split_once('=')
                .map_or((*word, None), |(name, value)| (name, Some(value)));
            // To pnpm `-w` is the root.
            let is_root = program == "pnpm" && name == "-w";
            is_elsewhere |= ELSEWHERE.contains(&name) && !is_root;
            is_by_dir |= matches!(name, "-C" | "--dir" | "--cwd" | "--prefix");
            if value.is_none() && VALUED.contains(&name) && !is_root {
                arguments.next();
            }
        }
        match (program, &*rest) {
            ("yarn", ["workspaces", more @ ..]) => {
                let is_other = more
                    .iter()
                    .any(|it| *it != "npm" && OTHER_COMMANDS.contains(it));
                if is_other {
                    self.does(words)
                } else {
                    self.runs_others(words)
                }
            }
            ("yarn", ["workspace", _, what, ..]) if !OTHER_COMMANDS.contains(what) => {
                self.runs_others(words);
            }
            (_, ["exec" | "x", more @ ..]) if !is_elsewhere => {
                let more = more.strip_prefix(&["--"]).unwrap_or(more);
                self.command(more);
            }
            // A program of the directory: what a script is told stands behind `run`.
            ("yarn" | "pnpm", [what, _, ..]) if is_by_dir && !is_run(what) => self.does(words),
            (_, [what, ..]) if is_elsewhere && !OTHER_COMMANDS.contains(what) => {
                self.runs_others(words);
            }
            (_, [run, name, ..]) if is_run(run) && !is_elsewhere => self.script(name, words),
            // What Bun tests with itself.
            ("bun", ["test", ..]) => self.does(words),
            (_, [name @ ("test" | "start"), ..]) => self.script(name, words),
            ("yarn" | "pnpm" | "bun", [name, ..]) if self.scripts.contains_key(*name) => {
                self.script(name, words);
            }
            ("yarn" | "pnpm", [name, ..]) if RUNNERS.contains(name) || SEQUENCES.contains(name) => {
                self.command(&rest);
            }
            _ => self.does(words),
        }
    }

    fn concurrently(&mut self, arguments: &[&str]) {
        for word in several(arguments, &VALUED_THERE) {
            let script = word.split_once(':').filter(|(it, _)| MANAGERS.contains(it));
            match script {
                Some((_, name)) => self.scripts_like(name.split(' ').next().unwrap_or(name)),
                None => self.line(word),
            }
        }
    }

    /// The script `name` of this package.
    fn script(&mut self, name: &str, words: &[&str]) {
        match self.scripts.get_key_value(name) {
            Some((name, line)) if self.seen.insert(name) => self.line(line),
            Some(_) => {}
            None => self.does(words),
        }
    }

    /// The scripts of this package that `pattern` means: `*` stands for any text.
    fn scripts_like(&mut self, pattern: &str) {
        let Some((begin, end)) = pattern.split_once('*') else {
            return self.script(pattern, &[pattern]);
        };
        let end = end.trim_start_matches('*');
        let scripts = self.scripts;
        let is_meant = |name: &&String| {
            name.strip_prefix(begin)
                .is_some_and(|rest| rest.ends_with(end))
        };
        for name in scripts.keys().filter(is_meant) {
            self.script(name, &[name]);
        }
    }
}

/// What a program that runs several scripts is to run; these of its options have a value of their own.
fn several<'w>(arguments: &[&'w str], valued: &[&str]) -> impl Iterator<Item = &'w str> {
    let mut arguments = arguments.iter().copied();
    std::iter::from_fn(move || {
        loop {
            let word = arguments.next()?;
            if valued.contains(&word) {
                arguments.next();
            } else if !word.starts_with('-') {
                return Some(word);
            }
        }
    })
}

/// Whether a line has TypeScript's compiler build projects that its own refers to: that reads their sources, too.
pub(super) fn builds_projects(line: &str) -> bool {
    line.contains("tsc")
        && commands(line).iter().any(|words| {
            let is_compiler = |word: &String| word.ends_with("tsc");
            let begin = words.iter().position(is_compiler);
            let mut rest = begin.into_iter().flat_map(|at| &words[at..]);
            rest.any(|word| word == "-b" || word == "--build")
        })
}

/// The words of each command of a line.
fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut characters = line.chars();
    let mut quote = None;
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '\\') => {
                word.get_or_insert_default().extend(characters.next());
            }
            (None, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() && c != '\n' => words.extend(word.take()),
            (None, '&' | '|' | ';' | '(' | ')' | '\n') => {
                words.extend(word.take());
                all.push(std::mem::take(&mut words));
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    all.push(words);
    all.retain(|words| !words.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(line: &str) -> Runs {
        let scripts = [
            ("it", line),
            ("all", "pnpm -r run build"),
            ("build:js", "tsc"),
            ("each:a", "npm run build -w a"),
            ("each:b", "lerna run build"),
            ("round", "npm run it"),
        ];
        let scripts = scripts.map(|(name, line)| (name.to_owned(), line.to_owned()));
        Runs::of(&scripts.into(), "it")
    }

    #[test]
    fn lines_that_run_scripts_of_other_packages_are_known() {
        for line in [
            "turbo run build",
            "npx turbo run build --filter=web",
            "NODE_ENV=production turbo run build",
            "cross-env CI=1 nx run-many -t build",
            "./node_modules/.bin/lerna run build",
            "pnpm -r run build",
            "pnpm -r build",
            "pnpm --recursive --stream run build",
            "pnpm --filter web build",
            "pnpm --filter=web... run build",
            "pnpm -F './packages/*' run build",
            "pnpm run -r build",
            "pnpm run --parallel --filter web build -- --watch",
            "pnpm turbo run build",
            "pnpm exec turbo build",
            "npm run build --workspaces --if-present",
            "npm run build -ws",
            "npm run build --workspace web",
            "npm run build --workspace=web",
            "npm -w web run build",
            "npm test -ws",
            "npm --prefix packages/a run build",
            "yarn workspaces run build",
            "yarn workspaces foreach -Apt run build",
            "yarn workspaces foreach --all --topological-dev run build",
            "yarn workspace web build",
            "yarn workspace @acme/web run build",
            "yarn turbo run build",
            "yarn --cwd packages/a build",
            "bun --filter web build",
            "bun run --filter '*' build",
            "rush build",
            "wsrun --stages build",
            "ultra -r build",
            "npm run all",
            "pnpm all && yarn all",
            "run-s 'each:*'",
            "run-p --max-parallel 4 -l each:a each:b",
            "npm-run-all --parallel each:*",
            "concurrently 'npm:each:*' \"pnpm -r run dev\"",
            "concurrently -n a,b -c red,blue 'pnpm:all' 'turbo dev'",
            "cd . && pnpm -r build",
            "",
        ] {
            assert_eq!(runs(line), Runs::Others, "{line}");
        }
    }

    #[test]
    fn all_else_is_a_step() {
        for line in [
            "tsc -b",
            "node scripts/turbo.mjs",
            "pnpm -r exec rm -rf dist",
            "pnpm --filter web exec tsc",
            "pnpm exec tsc -w",
            "npm exec -- tsc -w",
            "pnpm -w run build:js",
            "npm run build:js",
            "npm ci --prefix tools",
            "yarn install",
            "yarn workspaces focus",
            "yarn workspaces foreach -A exec rm -rf dist",
            "yarn workspace web add react",
            "yarn tsc -p .",
            "yarn --cwd ../.. tsc -p p/x",
            "pnpm -C ../.. tsc -p p/x",
            "bun test --filter unit",
            "run-s build:js",
            "npm run nothing",
            "npm run round",
            "concurrently 'tsc -w' 'npm:build:js'",
            "echo pnpm -r build",
        ] {
            assert_eq!(runs(line), Runs::Itself, "{line}");
        }
    }

    #[test]
    fn builds_of_projects_are_known() {
        for line in [
            "tsc -b",
            "npx tsc --build tsconfig.json",
            "rm -rf dist && vue-tsc -b; true",
        ] {
            assert!(builds_projects(line), "{line}");
        }
        assert!(!builds_projects("tsc -p . && cat -b x") && !builds_projects("etsc.sh"));
    }

    #[test]
    fn what_a_line_does_besides_is_told() {
        for (line, others, own) in [
            (
                "pnpm -r build && node post.mjs",
                "pnpm -r build",
                "node post.mjs",
            ),
            (
                "rimraf 'a b'; npm run all",
                "pnpm -r run build",
                "rimraf a b",
            ),
            ("run-s all build:js", "pnpm -r run build", "tsc"),
        ] {
            let (others, own) = (others.to_owned(), own.to_owned());
            assert_eq!(runs(line), Runs::Both { others, own }, "{line}");
        }
    }
}
