//! Criterion over the same scenarios as the program: `cargo bench -p bench_harness [--features peers]`.

use std::time::Duration;

use bench_harness::options::{Options, Scale};
use bench_harness::scenario;
use criterion::{Criterion, criterion_group, criterion_main};

fn scenarios(criterion: &mut Criterion) {
    let options = Options {
        scale: Scale::Quick,
        peers: cfg!(feature = "peers"),
        ..Options::default()
    };
    // Starting a hundred thousand actors is no microbenchmark; the program measures those.
    for scenario in scenario::ALL.iter().filter(|scenario| {
        ![
            "build_noop",
            "isolate_start",
            "restart_storm",
            "idle_memory",
            "skynet",
            "spawn",
        ]
        .contains(&scenario.name)
    }) {
        let mut group = criterion.benchmark_group(scenario.name);
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_secs(2));
        for case in (scenario.cases)(&options) {
            group.bench_function(
                format!("{} / {}", case.implementation, case.variant),
                |bencher| bencher.iter(&case.run),
            );
        }
        group.finish();
    }
}

criterion_group!(benches, scenarios);
criterion_main!(benches);
