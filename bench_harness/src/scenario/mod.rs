//! The scenarios, one file each. Their names are part of the interface.
#![forbid(unsafe_code)]

mod absent;
mod actors;
pub(crate) use actors::workers_and_outside;
pub mod ask;
pub mod big;
pub mod broadcast;
#[cfg(feature = "build")]
pub mod build;
pub mod burst;
#[cfg(feature = "store")]
mod files;
#[cfg(feature = "store")]
mod filled;
#[cfg(feature = "store")]
pub mod find_missing;
pub mod flags;
#[cfg(feature = "store")]
pub mod grpc_stream;
#[cfg(feature = "store")]
mod http;
#[cfg(feature = "store")]
mod http_client;
#[cfg(feature = "store")]
pub mod http_crowd;
#[cfg(feature = "store")]
pub mod http_get;
#[cfg(feature = "store")]
pub mod http_large;
#[cfg(feature = "store")]
pub mod http_put;
#[cfg(feature = "store")]
pub mod http_small;
pub mod idle_memory;
pub mod mpmc;
pub mod mpsc;
#[cfg(feature = "store")]
pub mod payloads;
pub mod pinball;
pub mod ping_pong;
pub mod pool_submit;
pub mod remote;
pub mod restart_storm;
pub mod ring_ping_pong;
pub mod savina;
pub mod skynet;
pub mod spawn;
pub mod spawn_stop;
pub mod spsc;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "store")]
pub mod store_ingest;
#[cfg(feature = "store")]
pub mod store_open;
#[cfg(feature = "store")]
mod store_reopened;
#[cfg(feature = "store")]
pub mod store_writers;
pub mod tell;
pub mod tell_batch;
pub mod tell_n;
pub mod thread_ring;
pub mod timer_flood;

use crate::measure::{Case, Unit};
use crate::options::Options;

/// What a scenario is about, and which options mean something to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Rings between threads.
    Rings,
    /// Actors.
    Actors,
    /// Actors, as this benchmark of the Savina suite has them.
    Savina(&'static str),
    /// The store and its front ends.
    Store,
    /// The build engine.
    Build,
}

impl Family {
    /// As a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rings => "rings between threads",
            Self::Actors => "actors",
            Self::Savina(_) => "actors: the Savina suite",
            Self::Store => "the store",
            Self::Build => "the build engine",
        }
    }
}

/// Something that can be measured.
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// What it is about.
    pub family: Family,
    /// One line for `list`.
    pub about: &'static str,
    /// What its numbers are.
    pub unit: Unit,
    /// Every implementation in every variant.
    pub cases: fn(&Options) -> Vec<Case>,
}

/// Every scenario, in the order of `list`.
pub const ALL: &[Scenario] = &[
    spsc::SCENARIO,
    mpsc::SCENARIO,
    mpsc::THREE,
    mpmc::SCENARIO,
    mpmc::ONE_TO_THREE,
    broadcast::MULTICAST,
    broadcast::PIPELINE,
    broadcast::DIAMONDS,
    ring_ping_pong::SCENARIO,
    burst::SCENARIO,
    tell::SCENARIO,
    tell_batch::SCENARIO,
    tell_n::SCENARIO,
    #[cfg(feature = "store")]
    payloads::SCENARIO,
    ask::SCENARIO,
    spawn::SCENARIO,
    spawn_stop::SCENARIO,
    idle_memory::SCENARIO,
    skynet::SCENARIO,
    pinball::SCENARIO,
    timer_flood::SCENARIO,
    restart_storm::SCENARIO,
    pool_submit::SCENARIO,
    remote::SCENARIO,
    ping_pong::SCENARIO,
    savina::counting::SCENARIO,
    savina::fork_join::THROUGHPUT,
    savina::fork_join::CREATE,
    thread_ring::SCENARIO,
    savina::chameneos::SCENARIO,
    big::SCENARIO,
    savina::dictionary::SCENARIO,
    savina::sorted_list::SCENARIO,
    savina::bounded_buffer::SCENARIO,
    savina::philosophers::SCENARIO,
    savina::barber::SCENARIO,
    savina::smokers::SCENARIO,
    savina::logistic_map::SCENARIO,
    savina::bank::SCENARIO,
    savina::radix_sort::SCENARIO,
    savina::sieve::SCENARIO,
    savina::trapezoid::SCENARIO,
    savina::nqueens::SCENARIO,
    savina::fibonacci::SCENARIO,
    #[cfg(feature = "store")]
    store::PUT,
    #[cfg(feature = "store")]
    store::GET,
    #[cfg(feature = "store")]
    store::CONTAINS,
    #[cfg(feature = "store")]
    store_ingest::SCENARIO,
    #[cfg(feature = "store")]
    store_writers::SCENARIO,
    #[cfg(feature = "store")]
    store_open::OPEN,
    #[cfg(feature = "store")]
    store_open::MEMORY,
    #[cfg(feature = "store")]
    find_missing::SCENARIO,
    #[cfg(feature = "store")]
    http_get::SCENARIO,
    #[cfg(feature = "store")]
    http_small::RATE,
    #[cfg(feature = "store")]
    http_small::LATENCY,
    #[cfg(feature = "store")]
    http_put::SCENARIO,
    #[cfg(feature = "store")]
    http_large::SCENARIO,
    #[cfg(feature = "store")]
    http_crowd::SCENARIO,
    #[cfg(feature = "store")]
    grpc_stream::SCENARIO,
    #[cfg(feature = "build")]
    build::transpile::SCENARIO,
    #[cfg(feature = "build")]
    build::isolate::CALL,
    #[cfg(feature = "build")]
    build::isolate::EVALUATE,
    #[cfg(feature = "build")]
    build::isolate::START,
    #[cfg(feature = "build")]
    build::noop::SCENARIO,
    #[cfg(feature = "build")]
    build::worker::SCENARIO,
    #[cfg(feature = "build")]
    build::cold::SCENARIO,
    #[cfg(feature = "build")]
    build::edit::SCENARIO,
    #[cfg(feature = "build")]
    build::packages::SCENARIO,
    #[cfg(feature = "build")]
    build::memory::SCENARIO,
];

