//! The shortest way through everything, whichever JavaScript engine zako was built with.

use zako_tests::Project;

#[test]
fn a_workspace_is_built_tested_and_not_built_again() {
    let project = Project::new();
    project.write(
        "zako.ts",
        "import { workspace } from \"zako:package\";\nexport default workspace({ builds: [\"**/BUILD.ts\"] });\n",
    );
    project.write(
        "names.ts",
        "export interface Name { first: string; last?: string }\nexport const name: Name = { first: \"Ada\" };\n",
    );
    project.write(
        "app/BUILD.ts",
        r#"
import { glob, target, test, transpile } from "zako:build";
import { name, type Name } from "../names.ts";

const greet = (who: Name): string => `hello ${who.first}${who.last ?? ""}`;

export default {
  js: transpile({ srcs: glob("src/**/*.ts"), root: "src", out: "dist", sourceMaps: true }),
  greeting: target({ cmd: ["sh", "-c", `echo ${greet(name)} > greeting.txt`], outs: ["greeting.txt"] }),
  check: test({ cmd: ["grep", "-q", "hello Ada", "greeting.txt"], deps: [":greeting"] }),
};
"#,
    );
    project.write(
        "app/src/main.ts",
        "enum Size { Small = 1, Large }\nexport const size: Size = Size.Large;\n",
    );
    project.build();
    assert_eq!(project.read("app/greeting.txt"), "hello Ada\n");
    let js = project.read("app/dist/main.js");
    assert!(
        js.contains("export const size") && !js.contains(": Size"),
        "{js}"
    );
    let map = project.read("app/dist/main.js.map");
    assert!(
        map.contains("\"mappings\"") && map.contains("main.ts"),
        "{map}"
    );

    project.zako(&["test"]).succeeds();
    project.build();
    project.store_is_intact();
}

#[test]
fn build_files_are_evaluated_the_same_everywhere() {
    for expression in [
        "Date.now()",
        "new Date()",
        "Math.random()",
        "performance.now()",
        "setTimeout(() => {}, 0)",
        "crypto.randomUUID()",
        "new WeakRef({})",
        "\"a\".localeCompare(\"b\")",
        "Deno.core",
        "process.env",
    ] {
        let project = Project::with_build(&format!("export default {{ a: {expression} }};\n"));
        let outcome = project.zako(&["build"]);
        let text = outcome.fails_saying(&["BUILD.ts:1:"]).text();
        assert!(
            !text.contains("is not a target"),
            "{expression} has a value:\n{text}"
        );
    }
}

#[test]
fn a_memory_bomb_is_stopped() {
    let project = Project::with_build(
        "const all = [];\nfor (;;) all.push(new Array(100_000).fill(1));\nexport default {};\n",
    );
    project
        .zako(&["build"])
        .fails_saying(&["BUILD.ts", "memory"]);
}

#[test]
fn endless_recursion_is_stopped() {
    let project =
        Project::with_build("const f = (n) => f(n + 1) + 1;\nexport default { a: f(0) };\n");
    project.zako(&["build"]).fails_saying(&["BUILD.ts:1:"]);
}

#[test]
fn the_program_says_what_it_is() {
    let project = Project::new();
    let version = project.zako(&["--version"]).succeeds().stdout;
    assert!(version.starts_with("zako "), "{version}");
    let help = project.zako(&["--help"]).succeeds().stdout;
    for command in [
        "build",
        "clean",
        "cache",
        "node",
        "doctor",
        "init",
        "completions",
    ] {
        assert!(help.contains(command), "{help}");
    }
    let doctor = project.zako(&["doctor"]).succeeds().text();
    assert!(
        doctor.contains("V8") || doctor.contains("QuickJS"),
        "{doctor}"
    );
}
