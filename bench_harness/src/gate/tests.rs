//! Tests of the gate, with scenarios that are as slow as they say.

use super::figure::PERCENTILES;
use super::*;
use crate::elapsed::{Cost, Costs};
use crate::latency::Latency;
use crate::measure::{Case, OURS, Sample, Unit};
use crate::scenario::{self, Family};
use crate::threads::Threads;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps that the planted scenario takes for what takes a thousand at its best.
static STEPS: AtomicU64 = AtomicU64::new(1000);

fn planted(_: &Options) -> Vec<Case> {
    // Counted steps instead of a clock: the test of the gate must not depend on the machine's mood.
    let run = || Sample::plain(1e6 / STEPS.load(Ordering::Relaxed) as f64, 0);
    vec![Case::new(OURS, "counted", Threads::anywhere(), run)]
}

static PLANTED: Scenario = Scenario {
    name: "planted",
    family: Family::Actors,
    about: "as fast as the test wants",
    unit: Unit::MillionPerSecond("steps"),
    cases: planted,
};

fn baseline(factor: f64) -> Baseline {
    let outcome = measure(&PLANTED, &Options::tiny()).unwrap();
    Baseline {
        figures: of_outcome(&PLANTED, &outcome, factor),
        ..Baseline::default()
    }
}

#[test]
fn a_planted_slowdown_is_caught_and_a_slower_machine_is_not() {
    let then = baseline(1.0);
    assert!(
        compare(&then, &baseline(1.0), 10.0)
            .iter()
            .all(|finding| !finding.regressed)
    );

    STEPS.store(2000, Ordering::Relaxed);
    let findings = compare(&then, &baseline(1.0), 10.0);
    assert!(findings[0].regressed && (findings[0].change_percent + 50.0).abs() < 1e-9);
    // Twice as slow on a machine that is twice as slow is no regression.
    assert!(
        compare(&then, &baseline(0.5), 10.0)
            .iter()
            .all(|finding| !finding.regressed)
    );
    // The whole gate finds it too, however often it looks, and finds nothing without it.
    let whole = || {
        let subjects = [Subject::Scenario(&PLANTED)];
        check_by(|| 1.0, &then, &subjects, &Options::tiny(), 10.0).unwrap()
    };
    assert!(whole().findings[0].regressed);
    // A quarter more work is found, too, at the threshold that `check` has; a tenth more is not.
    for (steps, regressed) in [(1250, true), (1100, false)] {
        STEPS.store(steps, Ordering::Relaxed);
        assert_eq!(compare(&then, &baseline(1.0), 15.0)[0].regressed, regressed);
    }
    STEPS.store(1000, Ordering::Relaxed);
    let checked = whole();
    assert!(!checked.findings[0].regressed && checked.findings[0].change_percent.abs() < 1e-9);
    assert!(checked.not_in_baseline.is_empty() && checked.not_measured.is_empty());
}

thread_local! {
    /// What each run of the planted scenario below has measured.
    static MEASURED: Cell<Sample> = Cell::new(Sample::plain(1.0, 0));
}