/// A line per scenario, by family.
pub fn list() -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut titles: Vec<&str> = ALL.iter().map(|scenario| scenario.family.title()).collect();
    titles.dedup();
    for (index, title) in titles.iter().enumerate() {
        if titles[..index].contains(title) {
            continue;
        }
        let _ = writeln!(text, "{title}");
        for scenario in ALL.iter().filter(|it| it.family.title() == *title) {
            let _ = write!(text, "  {:<22}{}", scenario.name, scenario.about);
            if let Family::Savina(name) = scenario.family {
                let _ = write!(text, " (Savina: {name})");
            }
            let _ = writeln!(text, " [{}]", scenario.unit.label());
        }
    }
    let _ = writeln!(text, "flags that not all of them heed");
    for flag in flags::Flag::ALL {
        let _ = writeln!(text, "  {:<22}{}", flag.name(), flag.where_heeded());
    }
    text
}

/// Scenarios that need the feature `store`.
const OF_STORE: [&str; 16] = [
    "payloads",
    "store_put",
    "store_get",
    "store_contains",
    "store_ingest",
    "store_writers",
    "store_open",
    "store_memory",
    "find_missing",
    "http_get",
    "http_small",
    "http_small_latency",
    "http_put",
    "http_large",
    "http_crowd",
    "grpc_stream",
];

/// Scenarios that need the feature `zako` (or `quickjs`).
const OF_BUILD: [&str; 10] = [
    "transpile",
    "isolate_call",
    "isolate_evaluate",
    "isolate_start",
    "build_noop",
    "worker_processes",
    "build_cold",
    "build_edit",
    "packages_noop",
    "graph_memory",
];

/// The feature that a scenario of this name needs, if it is none of this build.
pub fn missing_feature(name: &str) -> Option<&'static str> {
    if find(name).is_some() {
        None
    } else if OF_STORE.contains(&name) {
        Some("store")
    } else if OF_BUILD.contains(&name) {
        Some("zako")
    } else {
        None
    }
}

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// Calls a generic function of the wait strategy that the options ask for.
macro_rules! with_wait {
    ($options:expr, $W:ident => $body:expr) => {
        match $options.wait {
            $crate::options::WaitKind::Busy => {
                type $W = actor_rt::ring::BusySpin;
                $body
            }
            $crate::options::WaitKind::Spin => {
                type $W = actor_rt::ring::SpinThenYield;
                $body
            }
            $crate::options::WaitKind::Yield => {
                type $W = actor_rt::ring::Yield;
                $body
            }
            $crate::options::WaitKind::Block => {
                type $W = actor_rt::ring::Block;
                $body
            }
        }
    };
}
pub(crate) use with_wait;

#[cfg(test)]
mod tests {
    use super::*;

    /// So that whoever builds without a feature is told which one is missing.
    #[test]
    fn scenarios_of_a_feature_are_listed() {
        for scenario in ALL {
            let listed = match scenario.family {
                Family::Store => OF_STORE.contains(&scenario.name),
                Family::Build => OF_BUILD.contains(&scenario.name),
                _ => true,
            };
            assert!(listed, "{}", scenario.name);
        }
        let count = |family| ALL.iter().filter(|it| it.family == family).count();
        if cfg!(feature = "store") {
            // `payloads` is about actors.
            assert_eq!(count(Family::Store) + 1, OF_STORE.len());
        }
        if cfg!(feature = "build") {
            assert_eq!(count(Family::Build), OF_BUILD.len());
        }
    }
}
