//! Mistakes outside build files, in packages, options and what comes from elsewhere: with `-k` they cost what needs them.

use std::fs;

use zako_tests::{Outcome, Project};

const IMPORT: &str = "import { target } from \"zako:build\";\n";

/// A line of a shell that says that `name` ran and leaves `dist/o`.
fn line(name: &str) -> String {
    format!("echo {name} >> $RAN; mkdir -p dist; echo {name} > dist/o")
}

fn package(name: &str, deps: &[&str]) -> String {
    let deps: Vec<String> = deps
        .iter()
        .map(|dep| format!("\"@x/{dep}\":\"*\""))
        .collect();
    format!(
        "{{\"name\": \"@x/{name}\", \"dependencies\": {{{}}},\n \"scripts\": {{\"build\": \"{}\", \"lint\": \"echo lint-{name} >> $RAN\"}}}}\n",
        deps.join(","),
        line(name)
    )
}

const TURBO: &str =
    r#"{"tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"]}, "lint": {}}}"#;

/// `app` needs `ui`, which needs `core`; `lone` needs nothing, nor does `//b:free`; `//b:needs` needs what `ui` builds.
fn packages() -> Project {
    let project = Project::new();
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["packages/*"]}"#,
    );
    project.write("turbo.json", TURBO);
    for (name, deps) in [
        ("core", &[][..]),
        ("ui", &["core"]),
        ("app", &["ui"]),
        ("lone", &[]),
    ] {
        project.write(
            &format!("packages/{name}/package.json"),
            &package(name, deps),
        );
    }
    let target = |name: &str, deps: &str| {
        format!(
            "  {name}: target({{ cmd: [\"sh\", \"-c\", \"echo {name} >> $RAN; echo > {name}.txt\"], outs: [\"{name}.txt\"], deps: [{deps}] }}),\n"
        )
    };
    let targets = [
        target("free", ""),
        target("needs", "\"//packages/ui:build\""),
    ];
    let targets = targets.concat();
    project.write(
        "b/BUILD.ts",
        &format!("{IMPORT}export default {{\n{targets}}};\n"),
    );
    project
}

fn keep_going(project: &Project, told: &str) -> String {
    let built = project.zako(&["build", "-k"]);
    let text = built.text();
    assert_eq!(built.status.code(), Some(1), "{text}");
    assert_eq!(text.matches(told).count(), 1, "{told:?}:\n{text}");
    text
}

#[test]
fn a_package_that_cannot_be_read_costs_what_needs_it() {
    for (file, text, told) in [
        (
            "package.json",
            "{\"name\": \"@x/ui\", \"scripts\": {\n",
            "error: package.json is no JSON: EOF",
        ),
        (
            "package.json",
            "{\"name\": \"@x/ui\", \"scripts\": [1]}\n",
            "`scripts` must be an object",
        ),
        (
            "turbo.json",
            "{\"extends\": [\"//\"], \"tasks\": {\"build\": {\"outpust\": []}}}",
            "--> packages/ui/turbo.json:1:",
        ),
        (
            "turbo.json",
            "{\"extends\": [\"//\"], \"tasks\": {\"build\": {\"dependsOn\": [\"gone#build\"]}}}",
            "there is no package `gone`",
        ),
        (
            "turbo.json",
            "{\"extends\": [\"@x/gone\"], \"tasks\": {\"build\": {}}}",
            "it extends `@x/gone`",
        ),
        (
            "turbo.json",
            "{\"extends\": [\"//\"], \"tasks\": {\"build\": {\"inputs\": [\"../../../x\"]}}}",
            "leaves the workspace",
        ),
        (
            ".gitignore/x",
            "",
            "cannot read packages/ui/.gitignore: it is a directory",
        ),
    ] {
        let project = packages();
        project.write(&format!("packages/ui/{file}"), text);
        for round in 0..2 {
            let said = keep_going(&project, told);
            assert_eq!(
                said.matches("skipped: it needs //packages/ui:").count(),
                2,
                "{said}"
            );
            let ran: &[&str] = if round == 0 {
                &["core", "free", "lone"]
            } else {
                &[]
            };
            assert_eq!(project.ran(), ran, "{told}");
        }
        project.zako(&["build"]).fails_saying(&[told]);
        project
            .zako(&["build", "//packages/app:build"])
            .fails_saying(&[told]);
        let unneeded = project
            .zako(&["build", "//b:free", "//packages/lone:lint"])
            .succeeds();
        assert!(!unneeded.text().contains("error"), "{}", unneeded.text());
        assert_eq!(project.ran(), ["lint-lone"], "{told}");
        let _ = fs::remove_file(project.root().join("packages/ui/turbo.json"));
        let _ = fs::remove_dir_all(project.root().join("packages/ui/.gitignore"));
        project.write("packages/ui/package.json", &package("ui", &["core"]));
        project.build();
        assert_eq!(project.ran(), ["app", "needs", "ui"], "{told}");
    }
}

