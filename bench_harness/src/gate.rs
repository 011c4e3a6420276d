//! The regression gate: figures against a stored baseline, by ratios that survive a change of weather.
//!
//! Absolute figures drift with the machine, its neighbours and its clock. So each scenario is measured between two runs
//! of a calibration loop (plain arithmetic and memory traffic), and what is stored and compared is the quotient. A
//! percentile of a latency is held against the same percentile of a bare cache line that goes the same way on the same
//! schedule. Noise is measured too, on both sides: a figure fails only when even the best of its runs is below the worst
//! run of the baseline by more than the threshold; a baseline's run counts as no worse than [`WORST`] of its median.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::latency::{self, Latency};
use crate::measure::{OWN, Outcome, Unit, measure};
use crate::options::Options;
use crate::scenario::Scenario;

/// A baseline file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Commit it was taken at, if known.
    pub commit: Option<String>,
    /// Processor and cores that it was taken on.
    #[serde(default)]
    pub machine: Option<String>,
    /// Per `scenario / variant`, and per `latency / path, percentile`.
    pub figures: BTreeMap<String, Figure>,
}

/// What the gate can measure.
#[derive(Clone, Copy)]
pub enum Subject {
    /// Ours in a scenario.
    Scenario(&'static Scenario),
    /// Every path of [`latency::all`].
    Latency,
}

impl Subject {
    /// The name that its figures begin with, which is also its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scenario(scenario) => scenario.name,
            Self::Latency => "latency",
        }
    }
}

/// A figure relative to the machine's own; greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of the worst run.
    pub worst: f64,
    /// Of the median run.
    pub median: f64,
    /// Of the best run.
    pub best: f64,
}

/// What became of a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// As in [`Baseline::figures`].
    pub name: String,
    /// Change of the median in percent; negative is slower.
    pub change_percent: f64,
    /// Slower than the threshold allows, noise considered.
    pub regressed: bool,
}

/// Millions of steps per second of a loop of arithmetic and memory traffic.
fn calibrate() -> f64 {
    let mut table = vec![0_u64; 1 << 14];
    let steps = 2_000_000_u64;
    let began = Instant::now();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..steps {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let place = &mut table[(state >> 50) as usize];
        *place = place.wrapping_add(state);
    }
    black_box(&table);
    steps as f64 / began.elapsed().as_secs_f64() / 1e6
}

/// Measures ours in these subjects, each relative to what the machine itself does around it.
///
/// # Errors
/// When a scenario fails.
pub fn take(subjects: &[Subject], options: &Options) -> anyhow::Result<Baseline> {
    let machine = crate::machine::Machine::look();
    let mut baseline = Baseline {
        machine: Some(format!("{}, {} cores", machine.cpu, machine.cores)),
        commit: machine.commit,
        figures: BTreeMap::new(),
    };
    let options = Options {
        only: OWN.map(String::from).to_vec(),
        peers: false,
        ..options.clone()
    };
    for subject in subjects {
        match subject {
            Subject::Scenario(scenario) => {
                let before = calibrate();
                let outcome = measure(scenario, &options)?;
                let speed = f64::midpoint(before, calibrate());
                let figures = figures(&outcome, scenario.unit, speed);
                baseline.figures.extend(figures);
            }
            Subject::Latency => {
                let runs: Vec<_> = (0..options.repeat)
                    .map(|_| latency::all(&options))
                    .collect();
                baseline.figures.extend(latencies(&runs));
            }
        }
    }
    Ok(baseline)
}

/// Percentiles that are compared; what lies beyond is the machine's alone.
const PERCENTILES: [&str; 3] = ["p50", "p99", "p99.9"];

/// Per path and percentile, what the machine needs for a bare round trip over what ours needs.
fn latencies(runs: &[Vec<Latency>]) -> BTreeMap<String, Figure> {
    let mut quotients = BTreeMap::<String, Vec<f64>>::new();
    for run in runs {
        for row in run.iter().filter(|row| !row.is_floor()) {
            let Some(floor) = row.floor(run) else {
                continue;
            };
            for name in PERCENTILES {
                let quotient = floor.percentile(name) / row.percentile(name);
                let name = format!("{} / {}, {name}", Subject::Latency.name(), row.path);
                quotients.entry(name).or_default().push(quotient);
            }
        }
    }
    let figure = |(name, mut of_it): (String, Vec<f64>)| {
        of_it.sort_by(f64::total_cmp);
        let figure = Figure {
            worst: of_it[0],
            median: of_it[of_it.len() / 2],
            best: of_it[of_it.len() - 1],
        };
        (name, figure)
    };
    quotients.into_iter().map(figure).collect()
}

fn figures(outcome: &Outcome, unit: Unit, speed: f64) -> Vec<(String, Figure)> {
    let relative = |value: f64| match unit {
        Unit::MillionPerSecond(_) | Unit::ThousandPerSecond(_) => value / speed,
        // Times shrink on a faster machine; bytes do not.
        Unit::Milliseconds => 1e3 / (value * speed),
        Unit::Bytes => 1e3 / value,
    };
    let figure = |row: &crate::measure::Row| {
        let (one, other) = (relative(row.min), relative(row.max));
        let figure = Figure {
            worst: one.min(other),
            median: relative(row.median),
            best: one.max(other),
        };
        let name = format!("{} / {}", outcome.scenario, row.variant);
        (name, figure)
    };
    outcome.results.iter().map(figure).collect()
}

/// One bad run of a baseline must not excuse everything: this part of the median is as bad as one counts.
const WORST: f64 = 0.7;

