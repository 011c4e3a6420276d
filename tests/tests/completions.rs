//! Completion in a shell: commands, flags, and labels without evaluating anything.

use std::fs;
use std::process::Command;

use zako_tests::{Outcome, Project, zako};

const BUILD: &str = r#"
import { target } from "zako:build";
export default { one: target({ cmd: ["true"] }), only: target({ cmd: ["true"] }), two: target({ cmd: ["true"] }) };
"#;

/// A workspace with build files and packages, of which nobody has ever built anything.
fn project() -> Project {
    let project = Project::with_build(BUILD);
    project.write("libs/core/BUILD.ts", BUILD);
    project.write("package.json", r#"{"workspaces": ["apps/*"]}"#);
    project.write(
        "apps/web/package.json",
        r#"{"name": "web", "scripts": {"build": "true", "dev": "true"}}"#,
    );
    project
}

/// What is offered at the end of `line`, as the shell's own function has it.
fn bash(project: &Project, line: &str) -> Vec<String> {
    let script = project.zako(&["completions", "bash"]).succeeds().stdout;
    let file = project.outside().join("zako.bash");
    fs::write(&file, script).unwrap();
    let program = r#"
        source "$1"; COMP_LINE=$2; COMP_POINT=${#2}
        read -ra COMP_WORDS <<< "$2"; [[ $2 == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        complete -p zako | grep -q _zako_with_labels || exit 9
        _zako_with_labels "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" || exit 8
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut command = Command::new("bash");
    command
        .args(["--norc", "-c", program, "bash"])
        .arg(file)
        .arg(line);
    let told = Outcome::of(
        command
            .current_dir(project.root())
            .env_remove("ZAKO_CACHE_DIR"),
    );
    told.succeeds().stdout.lines().map(str::to_owned).collect()
}

/// The same where the program is called by its path.
fn offered(project: &Project, rest: &str) -> Vec<String> {
    bash(project, &format!("{} {rest}", zako().display()))
}

#[test]
fn completions_are_made_for_the_usual_shells() {
    let project = Project::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = project.zako(&["completions", shell]).succeeds().stdout;
        assert!(
            script.contains(" __labels -- ") && script.contains("build"),
            "{shell}"
        );
        let file = project.outside().join(shell);
        fs::write(&file, script).unwrap();
        if shell == "bash" || is_there(shell) {
            Outcome::of(Command::new(shell).arg("-n").arg(file)).succeeds();
        }
    }
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn bash_completes_labels_of_the_last_build_and_of_packages() {
    let project = project();
    // Scripts of packages are known without any build.
    assert_eq!(offered(&project, "build //apps/web:d"), ["dev"]);
    assert!(
        offered(&project, "build //libs/")
            .iter()
            .all(|it| !it.contains("core"))
    );
    project.zako(&["query", "//..."]).succeeds();
    let all = offered(&project, "build //");
    for label in [
        "//:one",
        "//:only",
        "//libs/core:two",
        "//apps/web:dev",
        "//...",
    ] {
        assert!(all.iter().any(|it| it == label), "{label}: {all:?}");
    }
    assert_eq!(offered(&project, "test //libs/core:on"), ["one", "only"]);
    assert_eq!(offered(&project, "-C libs/core watch -k :t"), ["two"]);
    assert_eq!(offered(&project, "why on"), ["one", "only"]);
    assert_eq!(offered(&project, "run //:one //"), [""; 1]);
    assert!(offered(&project, "build --keep").contains(&"--keep-going".to_owned()));
    assert_eq!(offered(&project, "bui"), ["build"]);
    // What was built stays known where a build file was broken since.
    project.write("libs/core/BUILD.ts", "export default {{;\n");
    assert_eq!(offered(&project, "build //libs/core:t"), ["two"]);
}

#[test]
fn a_question_of_a_shell_is_answered_without_waiting_and_leaves_nothing() {
    let project = project();
    let ask = || {
        project
            .zako(&["__labels", "--", "zako", "build", ""])
            .succeeds()
    };
    assert!(ask().stdout.contains("//apps/web:dev\n"));
    assert!(!project.has(".zako"), "something was written");
    project.zako(&["query", "//..."]).succeeds();
    // Somebody else has the workspace.
    let mut watch = project.start(&["watch", "//:one"]);
    assert!(watch.line().starts_with("watching"));
    fs::write(project.root().join(".zako/state"), "damaged").unwrap();
    let told = ask();
    assert!(
        told.stdout.contains("//apps/web:dev\n") && told.stderr.is_empty(),
        "{}",
        told.text()
    );
    let nowhere = Outcome::of(
        project
            .command(&["__labels", "--", "zako", "build", ""])
            .current_dir("/"),
    );
    assert!(nowhere.succeeds().text().is_empty());
}