/// A scenario of this kind, whose single case has measured whatever [`MEASURED`] says.
fn of_kind(name: &'static str, family: Family, unit: Unit) -> &'static Scenario {
    // Scenarios live as long as the program, and so do the few of the tests.
    Box::leak(Box::new(Scenario {
        name,
        family,
        about: "whatever the test wants",
        unit,
        cases: |_| {
            let run = || MEASURED.get();
            vec![Case::new(OURS, "counted", Threads::anywhere(), run)]
        },
    }))
}

/// What is measured when all that is known is this.
fn only(cost: Option<Cost>, each: f64) -> Sample {
    let mut sample = Sample::plain(each, 0);
    if let Some(cost) = cost {
        sample.value = 1.0;
        sample.costs[cost as usize] = Some(each);
    }
    sample
}

/// Each kind of figure is planted as it was, a little worse, and a quarter worse, on machines of one speed and of half of it.
#[test]
fn a_planted_regression_of_every_kind_is_caught() {
    let rate = Unit::MillionPerSecond("items");
    let bytes = of_kind("memory", Family::Actors, Unit::Bytes);
    let actors = of_kind("actors", Family::Actors, rate);
    let store = of_kind("store", Family::Store, rate);
    let disk = of_kind("store_put", Family::Store, rate);
    let (cpu, written, allocations) = (
        Some(Cost::CpuMicroseconds),
        Some(Cost::WrittenBytes),
        Some(Cost::Allocations),
    );
    for (scenario, cost, [was, little, worse], absolute) in [
        (bytes, None, [400.0, 440.0, 500.0], true),
        (store, cpu, [8.0, 8.8, 10.0], false),
        (disk, cpu, [8.0, 8.8, 10.0], false),
        (disk, written, [4096.0, 4500.0, 5120.0], true),
        (actors, allocations, [0.0, 0.1, 0.25], true),
        (actors, allocations, [3.0, 3.4, 4.0], true),
    ] {
        let take = |each, speed: fn() -> f64| {
            MEASURED.set(only(cost, each));
            take_by(speed, &[Subject::Scenario(scenario)], &Options::tiny()).unwrap()
        };
        let then = take(was, || 1.0);
        let name = match cost {
            None => "memory / counted".to_owned(),
            Some(cost) => format!("{} / counted, {}", scenario.name, cost.label()),
        };
        let is_worse = |now: Baseline| {
            let findings = compare(&then, &now, 15.0);
            let finding = findings.iter().find(|it| it.name == name);
            let finding = finding.unwrap_or_else(|| panic!("{name} is no figure"));
            assert!(finding.gated, "{name}");
            assert_eq!(finding.reference == Reference::Absolute, absolute, "{name}");
            finding.regressed
        };
        assert!(!is_worse(take(was, || 1.0)), "{name}");
        assert!(!is_worse(take(little, || 1.0)), "{name}");
        assert!(is_worse(take(worse, || 1.0)), "{name}");
        // The same number on a machine of half the speed: less work than then, unless speed has nothing to do with it.
        assert!(!is_worse(take(was, || 0.5)), "{name}");
        assert_eq!(is_worse(take(worse, || 0.5)), absolute, "{name}");
    }
}

#[test]
fn what_says_nothing_is_no_figure() {
    let rate = Unit::MillionPerSecond("items");
    let names = |scenario: &'static str, family, costs: Costs| {
        let scenario = of_kind(scenario, family, rate);
        MEASURED.set(Sample {
            costs,
            ..Sample::plain(1.0, 0)
        });
        let outcome = measure(scenario, &Options::tiny()).unwrap();
        let figures = of_outcome(scenario, &outcome, 1.0).into_keys();
        figures.collect::<Vec<_>>().join("; ")
    };
    let all = [Some(1.0); 3];
    // Threads that spin while they wait; how fast a disk is; bytes where nothing is written.
    assert_eq!(names("a", Family::Rings, all), "a / counted");
    assert_eq!(
        names("a", Family::Actors, all),
        "a / counted; a / counted, allocations"
    );
    assert_eq!(
        names("a", Family::Build, all),
        "a / counted; a / counted, µs of CPU"
    );
    assert_eq!(
        names("store_put", Family::Store, all),
        "store_put / counted, bytes written; store_put / counted, µs of CPU"
    );
    let in_memory = [Some(1.0), Some(0.0), None];
    assert_eq!(
        names("store_put", Family::Store, in_memory),
        "store_put / counted, µs of CPU"
    );
}

#[test]
fn what_is_gated_unless_asked_is_known() {
    for name in SUBJECTS {
        let known = scenario::find(name).is_some() || scenario::missing_feature(name).is_some();
        assert!(known || name == Subject::Latency.name(), "{name}");
    }
}

