//! Scripts that read what those of another package leave, where somebody else writes, too: another script of it, or a person.

use std::fs;

use serde_json::{Map, Value, json};
use zako_tests::{Project, git};

/// Its name, what it needs, its scripts.
type Package<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Packages with these names, what they need, and their scripts; each has a source `1`.
fn project(packages: &[Package<'_>], tasks: Option<Value>) -> Project {
    let project = Project::new();
    project.write(".gitignore", "dist\n.zako\n");
    project.write("package.json", r#"{"name": "acme", "workspaces": ["*"]}"#);
    for (name, needs, scripts) in packages {
        let needs = needs.iter().map(|it| ((*it).to_owned(), "*".into()));
        let needs: Map<String, Value> = needs.collect();
        let scripts = scripts
            .iter()
            .map(|(it, line)| ((*it).to_owned(), (*line).into()));
        let scripts: Map<String, Value> = scripts.collect();
        let package =
            json!({"name": name, "version": "1.0.0", "dependencies": needs, "scripts": scripts});
        project.write(&format!("{name}/package.json"), &package.to_string());
        project.write(&format!("{name}/src/1"), "1\n");
    }
    if let Some(tasks) = tasks {
        project.write("turbo.json", &json!({"tasks": tasks}).to_string());
    }
    git(&project.root(), &["init", "-q"]);
    project
}

const COPY: &str = "echo a >> $RAN; mkdir -p dist && cp src/* dist/";
const READ: &str = "echo b >> $RAN; rm -rf dist; mkdir -p dist && cat ../a/dist/* src/* > dist/x";

fn pair(tasks: Option<Value>) -> Project {
    let a: &[(&str, &str)] = &[("build", COPY)];
    project(&[("a", &[], a), ("b", &["a"], &[("build", READ)])], tasks)
}

fn remove(project: &Project, path: &str) {
    fs::remove_file(project.root().join(path)).unwrap();
}

#[test]
fn what_nobody_has_made_among_what_a_script_reads_is_in_no_result_that_is_kept() {
    let project = pair(None);
    let said = project.build().text();
    assert!(!said.contains("warning"), "{said}");
    project.ran();
    project.write("a/dist/zz", "mine\n");
    let again = project.build().text();
    assert!(again.contains("2 up to date"), "{again}");
    project.write("b/src/1", "2\n");
    for _ in 0..2 {
        let said = project.build().text();
        let because =
            "warning: its result is not cached: a/dist/zz lay where the outputs of //a:build go";
        assert!(said.contains(because), "{said}");
        assert!(said.contains("\"!dist/zz\""), "{said}");
        assert_eq!(project.ran(), ["b"]);
        assert_eq!(project.read("b/dist/x"), "1\nmine\n2\n");
        let why = project.zako(&["why", "//b:build"]).succeeds().text();
        assert!(
            why.contains("now: not up to date: its result was not kept"),
            "{why}"
        );
    }
    remove(&project, "a/dist/zz");
    let said = project.build().text();
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(project.ran(), ["b"]);
    assert_eq!(project.read("b/dist/x"), "1\n2\n");
    // That one is kept.
    project.zako(&["clean"]).succeeds();
    let again = project.build().text();
    assert!(again.contains("2 from the cache"), "{again}");
    assert_eq!(project.read("b/dist/x"), "1\n2\n");
}

#[test]
fn whoever_reads_it_through_others_is_not_kept_either_and_one_look_is_for_all() {
    let a: &[(&str, &str)] = &[("build", COPY)];
    let through = "mkdir -p dist; cat ../a/dist/* > dist/x";
    let c: &[(&str, &str)] = &[("build", through)];
    let packages: [Package<'_>; 4] = [
        ("a", &[], a),
        ("b", &["a"], c),
        ("c", &["b"], c),
        ("d", &["b"], c),
    ];
    let project = project(&packages, None);
    project.build();
    project.write("a/dist/zz", "mine\n");
    for name in ["c", "d"] {
        project.write(&format!("{name}/src/1"), "2\n");
    }
    let said = project.build().text();
    assert_eq!(said.matches("a/dist/zz lay where").count(), 2, "{said}");
}

#[test]
fn what_git_has_and_what_a_task_leaves_out_is_known() {
    let of_a = json!({"outputs": ["dist/**", "!dist/.cache/**"], "dependsOn": ["^build"]});
    let project = pair(Some(json!({ "build": of_a })));
    project.write("a/dist/.gitkeep", "");
    git(&project.root(), &["add", "-f", "a/dist/.gitkeep"]);
    project.build();
    project.write("a/dist/.cache/x", "1\n");
    project.write("a/dist/.cache/y/z", "1\n");
    project.write("b/src/1", "2\n");
    let said = project.build().text();
    assert!(!said.contains("warning"), "{said}");
    let again = project.build().text();
    assert!(again.contains("2 up to date"), "{again}");
}

#[test]
fn what_siblings_left_is_known_also_where_they_are_not_built() {
    let types = "echo types >> $RAN; mkdir -p dist; echo t > dist/x.d";
    let a: &[(&str, &str)] = &[("build", COPY), ("build:types", types)];
    let packages: [Package<'_>; 2] = [("a", &[], a), ("b", &["a"], &[("build", READ)])];
    let project = project(&packages, None);
    let all = ["build", "//...:build", "//...:build.types"];
    let said = project.zako(&all).succeeds().text();
    assert!(!said.contains("warning"), "{said}");
    project.ran();
    for what in [&all[..], &["build"]] {
        project.write("b/src/1", &format!("{}{}\n", what.len(), what[0]));
        let said = project.zako(what).succeeds().text();
        assert!(!said.contains("warning"), "{said}");
        assert_eq!(project.ran(), ["b"]);
        let again = project.zako(what).succeeds().text();
        assert!(again.contains("up to date"), "{again}");
        assert!(project.ran().is_empty());
    }
    // What one has left is a person's once that one has changed it.
    project.write("a/dist/x.d", "mine\n");
    project.write("b/src/1", "9\n");
    let said = project.build().text();
    assert!(said.contains("a/dist/x.d lay where"), "{said}");
}

/// Notes the order in which scripts ran.
fn noted(name: &str, line: &str) -> String {
    format!("{line} && echo {name} >> ../order")
}

#[test]
fn whoever_reads_begins_when_all_that_write_there_have_ended() {
    let build = noted("build", "mkdir -p dist && cat src/* > dist/x");
    // Time enough for somebody who does not wait.
    let slowly = "rm -rf dist && i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; mkdir -p dist && echo t > dist/x.d";
    let types = noted("types", slowly);
    let read = noted(
        "read",
        "rm -rf dist && mkdir -p dist && cat ../z/dist/* > dist/x",
    );
    let z: &[(&str, &str)] = &[("build", &build), ("build:types", &types)];
    for jobs in ["1", "8"] {
        // By name, whoever reads comes first.
        let packages: [Package<'_>; 3] = [
            ("a", &["z"], &[("build", &read)]),
            ("b", &["z"], &[("build", &read)]),
            ("z", &[], z),
        ];
        let project = project(&packages, None);
        let all = [
            "build",
            "-k",
            "-j",
            jobs,
            "//...:build",
            "//...:build.types",
        ];
        project.zako(&all).succeeds();
        assert_eq!(project.read("order"), "build\ntypes\nread\nread\n");
        assert_eq!(project.read("a/dist/x"), "1\nt\n");
        let again = project.zako(&all).succeeds().text();
        assert!(again.contains("4 up to date"), "{again}");
        // Also where what it reads is up to date.
        project.write("b/src/1", "2\n");
        let line = noted("types", &format!("{slowly}; :"));
        let scripts = json!({"build": build, "build:types": line});
        let package =
            json!({"name": "z", "version": "1.0.0", "dependencies": {}, "scripts": scripts});
        project.write("z/package.json", &package.to_string());
        let order = project.read("order");
        project.zako(&all).succeeds();
        let since = project.read("order");
        let since = since.strip_prefix(&order).unwrap();
        let types = since.find("types").unwrap();
        assert!(
            since.find("read").is_none_or(|read| types < read),
            "{since}"
        );
    }
}

#[test]
fn one_that_fails_keeps_no_reader_from_running() {
    let types = "rm -rf dist; exit 3";
    let z: &[(&str, &str)] = &[("build", COPY), ("build:types", types)];
    let packages: [Package<'_>; 2] = [
        ("z", &[], z),
        (
            "b",
            &["z"],
            &[("build", "mkdir -p dist; cat ../z/dist/1 > dist/x")],
        ),
    ];
    let project = project(&packages, None);
    let all = ["build", "-k", "//...:build", "//...:build.types"];
    project.zako(&all).fails_saying(&["//z:build.types"]);
    assert_eq!(project.read("b/dist/x"), "1\n");
}

#[test]
fn who_is_needed_by_one_that_writes_there_reads_before_it() {
    let tasks = json!({
        "build": {"dependsOn": ["^build"], "outputs": ["dist/**"]},
        "a#types": {"dependsOn": ["b#build"], "outputs": ["dist/**"]},
    });
    let build = noted("build", "mkdir -p dist && cat src/* > dist/x");
    let read = noted("read", "mkdir -p dist && cat ../a/dist/x > dist/x");
    let types = noted(
        "types",
        "rm -rf dist && mkdir -p dist && cp ../b/dist/x dist/x.d",
    );
    let a: &[(&str, &str)] = &[("build", &build), ("types", &types)];
    let packages: [Package<'_>; 2] = [("a", &[], a), ("b", &["a"], &[("build", &read)])];
    let project = project(&packages, Some(tasks));
    let all = ["build", "-j", "8", "//...:build", "//a:types"];
    project.zako(&all).succeeds();
    assert_eq!(project.read("order"), "build\nread\ntypes\n");
    assert_eq!(project.read("a/dist/x.d"), "1\n");
    let again = project.zako(&all).succeeds().text();
    assert!(again.contains("3 up to date"), "{again}");
}

#[test]
fn what_a_script_found_of_a_run_that_was_killed_is_brought_back_when_another_one_wipes_it() {
    let tasks = json!({
        "build": {"dependsOn": ["^build"], "outputs": ["dist/**"]},
        "build:types": {"outputs": ["dist/**"]},
    });
    let wipe = "rm -rf dist && mkdir -p dist && cat src/* > dist/x";
    let types =
        "mkdir -p dist; for f in src/*; do t=dist/${f##*/}.d; cmp -s $f $t || cp $f $t; done";
    let a: &[(&str, &str)] = &[("build", wipe), ("build:types", types)];
    let packages: [Package<'_>; 2] = [("a", &["b"], a), ("b", &[], &[("build", wipe)])];
    let project = project(&packages, Some(tasks));
    let all = ["build", "-j", "1", "//...:build", "//...:build.types"];
    project.zako(&all).succeeds();
    // As that run left it.
    project.write("a/src/2", "2\n");
    project.write("a/dist/2.d", "2\n");
    for _ in 0..2 {
        let said = project.zako(&all).succeeds().text();
        assert!(
            said.contains("a/dist/2.d: nobody knows which script wrote it"),
            "{said}"
        );
        for (name, content) in [("x", "1\n2\n"), ("1.d", "1\n"), ("2.d", "2\n")] {
            assert_eq!(project.read(&format!("a/dist/{name}")), content);
        }
    }
    let why = project.zako(&["why", "//a:build.types"]).succeeds().text();
    assert!(
        why.contains("now: not up to date: its result was not kept"),
        "{why}"
    );
    remove(&project, "a/dist/2.d");
    let said = project.zako(&all).succeeds().text();
    assert!(!said.contains("nobody knows"), "{said}");
    assert_eq!(project.read("a/dist/2.d"), "2\n");
    let again = project.zako(&all).succeeds().text();
    assert!(again.contains("3 up to date"), "{again}");
}

#[test]
fn that_a_result_is_not_kept_is_said_also_where_something_fails() {
    let lazy = "mkdir -p dist; cmp -s src/1 dist/1 || cp src/1 dist/1";
    let types = "mkdir -p dist; echo t > dist/x.d";
    let a: &[(&str, &str)] = &[("build", lazy), ("build:types", types)];
    let packages: [Package<'_>; 2] = [("a", &[], a), ("b", &[], &[("build", "exit 3")])];
    let project = project(&packages, None);
    project.write("a/dist/1", "1\n");
    let all = ["build", "-k", "//...:build", "//...:build.types"];
    let said = project.zako(&all);
    said.fails_saying(&["a/dist/1: nobody knows which script wrote it", "//b:build"]);
}

#[test]
fn sources_beside_what_a_command_leaves_by_a_glob_are_known() {
    let project = project(
        &[(
            "b",
            &[],
            &[("build", "echo b >> $RAN; cat ../gen/*.js src/1")],
        )],
        Some(json!({"build": {"dependsOn": ["//gen:js"], "inputs": ["src/**", "../gen/*.js"]}})),
    );
    project.write(
        "gen/BUILD.ts",
        "import { target } from \"zako:build\";\n\
         export default { js: target({ cmd: [\"sh\", \"-c\", \"mkdir -p gen; echo > gen/made.js\"], outs: [\"**/*.js\"] }) };\n",
    );
    project.write("gen/mine.js", "mine\n");
    for ran in [&["b"][..], &[]] {
        let said = project.build().text();
        assert!(!said.contains("warning"), "{said}");
        assert_eq!(project.ran(), ran);
    }
}
