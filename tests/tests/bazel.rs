//! Bazel against a node, over gRPC and over HTTP: a rebuild runs nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use zako_tests::{Node, is_installed, succeed};

/// A library, a program and a test in C++, and an output that is larger than a message of gRPC.
const BUILD: &str = r#"
cc_library(name = "lib", srcs = ["lib.cc"], hdrs = ["lib.h"])
cc_binary(name = "main", srcs = ["main.cc"], deps = [":lib"])
cc_test(name = "check", srcs = ["check.cc"], size = "small", deps = [":lib"])
genrule(name = "large", outs = ["large.txt"], cmd = "seq 1 3000000 > $@")
"#;

const LIB: &str = r#"
#include <numeric>
#include <vector>
#include "lib.h"
int sum(const std::vector<int> &all) { return std::accumulate(all.begin(), all.end(), 0); }
"#;

const PROGRAM: &str = "#include \"lib.h\"\nint main() { return sum({40, 2}) - 42; }\n";

/// What this Bazel would fetch from the network for its own tools stands here as far as they need it.
const WORKSPACE: &str = r#"
workspace(name = "test")
local_repository(name = "rules_cc", path = "rules_cc")
local_repository(name = "rules_java", path = "rules_java")
local_repository(name = "remote_coverage_tools", path = "coverage")
"#;

const FILES: [(&str, &str); 15] = [
    ("WORKSPACE", WORKSPACE),
    ("BUILD", BUILD),
    (".bazelignore", "rules_cc\nrules_java\ncoverage\n"),
    ("lib.cc", LIB),
    (
        "lib.h",
        "#include <vector>\nint sum(const std::vector<int> &all);\n",
    ),
    ("main.cc", PROGRAM),
    ("check.cc", PROGRAM),
    ("rules_cc/WORKSPACE", ""),
    ("rules_cc/cc/BUILD", ""),
    (
        "rules_cc/cc/defs.bzl",
        "cc_binary = native.cc_binary\ncc_import = native.cc_import\ncc_library = native.cc_library\n\
         cc_test = native.cc_test\ncc_proto_library = native.cc_proto_library\n\
         cc_toolchain = native.cc_toolchain\ncc_toolchain_suite = native.cc_toolchain_suite\n",
    ),
    ("rules_java/WORKSPACE", ""),
    ("rules_java/java/BUILD", ""),
    (
        "rules_java/java/defs.bzl",
        "java_binary = native.java_binary\njava_import = native.java_import\n\
         java_library = native.java_library\njava_runtime = native.java_runtime\n\
         java_toolchain = native.java_toolchain\n",
    ),
    ("coverage/WORKSPACE", ""),
    (
        "coverage/BUILD",
        "filegroup(name = \"coverage_report_generator\", visibility = [\"//visibility:public\"])\n",
    ),
];

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

    /// Builds everything and runs the test; what the processes were.
    fn test(&self, cache: &str, header: Option<&str>) -> String {
        let cache = format!("--remote_cache={cache}");
        let header = header.map(|header| format!("--remote_header=Authorization={header}"));
        let mut arguments = vec!["test", "//...", "--color=no", "--noshow_progress", &cache];
        arguments.push("--spawn_strategy=local");
        arguments.extend(header.as_deref());
        let said = self.call(&arguments);
        assert!(said.contains("1 test passes"), "{said}");
        let processes = said.lines().find(|line| line.contains(" process"));
        processes.unwrap_or(&said).to_owned()
    }
}

/// How many processes were of a kind.
fn count(processes: &str, kind: &str) -> u64 {
    let mut parts = processes.split([':', ',']).map(str::trim);
    let number = parts.find_map(|part| part.trim_end_matches('.').strip_suffix(kind));
    number.map_or(0, |number| number.trim().parse().unwrap())
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
    for (name, text) in FILES {
        let path = workspace.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
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
        let first = bazel.test(&cache, header);
        let ran = count(&first, "local");
        // Three compilations, links of three kinds, the test, and the large output.
        assert!(ran >= 8, "{cache}: {first}");
        for kill in [false, true] {
            if kill {
                node.kill_and_restart();
            }
            bazel.call(&["clean"]);
            let again = bazel.test(&cache, header);
            assert_eq!(count(&again, "remote cache hit"), ran, "{cache}: {again}");
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
