//! Rules of a workspace's own: attributes, providers, toolchains, options, outputs read while the
//! build runs.

use zako_tests::Project;

const RULE: &str = r#"
import { attr, provider, rule } from "zako:rule";
import { upper } from "./text.toolchain.ts";
import { ending } from "./text.config.ts";

export const Texts = provider<{ files: readonly unknown[] }>("Texts");

export const text = rule({
  name: "text",
  attrs: { srcs: attr.sources(), deps: attr.deps({ provides: [Texts] }) },
  config: { ending },
  toolchains: { upper },
  implementation(ctx) {
    const files = ctx.attrs.srcs.map((src) => {
      const out = ctx.file(`out/${src.name}`);
      return ctx.run({
        cmd: ["sh", "-c", 'echo $4 >> $RAN; $1 a-z A-Z < "$2" > "$3"; echo "$5" >> "$3"', "sh", ctx.toolchains.upper.tr, src, out, src.name, ctx.config.ending],
        outs: [out],
      }).out;
    });
    const all = ctx.file(`${ctx.label.name}.txt`);
    const deps = ctx.attrs.deps.flatMap((dep) => (dep.get(Texts) as any).files);
    ctx.run({ cmd: ["sh", "-c", 'echo all >> $RAN; out=$1; shift; cat "$@" > "$out"', "sh", all, files, deps], outs: [all] });
    return { files: [all], provides: [Texts({ files: [all] })] };
  },
});
"#;

const TOOLCHAIN: &str = r#"
import { toolchain } from "zako:toolchain";
export const upper = toolchain({
  name: "upper",
  async select(ctx) {
    const tr = await ctx.which("no-such-tr", "tr");
    if (!tr) throw ctx.fail("there is no tr");
    return { tr, version: (await ctx.output(tr, "--version")).length > 0 };
  },
});
"#;

const CONFIG: &str = r#"
import { config } from "zako:config";
export const ending = config({ name: "ending", default: "end", values: ["end", "fin"] });
"#;

fn project() -> Project {
    let project = Project::new();
    project.write("tools/text.rule.ts", RULE);
    project.write("tools/text.toolchain.ts", TOOLCHAIN);
    project.write("tools/text.config.ts", CONFIG);
    project.write("lib/a.txt", "one\n");
    project.write("lib/b.txt", "two\n");
    project.write(
        "lib/BUILD.ts",
        "import { glob } from \"zako:build\";\nimport { text } from \"../tools/text.rule.ts\";\n\
         export default { lib: text({ srcs: glob(\"*.txt\", { exclude: [\"lib.txt\"] }) }) };\n",
    );
    project.write("app/c.txt", "three\n");
    project.write(
        "app/BUILD.ts",
        "import { target } from \"zako:build\";\nimport { text } from \"../tools/text.rule.ts\";\n\
         export default {\n  app: text({ srcs: [\"c.txt\"], deps: [\"//lib\"] }),\n\
         \x20 count: target({ cmd: [\"sh\", \"-c\", \"wc -l < app.txt > count\"], deps: [\":app\"], outs: [\"count\"] }),\n};\n",
    );
    project
}

#[test]
fn only_what_changed_is_evaluated_and_run() {
    let project = project();
    project.build();
    assert_eq!(
        project.read("app/app.txt"),
        "THREE\nend\nONE\nend\nTWO\nend\n"
    );
    assert_eq!(project.read("app/count").trim(), "6");
    assert_eq!(project.ran(), ["a.txt", "all", "all", "b.txt", "c.txt"]);
    let again = project.zako(&["build", "-v"]).succeeds().text();
    assert!(again.contains("2 build files, 0 evaluated"), "{again}");
    assert!(project.ran().is_empty());
    // A new content asks no rule; the same result stops the rest.
    project.write("lib/b.txt", "TWO\n");
    let edited = project.zako(&["build", "-v"]).succeeds().text();
    assert!(edited.contains("2 build files, 0 evaluated"), "{edited}");
    assert_eq!(project.ran(), ["b.txt"]);
    // A new source asks the rule again; what was done is not done again.
    project.write("lib/d.txt", "four\n");
    project.build();
    assert_eq!(project.ran(), ["all", "all", "d.txt"]);
    assert!(project.read("app/app.txt").ends_with("FOUR\nend\n"));
    std::fs::remove_file(project.root().join("lib/d.txt")).unwrap();
    project.build();
    assert!(!project.has("lib/out/d.txt") && !project.read("app/app.txt").contains("FOUR"));
    project.store_is_intact();
}

