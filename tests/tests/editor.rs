//! What helps a person who writes build files: types for editors, and the check for determinism.

use std::process::Command;

use zako_tests::{Outcome, Project, is_installed};

#[test]
fn an_output_that_differs_is_named_with_its_first_byte() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  steady: target({ cmd: ["sh", "-c", "echo same > same.txt"], outs: ["same.txt"] }),
  clock: target({ cmd: ["sh", "-c", "echo now $(date +%s%N) > now.txt"], outs: ["now.txt"] }),
};
"#,
    );
    project
        .zako(&["build", "--check-determinism", "3", "//:steady"])
        .succeeds();
    project
        .zako(&["build", "-k", "--check-determinism", "2"])
        .fails_saying(&["//:clock", "now.txt differs at byte "]);
    project
        .zako(&["build", "--check-determinism", "1"])
        .fails_saying(&["--check-determinism"]);
}

#[test]
fn permissions_count_too() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  mode: target({ cmd: ["sh", "-c", "echo x > x; [ -e $RAN ] || chmod +x x; echo mode >> $RAN"], outs: ["x"] }),
};
"#,
    );
    project
        .zako(&["build", "--check-determinism", "2"])
        .fails_saying(&["//:mode", "x has the permissions 755 and 644"]);
}

#[test]
fn scripts_of_packages_are_run_again_from_a_clean_start() {
    let project = Project::new();
    let package = |script: &str| {
        let text = serde_json::json!({ "name": "p", "scripts": { "build": script } });
        project.write("package.json", &text.to_string());
    };
    project.write(".gitignore", "dist\n");
    let check = ["build", "--check-determinism", "3"];
    package("echo run >> $RAN; mkdir -p dist; test ! -e dist/a; echo same > dist/a");
    project.zako(&check).succeeds();
    assert_eq!(project.ran(), ["run"; 3]);
    assert_eq!(project.read("dist/a"), "same\n");
    package("mkdir -p dist; date +now%s%N > dist/a");
    project
        .zako(&check)
        .fails_saying(&["//:build", "dist/a differs at byte "]);
}

#[test]
fn what_is_transpiled_is_transpiled_again() {
    let project = Project::with_build(
        "import { transpile } from \"zako:build\";\nexport default { js: transpile({ srcs: [\"a.ts\"], out: \"out\" }) };\n",
    );
    project.write("a.ts", "export const a: number = 1;\n");
    let tasks = |arguments: &[&str]| {
        let events = project.outside().join("events");
        let mut all = vec!["build", "--force", "--events", events.to_str().unwrap()];
        all.extend(arguments);
        project.zako(&all).succeeds();
        let text = std::fs::read_to_string(&events).unwrap();
        let pools = text.lines().find(|line| line.contains("transpilers"));
        let pools: serde_json::Value = serde_json::from_str(pools.unwrap()).unwrap();
        find(&pools, "tasks").unwrap()
    };
    let once = tasks(&[]);
    assert_eq!(tasks(&["--check-determinism", "3"]), once + 2);
}

/// The first number of that name.
fn find(value: &serde_json::Value, name: &str) -> Option<u64> {
    let object = value.as_object()?;
    let here = object.get(name).and_then(serde_json::Value::as_u64);
    here.or_else(|| object.values().find_map(|value| find(value, name)))
}

const BUILD: &str = r#"
import { env, glob, target, test, transpile } from "zako:build";
export default {
  lib: transpile({ srcs: glob("src/**", { exclude: ["src/x.ts"] }), out: "dist" }),
  copy: target({ cmd: ["cp", "a", "b"], srcs: ["a"], deps: [":lib"], outs: ["b"], env: { CI: env("CI", "0") }, uses: { cpu: 2, memory: "1g" } }),
  unit: test({ cmd: ["true"], deps: ["//:copy"], retries: 2, timeout: "90s" }),
};
"#;