#[test]
fn a_figure_fails_just_below_what_is_told_and_one_that_scatters_only_is_told() {
    let of = |worst, best, slower: f64| {
        let figure = Figure {
            reference: Reference::Calibration,
            worst: worst * slower,
            median: 100.0 * slower,
            best: best * slower,
        };
        Baseline {
            figures: [("x".into(), figure)].into(),
            ..Baseline::default()
        }
    };
    for (worst, best, gated) in [
        (100.0, 100.0, true),
        (90.0, 110.0, true),
        // One bad run counts as 70.
        (10.0, 101.0, true),
        (80.0, 150.0, false),
    ] {
        let then = of(worst, best, 1.0);
        let found = |slower| compare(&then, &of(worst, best, slower), 15.0).remove(0);
        let limit = 1.0 - found(1.0).fails_below_percent / 100.0;
        assert_eq!(found(1.0).gated, gated, "{worst} to {best}");
        assert_eq!(found(limit - 0.001).regressed, gated, "{worst} to {best}");
        assert!(!found(limit + 0.001).regressed, "{worst} to {best}");
    }
    let steady = compare(&of(100.0, 100.0, 1.0), &of(100.0, 100.0, 1.0), 15.0);
    assert!((steady[0].fails_below_percent - 15.0).abs() < 1e-9);
}

#[test]
fn a_baseline_of_a_build_without_a_commit_or_without_optimisation_is_doubted() {
    let of = |commit: &str| Baseline {
        commit: Some(commit.into()),
        ..Baseline::default()
    };
    assert!(of("abc1234-dirty").doubt().unwrap().contains("commit"));
    assert_eq!(of("abc1234").doubt(), None);
    let debug = Baseline {
        debug: true,
        ..of("abc1234")
    };
    assert!(debug.doubt().unwrap().contains("debug build"));
    assert_eq!(Baseline::empty().debug, cfg!(debug_assertions));
}

#[test]
fn figures_that_one_side_lacks_are_named() {
    let mut then = Baseline::default();
    let figure = Figure {
        reference: Reference::Absolute,
        worst: 1.0,
        median: 1.0,
        best: 1.0,
    };
    for name in ["planted / gone", "other / not asked for"] {
        then.figures.insert(name.into(), figure);
    }
    let subjects = [Subject::Scenario(&PLANTED)];
    let checked = check_by(|| 1.0, &then, &subjects, &Options::tiny(), 10.0).unwrap();
    assert!(checked.findings.is_empty());
    assert_eq!(checked.not_in_baseline, ["planted / counted"]);
    assert_eq!(checked.not_measured, ["planted / gone"]);
}

#[test]
fn a_baseline_knows_whether_the_machine_was_busy() {
    let mut baseline = Baseline::default();
    let usage = |others_percent| Usage {
        others_percent,
        ..Usage::default()
    };
    baseline.note("tell", usage(1.0), &["One NUMA node.".into()]);
    baseline.note("ask", usage(2.0), &["One NUMA node.".into()]);
    assert!(!baseline.was_busy());
    baseline.note("ask", usage(30.0), &["The machine was busy.".into()]);
    baseline.note("big", usage(0.0), &[]);
    assert!(baseline.was_busy() && baseline.doubt().is_some());
    assert_eq!(
        baseline.notes,
        ["One NUMA node.", "ask: The machine was busy."]
    );
}

#[test]
fn a_second_look_keeps_the_better_figure_and_every_note() {
    let look = |median, others_percent, notes: [&str; 2]| Baseline {
        figures: [(
            "x".into(),
            Figure {
                reference: Reference::Absolute,
                worst: 1.0,
                median,
                best: median + 1.0,
            },
        )]
        .into(),
        others_percent,
        notes: notes.map(String::from).to_vec(),
        ..Baseline::default()
    };
    let mut now = look(2.0, 1.0, ["One NUMA node.", "ask: It was busy."]);
    now.better_of(look(3.0, 30.0, ["One NUMA node.", "ask: It was busier."]));
    now.better_of(look(1.0, 0.0, ["One NUMA node.", "ask: It was busy."]));
    assert_eq!((now.figures["x"].median, now.figures["x"].best), (3.0, 4.0));
    assert!(now.was_busy());
    assert_eq!(
        now.notes,
        ["One NUMA node.", "ask: It was busy.", "ask: It was busier."]
    );
}

