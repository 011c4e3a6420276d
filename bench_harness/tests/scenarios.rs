//! The small sizes of every scenario, with their checksums: a scenario cannot rot, and no implementation loses an item.
#![forbid(unsafe_code)]

use bench_harness::measure::measure;
use bench_harness::options::{Options, WaitKind};
use bench_harness::payload::SIZES;
use bench_harness::scenario::Family;
use bench_harness::{latency, scenario, soak, stress};

#[test]
fn every_scenario_delivers_what_was_sent() {
    let options = Options {
        peers: cfg!(feature = "peers"),
        ..Options::tiny()
    };
    for scenario in scenario::ALL {
        // `measure` itself compares the checksums of all implementations.
        let outcome = measure(scenario, &options)
            .unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name));
        assert!(!outcome.results.is_empty());
        assert!(
            outcome
                .results
                .iter()
                .all(|row| row.min <= row.median && row.median <= row.max)
        );
    }
}

#[test]
fn rings_deliver_with_every_wait_strategy_and_payload() {
    for wait in [
        WaitKind::Busy,
        WaitKind::Spin,
        WaitKind::Yield,
        WaitKind::Block,
    ] {
        for payload in SIZES {
            let options = Options {
                wait,
                payload,
                ..Options::tiny()
            };
            let all = [
                "spsc",
                "mpsc",
                "mpmc",
                "multicast",
                "pipeline",
                "diamond",
                "burst",
            ];
            // More threads than cores that never yield stand in each other's way for seconds.
            let names = if wait == WaitKind::Busy {
                &all[..1]
            } else {
                &all[..]
            };
            for name in names {
                measure(scenario::find(name).unwrap(), &options).unwrap();
            }
        }
    }
}

#[test]
fn results_are_the_documented_json() {
    let outcome = measure(scenario::find("spsc").unwrap(), &Options::tiny()).unwrap();
    let json = serde_json::to_value(&outcome).unwrap();
    for field in [
        "scenario",
        "unit",
        "machine",
        "results",
        "ratio_to_best_peer",
    ] {
        assert!(json.get(field).is_some(), "{field} is missing");
    }
    for field in ["impl", "variant", "median", "min", "max", "checksum"] {
        assert!(
            json["results"][0].get(field).is_some(),
            "{field} is missing"
        );
    }
}

#[test]
fn too_many_spinning_threads_are_no_valid_comparison() {
    let mut options = Options {
        wait: WaitKind::Busy,
        ..Options::tiny()
    };
    options.cores.truncate(1);
    let outcome = measure(scenario::find("mpsc").unwrap(), &options).unwrap();
    assert!(!outcome.valid && outcome.results.iter().all(|row| !row.valid));
    options.wait = WaitKind::Spin;
    // Whatever others do on this machine meanwhile.
    let outcome = measure(scenario::find("mpsc").unwrap(), &options).unwrap();
    assert!(outcome.results.iter().all(|row| row.valid));
}

/// Names are part of the interface.
#[test]
fn the_promised_scenarios_are_there() {
    let rings_and_actors = [
        "spsc",
        "mpsc",
        "mpmc",
        "multicast",
        "pipeline",
        "diamond",
        "tell",
        "tell_batch",
        "tell_n",
        "ask",
        "ping_pong",
        "spawn",
        "skynet",
        "pinball",
    ];
    for name in rings_and_actors {
        assert!(scenario::find(name).is_some(), "{name}");
    }
    let store = [
        "store_put",
        "store_get",
        "store_contains",
        "http_get",
        "http_small",
        "http_small_latency",
        "http_put",
        "http_large",
        "http_crowd",
        "grpc_stream",
    ];
    for name in store {
        let needs = scenario::missing_feature(name);
        assert_eq!(needs.is_none(), cfg!(feature = "store"), "{name}");
    }
    for name in ["transpile", "isolate_call", "build_noop"] {
        let needs = scenario::missing_feature(name);
        assert_eq!(needs.is_none(), cfg!(feature = "build"), "{name}");
        assert_eq!(scenario::find(name).is_some(), needs.is_none(), "{name}");
    }
    let savina = |scenario: &&scenario::Scenario| matches!(scenario.family, Family::Savina(_));
    assert!(scenario::ALL.iter().filter(savina).count() >= 15);
    let list = scenario::list();
    for scenario in scenario::ALL {
        let line = |line: &str| {
            line.trim_start()
                .starts_with(&format!("{} ", scenario.name))
        };
        assert_eq!(
            list.lines().filter(|it| line(it)).count(),
            1,
            "{}",
            scenario.name
        );
    }
}

/// It takes none of the room that comes with a message.
#[test]
fn what_an_empty_mailbox_takes_is_told_exactly() {
    let scenario = scenario::find("idle_memory").unwrap();
    let rows = measure(scenario, &Options::tiny()).unwrap().results;
    let mut rows = rows.iter().filter(|row| row.variant.contains("mailbox"));
    let row = rows.next().unwrap();
    let bytes = actor_rt::MemoryStats::IDLE_MAILBOX_BYTES;
    assert_eq!((row.min, row.max), (bytes as f64, bytes as f64));
    assert!(bytes <= 64 && rows.next().is_none());
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), scenario::ALL.len());
}

#[test]
fn latencies_are_measured_on_every_path() {
    let all = latency::run(&Options::tiny(), 2).paths;
    for latency in &all {
        assert!(latency.count > 0, "{}", latency.path);
        assert!(latency.rate > 0, "{} has no schedule", latency.path);
        assert!(latency.percentiles.is_sorted_by_key(|(_, value)| *value));
        let floor = latency.floor(&all).unwrap();
        let ratio = latency.floor_ratio(&all, "p50");
        let expected = latency.percentile("p50") / floor.percentile("p50");
        assert_eq!(ratio, (!latency.is_floor()).then_some(expected));
        assert_eq!((floor.way, floor.rate), (latency.way, latency.rate));
    }
    // Both sides on one core are not called two cores.
    let mut one = Options::tiny();
    one.cores.truncate(1);
    for latency in latency::run(&one, 1).paths {
        assert!(
            latency.same_core && !latency.path.contains("two"),
            "{}",
            latency.path
        );
    }
}

#[test]
fn stress_delivers_everything() {
    for shape in stress::run(0.002).unwrap() {
        assert!(shape.intact, "{shape:?}");
    }
}

#[test]
fn a_short_soak_has_no_errors() {
    let verdict = soak::run(std::time::Duration::from_millis(300)).unwrap();
    // Whether memory grows is left open: nothing counts it here.
    assert_eq!(verdict.ruling, soak::Ruling::Inconclusive, "{verdict:?}");
    assert!(verdict.errors == 0 && verdict.faults > 0, "{verdict:?}");
}
