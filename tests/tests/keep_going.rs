//! Mistakes in build files and what they cost: nothing that does not need them, and with `-k` only what does.

use zako_tests::{Outcome, Project, git};

const IMPORT: &str = "import { glob, target } from \"zako:build\";\n";

/// A target that leaves `name.txt` and says that it ran.
fn spy(name: &str, more: &str) -> String {
    format!(
        "  {name}: target({{ cmd: [\"sh\", \"-c\", \"echo {name} >> $RAN; echo {name} > {name}.txt\"], outs: [\"{name}.txt\"], {more} }}),\n"
    )
}

fn build_file(targets: &[String]) -> String {
    format!("{IMPORT}export default {{\n{}}};\n", targets.concat())
}

/// `//a:x` needs nothing, `//c:z` needs `//b:y`, and `//b` is as `b` has it.
fn project(b: &str) -> Project {
    let project = Project::new();
    project.write("a/BUILD.ts", &build_file(&[spy("x", "")]));
    project.write("b/BUILD.ts", b);
    let z = spy("z", "deps: [\"//b:y\"]");
    project.write("c/BUILD.ts", &build_file(&[z, spy("w", "")]));
    project
}

fn sound() -> String {
    build_file(&[spy("y", "")])
}

fn code(outcome: &Outcome) -> Option<i32> {
    outcome.status.code()
}

fn count(text: &str, words: &str) -> usize {
    text.matches(words).count()
}

/// A kind of mistake in `b/BUILD.ts`: the file, what is said of it, and the place.
struct Kind {
    file: String,
    said: &'static str,
    place: &'static str,
}

fn kinds() -> Vec<Kind> {
    let kind = |file: String, said, place| Kind { file, said, place };
    let y = |more: &str| build_file(&[spy("y", more)]);
    vec![
        kind(
            sound().replace("export default {", "export default {{"),
            "Unexpected token",
            "b/BUILD.ts:",
        ),
        kind(
            format!("throw new Error(\"of no use\");\n{}", sound()),
            "error: of no use",
            "b/BUILD.ts:1:",
        ),
        kind(
            format!("import {{ g }} from \"./lib/gone.ts\";\n{}", sound()),
            "there is no module `b/lib/gone.ts`",
            "b/BUILD.ts:1:",
        ),
        kind(
            sound().replace("outs:", "oust:"),
            "unknown key `oust`",
            "b/BUILD.ts:3:",
        ),
        kind(
            y("srcs: [\"gone.c\"]"),
            "source b/gone.c of //b:y does not exist",
            "b/BUILD.ts:3:",
        ),
        kind(
            y("srcs: glob(\"*.gone\")"),
            "matches no file",
            "b/BUILD.ts:3:",
        ),
        kind(
            y("deps: [\"//a:gone\"]"),
            "depends on //a:gone, which does not exist",
            "b/BUILD.ts:3:",
        ),
        kind(
            y("deps: [\"//c:z\"]"),
            "dependency cycle: //b:y → //c:z → //b:y",
            "b/BUILD.ts:3:",
        ),
        kind(
            y("deps: [\":y\"]"),
            "dependency cycle: //b:y → //b:y",
            "b/BUILD.ts:3:",
        ),
        kind(
            build_file(&[
                spy("y", ""),
                spy("y2", "").replace("outs: [\"y2.txt\"]", "outs: [\"y.txt\"]"),
            ]),
            "//b:y and //b:y2 both write b/y.txt",
            "b/BUILD.ts:4:",
        ),
    ]
}

#[test]
fn a_mistake_elsewhere_ends_no_build() {
    for Kind { file, said, place } in kinds() {
        let project = project(&file);
        for _ in 0..2 {
            let built = project.zako(&["build", "//a:x", "//c:w"]).succeeds();
            assert!(!built.text().contains("error"), "{said}:\n{}", built.text());
        }
        assert_eq!(project.ran(), ["w", "x"], "{said}");
        for asked in [&["//c:z"][..], &["//b:y"], &[], &["//b:*"]] {
            let asked = [&["build"], asked].concat();
            let failed = project.zako(&asked).fails_saying(&[said, place]);
            assert_eq!(code(&failed), Some(2), "{said}");
            assert_eq!(count(&failed.text(), said), 1, "{}", failed.text());
        }
        assert!(project.ran().is_empty(), "{said}");
    }
}