#[test]
fn the_type_checker_knows_labels_and_flags_a_misspelt_one() {
    let project = Project::with_build(BUILD);
    project.write("a", "");
    project.write("src/m.ts", "export const m: number = 1;\n");
    project.write(
        "zako.ts",
        "import { workspace } from \"zako:package\";\nexport default workspace({ builds: [\"**/BUILD.ts\"] });\n",
    );
    let said = project.zako(&["types"]).succeeds().stdout;
    assert!(said.contains("3 labels"), "{said}");
    let definitions = project.read(".zako/types/zako.d.ts");
    assert!(definitions.contains("\"//:copy\" | "), "{definitions}");
    assert!(project.read("tsconfig.json").contains("extends"));
    // What a person made is left alone.
    project.write(
        "tsconfig.json",
        "{\"extends\": \"./.zako/types/tsconfig.json\"}\n",
    );
    let again = project.zako(&["types"]).succeeds();
    assert!(again.text().contains("is yours"), "{}", again.text());
    if !is_installed("npm") {
        return;
    }
    let home = project.outside().join("npm");
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
    Outcome::of(install.arg(&home).arg("typescript@5.9.3")).succeeds();
    let check = || {
        let mut tsc = Command::new(home.join("node_modules/.bin/tsc"));
        tsc.current_dir(project.root());
        Outcome::of(tsc.args(["--pretty", "false", "-p", "."]))
    };
    check().succeeds();
    // Every module that a build file may import, as the engine has it too.
    project.write(
        "all/BUILD.ts",
        "import { console as own } from \"zako:console\";\nimport { getExecutionContext } from \"zako:global\";\n\
         import { contextName, engine } from \"zako:rt\";\nconst name: \"v8\" | \"quickjs\" = engine;\n\
         own.info(name, contextName(), getExecutionContext());\nexport default {};\n",
    );
    check().succeeds();
    project.zako(&["query", "//..."]).succeeds();
    // Attributes of rules, those of the workspace and those that ship, are known as well.
    project.write(
        "tools/x.rule.ts",
        "import { attr, rule } from \"zako:rule\";\n\
         export const x = rule({\n  name: \"x\",\n  attrs: { level: attr.number({ required: true }), deps: attr.deps() },\n\
         \x20 implementation(ctx) {\n    ctx.attrs.level.toFixed();\n    ctx.run({ cmd: [\"true\"] });\n  },\n});\n",
    );
    let uses = |attributes: &str| {
        project.write(
            "use/BUILD.ts",
            &format!("import {{ fileGroup }} from \"zako:rules\";\nimport {{ x }} from \"../tools/x.rule.ts\";\nexport default {{\n  a: x({attributes}),\n  b: fileGroup({{ deps: [\"//:copy\"] }}),\n}};\n"),
        );
    };
    uses("{ level: 1, deps: [\"//:lib\"] }");
    check().succeeds();
    for wrong in [
        "{ levle: 1 }",
        "{}",
        "{ level: \"1\" }",
        "{ level: 1, deps: [\"//:lbi\"] }",
    ] {
        uses(wrong);
        let found = check();
        assert!(
            found.stdout.starts_with("use/BUILD.ts(4,"),
            "{wrong}: {}",
            found.stdout
        );
    }
    std::fs::remove_dir_all(project.root().join("use")).unwrap();
    project.write("BUILD.ts", &BUILD.replace("\"//:copy\"", "\"//:cpoy\""));
    let found = check();
    assert!(!found.status.success());
    assert!(
        found.stdout.starts_with("BUILD.ts(6,") && found.stdout.contains("//:cpoy"),
        "{}",
        found.stdout
    );
    project.write("BUILD.ts", &BUILD.replace("retries", "retires"));
    assert!(check().stdout.contains("retires"));
}

#[test]
fn a_second_run_that_fails_leaves_what_people_made() {
    let project = Project::new();
    let script = "mkdir -p dist; echo out > dist/out; echo more >> dist/notes; echo run >> $RAN; test $(wc -l < $RAN) = 1";
    let package = serde_json::json!({ "name": "p", "scripts": { "build": script } });
    project.write("package.json", &package.to_string());
    project.write(".gitignore", "dist\n");
    project.write("dist/notes", "mine\n");
    project
        .zako(&["build", "--check-determinism", "2"])
        .fails_saying(&["//:build"]);
    assert!(project.read("dist/notes").starts_with("mine\n"));
}
