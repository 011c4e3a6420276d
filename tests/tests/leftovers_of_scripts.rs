//! Where scripts of packages write, people's files lie, too: those stay, and what scripts left goes.

use std::fs;
use std::os::unix::fs::symlink;

use zako_tests::{Project, git};

/// A package whose script writes below `dist`; another has a target that is there in any case.
fn project(script: &str) -> Project {
    let project = Project::new();
    project.write(".gitignore", "dist\n");
    project.write(
        "other/package.json",
        r#"{"name": "other", "scripts": {"lint": "true"}}"#,
    );
    project.write(
        "package.json",
        r#"{"name": "acme", "workspaces": ["a", "other"]}"#,
    );
    project.write("a/src.txt", "1\n");
    describe(&project, script);
    project
}

/// The package's script is this one from now on.
fn describe(project: &Project, script: &str) {
    let package = serde_json::json!({"name": "a", "scripts": {"build": script}});
    project.write("a/package.json", &package.to_string());
}

/// The package's script is gone.
fn undescribe(project: &Project) {
    project.write("a/package.json", r#"{"name": "a"}"#);
}

const COUNTS: &str = "echo ran >> $RAN; mkdir -p dist; cp src.txt dist/out.txt";

#[test]
fn what_a_person_makes_while_a_script_runs_that_fails_or_is_killed_stays() {
    for end in ["exit 3", "kill -9 $PPID; sleep 600"] {
        // Nobody sees who wrote what.
        let script = format!(
            "mkdir -p dist; echo half > dist/half.txt; echo edited > dist/edited.txt; {end}"
        );
        let project = project(&script);
        project.write("a/dist/kept.txt", "mine\n");
        project.write("a/dist/edited.txt", "mine\n");
        assert!(!project.zako(&["build"]).status.success());
        undescribe(&project);
        for command in ["build", "clean"] {
            project.zako(&[command]).succeeds();
            assert_eq!(project.read("a/dist/half.txt"), "half\n");
            assert_eq!(project.read("a/dist/edited.txt"), "edited\n");
            assert_eq!(project.read("a/dist/kept.txt"), "mine\n");
        }
    }
}

#[test]
fn a_script_that_came_to_its_end_takes_over_nothing_that_it_did_not_touch() {
    let project = project("mkdir -p dist; echo once > dist/once.txt; echo once > dist/left.txt");
    project.write("a/dist/kept.txt", "mine\n");
    project.build();
    describe(&project, "true");
    // An output that a person edited, and that the script does not write again.
    project.write("a/dist/once.txt", "by hand\n");
    project.build();
    project.zako(&["clean"]).succeeds();
    assert_eq!(project.read("a/dist/once.txt"), "by hand\n");
    assert_eq!(project.read("a/dist/kept.txt"), "mine\n");
    assert!(!project.has("a/dist/left.txt"));
}

#[test]
fn a_result_from_the_cache_replaces_no_file_of_a_person() {
    let project = project(COUNTS);
    project.write("a/dist/README.md", "1\n");
    // What git does not have would keep results out of the cache.
    git(&project.root(), &["init", "-q"]);
    git(&project.root(), &["add", "-f", "a/dist/README.md"]);
    project.build();
    project.write("a/dist/README.md", "2\n");
    project.build();
    assert_eq!(project.read("a/dist/README.md"), "2\n");
    // An output that a person edited is written again by its script alone.
    project.write("a/dist/out.txt", "by hand\n");
    project.ran();
    project.build();
    assert_eq!(project.ran(), ["ran"]);
    assert_eq!(project.read("a/dist/out.txt"), "1\n");
    // What lies there as zako wrote it needs no script.
    for (content, ran) in [("2\n", 1), ("1\n", 0), ("2\n", 0)] {
        project.write("a/src.txt", content);
        project.build();
        assert_eq!(project.ran().len(), ran);
        assert_eq!(project.read("a/dist/out.txt"), content);
        assert_eq!(project.read("a/dist/README.md"), "2\n");
    }
}

#[test]
fn a_result_from_the_cache_without_a_file_takes_no_edit_of_it_away() {
    let project = project("mkdir -p dist; rm -f dist/*; cp src.txt dist/$(cat src.txt).txt");
    project.build();
    project.write("a/src.txt", "2\n");
    project.build();
    project.write("a/dist/2.txt", "by hand\n");
    project.write("a/src.txt", "1\n");
    project.build();
    assert_eq!(project.read("a/dist/1.txt"), "1\n");
    assert_eq!(project.read("a/dist/2.txt"), "by hand\n");
}

#[test]
fn a_result_from_the_cache_is_not_written_through_a_link() {
    // The script itself does not, either.
    let script = "[ -L dist/gen ] && exit 3; mkdir -p dist/gen; cp src.txt dist/gen/api.ts";
    for there in [Some("theirs\n"), None] {
        let project = project(script);
        project.build();
        project.write("a/src.txt", "2\n");
        project.build();
        let outside = project.outside().join("outside");
        fs::create_dir(&outside).unwrap();
        if let Some(there) = there {
            fs::write(outside.join("api.ts"), there).unwrap();
        }
        let linked = project.root().join("a/dist/gen");
        fs::remove_dir_all(&linked).unwrap();
        symlink(&outside, &linked).unwrap();
        project.write("a/src.txt", "1\n");
        project.zako(&["build"]).fails_saying(&["//a:build"]);
        let now = fs::read_to_string(outside.join("api.ts")).ok();
        assert_eq!(now.as_deref(), there);
    }
}
