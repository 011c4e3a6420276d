//! `zako watch`: edits are built, bursts are one round, a restart goes on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use zako_tests::{Project, Running, until_so};

const BUILD: &str = r#"
import { glob, target } from "zako:build";
export default {
  all: target({ cmd: ["sh", "-c", "echo all >> $RAN; cat src/*.txt src/*/*.txt > all.out"], srcs: glob("src/**/*.txt"), outs: ["all.out"] }),
};
"#;

fn project() -> Project {
    let project = Project::with_build(BUILD);
    project.write("src/a.txt", "a\n");
    project.write("src/deep/b.txt", "b\n");
    project
}

/// Waits until the watch has nothing left to do.
#[track_caller]
fn settled(watch: &mut Running) {
    let line = watch.line();
    assert!(line.starts_with("watching "), "{line:?}");
}

#[test]
fn every_edit_is_built() {
    let project = project();
    let mut watch = project.start(&["watch"]);
    settled(&mut watch);
    assert_eq!(project.read("all.out"), "a\nb\n");
    project.write("src/a.txt", "A\n");
    while project.read("all.out") != "A\nb\n" {
        settled(&mut watch);
    }
    // A directory that appears is watched from then on.
    project.write("src/new/c.txt", "c\n");
    while project.read("all.out") != "A\nb\nc\n" {
        settled(&mut watch);
    }
    project.write("src/new/c.txt", "C\n");
    while project.read("all.out") != "A\nb\nC\n" {
        settled(&mut watch);
    }
    // So is one that was removed and made again.
    for content in ["1", "2"] {
        fs::remove_dir_all(project.root().join("src/new")).unwrap();
        while project.read("all.out").contains('C') {
            settled(&mut watch);
        }
        project.write("src/new/c.txt", &format!("C{content}\n"));
        while !project.read("all.out").contains(content) {
            settled(&mut watch);
        }
        project.write("src/new/c.txt", "C again\n");
        while !project.read("all.out").contains("again") {
            settled(&mut watch);
        }
    }
    // A mistake is told and mended.
    project.write("BUILD.ts", "export default {");
    settled(&mut watch);
    project.write("BUILD.ts", &BUILD.replace("cat src", "cat -n src"));
    while !project.read("all.out").contains('1') {
        settled(&mut watch);
    }
}

#[test]
fn a_signal_ends_a_watch_whose_build_file_computes() {
    let rule = "import { rule } from \"zako:rule\";\n\
                export const x = rule({ name: \"x\", implementation() { while (true) {} } });\n";
    let uses = "import { x } from \"./x.rule.ts\";\nexport default { x: x({}) };\n";
    for (signal, text) in [("INT", "while (true) {}"), ("TERM", uses)] {
        let project = Project::with_build("export default {};");
        project.write("x.rule.ts", rule);
        let manifest = project.read("zako.toml");
        // For a day.
        let settings = format!("{manifest}[settings]\nevaluation-seconds = 86400\n");
        project.write("zako.toml", &settings);
        let mut watch = project.command(&["watch"]);
        let watch = watch.stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut watch = watch.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(watch.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("watching "), "{line}");
        project.write("BUILD.ts", text);
        let told = BufReader::new(watch.stderr.take().unwrap()).lines();
        let mut told = told.map(Result::unwrap);
        assert!(told.any(|line| line == "BUILD.ts changed"));
        let mut kill = Command::new("kill");
        let id = watch.id().to_string();
        kill.args([&format!("-{signal}"), &id]);
        assert!(kill.status().unwrap().success());
        assert_eq!(watch.wait().unwrap().code(), Some(130), "{signal}");
    }
}

#[test]
fn a_cache_inside_the_workspace_is_not_watched() {
    let project = project();
    let cache = ["--cache-dir", "src/../cache"];
    let mut watch = project.start(&["watch", cache[0], cache[1]]);
    assert_eq!(watch.line(), "watching 3 directories");
    assert!(project.has("cache/store"));
    assert_eq!(project.ran(), ["all"]);
    project.write("src/a.txt", "A\n");
    while project.read("all.out") != "A\nb\n" {
        settled(&mut watch);
    }
}

#[test]
fn what_a_watch_itself_writes_starts_no_round() {
    let project = project();
    let mut watch = project.start(&["watch", "--events", "src/e.jsonl", "--trace", "t.json"]);
    settled(&mut watch);
    // The first content again comes from the cache.
    for content in ["A\n", "a\n", "A\n"] {
        project.write("src/a.txt", content);
        while project.read("all.out") != format!("{content}b\n") {
            settled(&mut watch);
        }
    }
    watch.signal("INT");
    let said = watch.wait().succeeds().text();
    let changed: Vec<&str> = said
        .lines()
        .filter(|line| line.ends_with(" changed"))
        .collect();
    assert!(
        changed.iter().all(|line| *line == "src/a.txt changed"),
        "{said}"
    );
    assert!(project.has("src/e.jsonl") && project.has("t.json"));
}

