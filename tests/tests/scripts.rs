//! Packages of npm and pnpm without any build file: scripts as targets, in the order of packages.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use zako_tests::{Outcome, Project, until_so};

/// `app` needs `ui`, which has no build of its own and needs `core`.
fn project() -> Project {
    let project = Project::new();
    fs::remove_file(project.root().join("zako.toml")).unwrap();
    project.write(
        "package.json",
        r#"{"name": "acme", "version": "3.1.0", "workspaces": ["packages/*"], "scripts": {"build": "turbo run build"}}"#,
    );
    project.write(".gitignore", "dist\nnode_modules\n");
    project.write(
        "packages/core/package.json",
        r#"{"name": "@acme/core", "scripts": {
            "prebuild": "mkdir -p dist",
            "build": "echo core >> $RAN; tr a-z A-Z < src.txt > dist/out.txt",
            "lint": "echo lint-core >> $RAN; grep -q . src.txt"}}"#,
    );
    project.write("packages/core/src.txt", "hello\n");
    project.write(
        "packages/ui/package.json",
        r#"{"name": "@acme/ui", "dependencies": {"@acme/core": "workspace:*"}, "scripts": {}}"#,
    );
    project.write("packages/ui/ui.txt", "ui\n");
    project.write(
        "packages/app/package.json",
        r#"{"name": "@acme/app", "devDependencies": {"@acme/ui": "*"}, "scripts": {
            "build": "echo app >> $RAN; stamp ../core/dist/out.txt",
            "test": "echo test >> $RAN; grep -q HELLO dist/app.txt",
            "dev": "echo serving $(cat dist/app.txt) $0"}}"#,
    );
    // A program of an installed package.
    project.write(
        "node_modules/.bin/stamp",
        "#!/bin/sh\nmkdir -p dist && cat \"$1\" ../ui/ui.txt > dist/app.txt\n",
    );
    let stamp = project.root().join("node_modules/.bin/stamp");
    fs::set_permissions(stamp, fs::Permissions::from_mode(0o755)).unwrap();
    project
}

#[test]
fn scripts_are_built_in_the_order_of_packages_and_not_again() {
    let project = project();
    let labels = project.zako(&["query", "//..."]).succeeds().stdout;
    assert_eq!(
        labels,
        "//packages/core:build\n//packages/core:lint\n//packages/app:build\n//packages/app:dev\n//packages/app:test\n"
    );
    project.build();
    assert_eq!(project.ran(), ["app", "core"]);
    assert_eq!(project.read("packages/app/dist/app.txt"), "HELLO\nui\n");
    project.build();
    assert!(
        project.ran().is_empty(),
        "{:?}",
        project.zako(&["why", "//packages/app:build"])
    );

    project.zako(&["test"]).succeeds();
    assert_eq!(project.ran(), ["test"]);
    project.zako(&["build", "//...:lint"]).succeeds();
    assert_eq!(project.ran(), ["lint-core"]);
}

#[test]
fn an_edit_reaches_what_depends_on_it_also_when_no_outputs_are_known() {
    let project = project();
    // Nothing says that `dist` is written: neither outputs nor .gitignore.
    project.write(".gitignore", "node_modules\n");
    project.build();
    project.build();
    project.write("packages/core/src.txt", "changed\n");
    project.build();
    assert_eq!(project.read("packages/app/dist/app.txt"), "CHANGED\nui\n");
}

#[test]
fn an_edit_reaches_what_depends_on_it_and_an_equal_output_stops() {
    let project = project();
    project.build();
    project.ran();
    // Same output: upper case is upper case.
    project.write("packages/core/src.txt", "HELLO\n");
    project.build();
    assert_eq!(project.ran(), ["core"]);
    // A package without a build is read by those who need it.
    project.write("packages/ui/ui.txt", "new\n");
    project.build();
    assert_eq!(project.ran(), ["app"]);
    let why = project.zako(&["why", "//packages/app:build"]).succeeds();
    assert!(
        why.stdout.contains("packages/ui/ui.txt changed"),
        "{}",
        why.stdout
    );
}