#[test]
fn a_changed_rule_is_asked_again_and_unchanged_actions_stay() {
    let project = project();
    project.build();
    project.ran();
    project.write(
        "tools/text.rule.ts",
        &RULE.replace("cat \"$@\"", "cat -- \"$@\""),
    );
    project.build();
    assert_eq!(project.ran(), ["all", "all"]);
    let why = project
        .zako(&["why", "//lib:lib~lib.txt"])
        .succeeds()
        .stdout;
    assert!(why.contains("cmd[2] changed"), "{why}");
    let why = project.zako(&["why", "//lib"]).succeeds().stdout;
    assert!(
        why.contains("stands for what these leave behind:\n    //lib:lib~lib.txt\n"),
        "{why}"
    );
}

#[test]
fn options_are_set_by_flag_and_manifest_and_belong_to_the_key() {
    let project = project();
    project.build();
    project.ran();
    project.zako(&["build", "--set", "ending=fin"]).succeeds();
    assert!(project.read("app/app.txt").starts_with("THREE\nfin\n"));
    assert_eq!(project.ran().len(), 5);
    project.build();
    assert!(project.read("app/app.txt").starts_with("THREE\nend\n"));
    assert!(project.ran().is_empty(), "the cache knows both");
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[config]\nending = \"fin\"\n"),
    );
    project.build();
    assert!(project.read("app/app.txt").starts_with("THREE\nfin\n"));
    let fails = |arguments: &[&str], parts: &[&str]| {
        project.zako(arguments).fails_saying(parts);
    };
    fails(
        &["build", "--set", "endng=fin"],
        &["no option `endng`", "did you mean `ending`?"],
    );
    fails(
        &["build", "--set", "ending=fim"],
        &["must be one of \"end\", \"fin\"", "did you mean `fin`?"],
    );
    fails(&["build", "--set", "ending"], &["is not NAME=VALUE"]);
}

