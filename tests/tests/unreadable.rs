//! Files that say what there is to build and cannot be read: each is named with what it is, and nothing waits for it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use zako_tests::{Project, succeed};

const BUILD: &str = r#"
import { target } from "zako:build";
export default { t: target({ cmd: ["sh", "-c", "echo t >> $RAN"], outs: [] }) };
"#;

/// What may lie in the place of a file.
#[derive(Clone, Copy)]
enum Odd {
    Nowhere,
    Directory,
    Pipe,
    ToDirectory,
}

const ALL: [(Odd, &str); 4] = [
    (
        Odd::Nowhere,
        "a symbolic link to nowhere, which does not exist",
    ),
    (Odd::Directory, "a directory"),
    (Odd::Pipe, "a named pipe"),
    (Odd::ToDirectory, "a symbolic link to a directory"),
];

/// Puts it there, in place of whatever is.
fn put(project: &Project, path: &str, odd: Odd) {
    make(&project.root().join(path), odd);
}

fn make(path: &Path, odd: Odd) {
    remove(path);
    match odd {
        Odd::Nowhere => symlink("nowhere", path).unwrap(),
        Odd::Directory => fs::create_dir(path).unwrap(),
        Odd::Pipe => drop(succeed(Command::new("mkfifo").arg(path))),
        Odd::ToDirectory => symlink("..", path).unwrap(),
    }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Whether a file without any permission cannot be read: not so for a user who may do everything.
fn forbid(project: &Project, path: &str) -> bool {
    let path = project.root().join(path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    fs::read(path).is_err()
}

fn allow(project: &Project, path: &str) {
    fs::set_permissions(project.root().join(path), fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn a_build_file_that_is_none_is_told() {
    let project = Project::new();
    project.write("a/BUILD.ts", BUILD);
    for (odd, what) in ALL {
        project.write("b/c/kept", "");
        put(&project, "b/c/BUILD.ts", odd);
        let said = format!("cannot read b/c/BUILD.ts: it is {what}");
        let words = [said.as_str(), "put one there, or remove what is there"];
        // With nothing remembered and with all.
        let _ = fs::remove_dir_all(project.cache());
        for _ in 0..2 {
            project.zako(&["build"]).fails_saying(&words);
            project.zako(&["query", "//..."]).fails_saying(&words);
        }
        // What does not need it is built.
        let others = project.zako(&["build", "//a:t"]).succeeds();
        assert!(
            others
                .text()
                .contains("warning: b/c/BUILD.ts has a mistake")
        );
        project.zako(&["build", "-k"]).fails_saying(&words);
        project.zako(&["build", "//b/c:t"]).fails_saying(&words);
        assert_eq!(project.ran(), ["t"]);
        remove(&project.root().join("b/c/BUILD.ts"));
        project.build();
        project.write("b/c/BUILD.ts", BUILD);
        project.zako(&["build", "//b/c:t"]).succeeds();
        assert_eq!(project.ran(), ["t"]);
    }
}

#[test]
fn what_only_a_wildcard_means_is_no_build_file() {
    let project = Project::new();
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("builds = [\"builds/**\"]\n{manifest}"),
    );
    project.write("builds/x/y.ts", BUILD);
    project.build();
    symlink("user@host.1:2", project.root().join("builds/.#y.ts")).unwrap();
    project.build();
    put(&project, "builds/x/z.ts", Odd::Nowhere);
    project
        .zako(&["build"])
        .fails_saying(&["cannot read builds/x/z.ts: it is a symbolic link to nowhere"]);
}

#[test]
fn a_watch_tells_and_goes_on() {
    let project = Project::with_build(BUILD);
    project.write("b/kept", "");
    let (outside, place) = (
        project.outside().join("new"),
        project.root().join("b/BUILD.ts"),
    );
    let mut watch = project.start(&["watch"]);
    let mut settled = || assert!(watch.line().starts_with("watching "));
    settled();
    for (odd, _) in ALL {
        make(&outside, odd);
        if outside.is_dir() && !outside.is_symlink() {
            // An empty one is no news to a watch.
            fs::write(outside.join("file"), "").unwrap();
        }
        fs::rename(&outside, &place).unwrap();
        settled();
        let gone = project.outside().join(format!("gone{}", odd as u32));
        fs::rename(&place, gone).unwrap();
        settled();
    }
    watch.signal("INT");
    let said = watch.wait().stderr;
    for (_, what) in ALL {
        let line = format!("cannot read b/BUILD.ts: it is {what}");
        assert_eq!(said.matches(&line).count(), 1, "{line}: {said}");
    }
}

#[test]
fn a_rule_that_is_no_file_is_told_where_it_is_imported() {
    let project =
        Project::with_build("import { x } from \"./x.rule.ts\";\nexport default { t: x({}) };\n");
    for (odd, what) in ALL {
        put(&project, "x.rule.ts", odd);
        let said = format!("cannot read `./x.rule.ts`: x.rule.ts is {what}");
        for _ in 0..2 {
            project
                .zako(&["build"])
                .fails_saying(&[&said, "BUILD.ts:1:19"]);
        }
    }
    remove(&project.root().join("x.rule.ts"));
    project
        .zako(&["build"])
        .fails_saying(&["cannot find `./x.rule.ts`"]);
    let rule = "import { rule } from \"zako:rule\";\nexport const x = rule({ name: \"x\", implementation() {} });\n";
    project.write("x.rule.ts", rule);
    project.build();
    // Nor is what could not be read remembered.
    for path in ["x.rule.ts", "BUILD.ts"] {
        if forbid(&project, path) {
            for _ in 0..2 {
                project
                    .zako(&["build"])
                    .fails_saying(&["cannot read", path, "Permission denied"]);
            }
        }
        allow(&project, path);
        project.build();
    }
}

#[test]
fn a_link_that_left_the_workspace_and_was_mended_is_read() {
    let project = Project::with_build("import { x } from \"./x.ts\";\nexport default x;\n");
    let text = "export const x = {};\n";
    fs::write(project.outside().join("x.ts"), text).unwrap();
    let link = project.root().join("x.ts");
    symlink("../x.ts", &link).unwrap();
    project
        .zako(&["build"])
        .fails_saying(&["is a symbolic link that leaves the workspace"]);
    project.write("y.ts", text);
    fs::remove_file(&link).unwrap();
    symlink("y.ts", &link).unwrap();
    project.build();
}

#[test]
fn what_says_what_the_workspace_is_is_not_passed_over() {
    // Around it is another one, which is not meant.
    let outer = Project::with_build(BUILD);
    for name in [
        "zako.toml",
        "zako.ts",
        "package.json",
        "pnpm-workspace.yaml",
        "turbo.json",
        ".gitignore",
    ] {
        for (odd, what) in ALL {
            let inner = outer.root().join("inner");
            fs::create_dir_all(inner.join("deep")).unwrap();
            if name != "zako.toml" {
                fs::copy(outer.root().join("zako.toml"), inner.join("zako.toml")).unwrap();
            }
            if matches!(name, "turbo.json" | ".gitignore") {
                fs::write(inner.join("package.json"), "{}").unwrap();
            }
            put(&outer, &format!("inner/{name}"), odd);
            for dir in ["inner", "inner/deep"] {
                let mut command = outer.command(&["build"]);
                let told = zako_tests::Outcome::of(command.current_dir(outer.root().join(dir)));
                told.fails_saying(&["cannot read ", &format!("{name}: it is {what}")]);
            }
            remove(&inner.join(name));
            fs::remove_dir_all(inner).unwrap();
        }
    }
    assert!(outer.ran().is_empty());
}

#[test]
fn a_package_without_a_manifest_is_not_passed_over_either() {
    let project = Project::new();
    fs::remove_file(project.root().join("zako.toml")).unwrap();
    for (odd, what) in ALL {
        put(&project, "package.json", odd);
        let words = ["package.json: it is ", what];
        project.zako(&["build"]).fails_saying(&words);
    }
}