#[test]
fn names_with_a_dot_are_sources_like_others() {
    let project = project();
    let files = [".storybook/main.ts", "src/.conf", ".vite/.cache"];
    for name in files {
        project.write(&format!("packages/core/{name}"), "1");
    }
    // What git ignores or tools keep is none, wherever it lies.
    project.write(".gitignore", "dist\nnode_modules\ncoverage\n");
    let others = ["coverage/.tmp/x", ".turbo/log", "src/.git/HEAD"];
    project.build();
    project.ran();
    for name in others {
        project.write(&format!("packages/core/{name}"), "2");
    }
    project.build();
    assert!(project.ran().is_empty());
    for name in files {
        project.write(&format!("packages/core/{name}"), "2");
        project.build();
        assert_eq!(project.ran(), ["core"], "{name}");
    }
}

#[test]
fn a_workspace_of_pnpm_needs_no_package_in_its_root() {
    let project = project();
    fs::remove_file(project.root().join("package.json")).unwrap();
    project.write("pnpm-workspace.yaml", "packages: ['packages/*']\n");
    project.build();
    assert_eq!(project.ran(), ["app", "core"]);
}

#[test]
fn a_task_reads_and_writes_what_it_names_beyond_its_package() {
    let project = project();
    let tasks = |input: &str| {
        project.write(
            "turbo.json",
            &format!(
                r#"{{"tasks": {{"build": {{"dependsOn": ["^build"], "inputs": ["src.txt", "{input}"], "outputs": ["dist/**"]}}}}}}"#
            ),
        );
    };
    project.write("shared/base.txt", "1");
    for input in ["../../shared/*.txt", "$TURBO_ROOT$/shared/**"] {
        tasks(input);
        project.build();
        project.ran();
        project.write("shared/base.txt", input);
        project.build();
        assert!(project.ran().contains(&"core".to_owned()), "{input}");
    }
    // What git ignores is read where it is named.
    project.write(".gitignore", "dist\n.env\n");
    project.write("packages/core/.env", "1");
    tasks(".env");
    project.build();
    project.ran();
    project.write("packages/core/.env", "2");
    project.build();
    assert_eq!(project.ran(), ["core"]);
    tasks("../../../elsewhere/**");
    project.zako(&["build"]).fails_saying(&[
        "script `build`: input `../../../elsewhere/**` leaves the workspace",
        "this is about //packages/app:build",
    ]);
}

#[test]
fn lost_outputs_come_back_and_clean_leaves_what_people_made() {
    let project = project();
    project.build();
    project.ran();
    project.write("packages/core/dist/kept.txt", "mine\n");
    fs::remove_file(project.root().join("packages/core/dist/out.txt")).unwrap();
    fs::remove_dir_all(project.root().join("packages/app/dist")).unwrap();
    project.build();
    assert!(project.ran().is_empty());
    assert_eq!(project.read("packages/app/dist/app.txt"), "HELLO\nui\n");
    project.zako(&["clean"]).succeeds();
    assert!(!project.has("packages/core/dist/out.txt"));
    assert_eq!(project.read("packages/core/dist/kept.txt"), "mine\n");
}

#[test]
fn turbo_json_says_what_tasks_need_and_leave_behind() {
    let project = project();
    project.write(
        "turbo.json",
        r#"{ // comments are allowed
          "tasks": {
            "build": { "dependsOn": ["^build"], "outputs": ["dist/**", "!dist/*.log"], "env": ["MODE"] },
            "lint": { "dependsOn": ["build"], "cache": false },
            "dev": { "cache": false, "persistent": true, "dependsOn": ["build"] },
          }
        }"#,
    );
    project.build();
    project.ran();
    let with_mode = |mode: &str| {
        let mut command = project.command(&["build"]);
        command.env("MODE", mode);
        Outcome::of(&mut command).succeeds();
        project.ran()
    };
    assert_eq!(
        with_mode("fast"),
        ["app", "core"],
        "a declared variable is part of the key"
    );
    let mut command = project.command(&["build"]);
    command.env("MODE", "fast").env("OTHER", "x");
    Outcome::of(&mut command).succeeds();
    assert!(project.ran().is_empty(), "an undeclared one is not");
    // What must not be cached runs every time.
    for _ in 0..2 {
        let mut command = project.command(&["build", "//packages/core:lint"]);
        command.env("MODE", "fast");
        Outcome::of(&mut command).succeeds();
        assert_eq!(project.ran(), ["lint-core"]);
    }
    project
        .zako(&["build", "//packages/app:dev"])
        .fails_saying(&["runs until it is stopped", "zako run //packages/app:dev"]);
    let dev = project.zako(&["run", "//packages/app:dev"]).succeeds();
    assert!(dev.stdout.contains("serving HELLO ui"), "{}", dev.stdout);
    project.write("turbo.json", r#"{"tasks": {"build": {"outputs": "dist"}}}"#);
    project
        .zako(&["build"])
        .fails_saying(&["turbo.json", "`outputs` must be a list"]);
}

