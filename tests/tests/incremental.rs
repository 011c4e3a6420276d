//! What is built again, and what is not.

use zako_tests::{Outcome, Project};

/// `one` reads `one.txt`; `upper` and `count` read what it makes; `two` stands alone.
const BUILD: &str = r#"
import { target } from "zako:build";

const step = (name, script, rest) =>
  target({ cmd: ["sh", "-c", `echo ${name} >> $RAN; ${script}`], ...rest });

export default {
  one: step("one", "grep -v '^#' one.txt > one.out || true", { srcs: ["one.txt"], outs: ["one.out"] }),
  upper: step("upper", "tr a-z A-Z < one.out > upper.out", { deps: [":one"], outs: ["upper.out"] }),
  count: step("count", "wc -l < upper.out > count.out", { deps: [":upper"], outs: ["count.out"] }),
  two: step("two", "cp two.txt two.out", { srcs: ["two.txt"], outs: ["two.out"] }),
};
"#;

fn project() -> Project {
    let project = Project::with_build(BUILD);
    project.write("one.txt", "# a comment\nalpha\nbeta\n");
    project.write("two.txt", "two\n");
    project
}

fn built() -> Project {
    let project = project();
    project.build();
    assert_eq!(project.ran(), ["count", "one", "two", "upper"]);
    project
}

#[test]
fn outputs_land_beside_their_build_file() {
    let project = built();
    assert_eq!(project.read("upper.out"), "ALPHA\nBETA\n");
    assert_eq!(project.read("count.out").trim(), "2");
    assert_eq!(project.read("two.out"), "two\n");
}

#[test]
fn a_second_build_runs_nothing() {
    let project = built();
    project.build();
    assert!(project.ran().is_empty());
}

#[test]
fn touching_a_file_runs_nothing() {
    let project = built();
    let text = project.read("one.txt");
    project.write("one.txt", &text);
    project.build();
    assert!(project.ran().is_empty());
}

#[test]
fn an_edit_runs_what_depends_on_it_and_nothing_else() {
    let project = built();
    project.write("one.txt", "alpha\nbeta\ngamma\n");
    project.build();
    assert_eq!(project.ran(), ["count", "one", "upper"]);
    assert_eq!(project.read("count.out").trim(), "3");

    project.write("two.txt", "2\n");
    project.build();
    assert_eq!(project.ran(), ["two"]);
}

#[test]
fn an_output_that_did_not_change_stops_the_rebuilding() {
    let project = built();
    project.write("one.txt", "# another comment\nalpha\nbeta\n");
    project.build();
    assert_eq!(project.ran(), ["one"]);
}

#[test]
fn going_back_to_an_older_state_runs_nothing() {
    let project = built();
    let before = project.read("one.txt");
    project.write("one.txt", "delta\n");
    project.build();
    project.ran();
    project.write("one.txt", &before);
    project.build();
    assert!(project.ran().is_empty());
    assert_eq!(project.read("upper.out"), "ALPHA\nBETA\n");
}

#[test]
fn only_what_is_asked_for_is_built() {
    let project = project();
    project.zako(&["build", "//:upper"]).succeeds();
    assert_eq!(project.ran(), ["one", "upper"]);
    assert!(!project.has("two.out"));
}

#[test]
fn a_deleted_or_damaged_output_is_restored_without_running() {
    let project = built();
    std::fs::remove_file(project.root().join("upper.out")).unwrap();
    project.write("two.out", "damaged");
    project.build();
    assert!(project.ran().is_empty());
    assert_eq!(project.read("upper.out"), "ALPHA\nBETA\n");
    assert_eq!(project.read("two.out"), "two\n");
}

#[test]
fn a_changed_command_runs_again() {
    let project = built();
    project.write("BUILD.ts", &BUILD.replace("wc -l", "wc -c"));
    project.build();
    assert_eq!(project.ran(), ["count"]);
}

#[test]
fn a_comment_in_a_build_file_runs_nothing() {
    let project = built();
    project.write("BUILD.ts", &format!("// A comment.\n{BUILD}"));
    project.build();
    assert!(project.ran().is_empty());
}

