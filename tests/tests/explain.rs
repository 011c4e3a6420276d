//! Why things ran, what depends on what, what changes concern: `why`, `query`, `graph`,
//! `affected`, `--since`, `--dry`, `--events`, `--trace`, `run`, `@argfile`.

use zako_tests::{Outcome, Project, git};

const BUILD: &str = r#"
import { target, test } from "zako:build";
const step = (name, script, rest) =>
  target({ cmd: ["sh", "-c", `echo ${name} >> $RAN; ${script}`], ...rest });
export default {
  one: step("one", "cat one.txt > one.out", { srcs: ["one.txt"], outs: ["one.out"] }),
  upper: step("upper", "tr a-z A-Z < one.out > upper.out", { deps: [":one"], outs: ["upper.out"], env: { MODE: "fast" } }),
  two: step("two", "cp two.txt two.out", { srcs: ["two.txt"], outs: ["two.out"] }),
  tool: target({ cmd: ["sh", "-c", "printf '#!/bin/sh\necho tool says $1\nexit 7\n' > tool; chmod +x tool"], outs: ["tool"] }),
  checked: test({ cmd: ["grep", "-q", "A", "upper.out"], deps: [":upper"] }),
};
"#;

fn project() -> Project {
    let project = Project::with_build(BUILD);
    project.write("one.txt", "alpha\n");
    project.write("two.txt", "two\n");
    project
}

fn built() -> Project {
    let project = project();
    project.build();
    project.ran();
    project
}

fn why(project: &Project, label: &str) -> String {
    project.zako(&["why", label]).succeeds().stdout
}

#[test]
fn why_names_the_file_and_who_wrote_it_in_a_later_process() {
    let project = built();
    assert!(why(&project, "//:upper").contains("never built here"));
    project.write("one.txt", "beta\n");
    let now = why(&project, "//:upper");
    assert!(
        now.contains("now: something that it needs") && now.contains("//:one: one.txt changed ("),
        "{now}"
    );
    project.build();
    let text = why(&project, "//:upper");
    for part in [
        "now: up to date",
        "one.out changed (",
        ", written by //:one",
        "which ran, because:",
        "one.txt changed (",
    ] {
        assert!(text.contains(part), "does not say {part:?}:\n{text}");
    }
    // A build that does nothing leaves the answer as it was.
    project.build();
    assert_eq!(why(&project, "//:upper"), text);
}

#[test]
fn why_names_the_flag_and_the_variable() {
    let project = built();
    project.write(
        "BUILD.ts",
        &BUILD.replace("fast", "slow").replace("cp two", "cp -p two"),
    );
    project.build();
    let text = why(&project, "//:upper");
    assert!(text.contains("env.MODE changed: `fast` → `slow`"), "{text}");
    let text = why(&project, "//:two");
    assert!(text.contains("cmd[2] changed: `"), "{text}");
    assert!(text.contains("cp -p two.txt"), "{text}");
}

#[test]
fn why_tells_what_was_written_in_a_build_file_and_no_secret() {
    let project = Project::new();
    let build = |mode: &str, secret: &str, target: &str| {
        let filler = "z".repeat(300);
        project.write(
            "BUILD.ts",
            &format!(
                r#"
import {{ env, glob, target, transpile }} from "zako:build";
export default {{
  a: target({{
    cmd: ["sh", "-c", ": {filler}\n: -{mode} {filler}; : https://me:{secret}@x.org; echo > a.out", "--token", "{secret}"],
    outs: ["a.out"], env: {{ MODE: env("UNSET_MODE", "{mode}"), API_TOKEN: "{secret}", OUTER: env("OUTER") }},
  }}),
  b: transpile({{ srcs: glob("*.ts", {{ exclude: ["BUILD.ts"] }}), out: "out", target: "{target}" }}),
}};
"#
            ),
        );
    };
    let outer = |value: &str, arguments: &[&str]| {
        let mut command = project.command(arguments);
        Outcome::of(command.env("OUTER", value)).succeeds().text()
    };
    project.write("s.ts", "export const a = 1;\n");
    build("fast", "s3cret-1", "es2020");
    outer("s3cret-1", &["build"]);
    build("slow", "s3cret-2", "es2022");
    let now = outer("s3cret-2", &["why", "//:a"]);
    outer("s3cret-2", &["build"]);
    let last = outer("s3cret-2", &["why", "//:a"]);
    for text in [now, last] {
        for part in [
            "zz\\n: -fast zz",
            "zz\\n: -slow zz",
            "env.MODE changed: `fast` → `slow`",
            "env.API_TOKEN changed: `<hidden ",
            "env.OUTER changed: `<hidden ",
            "cmd[4] changed: `<hidden ",
        ] {
            assert!(text.contains(part), "does not say {part:?}:\n{text}");
        }
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.lines().all(|line| line.len() < 1000), "{text}");
    }
    assert!(!has_text(&project.cache(), "s3cret"), "it was written down");
    let options = why(&project, "//:b");
    assert!(
        options.contains("option target changed: `\"es2020\"` → `\"es2022\"`"),
        "{options}"
    );
}