#[test]
fn a_package_adds_to_the_turbo_json_of_the_root() {
    let project = project();
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"], "env": ["MODE_*", "!MODE_SECRET"]}}}"#,
    );
    project.write(
        "packages/app/turbo.json",
        r#"{"extends": ["//"], "tasks": {"build": {"outputs": ["$TURBO_EXTENDS$", "more/**"]}}}"#,
    );
    project.write(
        "packages/app/package.json",
        r#"{"name": "@acme/app", "dependencies": {"@acme/ui": "*"}, "scripts": {
            "build": "echo app >> $RAN; mkdir -p dist more; cat ../core/dist/out.txt > dist/a; env | grep ^MODE_ > more/env"}}"#,
    );
    let build = |mode: &str, secret: &str| {
        let mut zako = project.command(&["build"]);
        zako.env("MODE_A", mode).env("MODE_SECRET", secret);
        Outcome::of(&mut zako).succeeds();
    };
    build("one", "s1");
    assert_eq!(project.read("packages/app/more/env"), "MODE_A=one\n");
    for lost in ["dist", "more"] {
        fs::remove_dir_all(project.root().join("packages/app").join(lost)).unwrap();
    }
    build("one", "s2");
    assert_eq!(project.read("packages/app/dist/a"), "HELLO\n");
    let ran = project.ran();
    assert_eq!(ran, ["app", "core"], "once, whatever is left out");
    build("two", "s2");
    assert_eq!(project.read("packages/app/more/env"), "MODE_A=two\n");
}

#[test]
fn slips_in_a_turbo_json_are_told() {
    let project = project();
    for (text, said) in [
        (
            r#"{"tasks": {"build": {"dependson": []}}}"#,
            "did you mean `dependsOn`?",
        ),
        (
            r#"{"tasks": {"build": {"cache": "no"}}}"#,
            "`cache` must be true or false",
        ),
        (
            r#"{"tasks": {"build": {"dependsOn": ["build"]}}}"#,
            "it depends on itself",
        ),
    ] {
        project.write("turbo.json", text);
        project.zako(&["build"]).fails_saying(&[said]);
    }
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"dependsOn": ["^build", "gen"], "cache": false}, "tset": {}}}"#,
    );
    let told = project.zako(&["build"]).succeeds().text();
    for said in [
        "`build` depends on `gen`, but no package has that script",
        "no package has a script `tset`; did you mean `test`?",
    ] {
        assert!(told.contains(said), "{told}");
    }
    assert_eq!(
        project.ran(),
        ["app", "core"],
        "what is not cached is built as well"
    );
    project.build();
    assert_eq!(project.ran(), ["app", "core"], "each time");
}