#[test]
fn with_keep_going_whatever_needs_no_mistake_is_built() {
    for Kind { file, said, place } in kinds() {
        let project = project(&file);
        for round in 0..2 {
            let built = project.zako(&["build", "-k", "--events", "events"]);
            let text = built.text();
            assert_eq!(code(&built), Some(1), "{text}");
            assert_eq!(count(&text, said), 1, "{text}");
            assert!(text.contains(place), "{text}");
            let ran: &[&str] = if round == 0 { &["w", "x"] } else { &[] };
            assert_eq!(project.ran(), ran, "{said}");
            let events = project.read("events");
            let z = events
                .lines()
                .filter(|line| line.contains("\"label\":\"//c:z\""));
            let z: Vec<&str> = z.collect();
            assert_eq!(z.len(), 1, "{events}");
            assert!(
                z[0].contains("\"outcome\":\"skipped\"") && z[0].contains("which has a mistake"),
                "{z:?}"
            );
            assert!(text.contains("//c:z  skipped: it needs //b:"), "{text}");
            let failed = events
                .lines()
                .filter(|line| line.contains("\"outcome\":\"failed\""));
            assert!(
                failed.clone().any(|line| line.contains("\"label\":\"//b:")),
                "{events}"
            );
        }
        let told = project.zako(&["build", "-k", "--json"]);
        assert!(
            told.stdout.contains("\"failed\": ") && told.stdout.contains("\"skipped\": 1"),
            "{}",
            told.stdout
        );
        // Mended, only what was left out runs.
        project.write("b/BUILD.ts", &sound());
        project.build();
        assert_eq!(project.ran(), ["y", "z"], "{said}");
        let again = project.zako(&["build", "-k", "-v"]).succeeds().text();
        assert!(again.contains("3 build files, 0 evaluated"), "{again}");
    }
}

#[test]
fn what_a_broken_build_file_described_stays_until_it_is_mended() {
    for Kind { file, said, .. } in kinds() {
        let project = project(&sound());
        // What is made lies where a pattern of the root would find it.
        let all = "  all: target({ cmd: [\"sh\", \"-c\", \"echo all >> $RAN; ls */*.txt > all.list\"], srcs: glob(\"*/*.txt\"), outs: [\"all.list\"] }),\n";
        project.write("src/s.txt", "s\n");
        project.write("BUILD.ts", &build_file(&[all.to_owned()]));
        project.build();
        assert_eq!(project.ran(), ["all", "w", "x", "y", "z"]);
        project.write("b/BUILD.ts", &file);
        for _ in 0..2 {
            project.zako(&["build", "-k"]);
            project.zako(&["build", "//a:x", "//:all"]).succeeds();
            project
                .zako(&["build", "-k", "--force", "//a:x"])
                .succeeds();
            assert_eq!(project.ran(), ["x"], "{said}");
            assert_eq!(project.read("all.list"), "src/s.txt\n");
            assert!(project.has("b/y.txt") && project.has("c/z.txt"), "{said}");
        }
        project.write("b/BUILD.ts", &sound());
        project.build();
        assert!(project.ran().is_empty(), "{said}");
        // Once it can be read, what it does not describe any more goes.
        project.write("b/BUILD.ts", &build_file(&[spy("other", "")]));
        project.zako(&["build", "-k"]);
        assert!(
            !project.has("b/y.txt") && project.has("b/other.txt"),
            "{said}"
        );
    }
}

