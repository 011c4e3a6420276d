//! What build files and rules print and throw, as a person is told of it.

use zako_tests::{Project, is_installed};

#[test]
fn what_was_logged_before_a_mistake_is_told() {
    let project = Project::with_build("console.log(\"first\");\nthrow new Error(\"x\");\n");
    project
        .zako(&["build"])
        .fails_saying(&["first\n", "error: x"]);
    let rule = "import { rule } from \"zako:rule\";\nimport { tool } from \"./a.toolchain.ts\";\nimport { mode } from \"./a.config.ts\";\n\
                export const r = rule({ name: \"r\", config: { mode }, toolchains: { tool }, implementation() { console.log(\"in the rule\"); WRONG } });\n";
    let toolchain = "import { toolchain } from \"zako:toolchain\";\nexport const tool = toolchain({ name: \"tool\", async select(ctx) {\n\
                     console.log(\"selecting\"); const sh = await ctx.which(\"sh\"); await ctx.env(\"A\"); console.log(\"selected\"); return { sh }; } });\n";
    let config = "import { config } from \"zako:config\";\nexport const mode = config({ name: \"mode\", type: \"string\", default: () => { console.log(\"by default\"); return \"a\"; } });\n";
    project.write("a.rule.ts", &rule.replace("WRONG", ""));
    project.write("a.toolchain.ts", toolchain);
    project.write("a.config.ts", config);
    let build = "import { r } from \"./a.rule.ts\";\nexport default { r: r({}) };\n";
    project.write("BUILD.ts", build);
    let told = project.zako(&["query", "//..."]).succeeds().text();
    for line in ["selecting", "selected", "by default", "in the rule"] {
        assert_eq!(told.matches(line).count(), 1, "{line}: {told}");
    }
    project.write(
        "a.rule.ts",
        &rule.replace("WRONG", "throw new Error(\"y\");"),
    );
    project
        .zako(&["build"])
        .fails_saying(&["in the rule\n", "error: y"]);
    let wrong = toolchain.replace("return", "throw new Error(\"z\"); return");
    project.write("a.toolchain.ts", &wrong);
    let told = project
        .zako(&["build"])
        .fails_saying(&["selected\n", "error: z"])
        .text();
    assert_eq!(told.matches("selecting").count(), 1, "{told}");
}

#[test]
fn every_kind_of_file_is_told_what_it_is() {
    let project =
        Project::with_build("import { r } from \"./a.rule.ts\";\nexport default { r: r({}) };\n");
    let say = |where_| format!("console.log(`{where_} ${{executionContext.context}}`);\n");
    project.write(
        "a.toolchain.ts",
        &format!(
            "import {{ toolchain }} from \"zako:toolchain\";\n{}export const tool = toolchain({{ name: \"tool\", select() {{\n{}return {{}}; }} }});\n",
            say("toolchain file"),
            say("select"),
        ),
    );
    project.write(
        "a.config.ts",
        &format!(
            "import {{ config }} from \"zako:config\";\n{}export const mode = config({{ name: \"mode\", type: \"string\", default: () => {{ {} return \"a\"; }} }});\n",
            say("config file"),
            say("default"),
        ),
    );
    project.write(
        "a.rule.ts",
        &format!(
            "import {{ rule }} from \"zako:rule\";\nimport {{ tool }} from \"./a.toolchain.ts\";\nimport {{ mode }} from \"./a.config.ts\";\n\
             export const r = rule({{ name: \"r\", config: {{ mode }}, toolchains: {{ tool }}, implementation() {{ {} }} }});\n",
            say("implementation"),
        ),
    );
    let told = project.zako(&["query", "//..."]).succeeds().text();
    for line in [
        "toolchain file toolchain",
        "select toolchain",
        "config file config",
        "default config",
        "implementation rule",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

#[test]
fn what_a_script_says_is_not_obeyed_by_the_terminal() {
    let project = Project::with_build(
        "console.log(\"a\\u001b[2Jb\");\nthrow new Error(\"c\\u001b]0;title\\u0007d\");\n",
    );
    let said = project
        .zako(&["build"])
        .fails_saying(&["a␛[2Jb", "c␛]0;title␇d"]);
    assert!(!said.text().contains('\u{1b}'), "{}", said.text());
}

#[test]
fn advice_leads_on() {
    for (file, text, words) in [
        (
            "BUILD.ts",
            "throw new AggregateError([new Error(\"one\"), new TypeError(\"two\")], \"both\");\n",
            &["both", "\n  one (BUILD.ts:1:", "\n  TypeError: two"][..],
        ),
        (
            "BUILD.ts",
            "\u{feff}#!/usr/bin/env zako\nlet n: number = ;\n",
            &["BUILD.ts:2:17", "let n: number = ;"],
        ),
        (
            "zako.ts",
            "export const a = 1;\n",
            &["write: export default workspace({ … });"],
        ),
        (
            "BUILD.ts",
            "import { r } from \"./a.rule.ts\";\nexport default { r: r({ srcs: [] }) };\n",
            &["unknown key `srcs`", "there are none"],
        ),
        (
            "BUILD.ts",
            "let deep: any = {};\nfor (let i = 0; i < 1e6; i++) deep = { deep };\nJSON.stringify(deep);\n",
            &["nested too deeply"],
        ),
        (
            "BUILD.ts",
            "import { transpile } from \"zako:build\";\nexport default { js: transpile({ srcs: [\"a.ts\", \"a.js\"], out: \"dist\" }) };\n",
            &["a.js and a.ts would both become dist/a.js"],
        ),
        (
            "BUILD.ts",
            "import { bundle, nodeModules } from \"zako:rules\";\nexport default { m: nodeModules({ srcs: [\"a.js\"] }), \
             b: bundle({ entry: \"a.js\", srcs: [\"a.js\"], modules: \":m\" }) };\n",
            &["esbuild is not among the packages of `modules`: npm install --save-dev esbuild"],
        ),
    ] {
        if words[0].starts_with("esbuild") && !is_installed("node") {
            continue;
        }
        let project = Project::with_build("export default {};\n");
        project.write("a.rule.ts", "import { rule } from \"zako:rule\";\nexport const r = rule({ name: \"r\", implementation() {} });\n");
        project.write("a.ts", "");
        project.write("a.js", "");
        project.write(file, text);
        project.zako(&["build"]).fails_saying(words);
    }
}
