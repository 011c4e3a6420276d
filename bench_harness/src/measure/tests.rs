//! Tests of the rules, with cases whose figures are known.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::scenario::Family;

/// Measures on a machine that nobody else uses, whatever else runs beside the tests.
fn measure(scenario: &Scenario, options: &Options) -> anyhow::Result<Outcome> {
    measure_by(|_| Usage::default(), scenario, options)
}

/// A scenario of planted cases.
fn planted(unit: Unit, cases: fn(&Options) -> Vec<Case>) -> Scenario {
    Scenario {
        name: "planted",
        family: Family::Actors,
        about: "whatever the test wants",
        unit,
        cases,
    }
}

/// A case that always has this value and this checksum.
fn fixed(implementation: &'static str, variant: &str, value: f64, checksum: u64) -> Case {
    let sample = Sample::plain(value, checksum);
    Case::new(implementation, variant, Threads::anywhere(), move || sample)
}

fn on_two_cores() -> Options {
    Options {
        cores: vec![0, 1],
        ..Options::tiny()
    }
}

#[test]
fn a_run_says_what_makes_it_doubtful() {
    let mut machine = Machine::look();
    machine.governor = Some("powersave".into());
    machine.numa_nodes = 1;
    let usage = |others_percent| Usage {
        others_percent,
        ..Usage::default()
    };
    let notes = doubts(&machine, usage(0.0)).join("\n");
    assert!(!notes.contains("busy") && notes.contains("powersave") && notes.contains("NUMA"));
    let notes = doubts(&machine, usage(20.0)).join("\n");
    assert!(notes.contains("others used 20 %") && !notes.contains("Not a valid"));
}

#[test]
fn what_was_measured_while_others_used_most_of_the_machine_is_not_valid() {
    let cases = |_: &Options| vec![fixed(OURS, "a", 1.0, 1), fixed("other", "a", 2.0, 1)];
    let scenario = planted(Unit::Milliseconds, cases);
    let busy = |_| Usage {
        others_percent: 60.0,
        ..Usage::default()
    };
    let outcome = measure_by(busy, &scenario, &on_two_cores()).unwrap();
    assert!(!outcome.valid);
    let note = "Not a valid comparison: the machine was busy, others used 60 %";
    assert!(outcome.notes.iter().any(|it| it.starts_with(note)));
    assert!(measure(&scenario, &on_two_cores()).unwrap().valid);
}

#[test]
fn a_name_that_no_scenario_has_is_refused_even_beside_one_that_is_known() {
    let cases = |_: &Options| vec![fixed(OURS, "a", 1.0, 1), fixed("rtrb", "a", 2.0, 1)];
    let scenario = planted(Unit::Milliseconds, cases);
    let asked = |only: &[&str]| {
        let only = only.iter().map(ToString::to_string).collect();
        let options = Options {
            only,
            ..on_two_cores()
        };
        check_names(&[&scenario], &options)
    };
    assert!(asked(&[]).is_ok() && asked(&[OURS, "rtrb"]).is_ok());
    let error = asked(&[OURS, "rtrbb"]).unwrap_err().to_string();
    assert!(
        error.contains("no implementation `rtrbb`") && error.contains("actor_rt, rtrb"),
        "{error}"
    );
}

#[test]
fn who_makes_something_of_its_own_agrees_with_itself_only() {
    let cases = |_: &Options| {
        vec![
            fixed(OURS, "a", 1.0, 7).expecting(|| 7),
            fixed("other", "a", 1.0, 8).apart(),
        ]
    };
    assert!(measure(&planted(Unit::Milliseconds, cases), &on_two_cores()).is_ok());
}

#[test]
fn ratios_are_to_the_best_peer_in_the_units_direction() {
    let cases = |_: &Options| {
        vec![
            fixed(OURS, "a", 30.0, 1),
            fixed("slow", "a", 10.0, 1),
            fixed("fast", "a", 20.0, 1),
            fixed(OURS, "b", 5.0, 2),
            fixed("slow", "b", 50.0, 2),
            fixed(OURS, "c", 5.0, 3),
        ]
    };
    let ratios = |unit| {
        measure(&planted(unit, cases), &on_two_cores())
            .unwrap()
            .ratio_to_best_peer
    };
    let more_is_better = ratios(Unit::MillionPerSecond("things"));
    assert_eq!(
        more_is_better,
        BTreeMap::from([("a".into(), 1.5), ("b".into(), 0.1)])
    );
    let less_is_better = ratios(Unit::Milliseconds);
    assert_eq!(less_is_better["b"], 10.0);
    assert!((less_is_better["a"] - 1.0 / 3.0).abs() < 1e-12);
    // A variant without a peer has no ratio.
    assert!(!less_is_better.contains_key("c"));
}