#[test]
fn what_a_script_that_fails_writes_starts_no_round() {
    let project = Project::new();
    project.write("package.json", r#"{"name": "acme", "workspaces": ["a"]}"#);
    project.write(".gitignore", "dist\n");
    project.write("a/src.txt", "1\n");
    let script = "rm -rf dist; mkdir -p dist/sub/deep; touch dist/gone; rm dist/gone; echo half > dist/half.txt; \
                  cp src.txt dist/sub/deep/copy.txt; rm -rf dist/sub/gone; exit 3";
    let package = serde_json::json!({"name": "a", "scripts": {"build": script}});
    project.write("a/package.json", &package.to_string());
    let mut watch = project.start(&["watch"]);
    settled(&mut watch);
    project.write("a/src.txt", "2\n");
    while project.read("a/dist/sub/deep/copy.txt") != "2\n" {
        settled(&mut watch);
    }
    // What a person does there afterwards is an edit.
    project.write("a/dist/half.txt", "by hand\n");
    while project.read("a/dist/half.txt") != "half\n" {
        settled(&mut watch);
    }
    watch.signal("INT");
    let said = watch.wait().succeeds().text();
    let mut changed = said.lines().filter(|line| line.ends_with(" changed"));
    // What the first run wrote was told before the edit.
    assert_eq!(changed.next(), Some("a/src.txt changed"), "{said}");
    assert!(changed.any(|line| line.starts_with("a/dist")), "{said}");
}

#[test]
fn a_killed_watch_has_nothing_to_lose() {
    let project = project();
    let mut watch = project.start(&["watch"]);
    settled(&mut watch);
    watch.signal("KILL");
    drop(watch);
    project.ran();
    project.write("src/a.txt", "while away\n");
    let mut watch = project.start(&["watch"]);
    settled(&mut watch);
    assert_eq!(project.ran(), ["all"]);
    assert_eq!(project.read("all.out"), "while away\nb\n");
    // Others may build while it waits.
    project.build();
    assert!(project.ran().is_empty());
    watch.signal("INT");
    watch.wait().succeeds();
}

/// A step that hangs while its input says so, and says by a pipe that it runs.
fn hanging() -> (Project, std::path::PathBuf) {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  all: target({ cmd: ["sh", "-c", "cp in.txt all.out; if grep -q hang in.txt; then echo runs > $RAN.pipe; sleep 600; fi"], srcs: ["in.txt"], outs: ["all.out"] }),
};
"#,
    );
    project.write("in.txt", "hang\n");
    let pipe = project.outside().join("ran.pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    (project, pipe)
}

#[test]
fn an_edit_gives_up_the_step_that_reads_it() {
    let (project, pipe) = hanging();
    let mut watch = project.start(&["watch"]);
    // Opening waits for the step.
    assert_eq!(fs::read_to_string(&pipe).unwrap(), "runs\n");
    project.write("in.txt", "go\n");
    settled(&mut watch);
    while !project.has("all.out") {
        settled(&mut watch);
    }
    assert_eq!(project.read("all.out"), "go\n");
    watch.signal("INT");
    let said = watch.wait().succeeds().text();
    assert!(
        said.contains("//:all  stopped: what it reads was edited"),
        "{said}"
    );
}

#[test]
fn ctrl_c_ends_a_round() {
    let (project, pipe) = hanging();
    let watch = project.start(&["watch"]);
    assert_eq!(fs::read_to_string(&pipe).unwrap(), "runs\n");
    watch.signal("INT");
    let outcome = watch.wait();
    assert_eq!(outcome.status.code(), Some(130), "{}", outcome.text());
}

#[test]
fn a_directory_that_is_moved_in_is_built() {
    let project = project();
    let mut watch = project.start(&["watch"]);
    settled(&mut watch);
    let elsewhere = project.outside().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("c.txt"), "c\n").unwrap();
    fs::rename(elsewhere, project.root().join("src/moved")).unwrap();
    until_so("what was moved in is built", || {
        project.read("all.out") == "a\nb\nc\n"
    });
    project.write("src/moved/c.txt", "C\n");
    until_so("it is watched", || project.read("all.out") == "a\nb\nC\n");
}

