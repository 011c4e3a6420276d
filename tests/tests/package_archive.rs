//! Archives of the workspace that packages come from: one that changes is noticed, wherever the package already lies.

use std::fs::{self, File};
use std::time::SystemTime;

use zako_tests::archive::{Entry, integrity, tar};
use zako_tests::{Outcome, Project, git, is_installed};

const BUILD: &str = r#"
import { target } from "zako:build";
export default { copy: target({ cmd: ["cp", ".zako/packages/lib/text", "out"], deps: ["@lib//:files"], outs: ["out"] }) };
"#;

fn project(more: &str) -> Project {
    let project = Project::with_build(BUILD);
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[dependencies]\nlib = {{ url = \"file:third/lib.tar\"{more} }}\n"),
    );
    pack(&project, "old");
    project
}

/// Puts another archive there, whole at once.
fn pack(project: &Project, text: &str) {
    let new = project.outside().join("lib.tar");
    fs::write(&new, tar(&[Entry::File("text", text)])).unwrap();
    let third = project.root().join("third");
    fs::create_dir_all(&third).unwrap();
    fs::rename(new, third.join("lib.tar")).unwrap();
}

fn archive(project: &Project) -> File {
    let path = project.root().join("third/lib.tar");
    File::options().write(true).open(path).unwrap()
}

/// What a clone says that has only what is under version control.
fn in_a_clone(project: &Project) -> Outcome {
    let clone = project.outside().join("clone");
    fs::create_dir_all(clone.join("third")).unwrap();
    for path in ["zako.toml", "zako.lock", "BUILD.ts", "third/lib.tar"] {
        fs::copy(project.root().join(path), clone.join(path)).unwrap();
    }
    let outcome = Outcome::of(project.command(&["build"]).current_dir(&clone));
    fs::remove_dir_all(clone).unwrap();
    outcome
}

const CHANGED: [&str; 4] = [
    "zako.toml:5:7",
    "package `lib`: what comes from file:third/lib.tar is not what it was",
    "zako.lock says sha256-",
    "zako build --update-lock",
];

#[test]
fn an_archive_that_changed_is_noticed_as_in_a_fresh_clone() {
    let project = project("");
    project.build();
    project.build();
    pack(&project, "new");
    let said = in_a_clone(&project).fails_saying(&CHANGED).stderr;
    // As often as it is asked, and by whom.
    for arguments in [
        ["build"].as_slice(),
        &["build", "--locked"],
        &["query", "//..."],
        &["build"],
    ] {
        assert_eq!(project.zako(arguments).fails_saying(&CHANGED).stderr, said);
    }
    assert_eq!(project.read("out"), "old");
    // Where it lies in the store only.
    fs::remove_dir_all(project.root().join(".zako/packages")).unwrap();
    assert_eq!(project.zako(&["build"]).fails_saying(&CHANGED).stderr, said);
    assert!(!project.has(".zako/packages/lib"));
    // As it was.
    pack(&project, "old");
    project.zako(&["build", "--locked"]).succeeds();
    assert_eq!(project.read("out"), "old");
    pack(&project, "new");
    project.zako(&["build", "--update-lock"]).succeeds();
    assert_eq!(project.read("out"), "new");
    project.zako(&["build", "--locked"]).succeeds();
    in_a_clone(&project).succeeds();
}

#[test]
fn an_archive_that_only_looks_changed_costs_nothing() {
    let project = project("");
    project.build();
    let lock = project.read("zako.lock");
    archive(&project)
        .set_modified(SystemTime::UNIX_EPOCH)
        .unwrap();
    let again = project.zako(&["build", "--locked"]).succeeds();
    assert!(!again.text().contains("fetching"), "{}", again.text());
    assert!(again.text().contains("2 up to date"), "{}", again.text());
    assert_eq!(project.read("zako.lock"), lock);
    // One that looks as before and is another one does not pass.
    let path = project.root().join("third/lib.tar");
    let before = fs::metadata(&path).unwrap();
    let bytes = tar(&[Entry::File("text", "odd")]);
    assert_eq!(bytes.len() as u64, before.len());
    fs::write(&path, bytes).unwrap();
    archive(&project)
        .set_modified(before.modified().unwrap())
        .unwrap();
    project.zako(&["build"]).fails_saying(&CHANGED);
}

#[test]
fn an_archive_that_is_gone_or_none_is_told_as_in_a_fresh_clone() {
    let project = project("");
    project.build();
    let path = project.root().join("third/lib.tar");
    fs::remove_file(&path).unwrap();
    let words = [
        "zako.toml:5:7",
        "cannot read",
        "third/lib.tar",
        "a path from the workspace root",
    ];
    project.zako(&["build"]).fails_saying(&words);
    fs::create_dir(&path).unwrap();
    project.zako(&["build"]).fails_saying(&words);
    fs::remove_dir(&path).unwrap();
    pack(&project, "old");
    project.build();
}

#[test]
fn a_digest_in_the_manifest_is_compared_again() {
    let digest = integrity("sha512", &tar(&[Entry::File("text", "old")]));
    let project = project(&format!(", integrity = \"{digest}\""));
    project.build();
    pack(&project, "new");
    project
        .zako(&["build"])
        .fails_saying(&["has the digest sha512-", "but zako.toml says sha512-"]);
}

#[test]
fn a_watch_notices_the_archive_also_where_git_ignores_it() {
    let project = project("");
    project.write(".gitignore", "third\n");
    if is_installed("git") {
        git(&project.root(), &["init", "--quiet"]);
    }
    let mut watch = project.start(&["watch"]);
    assert!(watch.line().starts_with("watching "));
    pack(&project, "new");
    assert!(watch.line().starts_with("watching "));
    assert_eq!(project.read("out"), "old");
    // The round after this one finds the lock file that it writes.
    project.zako(&["build", "--update-lock"]).succeeds();
    while project.read("out") != "new" {
        assert!(watch.line().starts_with("watching "));
    }
    watch.signal("INT");
    let said = watch.wait().stderr;
    assert!(CHANGED.iter().all(|word| said.contains(word)), "{said}");
}
