//! The examples build from nothing, agree with what they are compared with, and build to nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use zako_tests::{Outcome, Project, is_installed, may_run};

/// A copy of an example's tracked files in a workspace of its own.
fn example(name: &str) -> Project {
    let project = Project::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name);
    let listing =
        Outcome::of(Command::new("git").args(["ls-files"]).current_dir(&source)).succeeds();
    for file in listing.stdout.lines() {
        let text = fs::read_to_string(source.join(file)).unwrap();
        project.write(file, &text);
    }
    project
}

/// Confined as far as this machine can: commands that fetch something still do. Where npm's packages come from is known to npm
/// by a file in the home of whoever tests.
fn build_strictly(project: &Project) {
    let manifest = project.read("zako.toml");
    let settings = "[settings]\nsandbox-read = [\"~/.npmrc\"]\n";
    project.write("zako.toml", &format!("{manifest}{settings}"));
    let can = project.zako(&["doctor"]).succeeds().stdout;
    let can = can
        .lines()
        .any(|line| line.starts_with("ok") && line.contains("strict sandbox"));
    let mut command = project.command(&["build"]);
    if may_run("a kernel that confines", can) {
        command.args(["--sandbox", "strict"]);
    }
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    Outcome::of(&mut command).succeeds();
}

#[test]
fn rxjs_is_built_and_agrees_with_its_own_distribution() {
    let project = example("rxjs");
    build_strictly(&project);
    let report = project.read("smoke.txt");
    assert!(
        report.lines().last().unwrap().starts_with("ok: "),
        "{report}"
    );
    for output in [
        "dist/esm/index.js",
        "dist/cjs/index.js",
        "dist/esm/internal/Observable.js.map",
    ] {
        assert!(project.has(output), "{output}");
    }
    fs::remove_dir_all(project.root().join("dist")).unwrap();
    project.build();
    assert!(project.has("dist/cjs/internal/Observable.js.map"));
    project.store_is_intact();
}

#[test]
fn c_and_typescript_are_built_together() {
    let project = example("mixed");
    project.build();
    let report = project.read("report/report.md");
    assert!(
        report.contains("| texts/check.txt | 0 | 1 | 9 | `cbf43926` |"),
        "{report}"
    );
    project.zako(&["test"]).succeeds();

    // Another comment in C gives the same object file: nothing that reads it is built again.
    let c = project.read("lib/crc32.c");
    project.write("lib/crc32.c", &c.replace("/* Every", "/* each"));
    project.write("report/texts/more.txt", "one more text\n");
    project.build();
    assert!(project.read("report/report.md").contains("texts/more.txt"));
}

#[test]
fn a_thousand_files_of_effect_and_zod_agree_with_their_own_distributions() {
    let project = example("effect");
    build_strictly(&project);
    let report = project.read("smoke.txt");
    assert!(
        report.ends_with("\nok: 2 programs agree\n"),
        "{}",
        &report[..report.len().min(400)]
    );
    for output in [
        "effect/Stream.js.map",
        "zod/v4/core/parse.js",
        "platform/index.js",
    ] {
        assert!(project.has(&format!("dist/{output}")), "{output}");
    }
}

#[test]
fn zlib_is_built_from_the_sources_of_the_distribution() {
    let lists = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let is_there = lists.contains("bookworm");
    if !(may_run("packages of Debian 12", is_there) && is_installed("gcc")) {
        return;
    }
    let project = example("zlib");
    build_strictly(&project);
    project.zako(&["test"]).succeeds();
    assert!(project.has("libz.a"));
    // Other flags make every object anew; the sources are not fetched again.
    let flags = project.read("BUILD.ts");
    project.write("BUILD.ts", &flags.replace("\"-O2\"", "\"-O1\""));
    let outcome = project.zako(&["test"]).succeeds();
    assert!(
        outcome.text().contains(", 1 up to date"),
        "{}",
        outcome.text()
    );
}

#[test]
fn a_change_of_types_alone_tests_nothing_in_a_monorepo() {
    if !is_installed("node") {
        return;
    }
    let project = example("monorepo");
    let mut generate = Command::new("node");
    Outcome::of(generate.arg("generate.mjs").current_dir(project.root())).succeeds();
    let outcome = project.zako(&["test"]).succeeds();
    assert!(outcome.text().contains("100 ran"), "{}", outcome.text());
    let own = project.read("packages/p03/src/own.ts");
    let more = own.replace("value: number;", "value: number;\n  note?: string;");
    project.write("packages/p03/src/own.ts", &more);
    let outcome = project.zako(&["test"]).succeeds();
    assert!(
        outcome.text().contains(" 1 ran, 99 up to date"),
        "{}",
        outcome.text()
    );
}

#[test]
fn rules_of_ones_own_and_rules_that_ship() {
    let project = example("rules");
    project.build();
    assert_eq!(
        project.read("site/out/actors.md"),
        "# Actors (Rules)\nThey talk.\n"
    );
    assert!(!project.has("site/out/plans.md"));
    assert_eq!(
        project.zako(&["run", "//c:main"]).succeeds().stdout,
        "6765\n"
    );
    assert!(
        project
            .read("ts/dist/index.d.ts")
            .contains("export declare function byTitle")
    );
    project.zako(&["test"]).succeeds();
    project.write("site/pages/plans.txt", "Plans\nThey change.\n");
    project.build();
    assert!(project.has("site/out/plans.md"));
    project.zako(&["test", "//c:check"]).succeeds();
    // What the type definitions say and what the rules do is the same.
    project.zako(&["types"]).succeeds();
}