#[test]
fn a_failure_stops_what_depends_on_it_and_keeps_the_rest() {
    let project = project();
    project.write(
        "BUILD.ts",
        &BUILD.replace("tr a-z A-Z", "false && tr a-z A-Z"),
    );
    project
        .zako(&["build", "--keep-going"])
        .fails_saying(&["//:upper"]);
    assert_eq!(project.ran(), ["one", "two", "upper"]);
    assert_eq!(project.read("two.out"), "two\n");

    project.write("BUILD.ts", BUILD);
    project.build();
    assert_eq!(project.ran(), ["count", "upper"]);
}

#[test]
fn one_job_at_a_time_gives_the_same() {
    let project = project();
    project.zako(&["build", "-j", "1"]).succeeds();
    assert_eq!(project.read("count.out").trim(), "2");
    assert_eq!(project.ran(), ["count", "one", "two", "upper"]);
}

#[test]
fn steps_run_side_by_side() {
    // `a` waits until `b` reads from it, and `b` ends only with the answer: alone, neither ends.
    let build = r#"
import { target } from "zako:build";
const run = (script) => target({ cmd: ["sh", "-c", script], timeout: 60 });
export default {
  a: run("echo question > $RAN.a; read answer < $RAN.b"),
  b: run("read question < $RAN.a; echo answer > $RAN.b"),
};
"#;
    let project = Project::with_build(build);
    for name in ["ran.a", "ran.b"] {
        let fifo = project.outside().join(name);
        let made = std::process::Command::new("mkfifo").arg(fifo).status();
        assert!(made.unwrap().success());
    }
    project.zako(&["build", "-j", "2"]).succeeds();
}

#[test]
fn a_step_sees_declared_inputs_only_and_a_clean_environment() {
    let build = r#"
import { target } from "zako:build";
export default {
  look: target({
    cmd: ["sh", "-c", "find . -type f | sort > seen.txt; env | sort > env.txt"],
    srcs: ["declared.txt"],
    env: { DECLARED: "yes" },
    outs: ["seen.txt", "env.txt"],
  }),
};
"#;
    let project = Project::with_build(build);
    project.write("declared.txt", "");
    project.write("undeclared.txt", "");
    let mut command = project.command(&["build"]);
    command.env("UNDECLARED", "no");
    Outcome::of(&mut command).succeeds();
    let seen = project.read("seen.txt");
    assert!(
        seen.contains("declared.txt") && !seen.contains("undeclared.txt"),
        "{seen}"
    );
    let env = project.read("env.txt");
    assert!(
        env.contains("DECLARED=yes") && !env.contains("UNDECLARED"),
        "{env}"
    );
}

#[test]
fn a_step_cannot_change_its_sources() {
    let build = r#"
import { target } from "zako:build";
export default {
  vandal: target({ cmd: ["sh", "-c", "chmod u+w a.txt; echo gone > a.txt"], srcs: ["a.txt"] }),
};
"#;
    let project = Project::with_build(build);
    project.write("a.txt", "precious\n");
    project.build();
    assert_eq!(project.read("a.txt"), "precious\n");
}

#[test]
fn a_new_file_under_a_glob_runs_what_reads_it() {
    let build = r#"
import { glob, target } from "zako:build";
export default {
  list: target({
    cmd: ["sh", "-c", "echo list >> $RAN; cat texts/*.txt > all.out"],
    srcs: glob("texts/**/*.txt", { exclude: ["**/draft.txt"] }),
    outs: ["all.out"],
  }),
};
"#;
    let project = Project::with_build(build);
    project.write("texts/a.txt", "a\n");
    project.build();
    project.write("texts/draft.txt", "not yet\n");
    project.build();
    assert_eq!(project.ran(), ["list"]);

    project.write("texts/b.txt", "b\n");
    project.build();
    assert_eq!(project.ran(), ["list"]);
    assert_eq!(project.read("all.out"), "a\nb\n");

    std::fs::remove_file(project.root().join("texts/a.txt")).unwrap();
    project.build();
    assert_eq!(project.read("all.out"), "b\n");
}

