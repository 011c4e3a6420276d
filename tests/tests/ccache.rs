//! ccache against a node: what one machine has compiled, another fetches.

use std::path::Path;
use std::process::Command;

use zako_tests::{Node, c_project, is_installed, succeed};

/// One machine: a local cache of its own that keeps nothing, and the node.
fn ccache(node: &Node, layout: &str, machine: &Path) -> Command {
    let storage = format!("http://{}/ccache|layout={layout}", node.authority());
    let mut command = Command::new("ccache");
    command
        .current_dir(machine)
        .env("CCACHE_DIR", machine.join("cache"))
        .env("CCACHE_NOHASHDIR", "1")
        .env("CCACHE_REMOTE_ONLY", "1")
        .env("CCACHE_REMOTE_STORAGE", storage);
    command
}

/// Compiles the whole project; the number of its files, hits and misses.
fn compile_all(node: &Node, layout: &str, name: &str) -> (u64, u64, u64) {
    let machine = node.directory(&format!("{name}-{layout}"));
    // Each layout has its own entries, so the figures do not mix.
    let define = format!("-DLAYOUT_{layout}");
    let files = c_project(&machine);
    for file in &files {
        let flags = ["cc", "-c", "-DZSTD_DISABLE_ASM", &define, file, "-o"];
        let object = file.replace(['/', '.'], "_") + ".o";
        succeed(ccache(node, layout, &machine).args(flags).arg(object));
    }
    let figures = succeed(ccache(node, layout, &machine).arg("--print-stats"));
    let figure = |name: &str| {
        let mut lines = figures.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
        line.map_or(0, |number| number.parse::<u64>().unwrap())
    };
    let errors = figure("remote_storage_error") + figure("remote_storage_timeout");
    assert_eq!(errors, 0, "{figures}");
    (
        files.len() as u64,
        figure("direct_cache_hit") + figure("preprocessed_cache_hit"),
        figure("cache_miss"),
    )
}

fn second_machine_compiles_nothing(mut node: Node) {
    if !is_installed("ccache") {
        return;
    }
    for layout in ["subdirs", "flat", "bazel"] {
        let (files, hits, misses) = compile_all(&node, layout, "first");
        assert_eq!((hits, misses), (0, files), "{layout}");
        for name in ["second", "third"] {
            let all_hits = (files, files, 0);
            assert_eq!(compile_all(&node, layout, name), all_hits, "{layout}");
            node.kill_and_restart();
        }
    }
}

#[test]
fn a_second_machine_compiles_nothing_even_after_a_kill() {
    second_machine_compiles_nothing(Node::open());
}

#[test]
fn the_same_with_credentials() {
    second_machine_compiles_nothing(Node::closed());
}