/// Whether the file in which `why` remembers has `text` in it.
fn has_text(cache: &std::path::Path, text: &str) -> bool {
    let bytes = std::fs::read(cache.join("why")).unwrap();
    let text = text.as_bytes();
    bytes.windows(text.len()).any(|part| part == text)
}

#[test]
fn why_names_path_and_a_tool_before_and_after_the_build() {
    let project = Project::new();
    let tool = project.outside().join("bin/mk");
    std::fs::create_dir(tool.parent().unwrap()).unwrap();
    let mk = |text: &str| {
        std::fs::write(&tool, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&tool, mode).unwrap();
    };
    mk("#!/bin/sh\necho 1 > a.out\n");
    project.write(
        "BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { a: target({ cmd: [\"mk\"], outs: [\"a.out\"] }) };\n",
    );
    let usual = std::env::var("PATH").unwrap();
    let bin = tool.parent().unwrap().display().to_string();
    let with = |path: &str, arguments: &[&str]| {
        let mut command = project.command(arguments);
        Outcome::of(command.env("PATH", path)).succeeds().text()
    };
    let one = format!("{bin}:{usual}");
    let other = format!("{bin}:{usual}:/opt/other");
    with(&one, &["build"]);
    mk("#!/bin/sh\necho 2 > a.out\n");
    let now = with(&one, &["why", "//:a"]);
    assert!(
        now.contains("now: not up to date: tool ") && now.contains("bin/mk changed"),
        "{now}"
    );
    with(&one, &["build"]);
    let now = with(&other, &["why", "//:a"]);
    assert!(now.contains("env.PATH changed"), "{now}");
    with(&other, &["build"]);
    let last = with(&other, &["why", "//:a"]);
    assert!(last.contains("env.PATH changed"), "{last}");
    // A PATH that the workspace sets is the same for everybody.
    let manifest = project.read("zako.toml");
    let path = format!("{manifest}[settings]\npath = [\"{bin}\", \"/usr/bin\", \"/bin\"]\n");
    project.write("zako.toml", &path);
    with(&one, &["build"]);
    let said = with(&other, &["build"]);
    assert!(said.contains("1 up to date"), "{said}");
    let said = with(&other, &["doctor"]);
    assert!(
        said.contains(&format!("{bin}:/usr/bin:/bin (zako.toml)")),
        "{said}"
    );
    project.write("zako.toml", &path.replace("/usr/bin", "usr/bin"));
    project.zako(&["build"]).fails_saying(&[
        "zako.toml:5",
        "`usr/bin` in `path` is no absolute directory",
    ]);
}

#[test]
fn why_names_an_output_that_was_edited_and_speaks_json() {
    let project = built();
    project.write("two.out", "edited");
    project.build();
    let text = why(&project, "//:two");
    assert!(
        text.contains("output two.out is missing or was edited"),
        "{text}"
    );
    assert!(text.contains("came from the cache"), "{text}");
    let json = project.zako(&["why", "//:two", "--json"]).succeeds().stdout;
    assert!(json.contains("\"path\": \"two.out\""), "{json}");
    project
        .zako(&["why", "//:tow"])
        .fails_saying(&["did you mean `//:two`?"]);
}

#[test]
fn why_remembers_targets_that_are_not_described_any_more() {
    let project = built();
    let text = project.read("BUILD.ts");
    let without: String = text
        .lines()
        .filter(|line| !line.contains("two:"))
        .collect::<Vec<_>>()
        .join("\n");
    project.write("BUILD.ts", &without);
    // Somebody else runs, and what is known is merged.
    for content in ["beta\n", "gamma\n"] {
        project.write("one.txt", content);
        project.build();
        let said = why(&project, "//:two");
        assert!(said.contains("now: not described any more"), "{said}");
        assert!(said.contains("never built here"), "{said}");
    }
    let json = project.zako(&["why", "//:two", "--json"]).succeeds().stdout;
    assert!(
        json.contains("\"now\": \"not described any more\""),
        "{json}"
    );
    project
        .zako(&["why", "//:tow"])
        .fails_saying(&["did you mean `//:two`, which is not described any more?"]);
    project
        .zako(&["why", "//:never-heard-of"])
        .fails_saying(&["no target `//:never-heard-of`"]);
    project.write("BUILD.ts", &text);
    let said = why(&project, "//:two");
    assert!(!said.contains("not described"), "{said}");
    assert!(said.contains("never built here"), "{said}");
}