#[test]
fn a_mistake_that_many_build_files_share_is_told_once() {
    let project = project(&sound());
    project.write("lib.ts", "export const names = [\n");
    for dir in ["b", "d", "e"] {
        project.write(
            &format!("{dir}/BUILD.ts"),
            &format!("import {{ names }} from \"../lib.ts\";\n{}", sound()),
        );
    }
    let built = project.zako(&["build", "-k"]);
    let text = built.text();
    assert_eq!(code(&built), Some(1), "{text}");
    assert_eq!(count(&text, "--> lib.ts:"), 1, "{text}");
    for dir in ["d", "e"] {
        let other =
            format!("error: //{dir}:BUILD.ts has the mistake that was told of //b:BUILD.ts");
        assert_eq!(count(&text, &other), 1, "{text}");
    }
    assert_eq!(project.ran(), ["w", "x"]);
    project.zako(&["build"]).fails_saying(&["--> lib.ts:"]);
    let unneeded = project.zako(&["build", "//a:x"]).succeeds().text();
    let warning = "warning: b/BUILD.ts and 2 more files have mistakes";
    assert!(unneeded.contains(warning), "{unneeded}");
}

#[test]
fn a_broken_build_file_is_evaluated_again_when_something_that_it_read_changes() {
    let project = project("import { name } from \"../lib.ts\";\nthrow new Error(`no ${name}`);\n");
    project.write("lib.ts", "export const name: string = \"first\";\n");
    project
        .zako(&["build", "-k"])
        .fails_saying(&["no first", "b/BUILD.ts:2:"]);
    let again = project
        .zako(&["build", "-k", "-v"])
        .fails_saying(&["no first", "b/BUILD.ts:2:"]);
    assert!(
        again.text().contains("3 build files, 0 evaluated"),
        "{}",
        again.text()
    );
    project.write("lib.ts", "export const name: string = \"second\";\n");
    project.zako(&["build", "-k"]).fails_saying(&["no second"]);
    project.write(
        "b/BUILD.ts",
        "import { name } from \"./gone.ts\";\nexport default name;\n",
    );
    project.zako(&["build", "-k"]).fails_saying(&["gone.ts"]);
    project.write("b/gone.ts", "export const name = {};\n");
    project
        .zako(&["build", "-k"])
        .fails_saying(&["depends on //b:y"]);
}

#[test]
fn a_build_file_that_never_ends_is_waited_for_only_where_it_is_needed() {
    let project = project("for (;;) {}\nexport default {};\n");
    let zako = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        Outcome::of(command.env("ZAKO_EVALUATION_SECONDS", "1"))
    };
    zako(&["build", "//a:x", "-v"]).succeeds();
    let again = zako(&["build", "//a:x", "-v"]).succeeds().text();
    assert!(again.contains("3 build files, 0 evaluated"), "{again}");
    let needed = zako(&["build", "//c:z", "-v"]).fails_saying(&["b/BUILD.ts", "limit of"]);
    assert!(
        needed.text().contains("3 build files, 1 evaluated"),
        "{}",
        needed.text()
    );
    let all = zako(&["build", "-k"]).fails_saying(&["b/BUILD.ts", "limit of"]);
    assert_eq!(code(&all), Some(1));
    assert_eq!(project.ran(), ["w", "x"]);
}

const RULE: &str = r#"
import { attr, rule } from "zako:rule";
import { tool } from "./t.toolchain.ts";
const run = (ctx: any) => {
  const name = ctx.label.name;
  if (name.startsWith("bad")) throw new Error(`nothing for ${name}`);
  const out = ctx.file(`${name}.txt`);
  ctx.run({ cmd: ["sh", "-c", `echo ${name} >> $RAN; echo > "$1"`, "sh", out], outs: [out] });
  return { files: [out] };
};
const attrs = { deps: attr.deps(), srcs: attr.sources() };
export const plain = rule({ name: "plain", attrs, implementation: run });
export const tooled = rule({ name: "tooled", attrs, toolchains: { tool }, implementation: run });
"#;

