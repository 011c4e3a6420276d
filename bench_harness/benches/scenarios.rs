//! Criterion over the same scenarios as the program: `cargo bench -p bench_harness [--features peers]`.
//!
//! An iteration is as many items as the scenario's unit says, a million messages or a thousand requests, at the rate that
//! the scenario itself measures: starting and ending what is measured is left out. Every sample is one run of the
//! scenario, however many iterations criterion asks for.

use std::time::Duration;

use bench_harness::measure::{Case, Unit};
use bench_harness::options::{Options, Scale};
use bench_harness::scenario;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// What takes seconds to prepare, or is about many processes: the program measures those.
const NO_MICROBENCHMARKS: [&str; 12] = [
    "build_cold",
    "build_edit",
    "build_noop",
    "grpc_stream",
    "http_crowd",
    "http_large",
    "http_small",
    "http_small_latency",
    "packages_noop",
    "store_ingest",
    "store_open",
    "worker_processes",
];

fn scenarios(criterion: &mut Criterion) {
    let options = Options {
        scale: Scale::Quick,
        peers: cfg!(feature = "peers"),
        ..Options::default()
    };
    let timed = scenario::ALL.iter().filter(|scenario| {
        scenario.unit != Unit::Bytes && !NO_MICROBENCHMARKS.contains(&scenario.name)
    });
    for scenario in timed {
        let mut group = criterion.benchmark_group(scenario.name);
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(1));
        group.measurement_time(Duration::from_millis(10));
        let items = items(scenario.unit);
        if items > 1 {
            group.throughput(Throughput::Elements(items));
        }
        for case in (scenario.cases)(&options) {
            let name = format!("{} / {}", case.implementation, case.variant);
            group.bench_function(name, |bencher| {
                bencher
                    .iter_custom(|iterations| iteration(scenario.unit, &case) * iterations as u32);
            });
        }
        group.finish();
    }
}

/// Items of one iteration.
fn items(unit: Unit) -> u64 {
    match unit {
        Unit::MillionPerSecond(_) => 1_000_000,
        Unit::ThousandPerSecond(_) => 1_000,
        Unit::Milliseconds | Unit::Bytes => 1,
    }
}

/// How long one iteration takes, by one run of a case.
fn iteration(unit: Unit, case: &Case) -> Duration {
    let value = (case.run)().value;
    Duration::from_secs_f64(match unit {
        Unit::MillionPerSecond(_) | Unit::ThousandPerSecond(_) => 1.0 / value,
        Unit::Milliseconds | Unit::Bytes => 1e-3 * value,
    })
}

criterion_group!(benches, scenarios);
criterion_main!(benches);
