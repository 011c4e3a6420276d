//! Scripts of one package that write to one directory, such as `build:esm` and `build:types` to `dist`.

use std::fs;

use zako_tests::{Outcome, Project};

/// What the scripts of the package in `a` are, and their outputs by `turbo.json`, where there is one.
fn project(scripts: &[(&str, &str)], outputs: Option<&str>) -> Project {
    let project = Project::new();
    project.write(".gitignore", "dist\n");
    project.write("package.json", r#"{"name": "acme", "workspaces": ["a"]}"#);
    describe(&project, scripts);
    if let Some(outputs) = outputs {
        let name = |script: &str| script.rsplit(':').next().unwrap().to_owned();
        let tasks = scripts.iter().map(|(script, _)| {
            let inputs = [format!("{}.txt", name(script))];
            let task = serde_json::json!({"inputs": inputs, "outputs": [outputs]});
            ((*script).to_owned(), task)
        });
        let tasks: serde_json::Map<_, _> = tasks.collect();
        let turbo = serde_json::json!({ "tasks": tasks });
        project.write("turbo.json", &turbo.to_string());
    }
    for name in ["esm", "cjs", "types"] {
        project.write(&format!("a/{name}.txt"), "1\n");
    }
    project
}

/// The package has these scripts from now on.
fn describe(project: &Project, scripts: &[(&str, &str)]) {
    let scripts = scripts.iter();
    let scripts = scripts.map(|(name, line)| ((*name).to_owned(), (*line).into()));
    let scripts: serde_json::Map<_, _> = scripts.collect();
    let package = serde_json::json!({"name": "a", "scripts": scripts});
    project.write("a/package.json", &package.to_string());
}

const ESM: &str = "echo esm >> $RAN; mkdir -p dist; cp esm.txt dist/index.mjs";
const CJS: &str =
    "echo cjs >> $RAN; mkdir -p dist/deep; cp cjs.txt dist/index.cjs; cp cjs.txt dist/deep/x";
const TYPES: &str = "echo types >> $RAN; mkdir -p dist; cp types.txt dist/index.d.ts";
const ALL: [&str; 4] = ["build", "//a:build.cjs", "//a:build.esm", "//a:types"];

fn three(outputs: Option<&str>) -> Project {
    let scripts = [("build:cjs", CJS), ("build:esm", ESM), ("types", TYPES)];
    project(&scripts, outputs)
}

fn build(project: &Project, jobs: &str) -> Outcome {
    let jobs = ["-j", jobs];
    project.zako(&[&ALL[..], &jobs].concat()).succeeds()
}

/// What the scripts have left is what their sources say.
#[track_caller]
fn is_built(project: &Project) {
    let of = |name: &str| project.read(&format!("a/{name}.txt"));
    let left = ["index.cjs", "deep/x", "index.mjs", "index.d.ts"]
        .map(|name| project.read(&format!("a/dist/{name}")));
    assert_eq!(left, [of("cjs"), of("cjs"), of("esm"), of("types")]);
    assert_eq!(
        fs::read_dir(project.root().join("a/dist")).unwrap().count(),
        4
    );
}

#[test]
fn each_has_its_own_files_and_runs_for_its_own_sources_only() {
    for jobs in ["1", "8"] {
        let project = three(Some("dist/**"));
        let said = build(&project, jobs).text();
        assert!(!said.contains("warning"), "{said}");
        is_built(&project);
        assert_eq!(project.ran(), ["cjs", "esm", "types"]);
        let again = build(&project, jobs).text();
        assert!(again.contains("3 up to date"), "{again}");
        for name in ["cjs", "esm", "types"] {
            project.write(&format!("a/{name}.txt"), "2\n");
            build(&project, jobs);
            is_built(&project);
            assert_eq!(project.ran(), [name]);
        }
        // All of it is in the cache, together and each by itself.
        fs::remove_dir_all(project.root().join("a/dist")).unwrap();
        build(&project, jobs);
        is_built(&project);
        for (name, label) in [("esm", "//a:build.esm"), ("types", "//a:types")] {
            project.write(&format!("a/{name}.txt"), "1\n");
            project.zako(&["build", label, "-j", jobs]).succeeds();
            is_built(&project);
        }
        build(&project, jobs);
        assert!(project.ran().is_empty());
        // Run again, each leaves what it left.
        project.zako(&[&ALL[..], &["--force"]].concat()).succeeds();
        assert_eq!(project.ran(), ["cjs", "esm", "types"]);
        is_built(&project);
        let again = build(&project, jobs).text();
        assert!(again.contains("3 up to date"), "{again}");
        project.zako(&["clean"]).succeeds();
        assert!(!project.has("a/dist"));
        build(&project, jobs);
        is_built(&project);
        assert!(project.ran().is_empty());
        project.store_is_intact();
    }
}

#[test]
fn where_nothing_is_said_a_build_and_its_parts_have_each_their_own_files() {
    let scripts = [("build", CJS), ("build:esm", ESM), ("build:types", TYPES)];
    let project = project(&scripts, None);
    let all = ["build", "//a:build", "//a:build.esm", "//a:build.types"];
    project.zako(&all).succeeds();
    is_built(&project);
    assert_eq!(project.ran(), ["cjs", "esm", "types"]);
    let again = project.zako(&all).succeeds().text();
    assert!(again.contains("3 up to date"), "{again}");
    fs::remove_dir_all(project.root().join("a/dist")).unwrap();
    project.zako(&all).succeeds();
    is_built(&project);
    assert!(project.ran().is_empty());
}

#[test]
fn a_build_that_runs_its_parts_and_the_parts_themselves_share_what_they_leave() {
    let scripts = [("build:cjs", CJS), ("build:esm", ESM)];
    let both = format!("({ESM}) && ({CJS})");
    let scripts = [&scripts[..], &[("build", &*both)]].concat();
    let project = project(&scripts, None);
    let all = ["build", "//a:build", "//a:build.cjs", "//a:build.esm"];
    for content in ["1\n", "2\n"] {
        project.write("a/esm.txt", content);
        project.zako(&all).succeeds();
        let again = project.zako(&all).succeeds().text();
        assert!(again.contains("3 up to date"), "{again}");
    }
    project.ran();
    // Each of them has all that it leaves.
    for (label, names) in [
        ("//a:build", vec!["deep", "index.cjs", "index.mjs"]),
        ("//a:build.cjs", vec!["deep", "index.cjs"]),
        ("//a:build.esm", vec!["index.mjs"]),
    ] {
        fs::remove_dir_all(project.root().join("a/dist")).unwrap();
        project.zako(&["build", label]).succeeds();
        let left = fs::read_dir(project.root().join("a/dist")).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = left.collect();
        left.sort();
        assert_eq!(left, names);
    }
    assert!(project.ran().is_empty());
}

#[test]
fn what_another_tool_had_built_before_is_taken_over_by_whoever_writes_it() {
    let project = three(Some("dist/**"));
    for name in ["index.cjs", "deep/x", "index.mjs", "index.d.ts"] {
        project.write(&format!("a/dist/{name}"), "old\n");
    }
    let said = build(&project, "8").text();
    assert!(!said.contains("warning"), "{said}");
    is_built(&project);
    project.ran();
    let again = build(&project, "8").text();
    assert!(again.contains("3 up to date"), "{again}");
    project.write("a/types.txt", "2\n");
    build(&project, "8");
    is_built(&project);
    assert_eq!(project.ran(), ["types"]);
}

#[test]
fn what_one_takes_away_of_the_others_is_brought_back() {
    let esm = format!("rm -rf dist; {ESM}");
    let types = format!("rm -rf dist; {TYPES}");
    let scripts = [("build:cjs", CJS), ("build:esm", &*esm), ("types", &*types)];
    let project = project(&scripts, Some("dist/**"));
    for content in ["1\n", "2\n", "3\n"] {
        project.write("a/esm.txt", content);
        build(&project, "8");
        is_built(&project);
    }
    let ran = project.ran();
    assert_eq!(ran, ["cjs", "esm", "esm", "esm", "types"]);
    let again = build(&project, "8").text();
    assert!(again.contains("3 up to date"), "{again}");
    // One that is built alone leaves the others to their next build.
    project.write("a/esm.txt", "4\n");
    project.zako(&["build", "//a:build.esm"]).succeeds();
    assert!(!project.has("a/dist/index.d.ts"));
    let again = build(&project, "8").text();
    assert!(again.contains("2 from the cache, 1 up to date"), "{again}");
    is_built(&project);
    // Also where it fails.
    let fails = format!("{esm}; exit 3");
    describe(
        &project,
        &[("build:cjs", CJS), ("build:esm", &fails), ("types", &types)],
    );
    for flags in [&["-k"][..], &[]] {
        project
            .zako(&[&ALL[..], flags].concat())
            .fails_saying(&["//a:build.esm"]);
        assert_eq!(project.read("a/dist/index.cjs"), "1\n");
    }
    project
        .zako(&[&ALL[..], &["-k"]].concat())
        .fails_saying(&["//a:build.esm"]);
    assert_eq!(project.read("a/dist/index.d.ts"), "1\n");
}

#[test]
fn one_that_fails_keeps_no_other_from_running_with_k() {
    let project = three(Some("dist/**"));
    describe(
        &project,
        &[
            ("build:cjs", "echo half > dist/half; exit 3"),
            ("build:esm", ESM),
            ("types", TYPES),
        ],
    );
    fs::create_dir_all(project.root().join("a/dist")).unwrap();
    for jobs in ["1", "8"] {
        let flags = ["-k", "-j", jobs];
        project
            .zako(&[&ALL[..], &flags].concat())
            .fails_saying(&["//a:build.cjs"]);
        assert_eq!(project.read("a/dist/index.mjs"), "1\n");
        assert_eq!(project.read("a/dist/index.d.ts"), "1\n");
    }
    describe(
        &project,
        &[("build:cjs", CJS), ("build:esm", ESM), ("types", TYPES)],
    );
    fs::remove_file(project.root().join("a/dist/half")).unwrap();
    build(&project, "8");
    is_built(&project);
}

#[test]
fn two_that_write_one_file_are_named_with_it_unless_they_write_the_same() {
    let esm = format!("{ESM}; cp esm.txt dist/x");
    let types = format!("{TYPES}; cp types.txt dist/x");
    let scripts = [("build:esm", &*esm), ("types", &*types)];
    let project = project(&scripts, Some("dist/**"));
    let both = ["build", "//a:build.esm", "//a:types"];
    project.zako(&both).succeeds();
    let again = project.zako(&both).succeeds().text();
    assert!(again.contains("2 up to date"), "{again}");
    let clash = [
        "//a:build.esm and //a:types both write a/dist/x, and not the same; give one of them another output, or delete the file",
    ];
    for name in ["esm", "types"] {
        project.write(&format!("a/{name}.txt"), "2\n");
        for _ in 0..2 {
            let said = project.zako(&both);
            match name {
                "esm" => drop(said.fails_saying(&clash)),
                _ => drop(said.succeeds()),
            }
        }
    }
    assert_eq!(project.read("a/dist/x"), "2\n");
    // Of two that are said to write it one may.
    project.write("a/esm.txt", "3\n");
    project.zako(&both).fails_saying(&clash);
    describe(&project, &[("build:esm", ESM), ("types", &types)]);
    fs::remove_file(project.root().join("a/dist/x")).unwrap();
    project.zako(&both).succeeds();
    assert_eq!(project.read("a/dist/x"), "2\n");
    let again = project.zako(&both).succeeds().text();
    assert!(again.contains("2 up to date"), "{again}");
}

#[test]
fn a_file_that_nobody_touched_is_nobodys_and_no_result_without_it_is_kept() {
    // As an incremental compiler: nothing is written that is there as it would be.
    let lazy = "echo esm >> $RAN; mkdir -p dist; cmp -s esm.txt dist/index.mjs || cp esm.txt dist/index.mjs";
    let scripts = [("build:esm", lazy), ("types", TYPES)];
    let project = project(&scripts, Some("dist/**"));
    let both = ["build", "//a:build.esm", "//a:types"];
    project.write("a/dist/index.mjs", "1\n");
    for _ in 0..2 {
        let said = project.zako(&both).succeeds().text();
        assert!(
            said.contains("a/dist/index.mjs: nobody knows which script wrote it"),
            "{said}"
        );
        assert!(said.contains("\"!dist/index.mjs\""), "{said}");
        assert_eq!(project.read("a/dist/index.mjs"), "1\n");
    }
    assert_eq!(project.ran(), ["esm", "esm", "types", "types"]);
    fs::remove_file(project.root().join("a/dist/index.mjs")).unwrap();
    let said = project.zako(&both).succeeds().text();
    assert!(!said.contains("nobody knows"), "{said}");
    project.ran();
    // From now on it is that script's, whether it writes it again or not.
    project.zako(&[&both[..], &["--force"]].concat()).succeeds();
    let again = project.zako(&both).succeeds().text();
    assert!(again.contains("2 up to date"), "{again}");
    project.ran();
    fs::remove_dir_all(project.root().join("a/dist")).unwrap();
    project.zako(&both).succeeds();
    assert_eq!(project.read("a/dist/index.mjs"), "1\n");
    assert!(project.ran().is_empty());
}

#[test]
fn one_that_finds_all_of_it_written_by_another_has_no_result_that_is_kept() {
    let lazy = "echo lazy >> $RAN; mkdir -p dist; cmp -s esm.txt dist/index.mjs || cp esm.txt dist/index.mjs";
    let project = project(&[("build", ESM), ("build:esm", lazy)], None);
    let both = ["build", "//a:build", "//a:build.esm"];
    for _ in 0..2 {
        let said = project.zako(&both).succeeds().text();
        assert!(
            said.contains("//a:build.esm touched nothing where its outputs go"),
            "{said}"
        );
    }
    assert_eq!(project.ran(), ["esm", "lazy", "lazy"]);
    // By itself it leaves what it is to leave.
    fs::remove_dir_all(project.root().join("a/dist")).unwrap();
    let said = project.zako(&["build", "//a:build.esm"]).succeeds().text();
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(project.read("a/dist/index.mjs"), "1\n");
    let again = project.zako(&both).succeeds().text();
    assert!(again.contains("2 up to date"), "{again}");
}

#[test]
fn what_a_person_put_there_stays() {
    let project = three(Some("dist/**"));
    build(&project, "8");
    project.write("a/dist/README.md", "mine\n");
    build(&project, "8");
    project.write("a/esm.txt", "2\n");
    let said = build(&project, "8").text();
    assert!(
        said.contains("leave it out of the task's `outputs` with \"!dist/README.md\""),
        "{said}"
    );
    for command in ["build", "clean"] {
        project.zako(&[command]).succeeds();
        assert_eq!(project.read("a/dist/README.md"), "mine\n");
    }
}

#[test]
fn places_apart_do_not_wait_for_each_other() {
    // Each waits until the other one runs.
    let meets = |own: &str, other: &str| {
        format!(
            "mkdir -p dist/{own}; : > ../{own}.runs; until [ -e ../{other}.runs ]; do :; done; cp {own}.txt dist/{own}/x"
        )
    };
    let (cjs, esm) = (meets("cjs", "esm"), meets("esm", "cjs"));
    let scripts = [("build:cjs", &*cjs), ("build:esm", &*esm)];
    let project = project(&scripts, None);
    let task =
        |outputs: &str, inputs: &str| serde_json::json!({"outputs": [outputs], "inputs": [inputs]});
    let tasks = serde_json::json!({"tasks": {
        "build:cjs": task("dist/cjs/**", "cjs.txt"), "build:esm": task("dist/esm/**", "esm.txt"),
    }});
    project.write("turbo.json", &tasks.to_string());
    let both = ["build", "//a:build.cjs", "//a:build.esm", "-j", "2"];
    project.zako(&both).succeeds();
    let again = project.zako(&both).succeeds().text();
    assert!(again.contains("2 up to date"), "{again}");
}

#[test]
fn they_never_run_at_the_same_time_and_always_in_one_order() {
    let alone = |name: &str| {
        format!(
            "mkdir ../lock && echo {name} >> ../order && mkdir -p dist && cp {name}.txt dist/{name} && rmdir ../lock"
        )
    };
    let names = ["cjs", "esm", "types"];
    let lines = names.map(alone);
    let scripts: Vec<_> = names
        .into_iter()
        .zip(lines.iter().map(String::as_str))
        .collect();
    for outputs in [Some("dist/**"), Some("dist/*")] {
        let project = project(&scripts, outputs);
        let all = ["build", "//a:cjs", "//a:esm", "//a:types", "-j", "8"];
        for round in 1..=4 {
            for name in names {
                project.write(&format!("a/{name}.txt"), &format!("{round}\n"));
            }
            project.zako(&all).succeeds();
        }
        let order = project.read("order");
        assert_eq!(order, "cjs\nesm\ntypes\n".repeat(4));
    }
}

#[test]
fn each_command_is_deterministic_by_itself() {
    let project = three(Some("dist/**"));
    let flags = ["--check-determinism", "2"];
    project.zako(&[&ALL[..], &flags].concat()).succeeds();
    is_built(&project);
    assert_eq!(
        project.ran(),
        ["cjs", "cjs", "esm", "esm", "types", "types"]
    );
    let again = build(&project, "8").text();
    assert!(again.contains("3 up to date"), "{again}");
}

#[test]
fn one_that_needs_another_may_write_beside_it() {
    let types = format!("cat dist/index.mjs >> $RAN; {TYPES}");
    let project = project(&[("build:esm", ESM), ("types", &types)], None);
    let task = |needs: &[&str], inputs: &str| serde_json::json!({"dependsOn": needs, "outputs": ["dist/**"], "inputs": [inputs]});
    let tasks = serde_json::json!({"tasks": {
        "build:esm": task(&[], "esm.txt"), "types": task(&["build:esm"], "types.txt"),
    }});
    project.write("turbo.json", &tasks.to_string());
    project.zako(&["build", "//a:types"]).succeeds();
    assert_eq!(project.ran(), ["1", "esm", "types"]);
    let again = project.zako(&["build", "//a:types"]).succeeds().text();
    assert!(again.contains("2 up to date"), "{again}");
    project.write("a/types.txt", "2\n");
    project.zako(&["build", "//a:types"]).succeeds();
    assert_eq!(project.ran(), ["1", "types"]);
    project.write("a/esm.txt", "2\n");
    project.zako(&["build", "//a:types"]).succeeds();
    assert_eq!(project.ran(), ["2", "esm", "types"]);
}

#[test]
fn whoever_was_alone_keeps_what_it_left_when_another_one_joins() {
    // It makes what is not there, or older.
    let make = "mkdir -p dist; [ dist/index.mjs -nt esm.txt ] || cp esm.txt dist/index.mjs";
    let project = project(&[("build", make)], Some("dist/**"));
    project.build();
    let task = serde_json::json!({"outputs": ["dist/**"]});
    let turbo = serde_json::json!({"tasks": {"build": task, "types": task}});
    project.write("turbo.json", &turbo.to_string());
    describe(&project, &[("build", make), ("types", TYPES)]);
    for _ in 0..2 {
        build_both(&project);
        assert_eq!(project.read("a/dist/index.mjs"), "1\n");
        assert_eq!(project.read("a/dist/index.d.ts"), "1\n");
    }
    project.zako(&["clean"]).succeeds();
    build_both(&project);
    assert_eq!(project.read("a/dist/index.mjs"), "1\n");
}

fn build_both(project: &Project) {
    project
        .zako(&["build", "//a:types", "//a:build"])
        .succeeds();
}

#[test]
fn what_lies_behind_a_link_that_is_an_output_is_not_kept_and_said() {
    let project = Project::new();
    project.write(".gitignore", "dist\nbuilt\n");
    project.write(
        "package.json",
        r#"{"name": "one", "scripts": {"build": "rm -rf dist built; mkdir built; echo x > built/f.js; ln -s built dist"}}"#,
    );
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"outputs": ["dist", "dist/*.js", "built/**"]}}}"#,
    );
    let said = project.build().text();
    assert!(
        said.contains("not cached") && said.contains("dist/f.js"),
        "{said}"
    );
    assert!(!project.build().text().contains("WARN"));
}