#[test]
fn query_answers_about_the_graph() {
    let project = project();
    let ask = |query: &str| project.zako(&["query", query]).succeeds().stdout;
    assert_eq!(ask("deps(//:upper)"), "//:one\n//:upper\n");
    assert_eq!(ask("rdeps(:one) ^ tests(//...)"), "//:checked\n");
    assert_eq!(
        ask("somepath(//:checked, //:one)"),
        "//:checked\n//:upper\n//:one\n"
    );
    assert_eq!(ask("attr(outs, 'two.out', //...)"), "//:two\n");
    assert_eq!(ask("kind(test, //...)"), "//:checked\n");
    let json = project.zako(&["query", "--json", "//:upper"]).succeeds();
    assert!(json.stdout.contains("\"MODE=fast\""), "{}", json.stdout);
    assert_eq!(ask("kind(group, //...)"), "");
    project
        .zako(&["query", "kind(comand, //...)"])
        .fails_saying(&[
            "there is no kind `comand`; did you mean `command`?",
            "kinds are command, script, test, transpile, group",
        ]);
    project
        .zako(&["query", "dep(//:one)"])
        .fails_saying(&["did you mean `deps`?", "at column 1"]);
    assert!(project.ran().is_empty(), "asking builds nothing");
}

#[test]
fn graph_is_drawn_as_dot_as_a_page_and_as_an_image() {
    let project = project();
    let dot = project.zako(&["graph"]).succeeds().stdout;
    assert!(dot.starts_with("digraph"), "{dot}");
    assert!(dot.contains("\"//:upper\" -> \"//:one\";"), "{dot}");
    project
        .zako(&["graph", "-o", "graph.html", "//:checked"])
        .succeeds();
    let page = project.read("graph.html");
    assert!(page.contains("//:checked") && !page.contains("//:two"));
    let printed = project.zako(&["graph", "-o", "-"]).succeeds();
    assert_eq!(printed.stdout, dot, "`-` is the standard output");
    assert!(!project.has("-"));
    project.zako(&["graph", "-o", "graph.svg"]).succeeds();
    assert!(project.read("graph.svg").starts_with("<svg "));
    project.zako(&["graph", "-o", "graph.png"]).fails_saying(&[
        "graph.png",
        ".html",
        ".svg",
        "--format",
    ]);
    assert!(!project.has("graph.png"));
}

#[test]
fn a_graph_of_many_targets_is_drawn_by_package_and_dot_holds_all_of_them() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
const all = {};
for (let i = 0; i < 401; i++) all[`t${i}`] = target({ cmd: ["true"], deps: i ? [`:t${i - 1}`] : [] });
export default all;
"#,
    );
    let more = r#"export default { last: target({ cmd: ["true"], deps: ["//:t400"] }) };"#;
    let import = r#"import { target } from "zako:build";"#;
    project.write("sub/BUILD.ts", &format!("{import}\n{more}\n"));
    let dot = project.zako(&["graph"]).succeeds().stdout;
    assert_eq!(dot.matches(" -> ").count(), 401);
    let page = |arguments: &[&str]| {
        let outcome = project.zako(&[&["graph", "-o", "graph.html"], arguments].concat());
        (outcome.succeeds().stderr, project.read("graph.html"))
    };
    let (said, text) = page(&[]);
    assert!(said.contains("402 targets are too many"), "{said}");
    assert!(text.contains("\"kind\":\"package\"") && text.contains("//:t400"));
    let (said, text) = page(&["--targets"]);
    assert!(!said.contains("too many"), "{said}");
    assert!(!text.contains("\"kind\":\"package\"") && text.contains("//:t400"));
}

