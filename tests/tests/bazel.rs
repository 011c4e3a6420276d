//! Bazel against a node, over gRPC and over HTTP: a rebuild runs nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use zako_tests::{Node, is_installed, succeed};

/// No C++ rules: those want to fetch theirs from the network.
const BUILD: &str = r#"
genrule(name = "lib", srcs = ["lib.c"], outs = ["lib.o"], cmd = "cc -c -o $@ $<")
genrule(name = "main", srcs = ["main.c", ":lib"], outs = ["prog"], cmd = "cc -o $@ $(SRCS)")
genrule(name = "large", outs = ["large.txt"], cmd = "seq 1 1000000 > $@")
"#;

/// A Bazel whose server lives as long as this does.
struct Bazel<'n> {
    node: &'n Path,
    workspace: std::path::PathBuf,
}

impl Bazel<'_> {
    fn call(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("bazel");
        command.current_dir(&self.workspace);
        command.arg(format!("--output_user_root={}", self.node.display()));
        succeed(command.args(arguments))
    }

    fn build(&self, cache: &str, header: Option<&str>) -> String {
        let cache = format!("--remote_cache={cache}");
        let header = header.map(|header| format!("--remote_header=Authorization={header}"));
        let mut arguments = vec!["build", "//...", "--color=no", "--noshow_progress", &cache];
        arguments.push("--spawn_strategy=local");
        arguments.extend(header.as_deref());
        let said = self.call(&arguments);
        let processes = said.lines().find(|line| line.contains(" process"));
        processes.unwrap_or(&said).to_owned()
    }
}

impl Drop for Bazel<'_> {
    fn drop(&mut self) {
        // It may have gone by itself.
        let _ = Command::new("bazel")
            .current_dir(&self.workspace)
            .arg(format!("--output_user_root={}", self.node.display()))
            .arg("shutdown")
            .output();
    }
}

fn rebuild_runs_nothing(mut node: Node, header: Option<&str>) {
    if !is_installed("bazel") {
        return;
    }
    let root = node.directory("bazel");
    let workspace = node.directory("bazel-workspace");
    for (name, text) in [
        ("WORKSPACE", "workspace(name = \"test\")\n"),
        ("BUILD", BUILD),
        ("lib.c", "int answer(void) { return 42; }\n"),
        (
            "main.c",
            "int answer(void); int main(void) { return answer() - 42; }\n",
        ),
    ] {
        fs::write(workspace.join(name), text).unwrap();
    }
    let bazel = Bazel {
        node: &root,
        workspace,
    };
    // Bazel 4 takes credentials for HTTP from the URL only; for gRPC from a header only.
    let grpc = format!("grpc://{}", node.address());
    // A prefix keeps the results apart from those of gRPC.
    let http = format!("http://{}/http", node.authority());
    for (cache, header) in [(grpc, header), (http, None)] {
        let first = bazel.build(&cache, header);
        assert!(first.contains("3 local"), "{cache}: {first}");
        for kill in [false, true] {
            if kill {
                node.kill_and_restart();
            }
            bazel.call(&["clean"]);
            let again = bazel.build(&cache, header);
            assert!(again.contains("3 remote cache hit"), "{cache}: {again}");
            assert!(!again.contains("local"), "{cache}: {again}");
        }
        bazel.call(&["clean"]);
    }
}

#[test]
fn a_rebuild_runs_nothing_even_after_a_kill() {
    rebuild_runs_nothing(Node::open(), None);
}

#[test]
fn the_same_with_credentials() {
    rebuild_runs_nothing(Node::closed(), Some("Basic YWRhOnMzY3JldA=="));
}