#[test]
fn what_a_package_left_stays_while_it_cannot_be_read() {
    let project = packages();
    project.build();
    project.ran();
    project.write("packages/ui/package.json", "{");
    keep_going(&project, "package.json is no JSON: EOF");
    assert!(project.has("packages/ui/dist/o") && project.has("packages/app/dist/o"));
    let why = project
        .zako(&["why", "//packages/ui:build"])
        .succeeds()
        .stdout;
    assert!(
        why.contains("now: packages/ui/package.json has a mistake"),
        "{why}"
    );
    project.write("packages/ui/package.json", &package("ui", &["core"]));
    project.build();
    assert!(project.ran().is_empty());
}

#[test]
fn a_package_without_a_readable_name_may_be_any_that_others_need() {
    let project = packages();
    project.write("packages/ui/package.json", "");
    let said = keep_going(&project, "error: package.json is no JSON: EOF");
    assert!(said.contains("//packages/app:build  skipped"), "{said}");
    assert_eq!(project.ran(), ["core", "free", "lone"]);
    fs::write(project.root().join("packages/ui/package.json"), [0xff]).unwrap();
    let said = keep_going(&project, "error: cannot read packages/ui/package.json: ");
    assert!(said.contains("//packages/app:build  skipped"), "{said}");
}

#[test]
fn a_mistake_about_all_packages_leaves_what_build_files_describe() {
    for (file, text, told) in [
        ("package.json", "{", "error: package.json is no JSON: EOF"),
        (
            "package.json",
            r#"{"workspaces": ["packages/{*"]}"#,
            "a package glob",
        ),
        (
            "turbo.json",
            r#"{"tasks": {"build": {"dependsOnn": []}}}"#,
            "--> turbo.json:1:",
        ),
        (
            "turbo.json",
            r#"{"globalDependencies": ["../x"], "tasks": {}}"#,
            "leaves the workspace",
        ),
        (
            "pnpm-workspace.yaml",
            "packages: 1\n",
            "error: packages: invalid type",
        ),
    ] {
        let project = packages();
        let before = project.has(file).then(|| project.read(file));
        project.write(file, text);
        let said = keep_going(&project, told);
        assert!(said.contains("//b:needs  skipped: it needs //:"), "{said}");
        assert_eq!(project.ran(), ["free"], "{told}");
        project.zako(&["build", "//b:free"]).succeeds();
        for asked in [
            "//packages/...",
            "//packages/app:build",
            "//...:lint",
            "//packages/lone:*",
        ] {
            project.zako(&["build", asked]).fails_saying(&[told]);
        }
        match before {
            Some(before) => project.write(file, &before),
            None => fs::remove_file(project.root().join(file)).unwrap(),
        }
        project.build();
        assert_eq!(project.ran(), ["app", "core", "lone", "needs", "ui"]);
    }
}

#[test]
fn a_mistake_that_many_scripts_have_is_told_once() {
    let project = packages();
    project.write("turbo.json", &TURBO.replace("\"^build\"", "\"gone#build\""));
    let said = keep_going(&project, "there is no package `gone`");
    let others = said.matches(":build has the mistake that was told of //packages/app:build");
    assert_eq!(others.count(), 3, "{said}");
    assert_eq!(project.ran(), ["free"]);
}

