//! The list of what zako wrote is lost, as after `rm -rf .zako`, while its outputs stay in the workspace.

use std::fs;

use zako_tests::{Project, git};

/// A target with two outputs that say what its source does.
const TWO: &str = r#"
import { target } from "zako:build";
export default {
  one: target({ cmd: ["sh", "-c", "cp in one; cp in two"], srcs: ["in"], outs: ["one", "two"] }),
};
"#;

/// Has zako forget everything, but for what lies in the workspace.
fn forget(project: &Project) {
    fs::remove_dir_all(project.cache()).unwrap();
}

#[test]
fn outputs_of_before_the_list_was_lost_are_replaced_at_once() {
    let lost = || {
        let project = Project::with_build(TWO);
        project.write("in", "old\n");
        project.build();
        forget(&project);
        project.write("in", "new\n");
        project
    };
    let project = lost();
    let said = project.zako(&["build"]);
    said.fails_saying(&[
        "one exists and zako did not write it",
        "`--overwrite` replaces all such files",
    ]);
    // What git knows stays in any case.
    let root = project.root();
    git(&root, &["init", "--quiet"]);
    git(&root, &["add", "two"]);
    git(&root, &["commit", "--quiet", "-m", "two"]);
    project
        .zako(&["build", "--overwrite"])
        .fails_saying(&["two exists and zako did not write it"]);
    assert_eq!(project.read("two"), "old\n");
    let project = lost();
    project.zako(&["build", "--overwrite"]).succeeds();
    assert_eq!(
        (project.read("one"), project.read("two")),
        ("new\n".into(), "new\n".into())
    );
    project.build();
}

#[test]
fn what_the_cache_has_as_well_is_replaced_though_the_list_is_lost() {
    let project = Project::with_build(TWO);
    let cache = project.outside().join("cache");
    let build = ["build", "--cache-dir", cache.to_str().unwrap()];
    project.write("in", "old\n");
    project.zako(&build).succeeds();
    forget(&project);
    project.write("in", "new\n");
    project.zako(&build).succeeds();
    assert_eq!(project.read("one"), "new\n");
    forget(&project);
    project.write("one", "by hand\n");
    project.write("in", "newer\n");
    project
        .zako(&build)
        .fails_saying(&["one exists and zako did not write it"]);
    assert_eq!(project.read("one"), "by hand\n");
}