#[test]
fn an_output_that_a_rule_reads_decides_what_is_built() {
    let project = Project::new();
    project.write(
        "list.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const each = rule({
  name: "each",
  attrs: { srcs: attr.sources() },
  async implementation(ctx) {
    const list = ctx.file("list");
    ctx.run({ cmd: ["sh", "-c", 'echo scan >> $RAN; sort -u "$1" > "$2"', "sh", ctx.attrs.srcs, list], outs: [list] });
    const names = (await ctx.read(list)).split("\n").filter((name) => name !== "");
    const files = names.map((name) => {
      const out = ctx.file(`out/${name}`);
      return ctx.run({ cmd: ["sh", "-c", 'echo $1 >> $RAN; echo $1 > "$2"', "sh", name, out], outs: [out] });
    });
    return { files };
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { target } from \"zako:build\";\nimport { each } from \"./list.rule.ts\";\n\
         export default {\n  all: each({ srcs: [\"names\"] }),\n\
         \x20 sum: target({ cmd: [\"sh\", \"-c\", \"cat out/* > sum\"], deps: [\":all\"], outs: [\"sum\"] }),\n};\n",
    );
    project.write("names", "b\na\n");
    project.build();
    assert_eq!(project.ran(), ["a", "b", "scan"]);
    assert_eq!(project.read("sum"), "a\nb\n");
    let again = project.zako(&["build", "-v"]).succeeds().text();
    assert!(again.contains("0 evaluated"), "{again}");
    // What is read stays the same: nothing after it happens.
    project.write("names", "a\nb\nb\n");
    let same = project.zako(&["build", "-v"]).succeeds().text();
    assert!(same.contains("0 evaluated"), "{same}");
    assert_eq!(project.ran(), ["scan"]);
    project.write("names", "a\nc\n");
    project
        .zako(&["build", "--events", "events", "--trace", "trace.json"])
        .succeeds();
    assert_eq!(project.ran(), ["c", "scan"]);
    // What came before the rule went on is in the same file as what came after.
    let events = project.read("events");
    let told = |label: &str| {
        let finished = format!("\"event\":\"step_finished\",\"label\":\"{label}");
        events.matches(&finished).count()
    };
    assert_eq!((told("//:all~"), told("//:sum")), (2, 1), "{events}");
    assert_eq!(events.matches("build_finished").count(), 1);
    assert!(
        events.trim_end().ends_with("}")
            && events.lines().last().unwrap().contains("\"executed\":3")
    );
    let trace = project.read("trace.json");
    assert!(trace.trim_end().ends_with("]}"));
    assert_eq!(trace.matches("\"cat\":\"step\"").count(), 4);
    assert_eq!(project.read("sum"), "a\nc\n");
    assert!(!project.has("out/b"));
    // A step that a rule waits for and that fails is told as what it is.
    project.write("names", "");
    std::fs::remove_file(project.root().join("names")).unwrap();
    project
        .zako(&["build"])
        .fails_saying(&["source names", "does not exist"]);
}

#[test]
fn mistakes_around_rules_are_answered_with_a_place() {
    let project = project();
    let build = |text: &str| {
        project.write("app/BUILD.ts", &format!("import {{ target }} from \"zako:build\";\nimport {{ text }} from \"../tools/text.rule.ts\";\nexport default {{\n{text}\n}};\n"))
    };
    let fails = |parts: &[&str]| {
        project.zako(&["build"]).fails_saying(parts);
    };
    build("  app: text({ srcs: [\"c.txt\"], deps: [\"//lib:lbi\"] }),");
    fails(&[
        "//app:app depends on //lib:lbi, which does not exist",
        "did you mean `//lib:lib`?",
        "app/BUILD.ts:4:",
    ]);
    build("  raw: target({ cmd: [\"true\"] }),\n  app: text({ deps: [\":raw\"] }),");
    fails(&[
        "//app:raw does not provide Texts, which `deps` of //app:app needs",
        "app/BUILD.ts:5:",
    ]);
    build("  a: text({ deps: [\":b\"] }),\n  b: text({ deps: [\":a\"] }),");
    fails(&["dependency cycle: //app:a → //app:b → //app:a"]);
    build("  app: text({ srcs: [\"c.tyt\"] }),");
    fails(&[
        "source app/c.tyt of ",
        "does not exist; did you mean `c.txt`?",
    ]);
    build("  app: text({ sorces: [] }),");
    fails(&[
        "text(): unknown key `sorces`",
        "did you mean `srcs`?",
        "app/BUILD.ts:4:",
    ]);
    build("  app: text({ srcs: [\"c.txt\"] }),");
    project.write(
        "tools/text.rule.ts",
        &RULE.replace("const all =", "ctx.attrs.nothing.length;\n    const all ="),
    );
    fails(&[
        "Cannot read properties of undefined",
        "--> tools/text.rule.ts:21:",
        "in rule text for //",
    ]);
    project.write(
        "tools/text.rule.ts",
        &RULE.replace("const all =", "while (true);\n    const all ="),
    );
    let mut endless = project.command(&["build", "//app"]);
    endless.env("ZAKO_EVALUATION_SECONDS", "1");
    zako_tests::Outcome::of(&mut endless).fails_saying(&["longer than its limit of ", "//app:app"]);
    project.write("tools/text.rule.ts", RULE);
    project.write(
        "tools/text.toolchain.ts",
        &TOOLCHAIN.replace(", \"tr\")", ")"),
    );
    fails(&["there is no tr"]);
    project.write("tools/text.toolchain.ts", TOOLCHAIN);
    project.build();
}

#[test]
fn rule_targets_are_seen_by_query_graph_and_types() {
    let project = project();
    let query = |text: &str| project.zako(&["query", text]).succeeds().stdout;
    assert_eq!(query("kind(text, //...)"), "//lib:lib\n//app:app\n");
    assert!(query("deps(//app:app)").contains("//lib:lib~lib.txt\n"));
    assert_eq!(
        query("attr(outs, lib/lib.txt, //...)"),
        "//lib:lib~lib.txt\n//lib:lib\n"
    );
    let graph = project.zako(&["graph", "//app"]).succeeds().stdout;
    assert!(graph.contains("//app:app~app.txt"), "{graph}");
    project.zako(&["types"]).succeeds();
    let labels = project.read(".zako/types/zako.d.ts");
    assert!(
        labels.contains("\"//app:app\"") && !labels.contains("app~"),
        "actions are not named in build files"
    );
    assert!(project.has(".zako/types/modules/rule.d.ts"));
}

#[test]
fn packages_of_the_workspace_are_named_by_their_own_labels() {
    let project = Project::new();
    let manifest = project.read("zako.toml");
    project.write("zako.toml", &format!("{manifest}[dependencies]\nzlib = {{ path = \"third/zlib\" }}\nfar = {{ path = \"../far\" }}\n"));
    project.write("third/zlib/zako.toml", &manifest);
    project.write("third/zlib/src/z.txt", "z\n");
    project.write(
        "third/zlib/src/BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { z: target({ cmd: [\"cp\", \"z.txt\", \"z.out\"], srcs: [\"z.txt\"], outs: [\"z.out\"] }) };\n",
    );
    project.write(
        "third/zlib/BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { whole: target({ cmd: [\"cp\", \"src/z.out\", \"all.out\"], deps: [\"//src:z\"], outs: [\"all.out\"] }) };\n",
    );
    let app = |dep: &str| {
        project.write(
            "app/BUILD.ts",
            &format!("import {{ target }} from \"zako:build\";\nexport default {{\n  app: target({{ cmd: [\"cp\", \"../third/zlib/all.out\", \"app.out\"], deps: [\"{dep}\"], outs: [\"app.out\"] }}),\n}};\n"),
        );
    };
    app("@zlib//:whole");
    project.build();
    assert_eq!(project.read("app/app.out"), "z\n");
    let deps = project
        .zako(&["query", "deps(//third/zlib:whole)"])
        .succeeds()
        .stdout;
    assert_eq!(deps, "//third/zlib/src:z\n//third/zlib:whole\n");
    project.zako(&["build", "@zlib//:whole"]).succeeds();
    app("@zilb//:all");
    project.zako(&["build"]).fails_saying(&[
        "declares no dependency `zilb`; did you mean `zlib`?",
        "app/BUILD.ts:3:",
    ]);
    app("@other//:all");
    project
        .zako(&["build"])
        .fails_saying(&["; it declares far, zlib"]);
    app("@far//:all");
    project
        .zako(&["build"])
        .fails_saying(&["no directory of the workspace"]);
}

#[test]
fn a_cycle_through_what_a_rule_reads_is_named() {
    let project = Project::new();
    project.write(
        "reads.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const reads = rule({
  name: "reads",
  attrs: { srcs: attr.sources() },
  async implementation(ctx) {
    const out = ctx.file(`out${(await ctx.read(ctx.attrs.srcs[0])).length}`);
    ctx.run({ cmd: ["touch", out], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { target } from \"zako:build\";\nimport { reads } from \"./reads.rule.ts\";\n\
         export default {\n  all: reads({ srcs: [\":made\"] }),\n\
         \x20 made: target({ cmd: [\"sh\", \"-c\", \"ls > made.txt\"], deps: [\":all\"], outs: [\"made.txt\"] }),\n};\n",
    );
    project
        .zako(&["build"])
        .fails_saying(&["dependency cycle: //:all → //:made → //:all"]);
}

#[test]
fn an_option_may_be_a_label_and_a_misspelt_one_is_answered() {
    let project = Project::new();
    project.write(
        "t.config.ts",
        "import { config } from \"zako:config\";\nexport const chosen = config({ name: \"chosen\", type: \"label\", default: \"//:one\" });\n",
    );
    project.write(
        "t.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
import { chosen } from "./t.config.ts";
export const choice = rule({
  name: "choice",
  attrs: { deps: attr.deps() },
  config: { chosen },
  implementation(ctx) {
    const found = ctx.attrs.deps.filter((dep) => dep.label === ctx.config.chosen);
    const out = ctx.file("choice.txt");
    ctx.run({ cmd: ["cp", ...found.flatMap((dep) => dep.files), out], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        r#"
import { target } from "zako:build";
import { choice } from "./t.rule.ts";
const say = (word) => target({ cmd: ["sh", "-c", `echo ${word} > ${word}.txt`], outs: [`${word}.txt`] });
export default { one: say("one"), two: say("two"), choice: choice({ deps: [":one", ":two"] }) };
"#,
    );
    project.build();
    assert_eq!(project.read("choice.txt"), "one\n");
    project
        .zako(&["build", "--set", "chosen=//:two"])
        .succeeds();
    assert_eq!(project.read("choice.txt"), "two\n");
    let build = |value: &str| project.zako(&["build", "--set", &format!("chosen={value}")]);
    build("//:tow").fails_saying(&["there is no target //:tow", "did you mean `//:two`?"]);
    build("two").fails_saying(&["option `chosen` must be a label"]);
    build(":two").fails_saying(&["option `chosen` must be a label", "//path/to:two"]);
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[config]\nchosen = \"//:on\"\n"),
    );
    project
        .zako(&["build"])
        .fails_saying(&["there is no target //:on", "did you mean `//:one`?"]);
}

#[test]
fn a_key_called_proto_goes_over_to_other_rules_and_changes_no_prototype() {
    let project = Project::new();
    project.write(
        "t.rule.ts",
        r#"
import { attr, provider, rule } from "zako:rule";
const Table = provider("Table");
export const table = rule({
  name: "table",
  attrs: {},
  implementation: () => ({ files: [], provides: [Table({ ["__proto__"]: { polluted: "yes" }, constructor: "c", plain: 1 })] }),
});
export const seen = rule({
  name: "seen",
  attrs: { dep: attr.dep({ required: true, provides: [Table] }) },
  implementation(ctx) {
    const value = ctx.attrs.dep.get(Table);
    const out = ctx.file("seen.txt");
    const said = [JSON.stringify(value), String(value.polluted), String({}.polluted), Object.keys(value).join("+")];
    ctx.run({ cmd: ["sh", "-c", `echo '${said.join(" ")}' > ${out}`], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    project.write(
        "BUILD.ts",
        "import { seen, table } from \"./t.rule.ts\";\nexport default { t: table({}), s: seen({ dep: \":t\" }) };\n",
    );
    project.build();
    assert_eq!(
        project.read("seen.txt"),
        "{\"__proto__\":{\"polluted\":\"yes\"},\"constructor\":\"c\",\"plain\":1} undefined undefined __proto__+constructor+plain\n"
    );
}

#[test]
fn what_a_rule_keeps_makes_no_difference_between_the_first_build_and_the_next() {
    let project = Project::new();
    project.write(
        "n.rule.ts",
        "import { attr, rule } from \"zako:rule\";\nlet n = 0;\nexport const counted = rule({ name: \"counted\", \
         attrs: { out: attr.path() }, implementation(ctx) { ctx.write(ctx.attrs.out!, String(++n)); } });\n",
    );
    let build = |second: &str| {
        let text = format!(
            "import {{ counted }} from \"./n.rule.ts\";\nexport default {{ a: counted({{ out: \"a\" }}), b: counted({{ out: \"{second}\" }}) }};\n"
        );
        project.write("BUILD.ts", &text);
        project.build().succeeds();
        (project.read("a"), project.read(second))
    };
    let alone = ("1".to_owned(), "1".to_owned());
    assert_eq!(build("b"), alone);
    assert_eq!(build("c"), alone);
    std::fs::remove_dir_all(project.root().join(".zako")).unwrap();
    assert_eq!(build("c"), alone);
}