#[test]
fn affected_and_since_follow_what_git_says_changed() {
    let project = project();
    project.write(".gitignore", "*.out\ntool\n");
    git(&project.root(), &["init", "-q", "-b", "main"]);
    git(&project.root(), &["add", "."]);
    git(&project.root(), &["commit", "-q", "-m", "first"]);
    let affected = || {
        let outcome = project.zako(&["affected", "--since", "main"]);
        outcome.succeeds().stdout
    };
    assert_eq!(affected(), "");
    project.write("one.txt", "beta\n");
    assert_eq!(affected(), "//:one\n//:upper\n//:checked\n");
    let tests = project.zako(&["affected", "--since", "main", "--tests"]);
    assert_eq!(tests.succeeds().stdout, "//:checked\n");
    project.zako(&["build", "--since", "main"]).succeeds();
    assert_eq!(project.ran(), ["one", "upper"]);
    git(&project.root(), &["add", "."]);
    git(&project.root(), &["commit", "-q", "-m", "second"]);
    assert_eq!(affected(), "");
    // What others commit there after this branch began is nobody's change here.
    git(&project.root(), &["checkout", "-q", "-b", "own"]);
    project.write("one.txt", "gamma\n");
    git(&project.root(), &["commit", "-q", "-a", "-m", "own"]);
    git(&project.root(), &["checkout", "-q", "main"]);
    project.write("two.txt", "theirs\n");
    git(&project.root(), &["commit", "-q", "-a", "-m", "theirs"]);
    git(&project.root(), &["checkout", "-q", "own"]);
    assert_eq!(affected(), "//:one\n//:upper\n//:checked\n");
    project.zako(&["build", "--since", "main"]).succeeds();
    assert_eq!(project.ran(), ["one", "upper"]);
    let help = project.zako(&["affected", "--help"]).succeeds().stdout;
    assert!(help.contains("merge base"), "{help}");
    git(&project.root(), &["checkout", "-q", "main"]);
    // Without a commit that both have, it is compared with itself.
    git(&project.root(), &["checkout", "-q", "--orphan", "other"]);
    git(&project.root(), &["commit", "-q", "-m", "other"]);
    assert_eq!(affected(), "");
    git(&project.root(), &["checkout", "-q", "main"]);
    project.write("BUILD.ts", &BUILD.replace("fast", "slow"));
    assert!(affected().contains("//:two"), "its build file changed");
    project
        .zako(&["affected", "--since", "no-such-branch"])
        .fails_saying(&["since `no-such-branch`"]);
    project
        .zako(&["affected", "--since", "--output=x"])
        .fails_saying(&["--since"]);
}

#[test]
fn a_dry_run_says_what_and_why_and_runs_nothing() {
    let project = built();
    project.write("one.txt", "beta\n");
    let text = project.zako(&["build", "--dry"]).succeeds().stdout;
    assert_eq!(
        text,
        "//:one: one.txt changed\n//:upper: it needs //:one, which is not up to date\n"
    );
    for flag in ["--events", "--trace"] {
        project
            .zako(&["build", "--dry", flag, "file"])
            .fails_saying(&["--dry runs nothing", flag, "--dry --json"]);
        assert!(!project.has("file"));
    }
    assert!(project.ran().is_empty());
}

#[test]
fn events_and_trace_tell_of_every_step() {
    let project = project();
    project
        .zako(&["build", "--events", "events", "--trace", "trace.json"])
        .succeeds();
    let events = project.read("events");
    assert!(events.lines().all(|line| line.contains("\"time_us\":")));
    let finished = events
        .lines()
        .filter(|line| line.contains("\"event\":\"step_finished\""))
        .count();
    assert_eq!(finished, 4);
    assert!(
        events.contains("\"causes\":[\"never built here\"]"),
        "{events}"
    );
    assert!(
        events
            .trim_end()
            .lines()
            .last()
            .unwrap()
            .contains("build_finished")
    );
    let trace = project.read("trace.json");
    assert!(trace.starts_with('{') && trace.trim_end().ends_with("]}"));
    assert_eq!(trace.matches("\"cat\":\"step\"").count(), 4);
    let parsed: serde_json::Value = serde_json::from_str(&trace).expect("a JSON document");
    let events = parsed["traceEvents"].as_array().expect("a list of events");
    let steps: Vec<_> = events
        .iter()
        .filter(|event| event["cat"] == "step")
        .collect();
    assert_eq!(steps.len(), 4);
    for step in steps {
        let name = step["name"].as_str().unwrap_or_default();
        assert!(step["ph"] == "X" && name.starts_with("//:"), "{step}");
        assert!(
            step["ts"].is_u64() && step["dur"].is_u64() && step["tid"].is_u64(),
            "{step}"
        );
    }
    project
        .zako(&["build", "--trace", "/no/such/dir/t"])
        .fails_saying(&["cannot write the trace"]);
}

#[test]
fn run_builds_and_becomes_the_program() {
    let project = project();
    let outcome = project.zako(&["run", "//:tool", "--", "hello"]);
    assert_eq!(outcome.status.code(), Some(7), "{}", outcome.text());
    assert_eq!(outcome.stdout, "tool says hello\n");
    project
        .zako(&["run", "//:two"])
        .fails_saying(&["makes nothing that can be run"]);
    project
        .zako(&["run", "//..."])
        .fails_saying(&["name one to run"]);
}

