//! Rules that read what steps write: they wait while other steps run, and go on beside them.

use std::collections::BTreeSet;

use serde_json::Value;
use zako_tests::each::{EACH, project, write};
use zako_tests::{Outcome, Project};

/// The events of a build, each with its kind.
fn events(project: &Project) -> Vec<(String, Value)> {
    let lines = project.read("events");
    let events = lines.lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        (event["event"].as_str().unwrap().to_owned(), event)
    });
    events.collect()
}

/// Checks that there is one stream: begun once, finished once, and every target in it once.
#[track_caller]
fn check_stream(project: &Project) -> Vec<String> {
    let events = events(project);
    let count = |kind: &str| events.iter().filter(|(it, _)| it == kind).count();
    assert_eq!((count("build_started"), count("build_finished")), (1, 1));
    assert_eq!(events.last().unwrap().0, "build_finished");
    let known = events
        .iter()
        .filter(|(kind, _)| kind == "build_started" || kind == "build_grew");
    let known: u64 = known
        .map(|(_, it)| it["targets"].as_u64().unwrap() - it["fresh"].as_u64().unwrap())
        .sum();
    let ended = events.iter().filter(|(kind, _)| kind == "step_finished");
    let ended: Vec<String> = ended
        .map(|(_, it)| it["label"].as_str().unwrap().to_owned())
        .collect();
    let all: BTreeSet<&String> = ended.iter().collect();
    assert_eq!(
        (all.len(), ended.len() as u64),
        (ended.len(), known),
        "{ended:?}"
    );
    ended
}

#[test]
fn steps_run_beside_a_rule_that_waits_and_what_it_adds_beside_them() {
    // Each of the three waits for another: the list for the other target, that for a step that follows the list.
    let project = project(
        "  all: each({ srcs: [\"names\"], scan: \"read x < $RAN.begun\", step: \"test $1 = b || echo y > $RAN.listed\" }),\n\
         \x20 other: target({ cmd: [\"sh\", \"-ec\", \"echo x > $RAN.begun; read y < $RAN.listed; touch other\"], outs: [\"other\"], timeout: 60 }),",
    );
    for pipe in ["ran.begun", "ran.listed"] {
        let path = project.outside().join(pipe);
        assert!(
            std::process::Command::new("mkfifo")
                .arg(path)
                .status()
                .unwrap()
                .success()
        );
    }
    project
        .zako(&["build", "-j", "4", "--events", "events"])
        .succeeds();
    assert_eq!(project.ran(), ["a", "b"]);
    assert_eq!(check_stream(&project).len(), 5);
    let again = project.zako(&["build", "-v"]).succeeds().text();
    assert!(
        again.contains("0 evaluated") && again.contains("5 up to date"),
        "{again}"
    );
}

