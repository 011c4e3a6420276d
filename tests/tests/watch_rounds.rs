//! `zako watch` and what its own rounds write: it starts no round, or one that comes to rest.

use std::fs;
use std::process::Command;

use zako_tests::{Project, Running, git, until_so};

/// A package with these scripts, which run each time that they are asked for; git ignores `*.log`.
fn project(scripts: &serde_json::Value) -> Project {
    let project = Project::new();
    project.write("package.json", r#"{"name": "acme", "workspaces": ["a"]}"#);
    project.write(".gitignore", "*.log\n.zako\n");
    project.write("turbo.json", r#"{"tasks": {"gen": {"cache": false}}}"#);
    project.write("a/src.txt", "0\n");
    let package = serde_json::json!({"name": "a", "scripts": scripts});
    project.write("a/package.json", &package.to_string());
    project
}

/// Edits the source that each run copies three times, and each time waits for so many `rounds`; then ends the watch. Tells which
/// changes it named, and all that it said.
fn edit(project: &Project, mut watch: Running, rounds: usize) -> (Vec<String>, String) {
    let settled = |watch: &mut Running| {
        let line = watch.line();
        assert!(line.starts_with("watching "), "{line:?}");
    };
    (0..rounds).for_each(|_| settled(&mut watch));
    for number in 1..=3 {
        let content = format!("{number}\n");
        project.write("a/src.txt", &content);
        while project.read("a/copy.log") != content {
            settled(&mut watch);
        }
        (1..rounds).for_each(|_| settled(&mut watch));
    }
    watch.signal("INT");
    let said = watch.wait().text();
    let changed = said.lines().filter(|line| line.ends_with(" changed"));
    (changed.map(str::to_owned).collect(), said)
}

#[test]
fn what_git_ignores_and_nothing_reads_starts_no_round() {
    // One always runs, the other one fails; the name differs each time as well as the content.
    let script = "echo ran >> $RAN; date +%N > $(date +%N).log; mkdir -p logs; date > logs/x.log; cp src.txt copy.log";
    for (label, end) in [("//a:gen", ""), ("//a:build", "; exit 3")] {
        for in_git in [true, false] {
            let scripts = serde_json::json!({"gen": script, "build": format!("{script}{end}")});
            let project = project(&scripts);
            if in_git {
                git(&project.root(), &["init", "--quiet"]);
            }
            let watch = project.start(&["watch", label]);
            let (changed, said) = edit(&project, watch, 1);
            assert_eq!(
                changed, ["a/src.txt changed"; 3],
                "{label} {in_git}: {said}"
            );
            assert_eq!(project.ran().len(), 4, "{label} {in_git}: {said}");
        }
    }
}

#[test]
fn a_script_that_always_writes_the_same_runs_once_for_each_edit() {
    let script = "echo ran >> $RAN; echo same > gen.txt; cp src.txt copy.log";
    for (label, end) in [("//a:gen", ""), ("//a:build", "; exit 3")] {
        let scripts = serde_json::json!({"gen": script, "build": format!("{script}{end}")});
        let project = project(&scripts);
        project.write("a/gen.txt", "same\n");
        let watch = project.start(&["watch", label]);
        // What it wrote is looked at in a round of its own, in which nothing runs.
        let (_, said) = edit(&project, watch, 2);
        assert_eq!(project.ran().len(), 4, "{label}: {said}");
    }
}

#[test]
fn a_script_that_always_writes_something_else_is_named_and_slowed_down() {
    let script = "echo ran >> $RAN; date +%s%N > version.txt; cp src.txt copy.log";
    let project = project(&serde_json::json!({"build": script}));
    project.write("a/version.txt", "");
    let mut watch = project.start(&["watch"]);
    // The last one comes after a pause.
    for _ in 0..6 {
        let line = watch.line();
        assert!(line.starts_with("watching "), "{line:?}");
    }
    watch.signal("INT");
    let said = watch.wait().text();
    let named =
        "warning: a/version.txt changed during each of the last rounds, while //a:build ran";
    assert_eq!(said.matches(named).count(), 1, "{said}");
}

#[test]
fn an_edit_during_a_round_is_built_even_where_git_ignores_the_file() {
    let project = Project::with_build(
        r#"
import { glob, target } from "zako:build";
export default {
  all: target({ cmd: ["sh", "-c", "cat src/*.log > all.out"], srcs: glob("src/*.log"), outs: ["all.out"] }),
  slow: target({ cmd: ["sh", "-c", "echo runs > $RAN.runs; read go < $RAN.go; exit 3"] }),
};
"#,
    );
    project.write(".gitignore", "*.log\n");
    git(&project.root(), &["init", "--quiet"]);
    project.write("src/a.log", "a\n");
    let go = project.outside().join("ran.go");
    let made = Command::new("mkfifo").arg(&go).status();
    assert!(made.unwrap().success());
    let watch = project.start(&["watch"]);
    until_so("the first one is built", || project.has("all.out"));
    let runs = project.outside().join("ran.runs");
    until_so("the other one runs", || runs.exists());
    project.write("src/a.log", "A\n");
    project.write("src/b.log", "b\n");
    // Opening waits for the step.
    fs::write(&go, "go\n").unwrap();
    until_so("the edits are built", || {
        project.read("all.out") == "A\nb\n"
    });
    watch.signal("INT");
    watch.wait();
}

#[test]
fn what_zako_takes_away_starts_no_round() {
    let project = Project::with_build(
        r#"
import { glob, target } from "zako:build";
export default {
  all: target({ cmd: ["sh", "-c", "mkdir out; cp src/*.txt out"], srcs: glob("src/*.txt"), outs: ["out/"] }),
};
"#,
    );
    project.write("src/a.txt", "a\n");
    project.write("src/b.txt", "b\n");
    let mut watch = project.start(&["watch"]);
    watch.line();
    fs::remove_file(project.root().join("src/b.txt")).unwrap();
    while project.has("out/b.txt") {
        watch.line();
    }
    project.write("src/a.txt", "A\n");
    while project.read("out/a.txt") != "A\n" {
        watch.line();
    }
    watch.signal("INT");
    let said = watch.wait().text();
    let mut changed = said.lines().filter(|line| line.ends_with(" changed"));
    assert!(
        changed.all(|line| line.starts_with("src/") && !line.contains("more")),
        "{said}"
    );
}

#[test]
fn an_output_that_somebody_takes_away_is_made_again() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  one: target({ cmd: ["sh", "-c", "echo 1 > one"], outs: ["one"] }),
  tree: target({ cmd: ["sh", "-c", "mkdir -p t/u; echo 2 > t/u/two"], outs: ["t/"] }),
};
"#,
    );
    let mut watch = project.start(&["watch"]);
    for gone in ["one", "t/u/two", "one"] {
        watch.line();
        assert!(project.has(gone));
        fs::remove_file(project.root().join(gone)).unwrap();
    }
    watch.line();
    assert!(project.has("one") && project.has("t/u/two"));
    watch.signal("INT");
    let said = watch.wait().text();
    let changed = said.lines().filter(|line| line.ends_with(" changed"));
    let changed: Vec<&str> = changed.collect();
    assert_eq!(changed, ["one changed", "t/u/two changed", "one changed"]);
}

#[test]
fn a_directory_that_goes_and_comes_again_is_told_in_one_line() {
    let project = Project::with_build(
        r#"
import { glob, target } from "zako:build";
export default {
  all: target({ cmd: ["sh", "-c", "cat $(find src -type f) > all.out"], srcs: glob("src/**"), outs: ["all.out"] }),
};
"#,
    );
    project.write("src/a.txt", "a\n");
    let mut watch = project.start(&["watch"]);
    watch.line();
    for content in ["1\n", "2\n"] {
        project.write("src/deep/er/b.txt", content);
        until_so("it is there", || project.read("all.out").contains(content));
        fs::remove_dir_all(project.root().join("src/deep")).unwrap();
        until_so("it is gone", || project.read("all.out") == "a\n");
    }
    watch.signal("INT");
    let said = watch.wait().text();
    assert!(!said.contains("WARN"), "{said}");
}