#[test]
fn a_watch_goes_on_beside_a_package_that_cannot_be_read() {
    let project = packages();
    project.write("packages/ui/package.json", "{");
    let mut watch = project.start(&["watch"]);
    assert!(watch.line().starts_with("watching"));
    assert_eq!(project.ran(), ["core", "free", "lone"]);
    project.write("packages/ui/package.json", &package("ui", &["core"]));
    assert!(watch.line().starts_with("watching"));
    assert_eq!(project.ran(), ["app", "needs", "ui"]);
}

const RULES: &str = r#"
import { rule } from "zako:rule";
import { near } from "./o.config.ts";
import { far } from "./p.config.ts";
const run = (ctx: any) => {
  const out = ctx.file(`${ctx.label.name}.txt`);
  ctx.run({ cmd: ["sh", "-c", `echo ${ctx.label.name} >> $RAN; echo > "$1"`, "sh", out], outs: [out] });
  return { files: [out] };
};
export const nearby = rule({ name: "nearby", attrs: {}, config: { near }, implementation: run });
export const distant = rule({ name: "distant", attrs: {}, config: { far }, implementation: run });
"#;

#[test]
fn an_option_with_a_mistake_costs_the_targets_whose_rules_read_it() {
    let option = |name: &str, label: &str| {
        format!(
            "import {{ config }} from \"zako:config\";\nexport const {name} = config({{ name: \"{name}\", type: \"label\",\n  default: \"{label}\" }});\n"
        )
    };
    let project = Project::new();
    project.write("r.rule.ts", RULES);
    project.write("o.config.ts", &option("near", "//:gone"));
    project.write("p.config.ts", &option("far", "//:d"));
    project.write(
        "BUILD.ts",
        "import { nearby, distant } from \"./r.rule.ts\";\nexport default { n: nearby({}), m: nearby({}), d: distant({}) };\n",
    );
    let told = "option `near`: there is no target //:gone";
    for _ in 0..2 {
        let said = keep_going(&project, told);
        assert!(
            said.contains("--> o.config.ts:3:13") && said.contains("2 failed"),
            "{said}"
        );
    }
    assert_eq!(project.ran(), ["d"]);
    project.zako(&["build", "//:d"]).succeeds();
    project.zako(&["build", "//:n"]).fails_saying(&[told]);
    // Who sets it has no need of the default.
    project.zako(&["build", "--set", "near=//:d"]).succeeds();
    assert_eq!(project.ran(), ["m", "n"]);
    // What a broken build file may describe may be meant.
    project.write("o.config.ts", &option("near", "//sub:it"));
    project.write("sub/BUILD.ts", "export default {{;\n");
    let built = project.zako(&["build", "-k", "--set", "unheard=of"]);
    assert_eq!(built.status.code(), Some(1));
    let said = built.text();
    assert!(
        !said.contains("option") && said.contains("1 failed, 3 up to date"),
        "{said}"
    );
    project.write("sub/BUILD.ts", "export default {};\n");
    project
        .zako(&["build", "-k", "--set", "unheard=of"])
        .fails_saying(&["there is no option `unheard`"]);
}

/// `gone` comes from an archive that is not there, `here` from one that is.
fn from_elsewhere() -> Project {
    let project = Project::new();
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[dependencies]\ngone = {{ url = \"file:third/gone.tar\" }}\nhere = {{ url = \"file:third/here.tar\" }}\n"),
    );
    archive(&project, "here", "here");
    let target = |name: &str, dep: &str| {
        format!(
            "  {name}: target({{ cmd: [\"sh\", \"-c\", \"echo {name} >> $RAN; cat $(find . -name f.txt) > {name}.txt\"], outs: [\"{name}.txt\"], deps: [\"@{dep}//:files\"] }}),\n"
        )
    };
    let targets = [target("with", "here"), target("without", "gone")].concat();
    project.write(
        "BUILD.ts",
        &format!("{IMPORT}export default {{\n{targets}}};\n"),
    );
    project
}

fn archive(project: &Project, name: &str, text: &str) {
    project.write("third/f.txt", text);
    let line = format!("cd third && tar -cf {name}.tar f.txt && rm f.txt");
    Outcome::of(&mut project.shell(&line)).succeeds();
}