#[test]
fn a_chain_of_reads_is_one_build_whose_total_grows() {
    let project = Project::new();
    project.write(
        "chain.rule.ts",
        r#"
import { rule } from "zako:rule";
export const chain = rule({
  name: "chain",
  attrs: {},
  async implementation(ctx) {
    let text = "";
    let last;
    for (let i = 0; i < 6; i++) {
      last = ctx.file(`out${i}`);
      ctx.run({ cmd: ["sh", "-ec", 'echo "$1$2" > "$3"', "sh", text, String(i), last], outs: [last] });
      text = (await ctx.read(last)).trim();
    }
    return { files: [last] };
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { chain } from \"./chain.rule.ts\";\nexport default { all: chain({}) };\n",
    );
    let said = project
        .zako(&["build", "--events", "events"])
        .succeeds()
        .text();
    assert_eq!(project.read("out5"), "012345\n");
    assert_eq!(check_stream(&project).len(), 7);
    for place in 1..=7 {
        assert_eq!(said.matches(&format!("[{place}/")).count(), 1, "{said}");
    }
    assert!(
        said.contains("[7/7] //:all") && said.contains("7 targets"),
        "{said}"
    );
}

#[test]
fn the_only_output_of_a_rule_that_reads_it_is_read_again_when_it_changes() {
    let project = Project::new();
    project.write(
        "judge.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const judge = rule({
  name: "judge",
  attrs: { srcs: attr.sources() },
  async implementation(ctx) {
    const out = ctx.file("out");
    ctx.run({ cmd: ["cp", ctx.attrs.srcs, out], outs: [out] });
    if ((await ctx.read(out)).includes("bad")) throw new Error("a bad name");
    return { files: [out] };
  },
});
"#,
    );
    project.write("BUILD.ts", "import { judge } from \"./judge.rule.ts\";\nexport default { all: judge({ srcs: [\"names\"] }) };\n");
    project.write("names", "good\n");
    project.build();
    project.write("names", "bad\n");
    project
        .zako(&["build"])
        .fails_saying(&["a bad name", "judge.rule.ts:9:"]);
    project.write("names", "better\n");
    project.build();
    assert_eq!(project.read("out"), "better\n");
}

#[test]
fn whatever_does_not_wait_for_a_failed_list_is_built_with_keep_going() {
    let project = project(
        "  all: each({ srcs: [\"names\"], scan: \"exit 3\" }),\n\
         \x20 user: target({ cmd: [\"touch\", \"user\"], deps: [\":all\"], outs: [\"user\"] }),\n\
         \x20 other: target({ cmd: [\"touch\", \"other\"], outs: [\"other\"] }),",
    );
    let arguments = ["build", "-k", "-j", "1", "--events", "events"];
    let said = project
        .zako(&arguments)
        .fails_saying(&["//:all~all.list", "1 failed, 2 skipped, 1 ran"]);
    assert!(
        project.has("other") && !project.has("user"),
        "{}",
        said.text()
    );
    assert_eq!(check_stream(&project).len(), 4);
    project
        .zako(&["build", "-j", "1", "--events", "events"])
        .fails_saying(&["1 failed"]);
    check_stream(&project);
}

#[test]
fn a_mistake_of_one_rule_leaves_others_their_reads_with_keep_going() {
    let project = project(
        "  good: each({ srcs: [\"names\"] }),\n\
         \x20 wrong: each({ srcs: [\"others\"] }),\n\
         \x20 user: target({ cmd: [\"touch\", \"user\"], deps: [\":wrong\"], outs: [\"user\"] }),\n\
         \x20 other: target({ cmd: [\"touch\", \"other\"], deps: [\":good\"], outs: [\"other\"] }),",
    );
    project.write("others", "bad\n");
    let said = project.zako(&["build", "-k", "--events", "events"]);
    let said = said.fails_saying(&[
        "a bad name",
        "in rule each for //:wrong",
        "1 failed, 1 skipped",
    ]);
    assert_eq!(
        said.text().matches("error: a bad name").count(),
        1,
        "{}",
        said.text()
    );
    assert_eq!(project.ran(), ["a", "b"]);
    assert!(project.has("other") && !project.has("user"));
    check_stream(&project);
    project.write("others", "c\n");
    project.build();
    assert_eq!(project.ran(), ["c"]);
    assert!(project.has("user"));
}

#[test]
fn what_is_not_described_yet_is_told_of_by_dry() {
    let project = project(
        "  list: each({ srcs: [\"names\"] }),\n\
         \x20 user: target({ cmd: [\"touch\", \"user\"], deps: [\":list\"], outs: [\"user\"] }),\n\
         \x20 other: target({ cmd: [\"touch\", \"other\"], outs: [\"other\"] }),",
    );
    let dry = |parts: &[&str]| {
        let said = project.zako(&["build", "--dry"]).succeeds().text();
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    };
    dry(&[
        "//:list~list.list: ",
        "//:list: its rule waits for //:list~list.list\n",
        "//:user: waits for the rule of //:list\n",
        "//:other: ",
        "4 of 4 targets are not up to date, 2 of them not described yet, and there may be more",
    ]);
    // Once the list is there, nobody waits for it.
    project.zako(&["build", "//:list"]).succeeds();
    project.ran();
    dry(&[
        "//:user: ",
        "2 of 6 targets are not up to date; nothing was run",
    ]);
    // What was said before may change with the list.
    project.write("names", "c\n");
    dry(&[
        "//:list: its rule waits for //:list~list.list\n",
        "there may be more",
    ]);
    assert!(project.ran().is_empty());
    project.build();
    assert_eq!(project.ran(), ["c"]);
    assert!(!project.has("list/a"));
}

#[test]
fn those_who_wait_for_each_other_by_what_a_rule_reads_are_named() {
    let project = Project::new();
    project.write(
        "reads.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const reads = rule({
  name: "reads",
  attrs: { srcs: attr.sources() },
  async implementation(ctx) {
    const list = ctx.file("list");
    ctx.run({ cmd: ["cp", ctx.attrs.srcs, list], outs: [list] });
    const out = ctx.file(`out${(await ctx.read(list)).length}`);
    ctx.run({ cmd: ["touch", out], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    let build = |deps: &str| {
        project.write(
            "BUILD.ts",
            &format!("import {{ target }} from \"zako:build\";\nimport {{ reads }} from \"./reads.rule.ts\";\nexport default {{\n  all: reads({{ srcs: [\":made\"] }}),\n  made: target({{ cmd: [\"sh\", \"-c\", \"echo made > made\"], deps: [{deps}], outs: [\"made\"] }}),\n}};\n"),
        );
    };
    build("");
    project.build();
    // What the rule hands on does not need the list: only that it reads it closes the circle.
    build("\":all\"");
    project.zako(&["build"]).fails_saying(&[
        "dependency cycle: //:all reads //:all~list → //:made → //:all;",
        "BUILD.ts:4:",
    ]);
    build("");
    project.build();
}

#[test]
fn nothing_is_built_by_a_description_that_an_earlier_read_may_change() {
    let project = Project::new();
    project.write(
        "twice.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const twice = rule({
  name: "twice",
  attrs: { srcs: attr.sources() },
  async implementation(ctx) {
    const list = ctx.file("list");
    ctx.run({ cmd: ["cp", ctx.attrs.srcs, list], outs: [list] });
    const name = (await ctx.read(list)).trim();
    const one = ctx.file(`one/${name}`);
    ctx.run({ cmd: ["sh", "-ec", 'echo $3 >> $RAN; cat "$1" $RAN.$3 > "$2"', "sh", list, one, name], outs: [one] });
    const text = (await ctx.read(one)).trim().replaceAll("\n", " ");
    const out = ctx.file("out");
    ctx.run({ cmd: ["sh", "-ec", 'echo "$1" > "$2"', "sh", text, out], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    project.write("BUILD.ts", "import { twice } from \"./twice.rule.ts\";\nexport default { all: twice({ srcs: [\"name\"] }) };\n");
    let name = |name: &str| {
        project.write("name", &format!("{name}\n"));
        let path = project.outside().join(format!("ran.{name}"));
        std::fs::write(path, "it is there\n").unwrap();
    };
    name("a");
    project.build();
    assert_eq!(project.read("out"), "a it is there\n");
    // The step for the old name would fail now.
    std::fs::remove_file(project.outside().join("ran.a")).unwrap();
    name("b");
    project.ran();
    project.build();
    assert_eq!(project.ran(), ["b"]);
    assert!(!project.has("one/a") && project.has("one/b"));
}

#[test]
fn what_a_rule_has_yet_to_describe_again_is_left_alone() {
    let project = project(
        "  all: each({ srcs: [\"names\"] }),\n\
         \x20 other: target({ cmd: [\"cp\", \"names\", \"other\"], srcs: glob(\"names\", \"all/*\"), outs: [\"other\"] }),",
    );
    project.build();
    assert_eq!(project.ran(), ["a", "b"]);
    std::fs::remove_file(project.root().join("all.list")).unwrap();
    project.zako(&["build", "--dry"]).succeeds();
    project.zako(&["why", "//:other"]).succeeds();
    assert!(project.has("all/a") && project.has("all/b"));
    project.write("each.rule.ts", &format!("{EACH}// Changed.\n"));
    let said = project.zako(&["build", "//:other"]).succeeds().text();
    assert!(said.contains("1 up to date"), "{said}");
    assert!(project.has("all/a") && project.has("all/b"));
    project.build();
    assert!(project.ran().is_empty());
    project.write("names", "a\n");
    project.build();
    assert!(project.has("all/a") && !project.has("all/b"));
}

#[test]
fn a_mended_source_mends_what_a_rule_may_not_say() {
    let project = project(
        "  late: each({ srcs: [\"names\"] }),\n\
         \x20 wrong: each({ srcs: [\"others\"] }),\n\
         \x20 other: target({ cmd: [\"touch\", \"other\"], outs: [\"other\"] }),",
    );
    for arguments in [&["build", "-k"][..], &["build"]] {
        project.write("others", "!other\n");
        for _ in 0..2 {
            let said = project.zako(arguments);
            said.fails_saying(&["both write other"]);
        }
        project.zako(&["build", "//:late"]).succeeds();
        project.write("others", "c\n");
        project.zako(arguments).succeeds();
        assert!(project.has("wrong/c"));
    }
    // Both halves of an edit count: the target that is new, and the list that changes.
    project.write("others", "d\n");
    write(
        &project,
        "  wrong: each({ srcs: [\"others\"] }),\n\
         \x20 other: target({ cmd: [\"sh\", \"-c\", \"echo other > wrong/c\"], outs: [\"wrong/c\"] }),",
    );
    project.build();
    assert_eq!(project.read("wrong/c"), "other\n");
    assert!(project.has("wrong/d"));
}

#[test]
fn a_rule_that_goes_on_at_once_may_have_a_mistake_with_keep_going() {
    let project = project(
        "  good: each({ srcs: [\"names\"] }),\n\
         \x20 wrong: each({ srcs: [\"others\"] }),\n\
         \x20 after: each({ srcs: [\"others\"], after: [\":good\"] }),\n\
         \x20 other: target({ cmd: [\"touch\", \"other\"], outs: [\"other\"] }),",
    );
    project.write("others", "bad\n");
    let build = |name: &str| {
        project.write("names", &format!("{name}\n"));
        let said = project.zako(&["build", "-k", "--events", "events"]);
        assert_ne!(said.status.code(), Some(0));
        let said = said.text();
        for part in ["in rule each for //:wrong", "for //:after", "2 failed"] {
            assert_eq!(said.matches(part).count(), 1, "{part}: {said}");
        }
        assert_eq!(project.ran(), [name]);
        check_stream(&project);
    };
    build("a");
    std::fs::remove_file(project.root().join("other")).unwrap();
    // One is asked before the steps, the other after the rule that it depends on.
    build("b");
    assert!(project.has("other"));
    project
        .zako(&["build", "//:wrong"])
        .fails_saying(&["a bad name"]);
    project.write("others", "c\n");
    project.build();
    assert!(project.has("wrong/c") && project.has("after/c"));
}

#[test]
fn of_two_rules_that_go_on_together_the_wrong_one_is_blamed() {
    let project = Project::new();
    project.write(
        "judge.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const judge = rule({
  name: "judge",
  attrs: { list: attr.source(), refused: attr.string() },
  async implementation(ctx) {
    if ((await ctx.read(ctx.attrs.list)).includes(ctx.attrs.refused)) throw new Error("a bad name");
    const out = ctx.file(ctx.label.name);
    ctx.run({ cmd: ["touch", out], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { target } from \"zako:build\";\nimport { judge } from \"./judge.rule.ts\";\nexport default {\n\
         \x20 good: judge({ list: \":list\", refused: \"x\" }),\n\
         \x20 wrong: judge({ list: \":list\", refused: \"a\" }),\n\
         \x20 better: judge({ list: \":list\", refused: \"y\" }),\n\
         \x20 list: target({ cmd: [\"sh\", \"-c\", \"echo a > list\"], outs: [\"list\"] }),\n};\n",
    );
    let arguments = ["build", "--events", "events"];
    project.zako(&arguments).fails_saying(&["for //:wrong"]);
    let failed = events(&project).into_iter();
    let failed = failed.filter(|(_, event)| event["outcome"] == "failed");
    let failed: Vec<Value> = failed.map(|(_, event)| event["label"].clone()).collect();
    assert_eq!(failed, ["//:wrong"]);
}

#[test]
fn what_a_rule_may_describe_otherwise_is_affected() {
    let project = project(
        "  all: each({ srcs: [\"names\"] }),\n\
         \x20 user: target({ cmd: [\"touch\", \"user\"], deps: [\":all\"], outs: [\"user\"] }),\n\
         \x20 other: target({ cmd: [\"touch\", \"other\"], outs: [\"other\"] }),",
    );
    project.write(".gitignore", ".zako\nall*\nuser\nother\n");
    let commit = project
        .shell("git init -q -b main && git add . && git -c user.name=t -c user.email=t@example.org commit -qm first");
    Outcome::of(&mut { commit }).succeeds();
    project.build();
    assert_eq!(project.ran(), ["a", "b"]);
    project.write("names", "a\nc\n");
    let affected = project.zako(&["affected", "--since", "main"]).succeeds();
    let affected: BTreeSet<&str> = affected.stdout.lines().collect();
    let labels = [
        "//:all",
        "//:all~all.list",
        "//:all~all_a",
        "//:all~all_b",
        "//:user",
    ];
    assert_eq!(affected, BTreeSet::from(labels));
    project.zako(&["build", "--since", "main"]).succeeds();
    assert_eq!(project.ran(), ["c"]);
    assert!(project.has("all/c") && !project.has("all/b"));
}

#[test]
fn a_rule_that_goes_on_has_no_build_file_looked_at_again() {
    let project = Project::new();
    project.write(
        "chain.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const chain = rule({
  name: "chain",
  attrs: { length: attr.number({ required: true }) },
  async implementation(ctx) {
    let text = "0";
    let out;
    for (let i = 0; i < ctx.attrs.length; i++) {
      out = ctx.file(`${i}.txt`);
      ctx.run({ cmd: ["sh", "-c", `echo ${text.trim()}${i} > ${out}`], outs: [out] });
      text = await ctx.read(out);
    }
    return { files: [out] };
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { chain } from \"./chain.rule.ts\";\nexport default { c: chain({ length: 6 }) };\n",
    );
    const OTHERS: usize = 20;
    for n in 0..OTHERS {
        let text = "import { target } from \"zako:build\";\nexport default { t: target({ cmd: [\"true\"] }) };\n";
        project.write(&format!("d{n}/BUILD.ts"), text);
    }
    let looked_at = |project: &Project| {
        let said = project.zako(&["build", "-v"]).succeeds().stderr;
        let counts = said
            .lines()
            .filter_map(|line| line.split_once(" build files, ")?.0.parse::<usize>().ok());
        let counts: Vec<usize> = counts.collect();
        (counts.len(), counts.iter().sum::<usize>())
    };
    let (rounds, files) = looked_at(&project);
    assert!(rounds > 6, "{rounds}");
    assert_eq!(files, OTHERS + 1);
    assert_eq!(project.read("5.txt"), "0012345\n");
    // What is edited afterwards is seen.
    let text = project.read("BUILD.ts");
    project.write("BUILD.ts", &text.replace("6", "8"));
    assert_eq!(looked_at(&project).1, OTHERS + 1);
    assert_eq!(project.read("7.txt"), "001234567\n");
}

#[test]
fn what_is_too_long_for_a_rule_is_not_read() {
    let project = Project::new();
    project.write(
        "look.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const look = rule({
  name: "look",
  attrs: { sizes: attr.strings() },
  async implementation(ctx) {
    const files = ctx.attrs.sizes.map((size, i) => {
      const out = ctx.file(`${ctx.label.name}.${i}`);
      return ctx.run({ cmd: ["sh", "-c", `head -c ${size} /dev/zero | tr '\\0' x > ${out}`], outs: [out] }).out;
    });
    for (const text of await ctx.all(files.map((file) => ctx.read(file)))) console.log(`${text.length} bytes`);
    return { files };
  },
});
"#,
    );
    project.write("BUILD.ts", "import { look } from \"./look.rule.ts\";\nexport default { a: look({ sizes: [\"17000000\"] }), b: look({ sizes: [\"10000000\", \"10000000\"] }), c: look({ sizes: [\"15000000\"] }) };\n");
    project.zako(&["build", "//:a"]).fails_saying(&[
        "rule look for //:a reads a.0 of 16.2 MiB; what a rule reads may be 16.0 MiB together",
        "have a step write what the rule needs",
    ]);
    project
        .zako(&["build", "//:b"])
        .fails_saying(&["of 9.5 MiB, after 9.5 MiB before it"]);
    project.zako(&["build", "//:c"]).succeeds();
}

#[test]
fn a_rule_that_reads_without_an_end_is_named() {
    let project = Project::new();
    project.write(
        "endless.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const endless = rule({
  name: "endless",
  attrs: { srcs: attr.sources() },
  async implementation(ctx) {
    for (const one of ctx.attrs.srcs) await ctx.read(one);
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { glob } from \"zako:build\";\nimport { endless } from \"./endless.rule.ts\";\nexport default { e: endless({ srcs: glob(\"in/*\") }) };\n",
    );
    let many = |number: usize| (0..number).for_each(|n| project.write(&format!("in/{n}"), ""));
    many(250);
    project.zako(&["build"]).succeeds();
    many(252);
    project.zako(&["build"]).fails_saying(&[
        "rule endless for //:e reads one file after another, and has done so 250 times",
        "a loop without an end around `ctx.read`",
    ]);
}
