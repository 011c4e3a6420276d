//! Scripts of packages beyond their own directory: files of packages within, dependencies under other names, what build files
//! make, and lines that run other scripts.

use std::fs;
use std::os::unix::fs::symlink;

use zako_tests::Project;

/// `a` below `packages`, and a root that tests it.
fn project() -> Project {
    let project = bare();
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["packages/*"], "scripts": {
            "build": "echo root >> $RAN; mkdir -p dist && cat packages/*/src/i.txt > dist/all",
            "test": "echo test >> $RAN; grep -q good packages/a/src/i.txt"}}"#,
    );
    project.write(
        "packages/a/package.json",
        r#"{"name": "@m/a", "scripts": {"build": "echo a >> $RAN; mkdir -p dist && cp src/i.txt dist/"}}"#,
    );
    project.write("packages/a/src/i.txt", "good\n");
    project
}

fn bare() -> Project {
    let project = Project::new();
    fs::remove_file(project.root().join("zako.toml")).unwrap();
    project.write(".gitignore", "dist\nnode_modules\n");
    project
}

/// A root of packages that has no scripts.
fn monorepo() -> Project {
    let project = bare();
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["packages/*"]}"#,
    );
    project
}

/// A package with a `build` that says its name and copies `x` of this.
fn package(project: &Project, name: &str, rest: &str) {
    let dir = name.rsplit('/').next().unwrap();
    project.write(
        &format!("packages/{dir}/package.json"),
        &format!(
            r#"{{"name": "{name}", "scripts": {{"build": "echo {dir} >> $RAN; mkdir -p dist && cat src.txt > dist/x"}}{rest}}}"#
        ),
    );
    project.write(&format!("packages/{dir}/src.txt"), dir);
}

#[test]
fn a_script_of_the_root_reads_packages_below() {
    let project = project();
    project.zako(&["test"]).succeeds();
    project.build();
    project.ran();
    project.zako(&["test"]).succeeds();
    project.build();
    assert!(project.ran().is_empty());
    project.write("packages/a/src/i.txt", "bad\n");
    project.zako(&["test"]).fails_saying(&["//:test"]);
    project.build();
    assert_eq!(project.ran(), ["a", "root", "test"]);
}

#[test]
fn what_packages_below_ignore_or_leave_behind_is_no_input() {
    let project = project();
    project.write(".gitignore", "node_modules\n");
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"outputs": ["dist/**"]}, "//#test": {}}}"#,
    );
    project.write("packages/a/.gitignore", "tmp/\n*.log\n");
    project.zako(&["test"]).succeeds();
    project.build();
    project.ran();
    for made in ["tmp/x", "deep/y.log", "tsconfig.tsbuildinfo"] {
        project.write(&format!("packages/a/{made}"), "1");
    }
    project.zako(&["test"]).succeeds();
    assert!(project.ran().is_empty());
    project.write("packages/a/deep/y.txt", "1");
    project.zako(&["test"]).succeeds();
    assert_eq!(project.ran(), ["test"]);
}

#[test]
fn inputs_of_the_root_may_be_files_of_packages() {
    let project = project();
    for inputs in [
        r#"["packages/**"]"#,
        r#"["$TURBO_DEFAULT$", "packages/a/src/*.txt"]"#,
    ] {
        project.write(
            "turbo.json",
            &format!(r#"{{"tasks": {{"build": {{"outputs": ["dist/**"]}}, "//#test": {{"inputs": {inputs}}}}}}}"#),
        );
        project.write("packages/a/src/i.txt", "good\n");
        project.zako(&["test"]).succeeds();
        project.ran();
        project.write("packages/a/src/i.txt", &format!("good {inputs}\n"));
        project.zako(&["test"]).succeeds();
        assert_eq!(project.ran(), ["test"], "{inputs}");
    }
}

#[test]
fn a_script_of_the_root_that_reads_what_packages_make_comes_after_them() {
    let project = project();
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["packages/*"], "scripts": {"pack": "cat packages/*/dist/i.txt"}}"#,
    );
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"outputs": ["dist/**"]}, "//#pack": {"inputs": ["packages/*/dist/**"]}}}"#,
    );
    let deps = project.zako(&["query", "deps(//:pack)"]).succeeds().stdout;
    assert_eq!(deps, "//packages/a:build\n//:pack\n");
    project.zako(&["build", "//:pack"]).succeeds();
    // Everything is meant, but not what others make of it.
    project.write(
        "turbo.json",
        r#"{"tasks": {"build": {"outputs": ["dist/**"]}, "//#pack": {"inputs": ["packages/**"]}}}"#,
    );
    let deps = project.zako(&["query", "deps(//:pack)"]).succeeds().stdout;
    assert_eq!(deps, "//:pack\n");
}

