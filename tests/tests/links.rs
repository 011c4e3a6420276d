//! Links among sources: what they lead to comes, goes and changes while they themselves stay.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use zako_tests::{Project, until_so};

const BUILD: &str = r#"
import { glob, target } from "zako:build";
export default {
  all: target({ cmd: ["sh", "-ec", "cd src && cat $(find . -type f | sort) > ../out.txt"], srcs: glob("src/**"), outs: ["out.txt"] }),
};
"#;

/// A project whose `src/b` leads to `../ext/b`, which is not there, and whose directories have not changed for a while.
fn project() -> Project {
    let project = Project::with_build(BUILD);
    project.write("src/a", "A\n");
    project.write("ext/x", "X\n");
    symlink("../ext/b", project.root().join("src/b")).unwrap();
    let begin = std::time::Instant::now();
    // A directory that changed within this clock tick is listed again in any case.
    until_so("the clock ticks", || begin.elapsed().as_millis() > 50);
    project
}

#[test]
fn a_glob_sees_what_its_links_lead_to_now() {
    let project = project();
    let left = |words: &str| {
        project.build();
        assert_eq!(project.read("out.txt"), words);
        let again = project.build().text();
        assert!(again.contains("up to date"), "{again}");
    };
    left("A\n");
    project.write("ext/b", "B\n");
    left("A\nB\n");
    project.write("ext/b", "C\n");
    left("A\nC\n");
    let target = project.root().join("ext/b");
    fs::remove_file(&target).unwrap();
    left("A\n");
    project.write("ext/b", "B\n");
    left("A\nB\n");
    fs::remove_file(&target).unwrap();
    fs::create_dir(&target).unwrap();
    left("A\n");
}

#[test]
fn what_a_glob_does_not_enter_is_said() {
    let project = project();
    symlink("../ext", project.root().join("src/all")).unwrap();
    symlink(".", project.root().join("src/round")).unwrap();
    let said = project.build().text();
    for link in ["src/all", "src/round"] {
        let words =
            format!("{link} is a symbolic link to a directory, which a glob does not enter");
        assert_eq!(said.matches(&words).count(), 1, "{said}");
    }
    let without = BUILD.replace(
        "glob(\"src/**\")",
        "glob(\"src/**\", { exclude: [\"src/{all,round}/**\"] })",
    );
    project.write("BUILD.ts", &without);
    let said = project.build().text();
    assert!(!said.contains("symbolic link"), "{said}");
}

#[test]
fn a_name_that_cannot_be_said_is_an_error_where_a_glob_means_it() {
    let project = project();
    let odd = project
        .root()
        .join("src")
        .join(OsStr::from_bytes(b"caf\xe9.txt"));
    fs::write(&odd, "").unwrap();
    let said = [
        "src holds \"caf\\xe9.txt\", whose name is not UTF-8",
        "//:all",
    ];
    project.zako(&["build"]).fails_saying(&said);
    let without = BUILD.replace(
        "glob(\"src/**\")",
        "glob(\"src/**\", { exclude: [\"src/*.txt\"] })",
    );
    project.write("BUILD.ts", &without);
    project.build();
    project.write("BUILD.ts", BUILD);
    fs::remove_file(&odd).unwrap();
    project.build();
}