#[test]
fn arguments_are_read_from_a_file() {
    let project = project();
    project.write("args", "# what to build\nbuild\n//:two\n");
    project.zako(&["@args"]).succeeds();
    assert_eq!(project.ran(), ["two"]);
    project
        .zako(&["build", "@no-such-file"])
        .fails_saying(&["@no-such-file"]);
}

#[test]
fn the_live_line_in_a_terminal_tells_steps_cached_ones_and_the_time_left() {
    if !zako_tests::is_installed("script") {
        return;
    }
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  quick: target({ cmd: ["sh", "-c", "echo > quick.out"], outs: ["quick.out"] }),
  slow: target({ cmd: ["sh", "-c", "cat a.txt > slow.out; sleep 4"], srcs: ["a.txt"], outs: ["slow.out"] }),
};
"#,
    );
    project.write("a.txt", "1\n");
    project.build();
    project.write("a.txt", "2\n");
    std::fs::remove_file(project.root().join("quick.out")).unwrap();
    let mut terminal = project.shell("script -qec '\"$ZAKO\" build' /dev/null");
    let said = Outcome::of(terminal.env("TERM", "xterm")).succeeds().text();
    for part in ["1/2", "1 cached", "ETA ", "» //:slow"] {
        assert!(said.contains(part), "does not say {part:?}: {said:?}");
    }
}

#[test]
fn a_terminal_shows_that_build_files_are_read_and_no_full_bar() {
    if !zako_tests::is_installed("script") {
        return;
    }
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
let sum = 0;
for (let i = 0; i < 1e9; i++) sum += i;
export default { a: target({ cmd: ["sh", "-c", "sleep 1; echo > a.out"], outs: ["a.out"] }) };
"#,
    );
    let mut terminal = project.shell("script -qec '\"$ZAKO\" build' /dev/null");
    let said = Outcome::of(terminal.env("TERM", "xterm")).succeeds().text();
    let (before, steps) = said.split_once("0/1").expect("the step's line");
    assert!(before.contains("reading build files: 0 of 1"), "{said:?}");
    assert!(!before.contains('█') && !said.contains("0/0"), "{said:?}");
    assert!(steps.contains("//:a"), "{said:?}");
}

#[test]
fn a_rule_is_affected_by_files_that_go_and_by_what_it_reads() {
    let project = Project::new();
    project.write(
        "some.rule.ts",
        r#"
import { attr, provider, rule } from "zako:rule";
const Size = provider("Size");
export const list = rule({
  name: "list",
  attrs: { srcs: attr.sources() },
  implementation(ctx) {
    ctx.write(ctx.label.name, ctx.attrs.srcs.map((file) => file.name).join());
  },
});
export const count = rule({
  name: "count",
  attrs: { src: attr.source() },
  async implementation(ctx) {
    return { provides: [Size({ size: (await ctx.read(ctx.attrs.src)).length })] };
  },
});
export const show = rule({
  name: "show",
  attrs: { of: attr.dep({ provides: [Size] }) },
  implementation(ctx) {
    ctx.write(ctx.label.name, `${ctx.attrs.of.get(Size).size}`);
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { glob } from \"zako:build\";\nimport { count, list, show } from \"./some.rule.ts\";\nexport default {\n\
         \x20 all: list({ srcs: glob(\"*.txt\") }),\n  n: count({ src: \"n\" }),\n  shown: show({ of: \":n\" }),\n};\n",
    );
    for name in ["a.txt", "b.txt", "n"] {
        project.write(name, name);
    }
    project.write(".gitignore", ".zako\n");
    let commit = project
        .shell("git init -q -b main && git add . && git -c user.name=t -c user.email=t@example.org commit -qm first");
    Outcome::of(&mut { commit }).succeeds();
    let affected = || {
        let said = project.zako(&["affected", "--since", "main"]).succeeds();
        said.stdout
    };
    assert_eq!(affected(), "");
    std::fs::remove_file(project.root().join("b.txt")).unwrap();
    assert_eq!(affected(), "//:all\n");
    project.write("b.txt", "b.txt");
    project.write("a.txt", "another text is told nobody");
    assert_eq!(affected(), "");
    project.write("c.txt", "");
    assert_eq!(affected(), "//:all\n");
    std::fs::remove_file(project.root().join("c.txt")).unwrap();
    project.write("a.txt", "a.txt");
    project.write("n", "another size");
    assert_eq!(affected(), "//:n\n//:shown\n");
}