#[test]
fn two_processes_at_once_build_the_same_workspace() {
    let project = project();
    let first = project.start(&["build"]);
    let second = project.start(&["build"]);
    first.wait().succeeds();
    second.wait().succeeds();
    assert_eq!(project.read("count.out").trim(), "2");
    project.store_is_intact();
    project.ran();
    project.build();
    assert!(project.ran().is_empty());
}

#[test]
fn a_test_that_passes_at_its_second_try_is_flaky_and_what_it_said_is_shown() {
    let project = Project::with_build(
        r#"
import { test } from "zako:build";
export default {
  unit: test({ cmd: ["sh", "-c", "[ -e $RAN ] || { echo unit > $RAN; echo wrong weather; exit 4; }"], retries: 2 }),
};
"#,
    );
    let events = project.outside().join("events");
    let said = project
        .zako(&["test", "--events", events.to_str().unwrap()])
        .succeeds()
        .text();
    for words in [
        "try 1 failed: exit status 4",
        "wrong weather",
        "flaky: try 2 passed",
        "1 ran, 1 flaky",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let events = std::fs::read_to_string(events).unwrap();
    assert!(
        events.contains("\"attempts\":2") && events.contains("\"flaky\":1"),
        "{events}"
    );
}

#[test]
fn a_named_resource_is_used_by_as_many_as_there_are() {
    // Each says when another one is there at the same time.
    let steps = |count: usize, uses: &str| {
        let step = |n: usize| {
            format!(
                "  s{n}: target({{ cmd: [\"sh\", \"-c\", \"mkdir $RAN.lock || echo two >> $RAN; sleep 0.02; rmdir $RAN.lock; touch {n}\"], outs: [\"{n}\"]{uses} }}),\n"
            )
        };
        let steps: String = (0..count).map(step).collect();
        format!("import {{ target }} from \"zako:build\";\nexport default {{\n{steps}}};\n")
    };
    let project = Project::with_build(&steps(12, ", uses: { gpu: 1 }"));
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[settings.resources]\ngpu = 1\n"),
    );
    project.zako(&["build", "-j4"]).succeeds();
    assert!(project.ran().is_empty(), "two had the one gpu");
}

#[test]
fn no_more_children_run_than_allowed() {
    let step = |n: usize| {
        format!(
            "  s{n}: target({{ cmd: [\"sh\", \"-c\", \"mkdir $RAN.d/{n}; ls $RAN.d | wc -l >> $RAN; sleep 0.01; rmdir $RAN.d/{n}; touch {n}\"], outs: [\"{n}\"] }}),\n"
        )
    };
    let steps: String = (0..50).map(step).collect();
    let project = Project::with_build(&format!(
        "import {{ target }} from \"zako:build\";\nexport default {{\n{steps}}};\n"
    ));
    std::fs::create_dir(project.outside().join("ran.d")).unwrap();
    project.zako(&["build", "-j3"]).succeeds();
    let at_once = project.ran();
    assert_eq!(at_once.len(), 50);
    let most = at_once
        .iter()
        .map(|count| count.trim().parse::<u32>().unwrap());
    assert!(most.clone().max() <= Some(3), "{:?}", most.max());
}

#[test]
fn fields_without_effect_are_mistakes() {
    let project = Project::with_build("export default {};\n");
    let manifest = project.read("zako.toml");
    for (line, instead) in [
        ("peers = [\"libs/*\"]", "in [dependencies]"),
        (
            "rules = [\"**/*.rule.ts\"]",
            "where build files import them",
        ),
        ("configure_script = \"c.ts\"", "*.config.ts"),
    ] {
        project.write("zako.toml", &format!("{manifest}{line}\n"));
        let field = line.split(' ').next().unwrap();
        project.zako(&["build"]).fails_saying(&[
            "zako.toml:4:",
            &format!("`{field}` would have no effect"),
            instead,
            "remove the field",
        ]);
    }
    project.write(
        "zako.toml",
        &format!("{manifest}description = \"all of it\"\nlicense = \"MIT\"\nauthors = [\"Ann\", \"Bob\"]\n"),
    );
    project.build();
    let said = project.zako(&["doctor"]).succeeds().stdout;
    assert!(
        said.contains("all of it; licence MIT; by Ann, Bob"),
        "{said}"
    );
    project.write(
        "zako.ts",
        "import { workspace } from \"zako:package\";\nexport default workspace({ name: \"x\" });\n",
    );
    project
        .zako(&["build"])
        .fails_saying(&["zako.ts", "unknown key `name`"]);
}

