//! bench_harness
