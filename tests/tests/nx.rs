//! Nx against a node: a second run takes everything from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zako_tests::{Node, npm_client, succeed};

const PROJECTS: [&str; 2] = ["a", "b"];

/// Writes a repository of two projects whose builds say that they ran.
fn repository(root: &Path) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("package.json", r#"{"name":"r","private":true}"#);
    write(
        "nx.json",
        r#"{"targetDefaults":{"build":{"cache":true,"outputs":["{projectRoot}/dist"]}}}"#,
    );
    for name in PROJECTS {
        let command = format!(
            "mkdir -p packages/{name}/dist && echo {name} > packages/{name}/dist/out && echo {name} >> ../ran"
        );
        let project = format!(
            r#"{{"name":"{name}","targets":{{"build":{{"executor":"nx:run-commands","options":{{"command":"{command}"}}}}}}}}"#
        );
        write(&format!("packages/{name}/project.json"), &project);
    }
}

fn run(nx: &Path, node: &Node, token: &str, root: &Path) -> usize {
    // Another machine: it has nothing but the sources.
    let ran = root.with_file_name("ran");
    for path in [".nx", "packages/a/dist", "packages/b/dist"] {
        let _ = fs::remove_dir_all(root.join(path));
    }
    let _ = fs::remove_file(&ran);
    let server = format!("http://{}", node.address());
    let mut command = Command::new(nx);
    command
        .args(["run-many", "--target=build"])
        .current_dir(root)
        .env("NX_SELF_HOSTED_REMOTE_CACHE_SERVER", server)
        .env("NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN", token)
        .env("NX_DAEMON", "false")
        .env("NX_NO_CLOUD", "true")
        .env("CI", "1");
    let said = succeed(&mut command);
    for name in PROJECTS {
        let out = fs::read_to_string(root.join(format!("packages/{name}/dist/out")));
        assert_eq!(out.unwrap().trim(), name, "{said}");
    }
    fs::read_to_string(ran).unwrap_or_default().lines().count()
}

fn second_run_is_restored(mut node: Node, token: &str) {
    let Some(nx) = npm_client("nx") else {
        return;
    };
    let root = node.directory("nx");
    repository(&root);
    // It wants to be installed in the repository.
    let installed: PathBuf = nx
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .canonicalize()
        .unwrap();
    std::os::unix::fs::symlink(installed, root.join("node_modules")).unwrap();
    assert_eq!(run(&nx, &node, token, &root), 2);
    assert_eq!(run(&nx, &node, token, &root), 0);
    node.kill_and_restart();
    assert_eq!(run(&nx, &node, token, &root), 0);
}

#[test]
fn a_second_run_is_restored_even_after_a_kill() {
    second_run_is_restored(Node::open(), "anything");
}

#[test]
fn the_same_with_credentials() {
    second_run_is_restored(Node::closed(), "t0ken");
}