#[test]
fn what_is_saved_while_its_step_runs_is_built_the_next_time() {
    let project = Project::new();
    let source = project.root().join("a.txt");
    // The file is saved once, by the step itself, after the step has read it.
    project.write(
        "copy.rule.ts",
        &r#"
import { attr, rule } from "zako:rule";
export const copy = rule({
  name: "copy",
  attrs: { srcs: attr.sources() },
  implementation(ctx) {
    const [out, depfile] = [ctx.file("a.out"), ctx.file("a.d")];
    const script = 'cat $1 > $2; echo a.out: $1 > $3; echo a >> $RAN; [ -e $RAN.saved ] || { : > $RAN.saved; echo later > $SOURCE; }';
    ctx.run({ cmd: ["sh", "-c", script, "sh", ctx.attrs.srcs[0], out, depfile], outs: [out], depfile });
  },
});
"#
        .replace("$SOURCE", &source.display().to_string()),
    );
    project.write(
        "BUILD.ts",
        "import { copy } from \"./copy.rule.ts\";\nexport default { a: copy({ srcs: [\"a.txt\"] }) };\n",
    );
    project.write("a.txt", "sooner\n");
    project.build();
    assert_eq!(project.read("a.out"), "sooner\n");
    assert_eq!(project.read("a.txt"), "later\n");
    project.build();
    assert_eq!(project.read("a.out"), "later\n");
    assert_eq!(project.ran(), ["a", "a"]);
    // What was kept belongs to what was read.
    project.write("a.txt", "sooner\n");
    project.build();
    assert_eq!(project.read("a.out"), "sooner\n");
    assert!(project.ran().is_empty());
}

#[test]
fn a_test_that_fails_at_every_try_says_how_often_and_what_it_said() {
    let project = Project::with_build(
        r#"
import { test } from "zako:build";
export default {
  unit: test({ cmd: ["sh", "-c", "echo unit >> $RAN; echo weather $(wc -l < $RAN); exit 4"], retries: 2 }),
};
"#,
    );
    let events = project.outside().join("events");
    project
        .zako(&["test", "--events", events.to_str().unwrap()])
        .fails_saying(&["try 1 failed: exit status 4", "weather 1", "weather 3"]);
    let events = std::fs::read_to_string(events).unwrap();
    assert!(events.contains("\"attempts\":3"), "{events}");
}

#[test]
fn what_a_depfile_says_is_read_however_it_is_set_out() {
    let with = |line: &str| {
        let project = Project::new();
        let rule = r#"
import { attr, rule } from "zako:rule";
export const copy = rule({
  name: "copy",
  attrs: { srcs: attr.sources() },
  implementation(ctx) {
    const [out, depfile] = [ctx.file("a.out"), ctx.file("a.d")];
    ctx.run({ cmd: ["sh", "-c", 'cat $1 > $2; LINE', "sh", ctx.attrs.srcs[0], out, depfile], outs: [out], depfile });
  },
});
"#;
        project.write("copy.rule.ts", &rule.replace("LINE", line));
        project.write(
            "BUILD.ts",
            "import { copy } from \"./copy.rule.ts\";\nexport default { a: copy({ srcs: [\"a.txt\"] }) };\n",
        );
        project.write("a.txt", "1\n");
        project
    };
    for line in [
        "printf \"a.out:\\ta.txt\\n\" > $3",
        // What a step makes for itself is nobody's.
        "echo > $TMPDIR/made.h; echo a.out: a.txt $TMPDIR/made.h > $3",
    ] {
        let project = with(&line.replace('\\', "\\\\"));
        project.build();
        project.write("a.txt", "2\n");
        project.build();
        assert_eq!(project.read("a.out"), "2\n", "{line}");
    }
    let said = with("echo a.txt > $3").zako(&["build"]);
    said.fails_saying(&["its depfile a.d has no rule as make writes them"]);
}
