//! Rules that read, asked again: after edits, in other commands, and beside the mistakes of others.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::Command;

use serde_json::Value;
use zako_tests::each::{EACH, project, write};
use zako_tests::{Node, Outcome, Project};

/// The labels of the targets that failed in the build that wrote `events`; each has its place in the totals.
fn failed(project: &Project) -> Vec<String> {
    let lines = project.read("events");
    let events: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let known = events
        .iter()
        .filter(|it| it["event"] == "build_started" || it["event"] == "build_grew");
    let known: u64 = known
        .map(|it| it["targets"].as_u64().unwrap() - it["fresh"].as_u64().unwrap())
        .sum();
    let ended = events.iter().filter(|it| it["event"] == "step_finished");
    let labels: BTreeSet<&str> = ended
        .clone()
        .map(|it| it["label"].as_str().unwrap())
        .collect();
    assert_eq!(
        (labels.len() as u64, ended.clone().count() as u64),
        (known, known),
        "{lines}"
    );
    let failed = ended.filter(|it| it["outcome"] == "failed");
    failed
        .map(|it| it["label"].as_str().unwrap().to_owned())
        .collect()
}

/// Edits the rule without a change of what it says.
fn touch_rule(project: &Project, comment: &str) {
    project.write("each.rule.ts", &format!("{EACH}// {comment}\n"));
}

fn commit(project: &Project) {
    project.write(".gitignore", ".zako\nall*\n");
    let commit = project
        .shell("git init -q -b main && git add . && git -c user.name=t -c user.email=t@example.org commit -qm first");
    Outcome::of(&mut { commit }).succeeds();
}

#[test]
fn a_test_is_one_before_its_rule_has_read() {
    let project = Project::new();
    let rule = r#"
import { attr, rule } from "zako:rule";
export const check = rule({
  name: "check",
  test: true,
  attrs: { src: attr.source() },
  async implementation(ctx) {
    const list = ctx.file("list");
    ctx.run({ cmd: ["cp", ctx.attrs.src, list], outs: [list] });
    const text = (await ctx.read(list)).trim();
    ctx.test({ cmd: ["sh", "-c", `echo ${text} >> $RAN; test ${text} = good`] });
    return {};
  },
});
"#;
    project.write("check.rule.ts", rule);
    project.write("BUILD.ts", "import { check } from \"./check.rule.ts\";\nexport default { all: check({ src: \"names\" }) };\n");
    project.write("names", "good\n");
    commit(&project);
    project.zako(&["build"]).succeeds();
    assert!(
        !project.has("list"),
        "a build has nothing to do with a test"
    );
    project.write("names", "bad\n");
    let affected = project.zako(&["affected", "--tests", "--since", "main"]);
    assert_eq!(affected.succeeds().stdout, "//:all\n");
    project
        .zako(&["test"])
        .fails_saying(&["//:all", "1 failed"]);
    project.write("names", "good\n");
    project.zako(&["test"]).succeeds();
    assert_eq!(project.ran(), ["bad", "good"]);
    project.write("check.rule.ts", &format!("{rule}// Changed.\n"));
    project.write("names", "bad\n");
    project
        .zako(&["test"])
        .fails_saying(&["//:all", "1 failed"]);
    assert_eq!(project.ran(), ["bad"]);
}

