//! The examples build from nothing, agree with what they are compared with, and build to nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use zako_tests::{Outcome, Project};

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

#[test]
fn rxjs_is_built_and_agrees_with_its_own_distribution() {
    let project = example("rxjs");
    project.build();
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