#[test]
fn what_a_task_leaves_out_of_its_own_env_stays_in_that_of_all_tasks() {
    let project = project();
    let script = r#"{"name": "@acme/one", "scripts": {"build": "env | grep -E '^(ALL|OWN|OPEN)_' | cut -d= -f1 | sort > seen; true"}}"#;
    project.write("packages/one/package.json", script);
    // As Turborepo has it: `env` leaves out of itself, `passThroughEnv` of everything but the task's `env`.
    for (env, open, seen) in [
        (r#""!ALL_B""#, "", "ALL_A ALL_B OPEN_A OPEN_B "),
        (
            r#""OWN_*", "!OWN_B", "!ALL_*""#,
            "",
            "ALL_A ALL_B OPEN_A OPEN_B OWN_A ",
        ),
        ("", r#""!ALL_B", "!OPEN_A""#, "ALL_A OPEN_B "),
        (r#""ALL_B""#, r#""!ALL_*""#, "ALL_B OPEN_A OPEN_B "),
        (
            "",
            r#""OWN_*", "!OWN_A""#,
            "ALL_A ALL_B OPEN_A OPEN_B OWN_B ",
        ),
    ] {
        let text = format!(
            r#"{{"globalEnv": ["ALL_*"], "globalPassThroughEnv": ["OPEN_*"],
                "tasks": {{"build": {{"outputs": ["seen"], "env": [{env}], "passThroughEnv": [{open}]}}}}}}"#
        );
        project.write("turbo.json", &text);
        let mut build = project.command(&["build", "--force", "//packages/one:build"]);
        for name in ["ALL_A", "ALL_B", "OWN_A", "OWN_B", "OPEN_A", "OPEN_B"] {
            build.env(name, "1");
        }
        Outcome::of(&mut build).succeeds();
        let found = project.read("packages/one/seen").replace('\n', " ");
        assert_eq!(found, seen, "{env} {open}");
    }
}

#[test]
fn init_reads_turbo_json_into_the_manifest() {
    let project = project();
    project.write(
        "turbo.json",
        r#"{"globalEnv": ["CI"], "tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"]}}}"#,
    );
    let said = project.zako(&["init"]).succeeds().stdout;
    assert!(said.contains("wrote zako.toml"), "{said}");
    assert!(!project.has("BUILD.ts"));
    let manifest = project.read("zako.toml");
    assert!(
        manifest.contains("artifact = \"acme\"") && manifest.contains("[tasks.build]"),
        "{manifest}"
    );
    fs::remove_file(project.root().join("turbo.json")).unwrap();
    project.build();
    assert_eq!(project.ran(), ["app", "core"]);
}

#[test]
fn init_knows_a_root_of_pnpm_that_has_neither_scripts_nor_workspaces() {
    let project = project();
    project.write("package.json", r#"{"name": "acme", "private": true}"#);
    project.write("pnpm-workspace.yaml", "packages:\n  - packages/*\n");
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"]}, "lint": {"cache": false}}}"#,
    );
    project.zako(&["init"]).succeeds();
    assert!(!project.has("BUILD.ts") && !project.has("zako.ts"));
    let manifest = project.read("zako.toml");
    assert!(
        manifest.contains("[tasks.build]") && manifest.contains("[tasks.lint]"),
        "{manifest}"
    );
    fs::remove_file(project.root().join("turbo.json")).unwrap();
    project.build();
    assert_eq!(project.ran(), ["app", "core"]);
}

#[test]
fn pnpm_workspaces_are_read_and_mistakes_are_named() {
    let project = project();
    project.write("package.json", r#"{"name": "acme"}"#);
    project.write(
        "pnpm-workspace.yaml",
        "packages:\n  - packages/*\n  - '!packages/app'\n",
    );
    let labels = project.zako(&["query", "//..."]).succeeds().stdout;
    assert_eq!(labels, "//packages/core:build\n//packages/core:lint\n");
    project.write("pnpm-workspace.yaml", "packages: 3\n");
    project
        .zako(&["build"])
        .fails_saying(&["pnpm-workspace.yaml"]);
    project.write("pnpm-workspace.yaml", "packages: ['packages/*']\n");
    project.write("packages/core/package.json", "{");
    project
        .zako(&["build"])
        .fails_saying(&["packages/core/package.json"]);
}

#[test]
fn a_script_that_changes_what_it_reads_is_told_so() {
    let project = project();
    project.write(
        "packages/core/package.json",
        r#"{"name": "@acme/core", "scripts": {"build": "date +%s%N > stamp.txt"}}"#,
    );
    project.write("packages/core/stamp.txt", "0\n");
    let text = project.zako(&["build", "//packages/core:build"]).succeeds();
    assert!(
        text.text()
            .contains("warning: what it reads changed while it ran (packages/core/stamp.txt), by the script itself or"),
        "{}",
        text.text()
    );
}

#[test]
fn a_result_of_what_was_edited_while_a_script_ran_is_kept_for_nobody() {
    // What it reads is a source, or what a dependency left; what it left is there the next time, or lost.
    for (edited, lost) in [
        ("packages/core/src.txt", false),
        ("packages/core/src.txt", true),
        ("packages/app/dist/out.txt", false),
    ] {
        let project = project();
        let script = r#"{"name": "@acme/NAME", "devDependencies": {"@acme/NEEDS": "*"}, "scripts": {"build": "SCRIPT"}}"#;
        let package = |name: &str, needs: &str, script_line: &str| {
            let text = script.replace("NAME", name).replace("NEEDS", needs);
            project.write(
                &format!("packages/{name}/package.json"),
                &text.replace("SCRIPT", script_line),
            );
        };
        package("app", "none", "mkdir -p dist; echo old > dist/out.txt");
        let reads = format!("cat ../../{edited} > dist/out.txt");
        let waits = "echo runs > $RAN.runs; read go < $RAN.go; mkdir -p dist;";
        package("core", "app", &format!("{waits} {reads}"));
        project.write("packages/core/src.txt", "old\n");
        let pipe = project.outside().join("ran.go");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        // Who has both ends open waits for nobody.
        let mut go = fs::File::options()
            .read(true)
            .write(true)
            .open(pipe)
            .unwrap();

        let label = "//packages/core:build";
        let running = project.start(&["build", label]);
        until_so("the script runs", || {
            project.outside().join("ran.runs").exists()
        });
        project.write(edited, "new\n");
        go.write_all(b"go\n").unwrap();
        let said = running.wait().succeeds().text();
        assert!(said.contains(&format!("changed while it ran ({edited}), by the script itself or by somebody else; its result is not cached")), "{said}");
        assert_eq!(project.read("packages/core/dist/out.txt"), "new\n");

        project.write(edited, "old\n");
        if lost {
            fs::remove_dir_all(project.root().join("packages/core/dist")).unwrap();
        }
        let why = project.zako(&["why", label]).succeeds().stdout;
        assert!(why.contains(edited), "{why}");
        go.write_all(b"go\n").unwrap();
        project.zako(&["build", label]).succeeds();
        assert_eq!(project.read("packages/core/dist/out.txt"), "old\n");
        // This one is kept.
        let again = project.zako(&["build", label]).succeeds().text();
        assert!(!again.contains("warning"), "{again}");
    }
}

#[test]
fn a_failing_script_shows_what_it_printed() {
    let project = project();
    project.write(
        "packages/core/package.json",
        r#"{"name": "@acme/core", "scripts": {"build": "echo no such luck; exit 3"}}"#,
    );
    project.zako(&["build"]).fails_saying(&[
        "//packages/core:build",
        "exit status 3",
        "no such luck",
    ]);
    assert!(project.ran().is_empty(), "what depends on it is skipped");
}

#[test]
fn build_files_pass_variables_on_and_share_resources() {
    let project = Project::with_build(
        r#"
import { env, target } from "zako:build";
export default {
  seen: target({ cmd: ["sh", "-c", "echo ran >> $RAN; echo $MODE $FALLBACK > seen.txt"],
    env: { MODE: env("MODE"), FALLBACK: env("NOT_SET_ANYWHERE", "default") },
    uses: { cpu: 2, memory: "64m", gpu: 1 }, outs: ["seen.txt"] }),
};
"#,
    );
    let build = |mode: &str, proxy: &str| {
        let mut command = project.command(&["build"]);
        command.env("MODE", mode).env("https_proxy", proxy);
        Outcome::of(&mut command).succeeds();
        project.ran().len()
    };
    assert_eq!(build("fast", ""), 1);
    assert_eq!(project.read("seen.txt"), "fast default\n");
    assert_eq!(build("fast", "other"), 0);
    assert_eq!(build("slow", ""), 1);
    // The manifest passes variables on to every step: tracked ones reach the key.
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!(
            "{manifest}[settings]\nuntracked-env = [\"https_proxy\"]\npass-env = [\"REGION_*\"]\n"
        ),
    );
    assert_eq!(build("slow", "a"), 0);
    assert_eq!(build("slow", "b"), 0);
    let mut command = project.command(&["build"]);
    command.env("MODE", "slow").env("REGION_NAME", "eu");
    Outcome::of(&mut command).succeeds();
    assert_eq!(project.ran().len(), 1);
}

#[test]
fn a_task_of_the_manifest_that_no_package_has_is_told_with_its_line_and_the_nearest() {
    let project = project();
    project.write(
        "zako.toml",
        "group = \"g\"\nartifact = \"a\"\nversion = \"1.0.0\"\n[tasks.biuld]\noutputs = [\"dist/**\"]\n\
         [tasks.lint]\ndepends-on = [\"^topo\"]\n[tasks.topo]\ndepends-on = [\"^topo\"]\n\
         [tasks.\"@acme/core#lnit\"]\n[tasks.zzzzzz]\n",
    );
    for _ in 0..2 {
        let said = project.zako(&["query", "//..."]).succeeds().stderr;
        for warning in [
            "warning: zako.toml:4:1: no package has a script `biuld`; did you mean `build`?",
            "warning: zako.toml:10:1: no package has a script `@acme/core#lnit`; did you mean `@acme/core#lint`?",
            "warning: zako.toml:11:1: no package has a script `zzzzzz`; correct it or remove it",
        ] {
            assert!(said.contains(warning), "{said}");
        }
        assert_eq!(said.matches("warning").count(), 3, "{said}");
    }
}
