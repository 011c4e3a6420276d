//! Sources where results were: what a person puts where one of `transpile` beside its source was, and results that become sources.

use std::fs;

use zako_tests::Project;

const CAT: &str = r#"
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
"#;

/// Who joins all results, a person's own among them.
const ALL: [&str; 2] = [
    "cat({ srcs: glob(\"src/*.js\") })",
    "target({ cmd: [\"sh\", \"-c\", \"cat src/*.js > all\"], srcs: glob(\"src/*.js\"), outs: [\"all\"] })",
];

fn project(all: &str) -> Project {
    let project = Project::new();
    project.write("cat.rule.ts", CAT);
    let build = format!(
        "import {{ glob, target, transpile }} from \"zako:build\";\nimport {{ cat }} from \"./cat.rule.ts\";\nexport default {{\n  \
         js: transpile({{ srcs: glob(\"src/*.ts\"), root: \"src\", out: \"src\" }}),\n  all: {all},\n}};\n"
    );
    project.write("BUILD.ts", &build);
    project.write("src/a.ts", "export const a: number = 1;\n");
    project.write("src/b.ts", "export const b: number = 1;\n");
    project.write("src/own.js", "own\n");
    project.build();
    assert_eq!(project.read("all"), "own\n");
    project
}

#[test]
fn a_file_whose_source_is_gone_counts_at_once() {
    for all in ALL {
        let project = project(all);
        fs::remove_file(project.root().join("src/a.ts")).unwrap();
        project.write("src/a.js", "by hand\n");
        project.build();
        assert_eq!(project.read("all"), "by hand\nown\n", "{all}");
        assert_eq!(project.read("src/a.js"), "by hand\n");
        let again = project.build().text();
        assert!(again.contains("2 up to date"), "{again}");
    }
}

#[test]
fn a_result_whose_source_is_there_or_that_nobody_touched_is_no_source() {
    for all in ALL {
        let project = project(all);
        fs::remove_file(project.root().join("src/a.ts")).unwrap();
        project.write("src/b.js", "by hand\n");
        project.build();
        assert_eq!(project.read("all"), "own\n", "{all}");
        assert!(!project.has("src/a.js"));
        assert!(project.read("src/b.js").contains("const b"));
    }
}

#[test]
fn an_output_that_becomes_a_source_stays() {
    let step = |name: &str, line: &str, files: &str| {
        format!("{name}: target({{ cmd: [\"sh\", \"-c\", \"{line}\"], {files} }}),\n")
    };
    let reads = |name| step(name, "cat x > z", "srcs: [\"x\"], outs: [\"z\"]");
    let build = |targets: &str| {
        format!("import {{ target }} from \"zako:build\";\nexport default {{\n{targets}}};\n")
    };
    let before = build(&step("t", "echo A > x", "outs: [\"x\"]"));
    let own = build(&reads("t"));
    let others = build(&[step("t", "echo > y", "outs: [\"y\"]"), reads("u")].concat());
    for (later, label) in [(&own, "//:t"), (&others, "//:t"), (&others, "//:u")] {
        let project = Project::with_build(&before);
        project.build();
        project.write("BUILD.ts", later);
        project.zako(&["build", label]).succeeds();
        project.build();
        project.zako(&["clean"]).succeeds();
        project.build();
        assert_eq!([project.read("x"), project.read("z")], ["A\n", "A\n"]);
    }
}