#[test]
fn who_loses_an_item_fails_the_run_even_where_all_agree() {
    let outcome = |cases| measure(&planted(Unit::Milliseconds, cases), &on_two_cores());
    let error = outcome(|_| vec![fixed(OURS, "a", 1.0, 7).expecting(|| 8)]).unwrap_err();
    assert!(format!("{error:#}").contains("8 is right"), "{error:#}");
    let cases = |_: &Options| vec![fixed(OURS, "a", 1.0, 7), fixed("other", "a", 1.0, 8)];
    assert!(
        outcome(cases)
            .unwrap_err()
            .to_string()
            .contains("lost or repeated")
    );
    assert!(outcome(|_| vec![fixed(OURS, "a", 1.0, 7).expecting(|| 7)]).is_ok());
}

#[test]
fn a_peer_that_spins_in_the_way_of_others_is_not_compared_with() {
    let cases = |_: &Options| {
        let crowd = Threads::polling([1, 1], true);
        vec![
            fixed(OURS, "a", 10.0, 1),
            fixed("calm", "a", 5.0, 1),
            Case {
                threads: crowd,
                ..fixed("spinner", "a", 1.0, 1)
            },
        ]
    };
    let outcome = measure(
        &planted(Unit::MillionPerSecond("x"), cases),
        &on_two_cores(),
    )
    .unwrap();
    assert!(outcome.valid && !outcome.results[2].valid);
    assert_eq!(outcome.ratio(&outcome.results[2]), None);
    assert_eq!(outcome.ratio_to_best_peer["a"], 2.0);
    let note = "Not a valid comparison: spinner (a) has 2 spinning threads";
    assert!(
        outcome.notes.iter().any(|it| it.starts_with(note)),
        "{:?}",
        outcome.notes
    );
}

#[test]
fn when_ours_spins_in_the_way_nothing_is_compared() {
    let cases = |_: &Options| {
        let crowd = Threads::yielding([0]).and(Threads::polling([0, 1], true));
        vec![
            Case {
                threads: crowd,
                ..fixed(OURS, "a", 10.0, 1)
            },
            fixed("calm", "a", 5.0, 1),
        ]
    };
    let outcome = measure(
        &planted(Unit::MillionPerSecond("x"), cases),
        &on_two_cores(),
    )
    .unwrap();
    assert!(!outcome.valid && outcome.ratio_to_best_peer.is_empty());
    let notes = outcome.notes.join("\n");
    assert!(
        notes.contains("3 threads share 2 cores") && notes.contains("--wait"),
        "{notes}"
    );
}

#[test]
fn the_median_of_two_runs_lies_between_them() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let cases = |_: &Options| {
        let run = || Sample::plain(RUNS.fetch_add(1, Ordering::Relaxed) as f64, 0);
        vec![Case::new(OURS, "a", Threads::anywhere(), run)]
    };
    let options = Options {
        repeat: 2,
        ..on_two_cores()
    };
    let outcome = measure(&planted(Unit::Milliseconds, cases), &options).unwrap();
    // The first run, which counts zero, is the warm-up.
    let row = &outcome.results[0];
    assert_eq!((row.min, row.median, row.max), (1.0, 1.5, 2.0));
    let three = Spread::of([9.0, 1.0, 2.0].into_iter()).unwrap();
    assert!((three.median - 2.0).abs() < 1e-12);
}

#[test]
fn what_an_item_costs_is_that_of_the_measured_runs_and_what_only_the_warm_up_counts() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let cases = |_: &Options| {
        let run = || {
            let run = RUNS.fetch_add(1, Ordering::Relaxed);
            let allocations = (run == 0).then_some(40.0);
            let elapsed = Elapsed {
                time: Duration::from_secs(1),
                costs: [Some(20.0 * run as f64), None, allocations],
            };
            Sample::rate(20, elapsed, 0)
        };
        vec![Case::new(OURS, "a", Threads::anywhere(), run)]
    };
    let options = Options {
        repeat: 3,
        ..on_two_cores()
    };
    let outcome = measure(&planted(Unit::MillionPerSecond("items"), cases), &options).unwrap();
    let costs = &outcome.results[0].costs;
    let cpu = costs[&Cost::CpuMicroseconds];
    assert_eq!((cpu.min, cpu.median, cpu.max), (1.0, 2.0, 3.0));
    assert!((costs[&Cost::Allocations].median - 2.0).abs() < 1e-12);
    assert!(!costs.contains_key(&Cost::WrittenBytes));
}

#[test]
fn a_warm_up_that_loses_an_item_fails_the_run() {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let cases = |_: &Options| {
        let run = || Sample::plain(1.0, RUNS.fetch_add(1, Ordering::Relaxed).min(1));
        vec![Case::new(OURS, "a", Threads::anywhere(), run)]
    };
    let error = measure(&planted(Unit::Milliseconds, cases), &on_two_cores()).unwrap_err();
    assert!(
        format!("{error:#}").contains("different checksums, 0 and 1"),
        "{error:#}"
    );
}

#[test]
fn every_scenario_knows_its_checksum() {
    let options = Options {
        peers: true,
        ..Options::tiny()
    };
    for scenario in crate::scenario::ALL {
        for case in (scenario.cases)(&options) {
            let name = format!(
                "{} / {}, {}",
                scenario.name, case.variant, case.implementation
            );
            assert!(case.expected.is_some() != case.apart, "{name}");
            assert!(!case.apart || scenario.name == "transpile", "{name}");
        }
    }
}
