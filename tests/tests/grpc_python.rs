//! A client in Python, generated from the published protocol files, against a node.

use std::path::{Path, PathBuf};
use std::process::Command;

use zako_tests::{Node, Running, python_client, succeed};

const PROTOCOLS: [&str; 8] = [
    "build/bazel/remote/execution/v2/remote_execution.proto",
    "build/bazel/semver/semver.proto",
    "google/api/annotations.proto",
    "google/api/client.proto",
    "google/api/http.proto",
    "google/bytestream/bytestream.proto",
    "google/longrunning/operations.proto",
    "google/rpc/status.proto",
];

/// Generates the client's code.
fn generate(python: &Path, into: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let protos = here.join("../cas_actor/proto");
    let mut command = Command::new(python);
    command
        .args(["-m", "grpc_tools.protoc"])
        .arg(format!("-I{}", protos.display()))
        .arg(format!("--python_out={}", into.display()))
        .arg(format!("--grpc_python_out={}", into.display()))
        .args(PROTOCOLS);
    succeed(&mut command);
}

fn reads_what_it_stored(mut node: Node, token: &str) {
    let Some(python) = python_client() else {
        return;
    };
    let generated: PathBuf = node.directory("generated");
    generate(&python, &generated);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/reapi.py");
    let call = |node: &Node, what: &str| {
        let mut command = Command::new(&python);
        command.arg(&script).arg(node.address()).arg(&generated);
        command.args([token, what]);
        command
    };
    for what in ["put", "get", "get"] {
        let said = succeed(&mut call(&node, what));
        assert!(said.contains("all is well"), "{said}");
        if what == "get" {
            node.kill_and_restart();
        }
    }
    // The node dies in the middle of an upload.
    let mut uploading = Running::start(&mut call(&node, "begin"));
    let said = uploading.line();
    assert!(said.starts_with("committed"), "{said}");
    node.kill_and_restart();
    drop(uploading);
    let said = succeed(&mut call(&node, "resume"));
    assert!(said.contains("all is well"), "{said}");
}

#[test]
fn reads_what_it_stored_even_after_a_kill() {
    reads_what_it_stored(Node::open(), "");
}

#[test]
fn the_same_with_credentials() {
    reads_what_it_stored(Node::closed(), "t0ken");
}