/// Compares new figures with a baseline; those that either lacks are left out.
pub fn compare(baseline: &Baseline, now: &Baseline, threshold_percent: f64) -> Vec<Finding> {
    let factor = 1.0 - threshold_percent / 100.0;
    now.figures
        .iter()
        .filter_map(|(name, now)| {
            let then = baseline.figures.get(name)?;
            let worst = then.worst.max(then.median * WORST);
            Some(Finding {
                name: name.clone(),
                change_percent: 100.0 * (now.median / then.median - 1.0),
                regressed: now.median < then.median * factor && now.best < worst * factor,
            })
        })
        .collect()
}

/// Rounds that a figure gets to show that it was the machine's mood.
const SECOND_LOOKS: usize = 2;

/// Measures the subjects against a baseline. What looks slower is measured again, and the best of all rounds counts: a
/// disturbance passes, a regression stays.
///
/// # Errors
/// When a scenario fails.
pub fn check(
    baseline: &Baseline,
    subjects: &[Subject],
    options: &Options,
    threshold_percent: f64,
) -> anyhow::Result<Vec<Finding>> {
    let mut now = take(subjects, options)?;
    for _ in 0..SECOND_LOOKS {
        let findings = compare(baseline, &now, threshold_percent);
        let slower = |subject: &&Subject| {
            let prefix = format!("{} / ", subject.name());
            let mut of_it = findings.iter().filter(|it| it.name.starts_with(&prefix));
            of_it.any(|finding| finding.regressed)
        };
        let again: Vec<Subject> = subjects.iter().filter(slower).copied().collect();
        if again.is_empty() {
            break;
        }
        for (name, figure) in take(&again, options)?.figures {
            let known = now.figures.entry(name).or_insert(figure);
            known.median = known.median.max(figure.median);
            known.best = known.best.max(figure.best);
        }
    }
    Ok(compare(baseline, &now, threshold_percent))
}

/// Reads a baseline file.
///
/// # Errors
/// When it is not there or not a baseline.
pub fn read(path: &std::path::Path) -> anyhow::Result<Baseline> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "no baseline at {}; make one with `check --baseline … --update`",
            path.display()
        )
    })?;
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is no baseline of this version; renew it with --update",
            path.display()
        )
    })
}

/// Writes a baseline file.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &std::path::Path, baseline: &Baseline) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(baseline)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Case, OURS, Sample};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// How many times slower than it could be the planted scenario is.
    static SLOWDOWN: AtomicU64 = AtomicU64::new(1);

    fn planted(_: &Options) -> Vec<Case> {
        // Counted steps instead of a clock: the test of the gate must not depend on the machine's mood.
        let run = || {
            let steps = 1000 * SLOWDOWN.load(Ordering::Relaxed);
            Sample {
                value: 1e6 / steps as f64,
                checksum: 0,
            }
        };
        vec![Case {
            implementation: OURS,
            variant: "counted".into(),
            spinning: 0,
            run: Box::new(run),
        }]
    }

    static PLANTED: Scenario = Scenario {
        name: "planted",
        family: crate::scenario::Family::Actors,
        about: "as fast as the test wants",
        unit: Unit::MillionPerSecond("steps"),
        cases: planted,
    };

    fn baseline(factor: f64) -> Baseline {
        let outcome = measure(&PLANTED, &Options::tiny()).unwrap();
        Baseline {
            commit: None,
            machine: None,
            figures: figures(&outcome, PLANTED.unit, factor)
                .into_iter()
                .collect(),
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

        SLOWDOWN.store(2, Ordering::Relaxed);
        let findings = compare(&then, &baseline(1.0), 10.0);
        assert!(findings[0].regressed && (findings[0].change_percent + 50.0).abs() < 1e-9);
        // Twice as slow on a machine that is twice as slow is no regression.
        assert!(
            compare(&then, &baseline(0.5), 10.0)
                .iter()
                .all(|finding| !finding.regressed)
        );
        // The whole gate finds it too, however often it looks.
        let calibrated = Baseline {
            figures: then
                .figures
                .iter()
                .map(|(name, figure)| {
                    // The planted figure is so much faster than any machine's calibration loop.
                    (
                        name.clone(),
                        Figure {
                            worst: figure.worst * 1e6,
                            median: figure.median * 1e6,
                            best: figure.best * 1e6,
                        },
                    )
                })
                .collect(),
            ..then
        };
        let findings = check(
            &calibrated,
            &[Subject::Scenario(&PLANTED)],
            &Options::tiny(),
            10.0,
        )
        .unwrap();
        assert!(findings[0].regressed);
        SLOWDOWN.store(1, Ordering::Relaxed);
    }

    #[test]
    fn noise_alone_is_no_regression() {
        let figure = |worst, median, best| Baseline {
            figures: [(
                "x".into(),
                Figure {
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
                rate: 0,
                same_core: false,
                count: 1,
                percentiles: PERCENTILES.map(|name| (name.into(), nanos)).to_vec(),
                curve: Vec::new(),
            };
            let run = vec![row(latency::MACHINE, floor), row(OURS, ours)];
            Baseline {
                figures: latencies(&[run]),
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
        let figures = read(&committed).unwrap().figures;
        assert!(!figures.is_empty());
        for (name, figure) in figures {
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
            machine: None,
            figures: [(
                "x".into(),
                Figure {
                    worst: 1.0,
                    median: 1.5,
                    best: 2.0,
                },
            )]
            .into(),
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
}