#[test]
fn noise_alone_is_no_regression() {
    let figure = |worst, median, best| Baseline {
        figures: [(
            "x".into(),
            Figure {
                reference: Reference::Calibration,
                worst,
                median,
                best,
            },
        )]
        .into(),
        ..Baseline::default()
    };
    let regressed = |then, now| compare(&then, &now, 10.0)[0].regressed;
    let steady = || figure(98.0, 100.0, 105.0);
    assert!(!regressed(steady(), figure(70.0, 80.0, 99.0)));
    assert!(regressed(steady(), figure(75.0, 80.0, 85.0)));
    assert!(!regressed(steady(), figure(94.0, 95.0, 96.0)));
    // What was nearly as bad when the baseline was taken is no regression, but one bad run does not excuse everything.
    let unsteady = || figure(50.0, 100.0, 105.0);
    assert!(!regressed(unsteady(), figure(45.0, 60.0, 70.0)));
    assert!(regressed(unsteady(), figure(45.0, 50.0, 60.0)));
}

#[test]
fn a_slower_path_is_caught_and_a_slower_machine_is_not() {
    let runs = |floor, ours| {
        let row = |implementation: &str, nanos| Latency {
            path: implementation.into(),
            implementation: implementation.into(),
            way: latency::Way::RoundTrip,
            rate: 0,
            same_core: false,
            count: 1,
            percentiles: PERCENTILES.map(|name| (name.into(), nanos)).to_vec(),
            p99_range: (nanos, nanos),
            curve: Vec::new(),
        };
        let run = vec![row(latency::MACHINE, floor), row(OURS, ours)];
        Baseline {
            figures: of_latencies(&[run]),
            ..Baseline::default()
        }
    };
    let then = runs(100, 200);
    assert_eq!(then.figures.len(), PERCENTILES.len());
    let any_slower = |now| {
        compare(&then, &now, 15.0)
            .iter()
            .any(|finding| finding.regressed)
    };
    assert!(any_slower(runs(100, 300)));
    assert!(!any_slower(runs(150, 300)));
    assert!(!any_slower(runs(100, 220)));
}

#[test]
fn the_committed_baseline_is_one_of_this_version() {
    let committed = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let baseline = read(&committed).unwrap();
    assert_eq!(baseline.doubt(), None);
    assert!(!baseline.figures.is_empty());
    for (name, figure) in baseline.figures {
        assert!(
            0.0 < figure.worst && figure.worst <= figure.median && figure.median <= figure.best,
            "{name}: {figure:?}"
        );
    }
}

#[test]
fn a_baseline_survives_its_file() {
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("baseline.json");
    let then = Baseline {
        commit: Some("abc".into()),
        figures: [(
            "x".into(),
            Figure {
                reference: Reference::Absolute,
                worst: 1.0,
                median: 1.5,
                best: 2.0,
            },
        )]
        .into(),
        ..Baseline::default()
    };
    write(&path, &then).unwrap();
    assert_eq!(read(&path).unwrap().figures, then.figures);
    assert!(
        read(&path.with_file_name("none"))
            .unwrap_err()
            .to_string()
            .contains("--update")
    );
}

#[test]
fn what_a_baseline_holds_is_measured_again_while_others_disturb_it() {
    let looks = |shares: &[f64]| {
        let mut left = shares.iter();
        let seen = at_rest(|| {
            Ok(Baseline {
                others_percent: *left.next().unwrap(),
                ..Baseline::default()
            })
        });
        (seen.unwrap().others_percent, left.len())
    };
    assert_eq!(looks(&[1.0, 0.0]), (1.0, 1), "no second look is needed");
    assert_eq!(looks(&[80.0, 20.0, 2.0, 0.0]), (2.0, 1));
    assert_eq!(looks(&[80.0; QUIET_LOOKS]), (80.0, 0), "it never rested");
}
