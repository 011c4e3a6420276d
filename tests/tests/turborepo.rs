//! Turborepo against a node: a second run takes everything from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zako_tests::{Node, is_installed, npm_client, succeed};

/// Writes a repository of two packages whose builds say that they ran.
fn repository(root: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "package.json",
        r#"{"name":"r","private":true,"packageManager":"npm@10.0.0","workspaces":["packages/*"]}"#,
    );
    // Only what a package declares decides: its logs lie beside its sources.
    write(
        "turbo.json",
        r#"{"tasks":{"build":{"inputs":["package.json"],"outputs":["dist/**"]}}}"#,
    );
    for name in ["a", "b"] {
        let package = format!(
            r#"{{"name":"{name}","version":"1.0.0","scripts":{{"build":"mkdir -p dist && echo {name} > dist/out && echo {name} >> ../../ran"}}}}"#
        );
        write(&format!("packages/{name}/package.json"), &package);
    }
    let mut lock = Command::new("npm");
    lock.args([
        "install",
        "--package-lock-only",
        "--no-audit",
        "--no-fund",
        "--offline",
    ]);
    succeed(lock.current_dir(root));
}

fn run(turbo: &Path, node: &Node, token: &str, root: &Path) -> usize {
    // Another machine: it has nothing but the sources.
    for name in ["a", "b"] {
        let _ = fs::remove_dir_all(root.join(format!("packages/{name}/dist")));
    }
    let _ = fs::remove_file(root.join("ran"));
    let mut command = Command::new(turbo);
    command
        .args(["run", "build", "--cache=remote:rw,local:"])
        .current_dir(root)
        .env("TURBO_API", format!("http://{}", node.address()))
        .env("TURBO_TEAM", "team_main")
        .env("TURBO_TOKEN", token)
        .env("TURBO_TELEMETRY_DISABLED", "1")
        .env("DO_NOT_TRACK", "1");
    let said = succeed(&mut command);
    for name in ["a", "b"] {
        let out = fs::read_to_string(root.join(format!("packages/{name}/dist/out")));
        assert_eq!(out.unwrap().trim(), name, "{said}");
    }
    let ran = fs::read_to_string(root.join("ran")).unwrap_or_default();
    ran.lines().count()
}

fn second_run_is_restored(mut node: Node, token: &str) {
    let turbo: PathBuf = match npm_client("turbo") {
        Some(turbo) if is_installed("npm") => turbo,
        _ => return,
    };
    let root = node.directory("turborepo");
    repository(&root);
    assert_eq!(run(&turbo, &node, token, &root), 2);
    assert_eq!(run(&turbo, &node, token, &root), 0);
    node.kill_and_restart();
    assert_eq!(run(&turbo, &node, token, &root), 0);
}

#[test]
fn a_second_run_is_restored_even_after_a_kill() {
    second_run_is_restored(Node::open(), "anything");
}

#[test]
fn the_same_with_credentials() {
    second_run_is_restored(Node::closed(), "t0ken");
}
