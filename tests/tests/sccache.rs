//! sccache against a node: what one machine has compiled, another fetches.

use std::path::PathBuf;
use std::process::Command;

use zako_tests::{Node, c_project, sccache, succeed};

/// One machine: a server of sccache, which lives as long as this does.
struct Machine<'n> {
    sccache: PathBuf,
    node: &'n Node,
    /// Some write the address with a slash at its end, and sccache puts another one behind it.
    slash: &'static str,
    place: PathBuf,
}

impl Machine<'_> {
    fn sccache(&self) -> Command {
        let mut command = Command::new(&self.sccache);
        let endpoint = format!("http://{}{}", self.node.address(), self.slash);
        command
            .current_dir(&self.place)
            .env("SCCACHE_SERVER_UDS", self.place.join("s"))
            .env("SCCACHE_IDLE_TIMEOUT", "60")
            .env("SCCACHE_WEBDAV_ENDPOINT", endpoint)
            .env("SCCACHE_WEBDAV_KEY_PREFIX", "sccache");
        if self.node.is_closed() {
            command
                .env("SCCACHE_WEBDAV_USERNAME", "ada")
                .env("SCCACHE_WEBDAV_PASSWORD", "s3cret");
        }
        command
    }

    /// Compiles the whole project; the number of its files, hits and misses.
    fn compile_all(&self) -> (u64, u64, u64) {
        let files = c_project(&self.place);
        for file in &files {
            let flags = ["cc", "-c", "-DZSTD_DISABLE_ASM", file, "-o", "f.o"];
            succeed(self.sccache().args(flags));
        }
        // What was compiled goes to the node in the background.
        let said = loop {
            let said = succeed(
                self.sccache()
                    .args(["--show-stats", "--stats-format", "json"]),
            );
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            let stats = &said["stats"];
            let (written, failed) = (&stats["cache_writes"], &stats["cache_write_errors"]);
            if written == &stats["compilations"] || failed != 0 {
                break said;
            }
        };
        let stats = &said["stats"];
        for figure in ["cache_read_errors", "cache_write_errors", "cache_timeouts"] {
            assert_eq!(stats[figure], 0, "{said}");
        }
        let sum = |figure: &str| {
            let counts = stats[figure]["counts"].as_object().unwrap().values();
            counts.filter_map(serde_json::Value::as_u64).sum()
        };
        (files.len() as u64, sum("cache_hits"), sum("cache_misses"))
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        // It ends by itself as well.
        let _ = self.sccache().arg("--stop-server").output();
    }
}

fn second_machine_compiles_nothing(mut node: Node) {
    let Some(sccache) = sccache() else {
        return;
    };
    for (name, slash, kill) in [
        ("first", "", false),
        ("second", "", false),
        ("third", "/", true),
    ] {
        if kill {
            node.kill_and_restart();
        }
        let machine = Machine {
            sccache: sccache.clone(),
            node: &node,
            slash,
            place: node.directory(name),
        };
        let (files, hits, misses) = machine.compile_all();
        let expected = if name == "first" {
            (0, files)
        } else {
            (files, 0)
        };
        assert_eq!((hits, misses), expected, "{name}");
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