/// A rule that fails for targets whose name begins with `bad`, and one with a toolchain that does this.
fn rules(select: &str, targets: &str) -> Project {
    let project = Project::new();
    project.write("r.rule.ts", RULE);
    project.write(
        "t.toolchain.ts",
        &format!("import {{ toolchain }} from \"zako:toolchain\";\nexport const tool = toolchain({{ name: \"tool\", select() {{ {select} }} }});\n"),
    );
    project.write(
        "BUILD.ts",
        &format!(
            "import {{ plain, tooled }} from \"./r.rule.ts\";\nexport default {{\n{targets}}};\n"
        ),
    );
    project
}

#[test]
fn a_rule_that_fails_for_one_target_is_that_targets_failure() {
    let project = rules(
        "return {};",
        "  bad: plain({}),\n  bad2: plain({}),\n  good: plain({}),\n  needs: plain({ deps: [\":bad\"] }),\n  \
         tooled: tooled({}),\n  unknown: plain({ deps: [\":gone\"] }),\n  empty: plain({ srcs: [\"none.c\"] }),\n",
    );
    project.write("none.c", "");
    let built = project.zako(&["build", "-k"]);
    let text = built.text();
    assert_eq!(code(&built), Some(1), "{text}");
    for said in [
        "nothing for bad\n",
        "nothing for bad2\n",
        "//:unknown depends on //:gone",
    ] {
        assert_eq!(count(&text, said), 1, "{said}:\n{text}");
    }
    assert!(
        text.contains("//:needs  skipped: it needs //:bad,"),
        "{text}"
    );
    assert_eq!(project.ran(), ["empty", "good", "tooled"]);
    project.zako(&["build", "//:good"]).succeeds();
    project
        .zako(&["build", "//:needs"])
        .fails_saying(&["nothing for bad"]);
    assert!(project.ran().is_empty());
    let rule = project
        .read("r.rule.ts")
        .replace("startsWith(\"bad\")", "startsWith(\"worse\")");
    project.write("r.rule.ts", &rule);
    project.zako(&["build", "-k"]).fails_saying(&["//:gone"]);
    assert_eq!(project.ran(), ["bad", "bad2", "needs"]);
    // Wrong again, what it left stays.
    project.write(
        "r.rule.ts",
        &rule.replace("startsWith(\"worse\")", "startsWith(\"need\")"),
    );
    project.zako(&["build", "-k"]);
    assert!(project.has("needs.txt") && project.ran().is_empty());
}

#[test]
fn a_toolchain_that_fails_is_the_failure_of_those_who_use_it() {
    let project = rules(
        "throw new Error(\"no such tool\");",
        "  good: plain({}),\n  t1: tooled({}),\n  t2: tooled({}),\n",
    );
    project.zako(&["build", "//:good"]).succeeds();
    assert_eq!(project.ran(), ["good"]);
    let built = project.zako(&["build", "-k"]);
    assert_eq!(code(&built), Some(1));
    assert_eq!(
        count(&built.text(), "no such tool\n"),
        1,
        "{}",
        built.text()
    );
    assert!(built.text().contains("2 failed"), "{}", built.text());
    project
        .zako(&["build"])
        .fails_saying(&["no such tool", "t.toolchain.ts:2:"]);
}

#[test]
fn a_rule_that_fails_for_everybody_is_not_asked_about_everybody() {
    let targets: String = (0..400)
        .map(|n| format!("  bad{n}: plain({{}}),\n"))
        .collect();
    let project = rules("return {};", &format!("{targets}  good: tooled({{}}),\n"));
    let built = project.zako(&["build", "-k"]);
    let text = built.text();
    assert!(
        text.contains("400 failed") && text.contains("was not asked about //:bad"),
        "{text}"
    );
    assert_eq!(project.ran(), ["good"]);
}

