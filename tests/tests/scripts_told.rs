//! What scripts are told by `npm_*`: what a package manager tells them, and the same on every machine where it counts.

use std::fs;

use zako_tests::{Outcome, Project, is_installed};

/// A package `p` whose build writes down what it is told.
fn project(root: &str) -> Project {
    let project = Project::new();
    fs::remove_file(project.root().join("zako.toml")).unwrap();
    project.write("package.json", root);
    project.write(".gitignore", "dist\n");
    package(&project, "1.2.3");
    project
}

fn package(project: &Project, version: &str) {
    let package = serde_json::json!({
        "name": "@acme/p", "version": version, "bin": "cli.js", "engines": { "node": ">=18" },
        "config": { "port": 8080, "list": ["a"] },
        "scripts": {
            "prebuild": "mkdir -p dist; echo $npm_lifecycle_event $npm_lifecycle_script > dist/before || false",
            "build": "false || env | sort > dist/env",
            "postbuild": "echo $npm_lifecycle_event > dist/after",
            "predev": "echo before",
            "dev": "echo $npm_lifecycle_event $INIT_CWD",
            "postdev": "echo after",
        },
    });
    project.write("p/package.json", &package.to_string());
}

const NPM: &str = r#"{"name": "root", "private": true, "workspaces": ["p"]}"#;

/// What the build of `p` was told: the value of a variable.
fn told(project: &Project, name: &str) -> Option<String> {
    let env = project.read("p/dist/env");
    let line = |line: &str| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned());
    env.lines().find_map(line)
}

#[test]
fn a_script_is_told_what_npm_tells() {
    let project = project(NPM);
    project.build();
    for (name, value) in [
        ("npm_package_name", "@acme/p"),
        ("npm_package_version", "1.2.3"),
        ("npm_package_bin_p", "cli.js"),
        ("npm_package_engines_node", ">=18"),
        ("npm_package_config_port", "8080"),
        ("npm_package_config_list_0", "a"),
        ("npm_lifecycle_event", "build"),
        ("npm_lifecycle_script", "false || env | sort > dist/env"),
        ("npm_command", "run-script"),
    ] {
        assert_eq!(told(&project, name).as_deref(), Some(value), "{name}");
    }
    let root = fs::canonicalize(project.root()).unwrap();
    let place = |path: &str| Some(root.join(path).display().to_string());
    assert_eq!(told(&project, "INIT_CWD"), place("p"));
    assert_eq!(told(&project, "npm_package_json"), place("p/package.json"));
    let agent = told(&project, "npm_config_user_agent").unwrap();
    assert!(agent.starts_with("npm/"), "{agent}");
    if is_installed("node") && is_installed("npm") {
        for name in ["npm_node_execpath", "npm_execpath"] {
            let program = told(&project, name).unwrap();
            assert!(fs::metadata(&program).unwrap().is_file(), "{program}");
        }
    }
    // Hooks are told their own names, and arguments are not theirs.
    assert!(
        project
            .read("p/dist/before")
            .starts_with("prebuild mkdir -p dist; ")
    );
    assert_eq!(project.read("p/dist/after"), "postbuild\n");
    let dev = project
        .zako(&["run", "//p:dev", "--", "one two"])
        .succeeds();
    let said = format!("before\ndev {} one two\nafter\n", place("p").unwrap());
    assert_eq!(dev.stdout, said);
}

#[test]
fn a_hook_that_fails_ends_a_script_that_goes_on_after_failures() {
    let project = project(NPM);
    let scripts = r#"{"name": "p", "scripts": {"prebuild": "false", "build": "false || echo run >> $RAN # end"}}"#;
    project.write("p/package.json", scripts);
    project.zako(&["build"]).fails_saying(&["//p:build"]);
    assert!(project.ran().is_empty());
    project.write(
        "p/package.json",
        &scripts.replace("\"false\"", "\"true # fine\""),
    );
    project.build();
    assert_eq!(project.ran(), ["run"]);
}

#[test]
fn the_package_manager_is_the_one_of_the_workspace() {
    for (root, file, agent) in [
        (NPM, "pnpm-lock.yaml", "pnpm/? npm/? node/? "),
        (NPM, "yarn.lock", "yarn/? npm/? node/? "),
        (NPM, "bun.lock", "bun/? npm/? node/? "),
        (NPM, "package-lock.json", "npm/? node/? "),
        (
            r#"{"workspaces": ["p"], "packageManager": "yarn@4.9.1+sha512.abc"}"#,
            "package-lock.json",
            "yarn/4.9.1 npm/? node/? ",
        ),
    ] {
        let project = project(root);
        project.write(file, "");
        project.build();
        let told = told(&project, "npm_config_user_agent").unwrap();
        assert!(told.starts_with(agent), "{told}");
    }
}

#[test]
fn a_new_version_builds_again_whatever_a_task_declares() {
    let project = project(NPM);
    project.write("p/src.txt", "1\n");
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"inputs": ["src.txt"], "outputs": ["dist/**"]}}}"#,
    );
    let says = |word: &str| {
        let text = project.build().text();
        assert!(text.contains(word), "{text}");
    };
    says("1 ran");
    says("1 up to date");
    package(&project, "1.2.4");
    let why = project.zako(&["why", "//p:build"]).succeeds().stdout;
    assert!(why.contains("npm_package_version"), "{why}");
    says("1 ran");
    assert_eq!(
        told(&project, "npm_package_version").as_deref(),
        Some("1.2.4")
    );
    package(&project, "1.2.3");
    says("1 from the cache");
    assert_eq!(
        told(&project, "npm_package_version").as_deref(),
        Some("1.2.3")
    );
}

#[test]
fn who_starts_zako_and_where_makes_no_difference() {
    let (one, other) = (project(NPM), project(NPM));
    one.build();
    let mut command = other.command(&["build"]);
    command
        .env("ZAKO_CACHE_DIR", one.cache())
        .env(
            "npm_config_user_agent",
            "pnpm/9.0.0 npm/? node/v20.0.0 linux x64",
        )
        .env("npm_package_version", "9.9.9")
        .env("npm_lifecycle_event", "start");
    let built = Outcome::of(&mut command).succeeds();
    assert!(
        built.text().contains("1 from the cache"),
        "{}",
        built.text()
    );
    assert_eq!(
        told(&other, "npm_package_version").as_deref(),
        Some("1.2.3")
    );
}
