//! Peers that a comparison goes without, and why: nobody should think that they were beaten.
#![forbid(unsafe_code)]

use super::{Family, Scenario};
use crate::options::Options;
use crate::probe::beside;

const NO_ZAKO: &str =
    "the zako binary (not beside this program: cargo build --release -p zako_actors)";

impl Scenario {
    /// Who is not measured although it, or peers, are wanted: name and reason.
    pub fn absent(&self, options: &Options) -> Vec<String> {
        let mut absent = Vec::new();
        let asks_a_node = ["http_small", "http_small_latency"].contains(&self.name);
        if asks_a_node && beside("zako").is_none() {
            absent.push(NO_ZAKO.to_owned());
        }
        if !options.peers {
            return absent;
        }
        let crates = !matches!(self.family, Family::Store | Family::Build);
        if crates && !cfg!(feature = "peers") {
            absent.push(
                "the crates that ours are compared with (build with --features peers)".into(),
            );
        }
        if ["counting", "radix_sort", "sieve", "nqueens"].contains(&self.name) {
            absent.push("xtra (messages of one sender overtake each other)".into());
        }
        if ["mpsc", "three_to_one"].contains(&self.name) && options.capacity < 64 {
            absent.push("disruptor (it refuses rings of fewer than 64 slots)".into());
        }
        #[cfg(feature = "store")]
        if self.name == super::http_large::SCENARIO.name && !super::http_large::nginx_is_installed()
        {
            absent.push("nginx (not installed)".into());
        }
        #[cfg(feature = "build")]
        absent.extend(of_build(self.name, options));
        absent
    }
}

#[cfg(feature = "build")]
fn of_build(scenario: &str, options: &Options) -> Vec<String> {
    use super::build::tree::{is_installed, npm_client};
    use super::build::{transpile, worker};

    let mut absent = Vec::new();
    let processes = ["build_noop", "build_cold", "build_edit", "packages_noop"];
    let has_zako = beside("zako").is_some();
    if processes.contains(&scenario) && !has_zako {
        absent.push(NO_ZAKO.to_owned());
    }
    if ["build_noop", "build_cold"].contains(&scenario) && !is_installed("ninja") {
        absent.push("ninja (not installed)".into());
    }
    if scenario == "packages_noop" && npm_client("turbo").is_none() {
        absent.push("Turborepo (not installed: cargo xtask clients)".into());
    }
    match scenario {
        "transpile" => absent.extend(transpile::absent(options)),
        "worker_processes" => absent.extend(worker::absent()),
        _ => {}
    }
    absent
}
