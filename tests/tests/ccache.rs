//! ccache against a node: what one machine has compiled, another fetches.

use std::fs;
use std::path::Path;
use std::process::Command;

use zako_tests::{Node, is_installed, succeed};

const FILES: usize = 5;

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

fn compile_all(node: &Node, layout: &str, name: &str) -> (u64, u64) {
    let machine = node.directory(&format!("{name}-{layout}"));
    for number in 0..FILES {
        let source =
            format!("char layout[] = \"{layout}\"; int f{number}(void) {{ return {number}; }}\n");
        fs::write(machine.join(format!("f{number}.c")), source).unwrap();
        let file = format!("f{number}.c");
        succeed(ccache(node, layout, &machine).args(["cc", "-c", &file]));
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
        figure("direct_cache_hit") + figure("preprocessed_cache_hit"),
        figure("cache_miss"),
    )
}

fn second_machine_compiles_nothing(mut node: Node) {
    if !is_installed("ccache") {
        return;
    }
    for layout in ["subdirs", "flat", "bazel"] {
        assert_eq!(
            compile_all(&node, layout, "first"),
            (0, FILES as u64),
            "{layout}"
        );
        assert_eq!(
            compile_all(&node, layout, "second"),
            (FILES as u64, 0),
            "{layout}"
        );
        node.kill_and_restart();
        assert_eq!(
            compile_all(&node, layout, "third"),
            (FILES as u64, 0),
            "{layout}"
        );
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