#[test]
fn a_package_reads_packages_within() {
    let project = bare();
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["packages/*", "packages/core/plugins/*"]}"#,
    );
    package(&project, "core", "");
    project.write(
        "packages/core/plugins/json/package.json",
        r#"{"name": "json", "scripts": {"build": "echo json >> $RAN; mkdir -p dist; cp src.txt dist"}}"#,
    );
    project.write("packages/core/plugins/json/src.txt", "1");
    project.build();
    assert_eq!(project.ran(), ["core", "json"]);
    project.write("packages/core/plugins/json/src.txt", "2");
    project.build();
    assert_eq!(project.ran(), ["core", "json"]);
    project.build();
    assert!(project.ran().is_empty());
}

#[test]
fn a_dependency_under_another_name_is_the_package_that_is_meant() {
    let project = bare();
    project.write("package.json", r#"{"name": "root"}"#);
    project.write("pnpm-workspace.yaml", "packages: ['packages/*']\n");
    package(&project, "@m/log", "");
    let specs = [
        ("workspace", "workspace:@m/log@*"),
        ("place", "workspace:../log"),
        ("link", "link:../log"),
        ("file", "file:../log"),
        ("portal", "portal:../log"),
    ];
    for (name, spec) in specs {
        package(
            &project,
            name,
            &format!(r#", "dependencies": {{"lg": "{spec}"}}"#),
        );
    }
    package(
        &project,
        "other",
        r#", "dependencies": {"@m/log": "npm:somebody@1"}"#,
    );
    package(
        &project,
        "alias",
        r#", "dependencies": {"lg": "npm:@m/log@^1"}"#,
    );
    let readers = || {
        let said = project
            .zako(&["query", "rdeps(//packages/log:build)"])
            .succeeds();
        let mut labels: Vec<String> = said.stdout.lines().map(str::to_owned).collect();
        labels.sort();
        labels
    };
    let mut expected = vec!["//packages/log:build".to_owned()];
    expected.extend(specs.map(|(name, _)| format!("//packages/{name}:build")));
    expected.sort();
    assert_eq!(readers(), expected);
    // What an alias of a registry is depends on what is installed.
    fs::create_dir_all(project.root().join("packages/alias/node_modules")).unwrap();
    symlink(
        "../../log",
        project.root().join("packages/alias/node_modules/lg"),
    )
    .unwrap();
    expected.push("//packages/alias:build".to_owned());
    expected.sort();
    assert_eq!(readers(), expected);
}

#[test]
fn a_directory_that_is_no_package_of_the_workspace_is_read_or_said() {
    let project = monorepo();
    package(
        &project,
        "a",
        r#", "dependencies": {"v": "file:../../vendor/v", "t": "file:../../vendor/t.tgz", "o": "link:../../../o"}"#,
    );
    project.write("vendor/v/index.js", "1");
    project.write("vendor/t.tgz", "1");
    let said = project.zako(&["build"]).succeeds().text();
    let expected = "packages/a/package.json: `o` lies outside the workspace (../../../o)";
    assert!(said.contains(expected), "{said}");
    project.ran();
    for path in ["vendor/v/index.js", "vendor/t.tgz"] {
        project.build();
        assert!(project.ran().is_empty());
        project.write(path, "2");
        project.build();
        assert_eq!(project.ran(), ["a"], "{path}");
    }
}

#[test]
fn a_build_file_beside_a_package_adds_to_its_scripts_and_wins() {
    let project = monorepo();
    package(&project, "a", "");
    package(&project, "b", r#", "dependencies": {"a": "*"}"#);
    project.write(
        "packages/a/BUILD.ts",
        r#"import { target } from "zako:build";
        export default { gen: target({ cmd: ["sh", "-c", "echo 1 > g.txt"], outs: ["g.txt"] }) };"#,
    );
    let labels = || project.zako(&["query", "//..."]).succeeds().stdout;
    assert_eq!(
        labels(),
        "//packages/a:gen\n//packages/a:build\n//packages/b:build\n"
    );
    project.build();
    assert_eq!(project.ran(), ["a", "b"]);
    project.write(
        "packages/a/BUILD.ts",
        r#"import { target } from "zako:build";
        export default { build: target({ cmd: ["sh", "-c", "echo ts >> $RAN; echo 1 > g.txt"], outs: ["g.txt"] }) };"#,
    );
    assert_eq!(labels(), "//packages/a:build\n//packages/b:build\n");
    project.build();
    assert_eq!(project.ran(), ["b", "ts"]);
    let why = project
        .zako(&["why", "//packages/a:build"])
        .succeeds()
        .stdout;
    let expected = "it stands for the script `build` of packages/a/package.json";
    assert!(why.contains(expected), "{why}");
    let file = project
        .zako(&["query", "--json", "//packages/a:build"])
        .succeeds()
        .stdout;
    assert!(file.contains("packages/a/BUILD.ts"), "{file}");
}

#[test]
fn a_build_file_that_cannot_be_read_stands_for_the_scripts_beside_it() {
    let project = monorepo();
    package(&project, "a", "");
    package(&project, "b", r#", "dependencies": {"a": "*"}"#);
    package(&project, "c", "");
    project.write("packages/a/BUILD.ts", "export default {");
    project
        .zako(&["build", "-k"])
        .fails_saying(&["packages/a/BUILD.ts"]);
    assert_eq!(project.ran(), ["c"]);
}

#[test]
fn a_script_comes_after_what_makes_its_inputs() {
    let project = Project::new();
    project.write(".gitignore", "dist\nout\n");
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["pkgs/*"]}"#,
    );
    project.write(
        "gen/BUILD.ts",
        r#"import { target } from "zako:build";
        export default { t: target({ cmd: ["sh", "-c", "mkdir out; cp in.txt out/t.json"], srcs: ["in.txt"], outs: ["out/t.json"] }) };"#,
    );
    project.write(
        "pkgs/a/package.json",
        r#"{"name": "a", "scripts": {"build": "echo a >> $RAN; mkdir -p dist; cat ../../gen/out/t.json > dist/i.js"}}"#,
    );
    let by_turbo = |inputs: &str| {
        format!(r#"{{"tasks": {{"build": {{"inputs": {inputs}, "outputs": ["dist/**"]}}}}}}"#)
    };
    let settings = "[settings]\nscript-inputs = [\"gen/out/t.json\"]\n";
    let task = "[tasks.build]\ndepends-on = [\"//gen:t\"]\noutputs = [\"dist/**\"]\n";
    for (number, (manifest, turbo)) in [
        (settings, "{}".to_owned()),
        ("", by_turbo(r#"["$TURBO_ROOT$/gen/out/t.json"]"#)),
        (
            "",
            by_turbo(r#"["$TURBO_DEFAULT$", "../../gen/**/*.json"]"#),
        ),
        (task, "{}".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        project.write("zako.toml", manifest);
        project.write("turbo.json", &turbo);
        project.write("gen/in.txt", &format!("cold {number}"));
        for lost in ["gen/out", "pkgs/a/dist", ".zako"] {
            // They may not be there.
            let _ = fs::remove_dir_all(project.root().join(lost));
        }
        project.build();
        assert_eq!(project.read("pkgs/a/dist/i.js"), format!("cold {number}"));
        project.write("gen/in.txt", &format!("edited {number}"));
        project.build();
        assert_eq!(project.read("pkgs/a/dist/i.js"), format!("edited {number}"));
    }
    project.write("zako.toml", &task.replace("gen:t", "gen:tt"));
    let said = project.zako(&["build"]).succeeds().text();
    let expected = "//pkgs/a:build depends on //gen:tt, but there is no such target";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn what_a_build_file_of_the_package_makes_is_there_before_its_scripts() {
    let project = monorepo();
    project.write(
        "packages/a/package.json",
        r#"{"name": "a", "scripts": {"build": "mkdir -p dist; cat gen.txt > dist/x"}}"#,
    );
    project.write("packages/a/in.txt", "1");
    project.write(
        "packages/a/BUILD.ts",
        r#"import { target } from "zako:build";
        export default {
          gen: target({ cmd: ["cp", "in.txt", "gen.txt"], srcs: ["in.txt"], outs: ["gen.txt"] }),
          pack: target({ cmd: ["cp", "dist/x", "packed"], deps: [":build"], outs: ["packed"] }),
        };"#,
    );
    project.build();
    project.write("packages/a/in.txt", "2");
    project.build();
    assert_eq!(project.read("packages/a/packed"), "2");
}

#[test]
fn lines_that_run_scripts_of_packages_are_no_steps() {
    let project = bare();
    package(&project, "a", "");
    for line in [
        "pnpm -r run build",
        "npm run build --workspaces",
        "yarn workspaces foreach -A run build",
        "run-s all:*",
    ] {
        project.write(
            "package.json",
            &format!(r#"{{"name": "root", "workspaces": ["packages/*"], "scripts": {{"build": "{line}", "all:x": "bun run --filter '*' build"}}}}"#),
        );
        let labels = project.zako(&["query", "//..."]).succeeds().stdout;
        assert_eq!(labels, "//packages/a:build\n", "{line}");
        project.zako(&["run", "//:build"]).fails_saying(&[
            "the script `build` of package.json is no target",
            line,
            "zako build //...:build",
        ]);
    }
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["packages/*"], "scripts": {"build": "pnpm -r build && node post.mjs"}}"#,
    );
    let said = project.zako(&["build"]).succeeds().text();
    assert!(
        said.contains("nor is `node post.mjs` run then: give it a script of its own"),
        "{said}"
    );
}

#[test]
fn turborepo_decides_which_scripts_of_the_root_are_built() {
    let project = project();
    let turbo = |more: &str| {
        project.write(
            "turbo.json",
            &format!(r#"{{"tasks": {{"build": {{"outputs": ["dist/**"]}}{more}}}}}"#),
        );
    };
    turbo("");
    project.build();
    assert_eq!(project.ran(), ["a"]);
    project.zako(&["build", "//:build"]).succeeds();
    assert_eq!(project.ran(), ["root"]);
    project.write("packages/a/src/i.txt", "new\n");
    turbo(r#", "//#build": {"outputs": ["dist/**"]}"#);
    project.build();
    assert_eq!(project.ran(), ["a", "root"]);
    // Where there is no other package, it is the package.
    fs::remove_dir_all(project.root().join("packages")).unwrap();
    project.write(
        "package.json",
        r#"{"name": "one", "scripts": {"build": "echo one >> $RAN"}}"#,
    );
    turbo("");
    project.build();
    // Twice: it does not touch what the one before it had left.
    assert_eq!(project.ran(), ["one", "one"]);
}

#[test]
fn a_manifest_need_not_say_who_it_is() {
    let project = project();
    for manifest in ["", "[settings]\npath = [\"/usr/bin\", \"/bin\"]\n"] {
        project.write("zako.toml", manifest);
        project.build();
    }
}

#[test]
fn sources_of_a_dependency_that_makes_only_a_part_count() {
    let project = Project::new();
    project.write(
        "package.json",
        r#"{"name": "root", "workspaces": ["packages/*"]}"#,
    );
    project.write(
        "packages/x/package.json",
        r#"{"name": "x", "scripts": {"codegen": "mkdir -p gen && echo > gen/o"}}"#,
    );
    project.write("packages/x/src.txt", "1\n");
    project.write(
        "packages/y/package.json",
        r#"{"name": "y", "dependencies": {"x": "*"}, "scripts": {"test": "cat ../x/src.txt >> $RAN"}}"#,
    );
    project.write(
        "turbo.json",
        r#"{"tasks": {"codegen": {"outputs": ["gen/**"]}, "test": {"dependsOn": ["^codegen"]}}}"#,
    );
    project.zako(&["test"]).succeeds();
    project.write("packages/x/src.txt", "2\n");
    project.zako(&["test"]).succeeds();
    assert_eq!(project.ran(), ["1", "2"]);
}

#[test]
fn what_a_package_takes_back_of_what_the_root_ignores_is_an_input() {
    let project = monorepo();
    project.write(".gitignore", "kept/\ndist\n*.log\n");
    for name in ["a", "b"] {
        project.write(
            &format!("packages/{name}/package.json"),
            &format!(
                r#"{{"name": "{name}", "scripts": {{"build": "echo {name} >> $RAN; mkdir -p dist && cat kept/x > dist/x"}}}}"#
            ),
        );
    }
    project.write("packages/a/.gitignore", "!kept/\n");
    let write = |text: &str| {
        for name in ["a", "b"] {
            project.write(&format!("packages/{name}/kept/x"), text);
        }
    };
    write("1");
    project.build();
    project.ran();
    write("2");
    project.build();
    assert_eq!(project.ran(), ["a"]);
    assert_eq!(project.read("packages/a/dist/x"), "2");
    project.build();
    assert!(project.ran().is_empty());
}