#[test]
fn a_package_that_cannot_be_fetched_costs_what_needs_it() {
    let project = from_elsewhere();
    let told = "error: package `gone`: cannot read";
    for round in 0..2 {
        let said = keep_going(&project, told);
        assert!(
            said.contains("//:without  skipped: it needs @gone//:gone,"),
            "{said}"
        );
        let ran: &[&str] = if round == 0 { &["with"] } else { &[] };
        assert_eq!(project.ran(), ran);
    }
    let unneeded = project.zako(&["build", "//:with"]).succeeds().text();
    assert!(
        unneeded.contains("warning: package `gone`: cannot read"),
        "{unneeded}"
    );
    for asked in [
        &["build"][..],
        &["build", "//:without"],
        &["build", "@gone//:files"],
        &["query", "//..."],
    ] {
        project
            .zako(asked)
            .fails_saying(&[told, "--> zako.toml:5:"]);
    }
    archive(&project, "gone", "first");
    project.build();
    assert_eq!(project.read("without.txt"), "first");
    // What lies there of another version is nothing to go on with.
    let lock = project.read("zako.lock");
    let (gone, here) = lock.split_once("[package.\"here\"]").expect("both");
    let (before, tree) = gone.split_once("tree = \"blake3-").expect("a digest");
    let other = if tree.starts_with('0') { "1" } else { "0" };
    let lock = format!(
        "{before}tree = \"blake3-{other}{}[package.\"here\"]{here}",
        &tree[1..]
    );
    project.write("zako.lock", &lock);
    fs::remove_file(project.root().join("third/gone.tar")).unwrap();
    keep_going(&project, told);
    assert!(!project.has(".zako/packages/gone/f.txt") && project.has(".zako/packages/here/f.txt"));
}

#[test]
fn a_build_file_for_a_package_that_is_not_there_costs_what_needs_the_package() {
    let project = from_elsewhere();
    archive(&project, "gone", "first");
    let manifest = project.read("zako.toml");
    let with_build = manifest.replace("gone.tar\" }", "gone.tar\", build = \"third/none.ts\" }");
    project.write("zako.toml", &with_build);
    keep_going(&project, "there is no file `third/none.ts`");
    assert_eq!(project.ran(), ["with"]);
}

#[test]
fn a_mistake_in_the_package_root_concerns_everything_and_says_so() {
    let project = packages();
    project.write(
        "zako.ts",
        "import { workspace } from \"zako:package\";\nexport default workspace({ buidls: [] });\n",
    );
    for arguments in [&["build", "-k"][..], &["build", "//b:free"]] {
        let said = project.zako(arguments).fails_saying(&[
            "unknown key `buidls`",
            "did you mean `builds`? zako.ts says which files are build files",
            "also with -k",
        ]);
        assert_eq!(said.status.code(), Some(2));
    }
    assert!(project.ran().is_empty());
}

#[test]
fn a_script_with_a_mistake_changes_nothing_for_the_scripts_beside_it() {
    let project = packages();
    // Both write to `dist`, so one runs after the other; the first name of all has the mistake.
    let wait = |name: &str| {
        format!(
            "mkdir -p dist; [ ! -e busy ]; touch busy; sleep 0.2; rm busy; echo {name} > dist/{name}"
        )
    };
    let scripts =
        serde_json::json!({"a": "true", "build:esm": wait("esm"), "build:types": wait("types")});
    let package = serde_json::json!({"name": "@x/lone", "scripts": scripts});
    project.write("packages/lone/package.json", &package.to_string());
    let task = serde_json::json!({"outputs": ["dist/**"], "inputs": ["package.json"]});
    let turbo = serde_json::json!({"tasks": {"a": {"dependsOn": ["nosuch#x"]}, "build:esm": task, "build:types": task, "build": {}}});
    project.write("turbo.json", &turbo.to_string());
    project
        .zako(&[
            "build",
            "//packages/lone:build.esm",
            "//packages/lone:build.types",
        ])
        .succeeds();
    // Nor does one with the usual inputs wait for it.
    let turbo = serde_json::json!({"tasks": {"a": {"dependsOn": ["nosuch#x"]}, "build:esm": {"outputs": ["dist/**"]}}});
    project.write("turbo.json", &turbo.to_string());
    project
        .zako(&["build", "//packages/lone:build.esm"])
        .succeeds();
}
