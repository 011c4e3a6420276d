//! What scripts that failed or were killed left: it is an output, and what people made beside it is theirs.

use std::fs;

use zako_tests::Project;

/// A package whose script writes `dist` and then comes to `end`; another has a target that is there in any case.
fn project(end: &str) -> Project {
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
    describe(&project, end);
    project.write("a/dist/kept.txt", "mine\n");
    project.write("a/dist/touched.txt", "mine\n");
    project
}

fn describe(project: &Project, end: &str) {
    let script = format!(
        "mkdir -p dist/sub; echo half > dist/half.txt; echo half > dist/sub/half.txt; touch -d @1 dist/touched.txt; {end}"
    );
    let package = serde_json::json!({"name": "a", "scripts": {"build": script}});
    project.write("a/package.json", &package.to_string());
}

/// The package's script is gone.
fn undescribe(project: &Project) {
    project.write("a/package.json", r#"{"name": "a"}"#);
}

/// What people made is there, and what the script left is not.
fn only_theirs_is_left(project: &Project) {
    assert!(!project.has("a/dist/half.txt") && !project.has("a/dist/sub"));
    assert_eq!(project.read("a/dist/kept.txt"), "mine\n");
    assert_eq!(project.read("a/dist/touched.txt"), "mine\n");
}

/// Builds until the script, which ends in `$KILL`, kills zako.
fn killed() -> Project {
    let project = project("kill -9 $PPID; sleep 600");
    let killed = project.zako(&["build"]);
    assert_eq!(killed.status.code(), None, "{}", killed.text());
    project
}

#[test]
fn what_a_failed_script_left_is_an_output() {
    for command in ["clean", "build"] {
        let project = project("exit 3");
        project.zako(&["build"]).fails_saying(&["//a:build"]);
        assert!(project.has("a/dist/half.txt"));
        if command == "build" {
            undescribe(&project);
        }
        project.zako(&[command]).succeeds();
        only_theirs_is_left(&project);
    }
}

#[test]
fn what_a_killed_script_left_is_an_output() {
    for command in ["clean", "build"] {
        let project = killed();
        assert!(project.has("a/dist/half.txt"));
        if command == "build" {
            undescribe(&project);
        }
        project.zako(&[command]).succeeds();
        only_theirs_is_left(&project);
    }
}

#[test]
fn what_a_person_does_after_a_script_was_killed_is_theirs() {
    let project = killed();
    // Whoever comes next writes down what was left, and removes nothing.
    project.zako(&["query", "//..."]).succeeds();
    project.write("a/dist/half.txt", "by hand\n");
    project.write("a/dist/new.txt", "by hand\n");
    undescribe(&project);
    for command in ["build", "clean"] {
        project.zako(&[command]).succeeds();
        assert_eq!(project.read("a/dist/half.txt"), "by hand\n");
        assert_eq!(project.read("a/dist/new.txt"), "by hand\n");
        assert!(!project.has("a/dist/sub"));
    }
}

#[test]
fn where_nobody_looked_what_a_killed_script_left_is_a_persons() {
    // As after a power cut: there is a note, and no guard.
    let children = "for p in $(cat /proc/$PPID/task/*/children)";
    let guard = "grep -q ^zako-guard /proc/$p/cmdline && kill -9 $p";
    let project = project(&format!(
        "{children}; do {guard}; done; kill -9 $PPID; exit 1"
    ));
    let killed = project.zako(&["build"]);
    assert_eq!(killed.status.code(), None, "{}", killed.text());
    assert!(has_notes(&project));
    undescribe(&project);
    for command in ["build", "clean"] {
        project.zako(&[command]).succeeds();
        assert_eq!(project.read("a/dist/half.txt"), "half\n");
        assert_eq!(project.read("a/dist/kept.txt"), "mine\n");
        assert!(!has_notes(&project));
    }
}

#[test]
fn a_note_that_cannot_be_read_is_nobodys() {
    let project = project("exit 3");
    let note = project.cache().join("under-way/1-0");
    fs::create_dir_all(note.parent().unwrap()).unwrap();
    fs::write(note, "no note at all").unwrap();
    project.write("a/dist/half.txt", "mine\n");
    undescribe(&project);
    for command in ["build", "clean"] {
        project.zako(&[command]).succeeds();
        assert_eq!(project.read("a/dist/half.txt"), "mine\n");
        assert!(!has_notes(&project));
    }
}

#[test]
fn a_script_that_came_to_its_end_leaves_no_note_and_takes_over_nothing_that_it_left_as_it_was() {
    let project = project("echo once > dist/once.txt; echo once > dist/left.txt");
    project.build();
    assert!(!has_notes(&project));
    describe(&project, "true");
    // An output that a person edited, and that the script does not write again.
    project.write("a/dist/once.txt", "by hand\n");
    project.build();
    project.zako(&["clean"]).succeeds();
    only_theirs_is_left(&project);
    assert_eq!(project.read("a/dist/once.txt"), "by hand\n");
    assert!(!project.has("a/dist/left.txt"));
}

fn has_notes(project: &Project) -> bool {
    let notes = fs::read_dir(project.cache().join("under-way"));
    notes.is_ok_and(|mut notes| notes.next().is_some())
}

#[test]
fn what_git_knows_is_no_output_of_a_script_that_did_not_come_to_its_end() {
    for end in ["exit 3", "kill -9 $PPID; sleep 600"] {
        let project = project(&format!("echo more >> dist/kept.txt; {end}"));
        for arguments in [
            &["init", "--quiet"][..],
            &["add", "--force", "a/dist/kept.txt"],
        ] {
            let mut git = std::process::Command::new("git");
            let done = git.args(arguments).current_dir(project.root()).output();
            assert!(done.unwrap().status.success());
        }
        assert!(!project.zako(&["build"]).status.success());
        project.zako(&["clean"]).succeeds();
        assert_eq!(project.read("a/dist/kept.txt"), "mine\nmore\n");
        assert!(!project.has("a/dist/half.txt"));
    }
}