#[test]
fn what_a_rule_has_yet_to_describe_again_is_no_source_of_another_rule() {
    let targets = "  all: each({ srcs: [\"names\"] }),\n  s: cat({ srcs: glob(\"**/*.txt\") }),";
    let project = project("");
    project.write(
        "cat.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const cat = rule({
  name: "cat",
  attrs: { srcs: attr.sources() },
  implementation(ctx) {
    const out = ctx.file(ctx.label.name);
    ctx.run({ cmd: ["sh", "-ec", 'out=$1; shift; cat "$@" > "$out"', "sh", out, ctx.attrs.srcs], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    let imports = "import { glob } from \"zako:build\";\nimport { cat } from \"./cat.rule.ts\";\nimport { each } from \"./each.rule.ts\";\n";
    project.write(
        "BUILD.ts",
        &format!("{imports}export default {{\n{targets}\n}};\n"),
    );
    project.write("names", "a.txt\n");
    project.write("m.txt", "m\n");
    project.build();
    assert_eq!(project.read("s"), "m\n");
    for arguments in [&["build", "//:s"][..], &["build"]] {
        touch_rule(&project, &arguments.join(" "));
        for _ in 0..3 {
            project.zako(arguments).succeeds();
            assert_eq!(project.read("s"), "m\n");
        }
    }
    // Also when nobody remembers who wrote it.
    std::fs::remove_file(project.cache().join("state")).unwrap();
    project.zako(&["build", "//:s"]).succeeds();
    assert_eq!(project.read("s"), "m\n");
    assert!(project.has("all/a.txt"));
}

/// Rules that depend on what a list says.
const PICK: &str = r#"
import { attr, rule } from "zako:rule";
export const pick = rule({
  name: "pick",
  attrs: { from: attr.deps(), name: attr.string() },
  implementation(ctx) {
    const names = ctx.attrs.from.flatMap((dep) => dep.files.map((file) => file.name));
    if (!names.includes(ctx.attrs.name)) throw new Error(`no such name ${ctx.attrs.name}`);
    const out = ctx.file(ctx.label.name);
    ctx.run({ cmd: ["touch", out], outs: [out] });
    return { files: [out] };
  },
});
export const one = rule({
  name: "one",
  attrs: { src: attr.source() },
  implementation(ctx) {
    const out = ctx.file(ctx.label.name);
    ctx.run({ cmd: ["cp", ctx.attrs.src, out], outs: [out] });
    return { files: [out] };
  },
});
"#;

/// Writes the build file with these targets, which may also use those rules.
fn write_picks(project: &Project, targets: &str) {
    project.write("pick.rule.ts", PICK);
    project.write(
        "BUILD.ts",
        &format!(
            "import {{ target }} from \"zako:build\";\nimport {{ each }} from \"./each.rule.ts\";\n\
             import {{ one, pick }} from \"./pick.rule.ts\";\nexport default {{\n{targets}\n}};\n"
        ),
    );
}

#[test]
fn what_a_rule_said_of_an_old_list_is_no_mistake_of_those_who_need_the_new_one() {
    let project = project("  all: each({ srcs: [\"names\"] }),");
    project.build();
    project.write("names", "a\nc\n");
    write_picks(
        &project,
        "  all: each({ srcs: [\"names\"] }),\n  q: pick({ from: [\":all\"], name: \"c\" }),",
    );
    project.build();
    assert!(project.has("q") && project.has("all/c"));
    project.write("names", "c\n");
    write_picks(
        &project,
        "  all: each({ srcs: [\"names\"] }),\n  k: one({ src: \":all\" }),",
    );
    project.build();
    assert_eq!(project.read("k"), "c\n");
}

#[test]
fn sources_of_a_rule_that_has_yet_to_read_are_known() {
    let project = project(
        "  all: each({ srcs: [\"names\"] }),\n  later: each({ srcs: [\"others\"], after: [\":all\"] }),",
    );
    project.write("others", "c\n");
    commit(&project);
    project.write("others", "d\n");
    // The rule is not even asked as long as nobody knows what `all` is.
    let affected = project.zako(&["affected", "--since", "main"]).succeeds();
    assert_eq!(affected.stdout, "//:later\n");
    project.zako(&["build", "--since", "main"]).succeeds();
    assert_eq!(project.ran(), ["a", "b", "d"]);
}

#[test]
fn a_mistake_of_one_who_needs_what_was_read_leaves_the_rest() {
    let project = project("");
    write_picks(
        &project,
        "  all: each({ srcs: [\"names\"] }),\n  p: pick({ from: [\":all\"], name: \"c\" }),\n\
         \x20 v: target({ cmd: [\"touch\", \"v\"], deps: [\":all\"], srcs: [\"missing\"], outs: [\"v\"] }),\n\
         \x20 w: target({ cmd: [\"touch\", \"w\"], deps: [\":v\"], outs: [\"w\"] }),\n\
         \x20 u: target({ cmd: [\"touch\", \"u\"], deps: [\":all\"], outs: [\"u\"] }),",
    );
    for _ in 0..2 {
        let said = project.zako(&["build", "-k", "--events", "events"]).text();
        for part in ["no such name c", "source missing of //:v", "2 failed"] {
            assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
        }
        let failed: BTreeSet<String> = failed(&project).into_iter().collect();
        assert_eq!(failed, ["//:p", "//:v"].map(str::to_owned).into());
        assert!(project.has("all/a") && project.has("u") && !project.has("w"));
        std::fs::remove_file(project.root().join("u")).unwrap();
    }
    let said = project.zako(&["build"]);
    assert!(!said.status.success() && said.text().contains("no such name c"));
    project.write("names", "c\n");
    project.write("missing", "");
    project.build();
    assert!(project.has("p") && project.has("w") && project.has("u"));
}

#[test]
fn a_rule_that_takes_what_another_one_writes_is_the_wrong_one() {
    let project = project(
        "  all: each({ srcs: [\"names\"] }),\n  early: each({ srcs: [\"others\"] }),\n\
         \x20 user: target({ cmd: [\"touch\", \"user\"], deps: [\":early\"], outs: [\"user\"] }),",
    );
    project.write("others", "!taken\n");
    project.build();
    project.write("names", "!taken\n");
    project
        .zako(&["build", "-k", "--events", "events"])
        .fails_saying(&["both write taken", "1 failed"]);
    assert_eq!(failed(&project), ["//:all"]);
    assert!(project.has("user"));
}

#[test]
fn rules_that_read_what_they_cannot_are_told_so() {
    let project = Project::new();
    project.write(
        "wrong.rule.ts",
        r#"
import { rule } from "zako:rule";
export const log = rule({
  name: "log",
  test: true,
  async implementation(ctx) {
    const log = ctx.file("log");
    ctx.test({ cmd: ["sh", "-c", 'echo x > "$1"', "sh", log], outs: [log] });
    const copy = ctx.file("copy");
    ctx.run({ cmd: ["cp", log, copy], outs: [copy] });
    await ctx.read(copy);
    return { files: [copy] };
  },
});
export const hasty = rule({
  name: "hasty",
  async implementation(ctx) {
    const list = ctx.file("list");
    ctx.run({ cmd: ["touch", list], outs: [list] });
    ctx.read(list);
    return { files: [list] };
  },
});
"#,
    );
    let build = |rule: &str| {
        project.write("BUILD.ts", &format!("import * as rules from \"./wrong.rule.ts\";\nexport default {{ all: rules.{rule}({{}}) }};\n"));
    };
    build("log");
    for command in [&["test"][..], &["build", "//...:all"], &["test"]] {
        project
            .zako(command)
            .fails_saying(&["//:all reads copy, which its own test has to leave first"]);
    }
    build("hasty");
    project
        .zako(&["build"])
        .fails_saying(&["//:all returned before its ctx.read() was answered"]);
}

#[test]
fn what_a_rule_is_going_to_describe_can_be_asked_for() {
    let project = project("  all: each({ srcs: [\"names\"] }),");
    for comment in ["A fresh clone.", "Changed."] {
        project.zako(&["build", "//:all~all_a"]).succeeds();
        assert!(project.has("all/a") && !project.has("all/b"));
        touch_rule(&project, comment);
    }
    assert_eq!(project.ran(), ["a"]);
    project
        .zako(&["build", "//:all~all_c"])
        .fails_saying(&["no target `//:all~all_c`"]);
}

#[test]
fn why_remembers_what_is_behind_a_list_that_failed() {
    let targets = "  all: each({ srcs: [\"names\"] }),";
    let project = project(targets);
    project.build();
    write(&project, &targets.replace("] }", "], scan: \"exit 3\" }"));
    project.zako(&["build"]).fails_saying(&["1 failed"]);
    write(&project, targets);
    project.build();
    assert_eq!(project.ran(), ["a", "b"]);
    let why = project.zako(&["why", "//:all~all_a"]).succeeds();
    assert!(!why.stdout.contains("none is remembered"), "{}", why.stdout);
}

/// Makes a pipe beside the workspace, which build files name `$RAN.NAME`.
fn pipe(project: &Project, name: &str) -> std::path::PathBuf {
    let path = project.outside().join(format!("ran.{name}"));
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}

#[test]
fn a_rule_that_never_ends_after_a_read_is_ended_by_an_interruption() {
    let project = Project::new();
    project.write(
        "endless.rule.ts",
        r#"
import { rule } from "zako:rule";
export const endless = rule({
  name: "endless",
  async implementation(ctx) {
    const list = ctx.file("list");
    ctx.run({ cmd: ["touch", list], outs: [list] });
    await ctx.read(list);
    for (;;);
  },
});
"#,
    );
    project.write("BUILD.ts", "import { target } from \"zako:build\";\nimport { endless } from \"./endless.rule.ts\";\nexport default {\n\
        \x20 all: endless({}),\n  other: target({ cmd: [\"sh\", \"-c\", \"echo x > $RAN.begun; sleep 600\"], deps: [\":all~list\"] }),\n};\n");
    let begun = pipe(&project, "begun");
    let mut command = project.command(&["build", "-j", "2", "//:all", "//:other"]);
    // Longer than any test runs.
    command.env("ZAKO_EVALUATION_SECONDS", "100000");
    let running = zako_tests::Running::start(&mut command);
    // The list is there then, and the rule is asked.
    std::fs::read_to_string(begun).unwrap();
    running.signal("INT");
    let said = running.wait();
    assert_eq!(said.status.code(), Some(130), "{}", said.text());
}

#[test]
fn a_killed_build_goes_on_where_rules_had_read() {
    let project = project(
        "  all: each({ srcs: [\"names\"], step: \"test $1 = a || test -e $RAN.go || { echo x > $RAN.begun; read y < $RAN.never; }\" }),\n\
         \x20 other: target({ cmd: [\"sh\", \"-c\", \"cat all* > other || true\"], srcs: glob(\"n*\", \"all/*\", \"all.list\"), outs: [\"other\"] }),",
    );
    let (begun, _never) = (pipe(&project, "begun"), pipe(&project, "never"));
    let running = project.start(&["build", "-j", "1"]);
    std::fs::read_to_string(begun).unwrap();
    running.signal("KILL");
    running.wait();
    File::create(project.outside().join("ran.go")).unwrap();
    project.build();
    assert!(project.has("all/a") && project.has("all/b"));
    assert_eq!(project.read("other"), "", "outputs are no sources");
    let again = project.zako(&["build", "-v"]).succeeds().text();
    assert!(again.contains("5 up to date"), "{again}");
    project.store_is_intact();
}

#[test]
fn a_rule_that_reads_is_watched() {
    let project = project("  all: each({ srcs: [\"names\"] }),");
    let mut watch = project.start(&["watch"]);
    let mut settled = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            let line = watch.line();
            assert!(line.starts_with("watching "), "{line:?}");
        }
    };
    settled(&|| project.has("all/a") && project.has("all/b"));
    project.write("names", "a\nc\n");
    settled(&|| project.has("all/c") && !project.has("all/b"));
    touch_rule(&project, "Changed.");
    project.write("names", "d\n");
    settled(&|| project.has("all/d") && !project.has("all/a"));
    project.write("names", "bad\n");
    project.write("names", "e\n");
    settled(&|| project.has("all/e") && !project.has("all/d"));
    watch.signal("INT");
    assert_eq!(watch.wait().status.code(), Some(0));
}

#[test]
fn what_a_rule_describes_after_a_read_can_be_run() {
    let project = project(
        "  made: each({ srcs: [\"names\"], step: \"printf '#!/bin/sh\\\\necho ran $1 \\\"$@\\\"' > made/run; chmod +x made/run; exit\" }),",
    );
    project.write("names", "run\n");
    for _ in 0..2 {
        let said = project.zako(&["run", "//:made", "--", "x"]).succeeds();
        assert_eq!(said.stdout, "ran x x\n");
        touch_rule(&project, "Changed.");
    }
}

#[test]
fn what_rules_read_is_shared() {
    let node = Node::open();
    let remote = format!("grpc://{}", node.address());
    let summary = || {
        let project = project("");
        project.write("each.rule.ts", &EACH.replace("$RAN", "/dev/null"));
        write(&project, "  all: each({ srcs: [\"names\"] }),");
        let said = project.zako(&["build", "--json", "--remote", &remote]);
        let said = said.succeeds().stdout;
        assert_eq!(project.read("all/a"), "a\n");
        said
    };
    let first = summary();
    assert!(first.contains("\"executed\": 3"), "{first}");
    let second = summary();
    assert!(
        second.contains("\"executed\": 0") && second.contains("\"cached\": 3"),
        "{second}"
    );
}

/// Writes these lists of names.
fn write_lists(project: &Project, lists: &[(&str, Vec<&str>)]) {
    for (list, names) in lists {
        project.write(&format!("{list}.names"), &format!("{}\n", names.join("\n")));
    }
}

#[test]
fn whatever_happens_between_the_last_build_makes_what_the_lists_say() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let mut rng = fastrand::Rng::with_seed(11);
    // Whoever finds the file `kill.NAME` ends zako.
    let step = "test ! -e $RAN.kill.$1 || { rm $RAN.kill.$1; kill -9 $PPID; sleep 600; }";
    let targets = format!(
        "  x: each({{ srcs: [\"x.names\"], step: \"{step}\" }}),\n  y: each({{ srcs: [\"y.names\"], after: [\":x\"], step: \"{step}\" }}),\n\
         \x20 z: target({{ cmd: [\"sh\", \"-c\", \"cat */? > z || true\"], srcs: glob(\"?/?\", \"m/*\"), outs: [\"z\"] }}),"
    );
    let project = project(&targets);
    project.write("m/m", "m\n");
    for round in 0..24 {
        let lists = ["x", "y"].map(|list| {
            let mut names = NAMES.to_vec();
            names.retain(|_| rng.bool());
            (list, names)
        });
        match rng.u8(..4) {
            0 => {
                // What nobody has made before, so that it is made and not brought.
                let [made, kills] = ["j", "k"].map(|name| format!("{name}{round}"));
                File::create(project.outside().join(format!("ran.kill.{kills}"))).unwrap();
                let mut more = lists.clone();
                more[rng.usize(..2)].1.extend([&*made, &*kills]);
                write_lists(&project, &more);
                let killed = project.zako(&["build", "-j", "1"]);
                assert_eq!(killed.status.code(), None, "{}", killed.text());
            }
            1 => touch_rule(&project, &round.to_string()),
            2 => write(&project, &format!("{targets} // {round}")),
            _ => {}
        }
        if rng.bool() {
            project.write("y.names", "bad\n");
            project.zako(&["build", "-k"]);
        }
        write_lists(&project, &lists);
        if rng.bool() {
            project.zako(&["build", "//:z", "//:y~y_a", "-k"]);
        }
        loop {
            let said = project.zako(&["build"]);
            if said.status.success() {
                break;
            }
            assert_eq!(said.status.code(), None, "{}", said.text());
        }
        for (list, names) in &lists {
            let there = std::fs::read_dir(project.root().join(list));
            let there = there.into_iter().flatten();
            let mut there: Vec<_> = there.map(|it| it.unwrap().file_name()).collect();
            there.sort();
            assert_eq!(there, *names, "round {round}: {list}");
        }
        assert_eq!(project.read("z"), "m\n", "round {round}");
    }
    project.store_is_intact();
}