#[test]
fn what_a_build_is_told_to_write_is_no_source() {
    let project = Project::with_build(
        r#"
import { glob, target } from "zako:build";
export default {
  all: target({ cmd: ["sh", "-c", "echo all >> $RAN; ls src > all.out; cat src/a.txt >> all.out"], srcs: glob("src/**"), outs: ["all.out"] }),
};
"#,
    );
    project.write("src/a.txt", "a\n");
    let written = ["--events", "src/e.jsonl", "--trace", "src/t.json"];
    let with = |command| [&[command][..], &written].concat();
    for _ in 0..2 {
        project.zako(&with("build")).succeeds();
    }
    assert_eq!(project.ran(), ["all"]);
    assert_eq!(project.read("all.out"), "a.txt\na\n");
    let mut watch = project.start(&with("watch"));
    settled(&mut watch);
    project.write("src/a.txt", "A\n");
    until_so("the edit is built", || {
        project.read("all.out") == "a.txt\nA\n"
    });
    watch.signal("INT");
    // A round may be about to end.
    let said = watch.wait().text();
    assert!(
        !said.contains("stopped") && !said.contains("failed"),
        "{said}"
    );
}

#[test]
fn a_source_that_is_removed_before_its_step_looks_stops_it() {
    let project = Project::with_build(
        r#"
import { glob, target } from "zako:build";
export default {
  first: target({ cmd: ["sh", "-c", "echo runs > $RAN.runs; read go < $RAN.go; echo > first.out"], outs: ["first.out"] }),
  all: target({ cmd: ["sh", "-c", "cat src/*.txt > all.out"], srcs: glob("src/*.txt"), deps: [":first"], outs: ["all.out"] }),
};
"#,
    );
    project.write("src/a.txt", "a\n");
    project.write("src/b.txt", "b\n");
    let mut go = pipe(&project, "ran.go");
    let watch = project.start(&["watch"]);
    let runs = project.outside().join("ran.runs");
    until_so("the first step runs", || runs.exists());
    fs::remove_file(project.root().join("src/b.txt")).unwrap();
    go.write_all(b"go\n").unwrap();
    until_so("the rest is built", || {
        project.has("all.out") && project.read("all.out") == "a\n"
    });
    watch.signal("INT");
    // A round may be about to end.
    let said = watch.wait().text();
    let stopped = "//:all  stopped: what it reads was edited";
    assert!(said.contains(stopped) && !said.contains("failed"), "{said}");
}

/// A pipe outside of the workspace, open at both ends: whoever opens it waits for nobody.
fn pipe(project: &Project, name: &str) -> fs::File {
    let path = project.outside().join(name);
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[test]
fn what_was_to_be_forced_is_forced_once_build_files_can_be_read() {
    let project = project();
    project.build();
    project.ran();
    project.write("BUILD.ts", "export default {");
    let mut watch = project.start(&["watch", "--force"]);
    settled(&mut watch);
    project.write("BUILD.ts", BUILD);
    settled(&mut watch);
    until_so("the step runs again", || !project.ran().is_empty());
}

#[test]
fn a_source_that_becomes_a_pipe_keeps_nothing_waiting() {
    let (project, ran) = hanging();
    let mut watch = project.start(&["watch"]);
    assert_eq!(fs::read_to_string(&ran).unwrap(), "runs\n");
    let source = project.root().join("in.txt");
    let put = |name: &str| fs::rename(project.outside().join(name), &source).unwrap();
    drop(pipe(&project, "pipe"));
    put("pipe");
    settled(&mut watch);
    fs::write(project.outside().join("file"), "go\n").unwrap();
    put("file");
    until_so("the file is built", || {
        project.has("all.out") && project.read("all.out") == "go\n"
    });
}

#[test]
fn a_build_file_that_cannot_be_stopped_at_once_is_a_mistake_like_others_and_is_mended() {
    let project = project();
    let mut command = project.command(&["watch"]);
    let mut watch = Running::start(command.env("ZAKO_EVALUATION_SECONDS", "1"));
    settled(&mut watch);
    // The engine's own walk, which takes some seconds.
    project.write(
        "BUILD.ts",
        "Object.keys(new String('x'.repeat(2 ** 28)));\nexport default {};\n",
    );
    settled(&mut watch);
    project.write("BUILD.ts", &BUILD.replace("cat src", "cat -n src"));
    while !project.read("all.out").contains('1') {
        settled(&mut watch);
    }
    watch.signal("INT");
    let said = watch.wait().text();
    assert!(said.contains("error: BUILD.ts "), "{said}");
    assert!(said.contains("its limit of "), "{said}");
}
