//! What changed since a commit where files lie in submodules.

use zako_tests::{Project, git};

const BUILD: &str = r#"
import { target } from "zako:build";
export default { q: target({ cmd: ["sh", "-c", "cat f > q"], srcs: ["f"], outs: ["q"] }) };
"#;

/// A repository at `path` outside of the workspace, with such a target.
fn repository(project: &Project, path: &str) {
    let dir = project.outside().join(path);
    std::fs::create_dir_all(&dir).unwrap();
    git(&dir, &["init", "-q", "-b", "main"]);
    for (name, text) in [("BUILD.ts", BUILD), ("f", "1\n"), (".gitignore", "q\n")] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    commit(&dir);
}

fn commit(dir: &std::path::Path) {
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", "more"]);
}

fn add(dir: &std::path::Path, from: &str, to: &str) {
    let allowed = ["-c", "protocol.file.allow=always"];
    let added = ["submodule", "--quiet", "add", from, to];
    git(dir, &[&allowed[..], &added].concat());
}

/// The changed files and the targets that they concern.
fn affected(project: &Project, reference: &str) -> (Vec<String>, Vec<String>) {
    let said = project.zako(&["affected", "--json", "--since", reference]);
    let said: serde_json::Value = serde_json::from_str(&said.succeeds().stdout).unwrap();
    let texts = |field: &str| {
        let texts = said[field].as_array().unwrap().iter();
        texts.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    (texts("files"), texts("targets"))
}

fn pair(files: &[&str], targets: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |texts: &[&str]| texts.iter().map(|it| (*it).to_owned()).collect();
    (owned(files), owned(targets))
}

#[test]
fn what_changed_in_a_submodule_concerns_its_targets() {
    let project = Project::new();
    repository(&project, "inner");
    repository(&project, "sub");
    let sub = project.outside().join("sub");
    add(&sub, "../inner", "n");
    commit(&sub);
    let root = project.root();
    project.write(".gitignore", ".zako\n");
    git(&root, &["init", "-q", "-b", "main"]);
    commit(&root);
    add(&root, "../sub", "m");
    let allowed = ["-c", "protocol.file.allow=always"];
    let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
    git(&root, &[&allowed[..], &update].concat());
    // One that is new.
    let all = pair(
        &[
            ".gitmodules",
            "m/.gitignore",
            "m/.gitmodules",
            "m/BUILD.ts",
            "m/f",
            "m/n/.gitignore",
            "m/n/BUILD.ts",
            "m/n/f",
        ],
        &["//m/n:q", "//m:q"],
    );
    let sorted = |mut pair: (Vec<String>, Vec<String>)| {
        pair.1.sort();
        pair
    };
    assert_eq!(sorted(affected(&project, "HEAD")), all);
    commit(&root);
    assert_eq!(affected(&project, "HEAD"), pair(&[], &[]));
    assert_eq!(sorted(affected(&project, "HEAD~1")), all);
    // Edited, committed there, committed here.
    let edited = pair(&["m/f"], &["//m:q"]);
    project.write("m/f", "2\n");
    assert_eq!(affected(&project, "HEAD"), edited);
    commit(&root.join("m"));
    assert_eq!(affected(&project, "HEAD"), edited);
    commit(&root);
    assert_eq!(affected(&project, "HEAD"), pair(&[], &[]));
    assert_eq!(affected(&project, "HEAD~1"), edited);
    project.zako(&["build", "--since", "HEAD~1"]).succeeds();
    assert!(project.has("m/q") && !project.has("m/n/q"));
    // New files, also in one that lies in another.
    project.write("m/new", "");
    project.write("m/n/f", "2\n");
    let nested = pair(&["m/n/f", "m/new"], &["//m/n:q"]);
    git(&root, &["config", "submodule.m.ignore", "all"]);
    assert_eq!(affected(&project, "HEAD"), nested);
}

#[test]
fn where_the_commit_of_a_submodule_is_not_known_all_of_it_has_changed() {
    let project = Project::new();
    repository(&project, "sub");
    let root = project.root();
    project.write(".gitignore", ".zako\n");
    git(&root, &["init", "-q", "-b", "main"]);
    add(&root, "../sub", "m");
    commit(&root);
    let unknown = "160000,1234567890123456789012345678901234567890,m";
    git(&root, &["update-index", "--cacheinfo", unknown]);
    git(&root, &["commit", "-q", "-m", "elsewhere"]);
    let all = pair(&["m/.gitignore", "m/BUILD.ts", "m/f"], &["//m:q"]);
    assert_eq!(affected(&project, "HEAD"), all);
    assert_eq!(affected(&project, "HEAD~1"), pair(&[], &[]));
    // One that is gone is named itself.
    git(&root, &["reset", "-q", "--hard", "HEAD~1"]);
    std::fs::remove_dir_all(root.join("m")).unwrap();
    assert_eq!(affected(&project, "HEAD"), pair(&["m"], &[]));
}