#[test]
fn commands_that_tell_of_all_targets_tell_of_all_mistakes() {
    let project = project(&build_file(&[spy("y", "deps: [\":gone\", \":missing\"]")]));
    project.write("d/BUILD.ts", "export default {{};\n");
    git(&project.root(), &["init", "-q"]);
    for command in [&["query", "//..."][..], &["graph"], &["types"], &["trace"]] {
        let failed = project.zako(command);
        let text = failed.text();
        assert_eq!(code(&failed), Some(2), "{text}");
        for said in ["//b:gone", "//b:missing", "--> d/BUILD.ts:1:"] {
            assert_eq!(count(&text, said), 1, "{command:?}:\n{text}");
        }
    }
    project.zako(&["why", "//a:x"]).succeeds();
    project.zako(&["why", "//c:z"]);
    let ran = project.zako(&["why", "//c:z"]).text();
    assert!(ran.contains("//b:gone"), "{ran}");
    project.write(
        "a/BUILD.ts",
        &build_file(&[spy("x", "").replace(
            "echo x > x.txt",
            "echo '#!/bin/sh\\\\necho run' > x.txt; chmod +x x.txt",
        )]),
    );
    let run = project.zako(&["run", "//a:x"]).succeeds();
    assert_eq!(run.stdout, "run\n");
}

#[test]
fn tests_of_a_build_file_that_cannot_be_read_did_not_pass() {
    let project = project("export default {{};\n");
    project
        .zako(&["test", "-k"])
        .fails_saying(&["b/BUILD.ts:1:"]);
    project
        .zako(&["test", "//b/..."])
        .fails_saying(&["b/BUILD.ts:1:"]);
    project
        .zako(&["build", "-k", "//...:y"])
        .fails_saying(&["b/BUILD.ts:1:"]);
    project.zako(&["build", "//a/...:x"]).succeeds();
}

#[test]
fn what_changed_in_a_broken_package_concerns_those_who_need_it() {
    let project = project(&sound());
    project.build();
    project.ran();
    let root = project.root();
    git(&root, &["init", "-q"]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "-q", "-m", "all"]);
    project.write("b/BUILD.ts", "export default {{};\n");
    let built = project.zako(&["build", "-k", "--since", "HEAD"]);
    assert_eq!(code(&built), Some(1), "{}", built.text());
    assert!(built.text().contains("//c:z  skipped"), "{}", built.text());
    assert!(!built.text().contains("//a:x"), "{}", built.text());
}

#[test]
fn every_cycle_is_told_and_what_needs_none_is_built() {
    let needs = |name: &str, deps: &[&str]| {
        let deps: Vec<String> = deps.iter().map(|dep| format!("\":{dep}\"")).collect();
        spy(name, &format!("deps: [{}]", deps.join(", ")))
    };
    let project = Project::with_build(&build_file(&[
        needs("a", &["b"]),
        needs("b", &["a", "c"]),
        needs("c", &["b", "free"]),
        needs("d", &["e"]),
        needs("e", &["d"]),
        needs("free", &[]),
        needs("user", &["e"]),
    ]));
    let built = project.zako(&["build", "-k"]);
    let text = built.text();
    for cycle in [
        "//:a → //:b → //:a;",
        "//:b → //:c → //:b;",
        "//:d → //:e → //:d;",
    ] {
        assert_eq!(count(&text, cycle), 1, "{cycle}\n{text}");
    }
    assert_eq!(project.ran(), ["free"]);
    assert!(text.contains("3 failed, 3 skipped, 1 ran"), "{text}");
    project.zako(&["build", "//:free"]).succeeds();
}

#[test]
fn a_watch_goes_on_beside_a_broken_build_file() {
    let project = project("export default {{};\n");
    let mut watch = project.start(&["watch"]);
    assert!(watch.line().starts_with("watching"));
    assert_eq!(project.ran(), ["w", "x"]);
    project.write("a/BUILD.ts", &build_file(&[spy("x", ""), spy("x2", "")]));
    assert!(watch.line().starts_with("watching"));
    assert_eq!(project.ran(), ["x2"]);
    project.write("b/BUILD.ts", &sound());
    assert!(watch.line().starts_with("watching"));
    assert_eq!(project.ran(), ["y", "z"]);
}
