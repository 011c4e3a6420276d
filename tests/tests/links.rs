//! Links among sources: what they lead to comes, goes and changes while they themselves stay.

use std::fs;
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
