//! A repository of npm packages in which everything is up to date: their `build` scripts as targets, without a build
//! file. Beside it Turborepo on the same repository.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::env;
use std::fs::{self, Permissions};
use std::iter::once;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::ZAKO;
use super::noop::Planned;
use super::tree::{Tree, npm_client, number_before, run};
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::probe::beside;
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// What each package's `build` does.
const SCRIPT: &str = "mkdir -p dist && cp src.txt dist/";

/// `packages_noop`.
pub const SCENARIO: Scenario = Scenario {
    name: "packages_noop",
    family: Family::Build,
    about: "the build scripts of 1,000 npm packages with nothing to do (200 with --quick)",
    unit: Unit::Milliseconds,
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let packages = options.targets(1_000, 3);
    if !(options.peers && beside("zako").is_some()) {
        let variant = format!("{packages} packages, in this process");
        return vec![case(ZAKO, variant, packages, in_process, in_process)];
    }
    let variant = format!("{packages} packages, a process");
    let zako = case(
        ZAKO,
        variant.clone(),
        packages,
        Tree::zako_noop,
        Tree::zako_noop,
    );
    let mut cases = vec![zako];
    if let Some(turbo) = npm_client("turbo") {
        let filler = turbo.clone();
        let fill = move |tree: &Tree| fill_turbo(&filler, tree);
        let noop = move |tree: &Tree| run_turbo(&mut turbo_in(&turbo, tree));
        cases.push(case("turbo", variant, packages, fill, noop));
    }
    cases
}

fn case(
    implementation: &'static str,
    variant: String,
    packages: u64,
    fill: impl Fn(&Tree) -> (Elapsed, u64) + 'static,
    build: impl Fn(&Tree) -> (Elapsed, u64) + 'static,
) -> Case {
    let built = OnceCell::new();
    let run = move || {
        let tree = built.get_or_init(|| {
            let tree = repository(packages);
            fill(&tree);
            tree
        });
        let (elapsed, found) = build(tree);
        Sample::time(elapsed, found)
    };
    Case::new(implementation, variant, Threads::anywhere(), run).expecting(move || packages)
}

/// Packages that depend on two earlier ones each, known to git as Turborepo likes it.
fn repository(packages: u64) -> Tree {
    let directory = tempfile::tempdir().expect("a directory for the repository");
    let tree = Tree::in_directory(directory, packages);
    tree.write(
        "package.json",
        r#"{"name":"root","private":true,"packageManager":"npm@10.0.0","workspaces":["packages/*"]}"#,
    );
    tree.write(
        "turbo.json",
        r#"{"tasks":{"build":{"dependsOn":["^build"],"outputs":["dist/**"]}}}"#,
    );
    tree.write(".gitignore", "dist/\n.turbo/\n.cache/\n.zako/\n");
    let mut lock = String::new();
    for number in 0..packages {
        let earlier = [number / 2, number / 3];
        let mut deps: Vec<String> = earlier
            .iter()
            .filter(|dep| **dep < number)
            .map(|dep| format!("\"p{dep}\":\"1.0.0\""))
            .collect();
        deps.dedup();
        let deps = deps.join(",");
        tree.write(
            &format!("packages/p{number}/package.json"),
            &format!(
                "{{\"name\":\"p{number}\",\"version\":\"1.0.0\",\"scripts\":{{\"build\":\"{SCRIPT}\"}},\
                 \"dependencies\":{{{deps}}}}}"
            ),
        );
        tree.write(&format!("packages/p{number}/src.txt"), &number.to_string());
        lock += &format!(
            ",\"node_modules/p{number}\":{{\"resolved\":\"packages/p{number}\",\"link\":true}},\
             \"packages/p{number}\":{{\"version\":\"1.0.0\",\"dependencies\":{{{deps}}}}}"
        );
    }
    tree.write(
        "package-lock.json",
        &format!(
            "{{\"name\":\"root\",\"lockfileVersion\":3,\"requires\":true,\"packages\":{{\"\":{{\"name\":\"root\",\
             \"workspaces\":[\"packages/*\"]}}{lock}}}}}"
        ),
    );
    for arguments in [
        &["init", "--quiet"][..],
        &["add", "."],
        &[
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@localhost",
            "commit",
            "--quiet",
            "-m",
            "all",
        ],
    ] {
        run(Command::new("git").args(arguments).current_dir(tree.root()));
    }
    tree
}

fn in_process(tree: &Tree) -> (Elapsed, u64) {
    let (elapsed, planned) = timed(|| Planned::of(tree));
    let found = planned.plan.nodes.len() as u64;
    if !planned.plan.is_fresh() {
        planned.build();
    }
    (elapsed, found)
}

/// Has Turborepo run all scripts, so that its cache has them. They are run by `sh` in place of npm, whose start would take
/// a third of a second for each; what is measured afterwards starts neither.
fn fill_turbo(turbo: &Path, tree: &Tree) -> (Elapsed, u64) {
    let programs = tempfile::tempdir().expect("a directory for a program");
    let npm = programs.path().join("npm");
    fs::write(&npm, format!("#!/bin/sh\n{SCRIPT}\n")).expect("a script that stands for npm");
    fs::set_permissions(&npm, Permissions::from_mode(0o755)).expect("it can be run");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = once(programs.path().into()).chain(env::split_paths(&path));
    let path = env::join_paths(path).expect("no name has a colon");
    run_turbo(turbo_in(turbo, tree).env("PATH", path))
}

fn turbo_in(turbo: &Path, tree: &Tree) -> Command {
    let mut command = Command::new(turbo);
    command
        .args(["run", "build", "--output-logs=none", "--no-update-notifier"])
        .current_dir(tree.root())
        .env("TURBO_TELEMETRY_DISABLED", "1")
        .env("DO_NOT_TRACK", "1");
    command
}

/// Of its tasks it tells how many were answered by its cache.
fn run_turbo(turbo: &mut Command) -> (Elapsed, u64) {
    let (elapsed, said) = run(turbo);
    (elapsed, number_before(&said, " cached"))
}
